"""Verification by rejection sampling: the tensors of a batch of rounds.

The rule itself is in `foredraft_engine.speculation.acceptance`. This module gives it proposals of
different lengths as one padded batch. A position whose p is NaN ends a round before it; a round
that begins with such a position has no decision.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from foredraft_engine.logits.processing import Processing, Scored
from foredraft_engine.logits.validity import NO_TOKEN
from foredraft_engine.noise import Purpose, gumbel, key, uniform
from foredraft_engine.speculation.acceptance import QRow, verify
from foredraft_engine.speculation.round import Decision, Round
from foredraft_engine.transfer import HostArray, to_device


def sample_by_rejection(rounds: Sequence[Round], logits: Tensor) -> list[Decision | None]:
    """Verifies proposals by rejection sampling; logits float32 [sum(k + 1), vocab].

    Returns:
        For each round its decision; None if its first scores allow no token.
    """
    vocab = logits.shape[1]
    k = max(len(one.proposal.ids) for one in rounds)
    scored = [Scored(r.processors, [*r.tokens, *r.proposal.ids], r.scored) for r in rounds]
    processing = Processing(scored, vocab)
    # The step's one copy to the device.
    tensors = to_device([*_arrays(rounds, k), *processing.arrays], logits.device)
    places, drafted, lengths, accept, recover, index, ids, q = tensors[:8]
    p = processing.apply(logits, tensors[8:]).softmax(dim=-1)[places]  # [batch, k + 1, vocab]
    q_drafted = torch.zeros(len(rounds) * k, device=p.device)
    if len(index):
        q_drafted.index_add_(0, index, q * (ids == drafted.view(-1)[index]))
    accepted, next_id = verify(
        p,
        drafted,
        q_drafted.view(len(rounds), k),
        lengths,
        QRow(index, ids, q, (len(rounds), k, vocab)),
        uniform(accept, k),
        gumbel(recover, vocab),
    )
    ends = torch.stack([accepted, next_id]).tolist()  # the step's one transfer to the host
    return [_decision(*one) for one in zip(rounds, *ends, strict=True)]


def _arrays(rounds: Sequence[Round], k: int) -> list[HostArray]:
    """Returns what verification needs of the rounds.

    Returns:
        For each position its row of logits, [batch, k + 1]: a short proposal repeats its last one;
        the proposed ids, [batch, k]; the lengths, [batch]; the keys of the acceptance and of the
        recovery, [batch] each; and of every entry of q its place sequence * k + position, its id
        and its probability, [entries] each.
    """
    lengths = np.array([len(one.proposal.ids) for one in rounds], dtype=np.int64)
    starts = np.cumsum(lengths + 1) - lengths - 1
    places = starts[:, None] + np.minimum(np.arange(k + 1), lengths[:, None])
    drafted = np.zeros((len(rounds), k), dtype=np.int64)
    index: list[HostArray] = []
    ids: list[HostArray] = []
    q: list[HostArray] = []
    for i, one in enumerate(rounds):
        own, n = np.array(one.proposal.ids, dtype=np.int64), len(one.proposal.ids)
        drafted[i, :n] = own
        rows = one.proposal.q
        index.append(i * k + np.repeat(np.arange(n), rows.counts if rows else 1))
        ids.append(rows.ids.astype(np.int64) if rows else own)
        q.append(rows.probabilities if rows else np.ones(n, dtype=np.float32))
    keys = [
        np.array([_key(one, purpose) for one in rounds], dtype=np.int64)
        for purpose in (Purpose.ACCEPT, Purpose.RECOVER)
    ]
    return [places, drafted, lengths, *keys, *map(np.concatenate, (index, ids, q))]


def _decision(one: Round, accepted: int, next_id: int) -> Decision | None:
    ids = one.proposal.ids[:accepted]
    if next_id != NO_TOKEN:
        return Decision((*ids, next_id), range(accepted + 1))
    return Decision(ids, range(accepted)) if ids else None


def _key(one: Round, purpose: Purpose) -> int:
    # Every round commits at least one token, so that the committed length identifies the round.
    sampling = one.processors.sampling
    return key(sampling.seed, purpose, sampling.sequence_index, len(one.tokens))
