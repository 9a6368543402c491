"""Beam search, beam sampling and diverse beam search follow several texts at a time and return the
best whole ones.

Beam sampling draws continuations without replacement by Gumbel noise (Kool et al., "Stochastic
Beams and Where to Find Them", arXiv 1903.06059). Diverse beam search is that of Vijayakumar et al.,
arXiv 1610.02424. This module knows nothing of how beams are scored, or of where their keys are
kept.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from foredraft.wire import read_early_stopping
from foredraft_engine.errors import InvalidFieldError
from foredraft_engine.logits.processing import Scored
from foredraft_engine.logits.processors import Processors
from foredraft_engine.logits.validity import whole_scores
from foredraft_engine.noise import Purpose, gumbel, key
from foredraft_engine.scheduling.engine import Engine
from foredraft_engine.search.beams import BeamSearch, BeamSettings, Hypothesis, Move, Search
from foredraft_engine.search.branches import branches
from foredraft_engine.search.diverse_beams import DiverseBeamSearch, DiverseBeamSettings
from target_service.output.branch_stopping import BranchStopping
from target_service.output.sequence_output import SequenceOutput
from target_service.output.speculation_stats import SpeculationStats
from target_service.request.mode import Mode
from target_service.request.plan import Plan
from target_service.strategies.resources import Resources

_IMPOSSIBLE = -1e7
"""The log-probability of no text: beams that may not go on have one far below it."""


async def beams(
    plan: Plan, resources: Resources, outputs: Sequence[SequenceOutput]
) -> SpeculationStats:
    """Generates the best texts into the outputs, the best one into the first."""
    engine, tokens, stats, sent = resources.engine, plan.tokens, SpeculationStats(), 0
    choice = _Choice(plan, engine, BranchStopping(outputs[0].stopping.fork()))
    search, size = choice.search, (plan.config.num_beams, _tokens_left(plan))
    async with branches(engine, tokens, *size, plan.identity.scope, plan.cache) as (row, texts):
        for output in outputs:
            output.stream.admitted(plan.sampling.prompt_length)
        async for _ in engine.prefill(row, tokens):
            pass
        outputs[0].stream.prefilled(row.reused)
        moves = await engine.score(row, tokens[-1:], 1, choice.first)
        while True:
            stats.observe_pass()
            resources.metrics.observe_round(0, 0, "")
            shared = search.shared(len(outputs))
            if search.done:
                break
            # Tokens that all the best texts share are certain and can be streamed.
            for output in outputs:
                await output.send(shared[sent:])
            sent = max(sent, len(shared))
            parents, ids = [m.parent for m in moves], [m.token for m in moves]
            moves = await texts.grow(parents, ids, choice.next)
        for output, found in zip(outputs, _found(plan, search, len(outputs)), strict=True):
            await output.finish(found.ids[sent:], found.score)
    return stats


def _found(plan: Plan, search: Search, count: int) -> list[Hypothesis]:
    """Returns the best texts.

    Raises:
        InvalidFieldError: a response format has fewer texts, so that beams that may not go on are
            among them.
    """
    found, penalty = search.best(count), plan.config.length_penalty
    sums = [one.score * max(1, len(one.ids)) ** penalty for one in found]
    possible = sum(total > _IMPOSSIBLE for total in sums)
    if plan.grammar and possible < count:
        reason = f"asks for {count} texts, and the search found {possible} that meet the format"
        raise InvalidFieldError("num_return_sequences", reason, "response_format")
    return found


class _Choice:
    """Chooses the next tokens of all beams from their logits.

    All methods are called on the device thread.
    """

    def __init__(self, plan: Plan, engine: Engine, stopping: BranchStopping) -> None:
        self._plan, self._stopping = plan, stopping
        self._processors = Processors(plan.sampling, engine.device, plan.grammar)
        self._beams = BeamSearch(_settings(plan)) if plan.mode is Mode.BEAMS else None
        self.search: Search = self._beams or DiverseBeamSearch(
            _diverse_settings(plan), self._process
        )

    def first(self, logits: Tensor, hidden: Tensor) -> list[Move]:
        """Returns the first moves, where all beams are the prompt and its logits are [1, vocab]."""
        moves = self.next(logits.expand(self._plan.config.num_beams, -1), hidden)
        return [Move(0, move.token) for move in moves]

    def next(self, logits: Tensor, hidden: Tensor) -> list[Move]:
        """Returns the moves after logits float32 [num_beams, vocab]."""
        log_probs, texts = logits.log_softmax(dim=-1), self.search.texts
        if self._beams:
            scores = self._process(texts, log_probs)
            moves = self._beams.step(
                scores, self._stopping.ends, self._noise(len(texts[0]), scores)
            )
        else:
            moves = self.search.step(log_probs, self._stopping.ends)
        self._stopping.keep(self.search.texts)
        return moves

    def _process(self, texts: Sequence[tuple[int, ...]], log_probs: Tensor) -> Tensor:
        """Returns the scores of the tokens after these texts, float32 [texts, vocab]."""
        scored = [Scored(self._processors, [*self._plan.tokens, *text], 1) for text in texts]
        return whole_scores(scored, log_probs, together=True)

    def _noise(self, at: int, scores: Tensor) -> Tensor | None:
        sampling = self._plan.sampling
        if not sampling.is_sampled:
            return None
        beams, vocab = scores.shape
        keys = [
            key(sampling.seed, Purpose.BEAM, sampling.sequence_index, at, beam)
            for beam in range(beams)
        ]
        return gumbel(torch.tensor(keys, device=scores.device), vocab)


def _tokens_left(plan: Plan) -> int:
    return plan.max_length - len(plan.tokens)


def _settings(plan: Plan) -> BeamSettings:
    return BeamSettings(
        num_beams=plan.config.num_beams,
        max_new_tokens=_tokens_left(plan),
        num_eos=len(plan.sampling.eos_token_id),
        length_penalty=plan.config.length_penalty,
        early_stopping=read_early_stopping(plan.config.early_stopping),
    )


def _diverse_settings(plan: Plan) -> DiverseBeamSettings:
    config, eos = plan.config, plan.sampling.eos_token_id
    return DiverseBeamSettings(
        num_beams=config.num_beams,
        num_beam_groups=config.num_beam_groups,
        diversity_penalty=config.diversity_penalty,
        max_new_tokens=_tokens_left(plan),
        eos_token_ids=eos,
        pad_token_id=config.pad_token_id if config.HasField("pad_token_id") else next(iter(eos), 0),
        length_penalty=config.length_penalty,
        early_stopping=read_early_stopping(config.early_stopping),
    )
