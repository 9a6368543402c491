"""What a verification wants of the logits, for all proposals of a step at once.

Where p is one-hot (greedy and coupled) proposed tokens stand as long as they are p's own, and
alternatives are possible; else the rule of `foredraft_engine.speculation.acceptance` decides. One
transfer brings the results to the host. Knows nothing of where proposals come from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foredraft_engine.cache.quantizers import CacheSpec
from foredraft_engine.cache.row_cache import Tree
from foredraft_engine.logits.processors import Processors, Scored, process
from foredraft_engine.noise import Purpose, gumbel, key, uniform
from foredraft_engine.proposal import Logprobs, Proposal, Verdict
from foredraft_engine.sampling import Rule
from foredraft_engine.score_rows import ScoreRow, score_rows
from foredraft_engine.speculation.acceptance import QRow, verify
from foredraft_engine.speculation.drawing import certain_ids


@dataclass(frozen=True, slots=True)
class Guide:
    """The same tokens on a second row, after another prompt: what to go away from, and how far."""

    row: int
    start: int
    ids: Sequence[int]
    scale: float
    tree: Tree | None = None
    cache: CacheSpec | None = None

    def guided(self, logits: Tensor, unconditional: Tensor) -> Tensor:
        """Classifier-free guidance (Sanchez et al., arXiv 2306.17806, eq.

        7). Both float32 [scored, vocab].
        """
        away = unconditional.log_softmax(dim=-1)
        return self.scale * (logits.log_softmax(dim=-1) - away) + away


@dataclass(slots=True)
class VerifyJob:
    """Wants a proposal verified. `tokens` are those committed; `ids` the uncached ones and the
    proposal, with alternatives last.
    """

    row: int
    start: int
    ids: Sequence[int]
    tokens: Sequence[int]
    proposal: Proposal
    processors: Processors
    logprobs: int | None = None
    tree: Tree | None = None
    cache: CacheSpec | None = None
    guide: Guide | None = None
    scores: bool = False
    logits: bool = False
    own: Tensor | None = None
    """The model's logits, [scored, vocab], where it is guided."""

    @property
    def scored(self) -> int:
        """One row of logits for each proposed token, one for the bonus, one for each alternative."""
        return len(self.proposal.ids) + 1 + len(self.proposal.alternatives)


@dataclass(frozen=True, slots=True)
class _Ended:
    """A verification's ids, the rows of logits that they come from, and whether it went beside the
    proposal.
    """

    ids: tuple[int, ...]
    rows: Sequence[int]
    beside: bool = False


def verify_jobs(jobs: Sequence[VerifyJob], logits: Tensor) -> list[Verdict]:
    """Verifies all proposals of a step; logits float32 [sum(scored), vocab]."""
    parts = logits.split([j.scored for j in jobs])
    ended: dict[int, _Ended] = {}
    for sampled, verify_all in ((False, _by_equality), (True, _by_law)):
        chosen = [
            i
            for i, j in enumerate(jobs)
            if (j.processors.sampling.rule is Rule.REJECTION) is sampled
        ]
        if chosen:
            theirs = logits if len(chosen) == len(jobs) else torch.cat([parts[i] for i in chosen])
            ended |= zip(chosen, verify_all([jobs[i] for i in chosen], theirs), strict=True)
    verdicts = []
    for i, (job, part) in enumerate(zip(jobs, parts, strict=True)):
        end = ended[i]
        own = part if job.own is None else job.own
        logprobs = (
            _logprobs(own[end.rows], end.ids, job.logprobs) if job.logprobs is not None else ()
        )
        scores = _processed(job, part, end.rows) if job.scores else ()
        verdicts.append(
            Verdict(
                end.ids,
                logprobs,
                end.beside,
                scores,
                score_rows(own[end.rows]) if job.logits else (),
            )
        )
    return verdicts


def scored_of(processors: Processors, tokens: Sequence[int], proposal: Proposal) -> list[Scored]:
    """What a forward pass over a proposal scores:

    the tokens after the committed ones, then after alternatives.
    """
    beside = [
        Scored(processors, [*tokens, *proposal.ids[:at], token], 1)
        for at, token in proposal.alternatives
    ]
    return [Scored(processors, [*tokens, *proposal.ids], len(proposal.ids) + 1), *beside]


def _by_equality(jobs: Sequence[VerifyJob], logits: Tensor) -> list[_Ended]:
    """What the rule comes to where every p is one-hot:

    proposed tokens stand as long as they are p's.
    """
    scored = [s for j in jobs for s in scored_of(j.processors, j.tokens, j.proposal)]
    best = certain_ids(
        process(scored, logits), scored
    ).tolist()  # the step's one transfer to the host
    ended, offset = [], 0
    for job in jobs:
        ended.append(_walk(job.proposal, best[offset : offset + job.scored]))
        offset += job.scored
    return ended


def _walk(proposal: Proposal, own: Sequence[int]) -> _Ended:
    """Down the proposal as far as it is the target's own text, and into an alternative where it
    ends.
    """
    drafted, at = proposal.ids, 0
    while at < len(drafted) and drafted[at] == own[at]:
        at += 1
    if (at, own[at]) not in proposal.alternatives:
        return _Ended(tuple(own[: at + 1]), range(at + 1))
    row = len(drafted) + 1 + proposal.alternatives.index((at, own[at]))
    return _Ended((*own[: at + 1], own[row]), [*range(at + 1), row], beside=True)


def _by_law(jobs: Sequence[VerifyJob], logits: Tensor) -> list[_Ended]:
    """The rule itself, see `foredraft_engine.speculation.acceptance`;

    logits [sum(k + 1), vocab].
    """
    scored = [Scored(j.processors, [*j.tokens, *j.proposal.ids], j.scored) for j in jobs]
    p = process(scored, logits).softmax(dim=-1)
    device, vocab = p.device, p.shape[1]
    lengths = [len(j.proposal.ids) for j in jobs]
    k = max(lengths)
    p = _padded(p, [n + 1 for n in lengths], k + 1)  # [batch, k + 1, vocab]
    drafted = torch.tensor(
        [[*j.proposal.ids, *[0] * (k - n)] for j, n in zip(jobs, lengths, strict=True)],
        device=device,
    )
    drafted = drafted.view(len(jobs), k).long()
    q_rows, q_drafted = _q(jobs, k, vocab, device)
    u = uniform(torch.tensor([_key(j, Purpose.ACCEPT) for j in jobs], device=device), k)
    noise = gumbel(torch.tensor([_key(j, Purpose.RECOVER) for j in jobs], device=device), vocab)
    accepted, next_id = verify(
        p, drafted, q_drafted, torch.tensor(lengths, device=device), q_rows, u, noise
    )
    verdicts = torch.stack([accepted, next_id]).tolist()  # the one transfer to the host
    return [
        _Ended((*job.proposal.ids[:n], last), range(n + 1))
        for job, n, last in zip(jobs, *verdicts, strict=True)
    ]


def _key(job: VerifyJob, purpose: Purpose) -> int:
    # Every round commits a token, so the committed length names the round.
    sampling = job.processors.sampling
    return key(sampling.seed, purpose, sampling.sequence_index, len(job.tokens))


def _q(jobs: Sequence[VerifyJob], k: int, vocab: int, device: torch.device) -> tuple[QRow, Tensor]:
    """The proposals' rows of q, and q of each proposed id [batch, k]."""
    places: list[int] = []
    ids: list[np.ndarray] = []
    probabilities: list[np.ndarray] = []
    for i, job in enumerate(jobs):
        q, n = job.proposal.q, len(job.proposal.ids)
        counts = q.counts if q else (1,) * n
        places += [i * k + j for j, count in enumerate(counts) for _ in range(count)]
        ids.append(q.ids.astype(np.int64) if q else np.array(job.proposal.ids, dtype=np.int64))
        probabilities.append(q.probabilities if q else np.ones(n, dtype=np.float32))
    index = torch.tensor(places, dtype=torch.long, device=device)
    token = torch.from_numpy(np.concatenate(ids)).to(device)
    q_entry = torch.from_numpy(np.concatenate(probabilities)).to(device)
    drafted = torch.tensor(
        [x for j in jobs for x in [*j.proposal.ids, *[-1] * (k - len(j.proposal.ids))]],
        device=device,
    )
    q_drafted = torch.zeros(len(jobs) * k, device=device)
    if len(index):
        q_drafted.index_add_(0, index, q_entry * (token == drafted[index]))
    return QRow(index, token, q_entry, (len(jobs), k, vocab)), q_drafted.view(len(jobs), k)


def _padded(rows: Tensor, counts: Sequence[int], width: int) -> Tensor:
    """Rows [n, vocab] of sequences with `counts` rows each, as [batch, width, vocab]."""
    if all(n == width for n in counts):
        return rows.view(len(counts), width, -1)
    starts = np.cumsum([0, *counts[:-1]])
    index = [
        [start + min(i, n - 1) for i in range(width)]
        for start, n in zip(starts, counts, strict=True)
    ]
    return rows[torch.tensor(index, device=rows.device)]


def _processed(job: VerifyJob, logits: Tensor, rows: Sequence[int]) -> tuple[ScoreRow, ...]:
    """The scores of a verification once more: few ask for them."""
    return score_rows(process(scored_of(job.processors, job.tokens, job.proposal), logits)[rows])


def _logprobs(logits: Tensor, ids: Sequence[int], top: int) -> tuple[Logprobs, ...]:
    table = logits.log_softmax(dim=-1)  # [n, vocab]
    chosen = table.gather(1, torch.tensor(ids, device=logits.device)[:, None])[:, 0].tolist()
    values, best = table.topk(top, dim=-1)
    pairs = [
        tuple(zip(i, v, strict=True)) for i, v in zip(best.tolist(), values.tolist(), strict=True)
    ]
    return tuple(Logprobs(c, p) for c, p in zip(chosen, pairs, strict=True))
