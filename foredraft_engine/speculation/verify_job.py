"""The job that verifies proposals, for all rounds of a step at once.

Proposals that were drawn are decided by `foredraft_engine.speculation.rejection`, all others by
`foredraft_engine.speculation.exact_match`; each brings its results to the host in one transfer.

This module knows nothing of where proposals come from.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from foredraft_engine.feed import Feed
from foredraft_engine.job import Job, PassOutput, attempt
from foredraft_engine.logits.processing import process
from foredraft_engine.logits.validity import broken
from foredraft_engine.logprobs import logprobs_of
from foredraft_engine.proposal import Verdict
from foredraft_engine.sampling import Rule
from foredraft_engine.score_rows import ScoreRow, score_rows
from foredraft_engine.speculation.exact_match import match_exactly
from foredraft_engine.speculation.rejection import sample_by_rejection
from foredraft_engine.speculation.round import Decision, Round

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What a verdict reports about every token, apart from its id."""

    logprobs: int | None = None
    """The number of most likely log-probabilities; None for no log-probabilities at all."""
    scores: bool = False
    """Whether the processed scores are reported."""
    logits: bool = False
    """Whether the model's own logits are reported."""


@dataclass(frozen=True, slots=True)
class GuideFeed:
    """The same tokens on a second row, after the prompt to move away from."""

    feed: Feed
    scale: float

    def guide(self, logits: Tensor, unconditional: Tensor) -> Tensor:
        """Applies classifier-free guidance (Sanchez et al., arXiv 2306.17806, equation 7).

        Args:
            logits: after the prompt, float32 [scored, vocab].
            unconditional: after the prompt to move away from, the same shape.
        """
        away = unconditional.log_softmax(dim=-1)
        guided = self.scale * (logits.log_softmax(dim=-1) - away) + away
        # Of padding, which is -inf in both, the difference is NaN.
        return guided.masked_fill(logits.isneginf(), float("-inf"))


@dataclass(frozen=True, slots=True)
class VerifyJob(Job):
    """Verifies the proposal of one round; its result is a `Verdict`."""

    feed: Feed
    round: Round
    options: VerifyOptions
    guide: GuideFeed | None = None
    timed: bool = True

    @property
    def feeds(self) -> Sequence[Feed]:
        return (self.feed, self.guide.feed) if self.guide else (self.feed,)

    @property
    def scored(self) -> int:
        return self.round.scored

    @property
    def is_timed(self) -> bool:
        return self.timed

    @classmethod
    def finish(cls, jobs: Sequence["VerifyJob"], output: PassOutput) -> list[Verdict | Exception]:
        own, guided = _guided(jobs, output.logits)
        counts = [job.scored for job in jobs]
        decisions = _decide([job.round for job in jobs], guided)
        return [
            attempt(partial(_verdict, *one))
            for one in zip(jobs, decisions, own.split(counts), guided.split(counts), strict=True)
        ]


def _decide(rounds: Sequence[Round], logits: Tensor) -> list[Decision | Exception]:
    """Verifies the proposals of rounds under any rules; logits float32 [sum(scored), vocab].

    What one round's processors raise is the result of that round.
    """
    parts = logits.split([one.scored for one in rounds])
    try:
        decisions = _decide_together(rounds, logits)
    except Exception as error:
        if len(rounds) == 1:
            return [broken(rounds[0].scored_texts, logits, error)]
        log.warning("%d rounds are verified one by one: %r", len(rounds), error)
        return [
            result
            for one, part in zip(rounds, parts, strict=True)
            for result in _decide([one], part)
        ]
    return [
        broken([one.scored_texts[0].first], part[:1]) if decision is None else decision
        for one, part, decision in zip(rounds, parts, decisions, strict=True)
    ]


def _decide_together(rounds: Sequence[Round], logits: Tensor) -> list[Decision | None]:
    """Verifies the proposals of rounds as one batch for each rule.

    Returns:
        For each round its decision; None if its first scores allow no token.
    """
    decided: dict[int, Decision | None] = {}
    parts = logits.split([one.scored for one in rounds])
    for sampled, verify_all in ((False, match_exactly), (True, sample_by_rejection)):
        chosen = [
            i
            for i, one in enumerate(rounds)
            if (one.proposal.q is not None and _is_rejection(one)) is sampled
        ]
        if chosen:
            theirs = logits if len(chosen) == len(rounds) else torch.cat([parts[i] for i in chosen])
            decided |= zip(chosen, verify_all([rounds[i] for i in chosen], theirs), strict=True)
    return [decided[i] for i in range(len(rounds))]


def _is_rejection(one: Round) -> bool:
    return one.processors.sampling.rule is Rule.REJECTION


def _guided(jobs: Sequence[VerifyJob], logits: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the model's logits and those that decide, float32 [sum(scored), vocab] each.

    They differ where a job is guided.
    """
    if not any(job.guide for job in jobs):
        return logits, logits
    parts = iter(logits.split([job.scored for job in jobs for _ in job.feeds]))
    own, guided = [], []
    for job in jobs:
        own.append(next(parts))
        guided.append(job.guide.guide(own[-1], next(parts)) if job.guide else own[-1])
    return torch.cat(own), torch.cat(guided)


def _verdict(
    job: VerifyJob, decision: Decision | Exception, own: Tensor, guided: Tensor
) -> Verdict:
    """Makes a decision a verdict; own and guided logits, float32 [scored, vocab] each."""
    if isinstance(decision, Exception):
        raise decision
    options, rows = job.options, decision.rows
    return Verdict(
        decision.ids,
        () if options.logprobs is None else logprobs_of(own[rows], decision.ids, options.logprobs),
        decision.used_alternative,
        _scores(job.round, guided, rows) if options.scores else (),
        score_rows(own[rows]) if options.logits else (),
    )


def _scores(one: Round, logits: Tensor, rows: Sequence[int]) -> tuple[ScoreRow, ...]:
    # Scores are computed again rather than kept, because few calls ask for them.
    return score_rows(process(one.scored_texts, logits)[rows])
