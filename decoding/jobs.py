"""What an engine does with the logits of one sequence, for all sequences of a step at once.

A job is one sequence's share of a step: tokens to feed, logits wanted, and what is made of them.
Jobs of one kind are worked on as one batch of tensors; one transfer brings the results to the host.

Knows nothing of threads, rows' owners or where proposals come from.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from decoding.noise import KeptGumbel, Purpose, gumbel, key, uniform
from decoding.processors import Processors, Scored, process
from decoding.proposal import Logprobs, Proposal, SparseRows, Verdict
from decoding.sampling import Rule
from decoding.verification import QRow, verify


@dataclass(slots=True)
class ScoreJob:
    """Wants the logits themselves. Result: float32 [scored, vocab]."""

    row: int
    start: int
    ids: Sequence[int]
    scored: int = 0


@dataclass(slots=True)
class VerifyJob:
    """Wants a proposal verified. `tokens` are those committed; `ids` the uncached ones and the proposal."""

    row: int
    start: int
    ids: Sequence[int]
    tokens: Sequence[int]
    proposal: Proposal
    processors: Processors
    logprobs: int | None = None

    @property
    def scored(self) -> int:
        """One row of logits for each proposed token, and one for the bonus."""
        return len(self.proposal.ids) + 1


@dataclass(slots=True)
class DraftJob:
    """Wants up to k tokens drafted, one in each step; stays in the engine until it has them."""

    row: int
    start: int
    ids: Sequence[int]
    tokens: Sequence[int]
    k: int
    processors: Processors
    epoch: int = 0
    confidence: float = 0.0
    width: int = 0
    deadline: float = float("inf")
    scored: int = 1
    drawn: list[int] = field(default_factory=list)
    rows: list[SparseRows] = field(default_factory=list)

    def advance(self, token: int, probability: float, row: SparseRows | None) -> bool:
        """Takes a drawn token; False when the proposal is complete.

        It ends after a token, never by taking one back: a drawn token that is dropped for being
        unlikely would bias what the target accepts.
        """
        self.drawn.append(token)
        if row is not None:
            self.rows.append(row)
        self.start, self.ids = self.start + len(self.ids), [token]
        if len(self.drawn) >= self.k or probability < self.confidence or time.monotonic() >= self.deadline:
            return False
        return token not in self.processors.sampling.eos_token_id

    @property
    def proposal(self) -> Proposal:
        """What was drawn so far."""
        return Proposal(tuple(self.drawn), SparseRows.join(self.rows) if self.rows else None, "model")


def verify_jobs(jobs: Sequence[VerifyJob], logits: Tensor) -> list[Verdict]:
    """Verifies all proposals of a step; logits float32 [sum(k + 1), vocab]."""
    scored = [Scored(j.processors, [*j.tokens, *j.proposal.ids], j.scored) for j in jobs]
    scores = process(scored, logits)
    if any(j.processors.sampling.rule is Rule.REJECTION for j in jobs):
        verdicts = _by_law(jobs, _law(scores, scored))
    else:
        verdicts = _by_equality(jobs, _certain_ids(scores, scored).tolist())  # the step's one transfer to the host
    result, offset = [], 0
    for job, ids in zip(jobs, verdicts, strict=True):
        part = logits[offset : offset + len(ids)]
        result.append(Verdict(ids, _logprobs(part, ids, job.logprobs) if job.logprobs is not None else ()))
        offset += job.scored
    return result


def _by_equality(jobs: Sequence[VerifyJob], best: Sequence[int]) -> list[tuple[int, ...]]:
    """What the rule comes to where every p is one-hot: proposed tokens stand as long as they are p's."""
    verdicts, offset = [], 0
    for job in jobs:
        drafted, own = job.proposal.ids, best[offset : offset + job.scored]
        accepted = 0
        while accepted < len(drafted) and drafted[accepted] == own[accepted]:
            accepted += 1
        verdicts.append(tuple(own[: accepted + 1]))
        offset += job.scored
    return verdicts


def _by_law(jobs: Sequence[VerifyJob], p: Tensor) -> list[tuple[int, ...]]:
    """The rule itself, see `decoding.verification`; p [sum(k + 1), vocab]."""
    device, vocab = p.device, p.shape[1]
    lengths = [len(j.proposal.ids) for j in jobs]
    k = max(lengths)
    p = _padded(p, [n + 1 for n in lengths], k + 1)  # [batch, k + 1, vocab]
    drafted = torch.tensor(
        [[*j.proposal.ids, *[0] * (k - n)] for j, n in zip(jobs, lengths, strict=True)], device=device
    )
    drafted = drafted.view(len(jobs), k).long()
    q_rows, q_drafted = _q(jobs, k, vocab, device)
    u, noise = _target_noise(jobs, k, vocab, device)
    accepted, next_id = verify(p, drafted, q_drafted, torch.tensor(lengths, device=device), q_rows, u, noise)
    verdicts = torch.stack([accepted, next_id]).tolist()  # the step's one transfer to the host
    return [(*job.proposal.ids[:n], last) for job, n, last in zip(jobs, *verdicts, strict=True)]


def draft_jobs(jobs: Sequence[DraftJob], logits: Tensor) -> list[bool]:
    """Draws the next token of every proposal; logits float32 [n, vocab]. True where it goes on."""
    device = logits.device
    contexts = [[*j.tokens, *j.drawn] for j in jobs]
    scored = [Scored(j.processors, c, 1) for j, c in zip(jobs, contexts, strict=True)]
    scores = process(scored, logits)
    p = scores.softmax(dim=-1)
    ids = _certain_ids(scores, scored)  # [n]
    sampled = [i for i, j in enumerate(jobs) if j.processors.sampling.rule is Rule.REJECTION]
    rows: dict[int, SparseRows] = {}
    if sampled:
        index = torch.tensor(sampled, device=device)
        width = min(max(jobs[i].width or p.shape[1] for i in sampled), p.shape[1])
        q, tokens = p[index].topk(width, dim=-1)
        limits = torch.tensor([jobs[i].width or width for i in sampled], device=device)
        q = q.masked_fill(torch.arange(width, device=device) >= limits[:, None], 0.0)
        q = q / q.sum(dim=-1, keepdim=True)
        keys = [_draft_key(jobs[i], len(jobs[i].tokens)) for i in sampled]
        noise = gumbel(torch.tensor(keys, device=device), width)
        place = (q.double().log() + noise).argmax(dim=-1, keepdim=True)
        ids[index] = tokens.gather(1, place)[:, 0]
        p[index, ids[index]] = q.gather(1, place)[:, 0]  # the probability it was drawn with
        host_q, host_tokens = q.cpu().numpy(), tokens.cpu().numpy()
        for place_in_batch, i in enumerate(sampled):
            keep = host_q[place_in_batch] > 0
            kept = host_tokens[place_in_batch][keep].astype(np.uint32)
            rows[i] = SparseRows(kept, host_q[place_in_batch][keep], (len(kept),))
    probabilities = p.gather(1, ids[:, None])[:, 0].tolist()
    drawn = zip(jobs, ids.tolist(), probabilities, strict=True)
    return [job.advance(token, q_x, rows.get(i)) for i, (job, token, q_x) in enumerate(drawn)]


def _law(scores: Tensor, scored: Sequence[Scored]) -> Tensor:
    """p of every row: one-hot for greedy and coupled sequences, softmax under rejection. [n, vocab]."""
    certain = [s.processors.sampling.rule is not Rule.REJECTION for s in scored for _ in range(s.count)]
    if not any(certain):
        return scores.softmax(dim=-1)
    best = _certain_ids(scores, scored)
    p = torch.zeros_like(scores).scatter_(1, best[:, None], 1.0)
    if all(certain):
        return p
    return torch.where(torch.tensor(certain, device=scores.device)[:, None], p, scores.softmax(dim=-1))


def _certain_ids(scores: Tensor, scored: Sequence[Scored]) -> Tensor:
    """argmax(scores), with the shared noise added where the rule is coupled. int64 [n]."""
    best = scores.argmax(dim=-1)
    rows = [(s, len(s.tokens) - s.count + 1 + i) for s in scored for i in range(s.count)]
    coupled = [i for i, (s, _) in enumerate(rows) if s.processors.sampling.rule is Rule.COUPLED]
    if coupled:
        index = torch.tensor(coupled, device=scores.device)
        wanted = [(rows[i][0].processors.noise, _coupled_key(*rows[i])) for i in coupled]
        noise = KeptGumbel.rows(wanted, scores.shape[1], scores.device)
        best[index] = (scores[index].double() + noise).argmax(dim=-1)
    return best


def _coupled_key(scored: Scored, position: int) -> int:
    sampling = scored.processors.sampling
    return key(sampling.seed, Purpose.COUPLED, sampling.sequence_index, position)


def _target_noise(jobs: Sequence[VerifyJob], k: int, vocab: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """u [batch, k] and Gumbel noise [batch, vocab]; certain sequences need neither."""
    u = torch.full((len(jobs), k), 0.5, dtype=torch.float64, device=device)
    noise = torch.zeros(len(jobs), 1, dtype=torch.float64, device=device).expand(-1, vocab)
    sampled = [i for i, j in enumerate(jobs) if j.processors.sampling.rule is Rule.REJECTION]
    if sampled:
        index = torch.tensor(sampled, device=device)
        u[index] = uniform(torch.tensor([_key(jobs[i], Purpose.ACCEPT) for i in sampled], device=device), k)
        noise = noise.clone()
        noise[index] = gumbel(torch.tensor([_key(jobs[i], Purpose.RECOVER) for i in sampled], device=device), vocab)
    return u, noise


def _key(job: VerifyJob, purpose: Purpose) -> int:
    # Every round commits a token, so the committed length names the round.
    sampling = job.processors.sampling
    return key(sampling.seed, purpose, sampling.sequence_index, len(job.tokens))


def _draft_key(job: DraftJob, base_len: int) -> int:
    # The epoch parts the draws of a draft that was lost from those of the one that replaced it.
    sampling = job.processors.sampling
    return key(sampling.seed, Purpose.DRAFT, sampling.sequence_index, job.epoch, base_len, len(job.drawn))


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
        [x for j in jobs for x in [*j.proposal.ids, *[-1] * (k - len(j.proposal.ids))]], device=device
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
    index = [[start + min(i, n - 1) for i in range(width)] for start, n in zip(starts, counts, strict=True)]
    return rows[torch.tensor(index, device=rows.device)]


def _logprobs(logits: Tensor, ids: Sequence[int], top: int) -> tuple[Logprobs, ...]:
    table = logits.log_softmax(dim=-1)  # [n, vocab]
    chosen = table.gather(1, torch.tensor(ids, device=logits.device)[:, None])[:, 0].tolist()
    values, best = table.topk(top, dim=-1)
    pairs = [tuple(zip(i, v, strict=True)) for i, v in zip(best.tolist(), values.tolist(), strict=True)]
    return tuple(Logprobs(c, p) for c, p in zip(chosen, pairs, strict=True))
