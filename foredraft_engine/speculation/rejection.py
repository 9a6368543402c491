"""Verification by rejection sampling: the tensors of a batch of rounds.

The rule itself is in `foredraft_engine.speculation.acceptance`. This module gives it proposals of
different lengths as one padded batch. A position whose p is NaN ends a round before it; a round
that begins with such a position has no decision.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from foredraft_engine.logits.processors import Scored, process
from foredraft_engine.logits.validity import NO_TOKEN
from foredraft_engine.noise import Purpose, gumbel, key, uniform
from foredraft_engine.speculation.acceptance import QRow, verify
from foredraft_engine.speculation.round import Decision, Round


def sample_by_rejection(rounds: Sequence[Round], logits: Tensor) -> list[Decision | None]:
    """Verifies proposals by rejection sampling; logits float32 [sum(k + 1), vocab].

    Returns:
        For each round its decision; None if its first scores allow no token.
    """
    scored = [Scored(r.processors, [*r.tokens, *r.proposal.ids], r.scored) for r in rounds]
    p = process(scored, logits).softmax(dim=-1)
    device, vocab = p.device, p.shape[1]
    lengths = [len(r.proposal.ids) for r in rounds]
    k = max(lengths)
    p = _padded(p, [n + 1 for n in lengths], k + 1)  # [batch, k + 1, vocab]
    drafted = torch.tensor(
        [[*r.proposal.ids, *[0] * (k - n)] for r, n in zip(rounds, lengths, strict=True)],
        device=device,
    )
    drafted = drafted.view(len(rounds), k).long()
    q_rows, q_drafted = _q(rounds, k, vocab, device)
    u = uniform(torch.tensor([_key(r, Purpose.ACCEPT) for r in rounds], device=device), k)
    noise = gumbel(torch.tensor([_key(r, Purpose.RECOVER) for r in rounds], device=device), vocab)
    accepted, next_id = verify(
        p, drafted, q_drafted, torch.tensor(lengths, device=device), q_rows, u, noise
    )
    ends = torch.stack([accepted, next_id]).tolist()  # the step's one transfer to the host
    return [_decision(*one) for one in zip(rounds, *ends, strict=True)]


def _decision(one: Round, accepted: int, next_id: int) -> Decision | None:
    ids = one.proposal.ids[:accepted]
    if next_id != NO_TOKEN:
        return Decision((*ids, next_id), range(accepted + 1))
    return Decision(ids, range(accepted)) if ids else None


def _key(one: Round, purpose: Purpose) -> int:
    # Every round commits at least one token, so that the committed length identifies the round.
    sampling = one.processors.sampling
    return key(sampling.seed, purpose, sampling.sequence_index, len(one.tokens))


def _q(rounds: Sequence[Round], k: int, vocab: int, device: torch.device) -> tuple[QRow, Tensor]:
    """Returns the rows of q of all proposals, and q of each proposed id, [batch, k]."""
    places: list[int] = []
    ids: list[np.ndarray] = []
    probabilities: list[np.ndarray] = []
    for i, one in enumerate(rounds):
        q, n = one.proposal.q, len(one.proposal.ids)
        counts = q.counts if q else (1,) * n
        places += [i * k + j for j, count in enumerate(counts) for _ in range(count)]
        ids.append(q.ids.astype(np.int64) if q else np.array(one.proposal.ids, dtype=np.int64))
        probabilities.append(q.probabilities if q else np.ones(n, dtype=np.float32))
    index = torch.tensor(places, dtype=torch.long, device=device)
    token = torch.from_numpy(np.concatenate(ids)).to(device)
    q_entry = torch.from_numpy(np.concatenate(probabilities)).to(device)
    drafted = torch.tensor(
        [x for r in rounds for x in [*r.proposal.ids, *[-1] * (k - len(r.proposal.ids))]],
        device=device,
    )
    q_drafted = torch.zeros(len(rounds) * k, device=device)
    if len(index):
        q_drafted.index_add_(0, index, q_entry * (token == drafted[index]))
    return QRow(index, token, q_entry, (len(rounds), k, vocab)), q_drafted.view(len(rounds), k)


def _padded(rows: Tensor, counts: Sequence[int], width: int) -> Tensor:
    """Returns rows [n, vocab] of sequences with `counts` rows each as [batch, width, vocab].

    A short sequence repeats its last row.
    """
    if all(n == width for n in counts):
        return rows.view(len(counts), width, -1)
    starts = np.cumsum([0, *counts[:-1]])
    index = [
        [start + min(i, n - 1) for i in range(width)]
        for start, n in zip(starts, counts, strict=True)
    ]
    return rows[torch.tensor(index, device=rows.device)]
