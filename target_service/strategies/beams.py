"""Beam search, beam sampling and diverse beam search: the best whole texts, of the several that are
followed at a time.

Sampling takes continuations without replacement, by Gumbel noise (Kool et al., arXiv 1903.06059);
diverse beams are those of Vijayakumar et al., arXiv 1610.02424. Knows nothing of how beams are
scored, or where their keys are kept.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from foredraft.wire import read_early_stopping
from foredraft_engine.logits.processors import Processors, Scored, process
from foredraft_engine.noise import Purpose, gumbel, key
from foredraft_engine.scheduling.engine import Engine
from foredraft_engine.search.beams import BeamSearch, BeamSettings, Move, Search
from foredraft_engine.search.branches import branches
from foredraft_engine.search.diverse_beams import DiverseBeamSearch, DiverseBeamSettings
from foredraft_serving.metrics import TargetMetrics
from target_service.output.branch_stopping import BranchStopping
from target_service.output.sequence_output import SequenceOutput
from target_service.output.speculation_stats import SpeculationStats
from target_service.request.mode import Mode
from target_service.request.plan import Plan


async def beams(
    plan: Plan, engine: Engine, outputs: Sequence[SequenceOutput], metrics: TargetMetrics
) -> SpeculationStats:
    """Generates the best texts into the outputs, the best into the first."""
    tokens, statistics, count, sent = plan.tokens, SpeculationStats(), len(outputs), 0
    choose = _Choice(plan, engine, BranchStopping(outputs[0].stopping.fork()))
    search = choose.search
    async with branches(
        engine, tokens, plan.config.num_beams, _room(plan), plan.owner, plan.cache
    ) as (row, texts):
        for output in outputs:
            output.stream.admitted(plan.sampling.prompt_length)
        async for _ in engine.prefill(row, tokens):
            pass
        outputs[0].stream.prefilled(row.reused)
        moves = await engine.score(row, tokens[-1:], 1, choose.first)
        while True:
            statistics.passed()
            metrics.observe_round(0, 0, "")
            shared = search.shared(count)
            if search.done:
                break
            for output in outputs:
                await output.send(shared[sent:])
            sent = max(sent, len(shared))
            moves = await texts.grow(
                [m.parent for m in moves], [m.token for m in moves], choose.next
            )
        for output, found in zip(outputs, search.best(count), strict=True):
            output.score = found.score
            await output.finish(found.ids[sent:])
    return statistics


class _Choice:
    """What becomes of the beams by their logits. Called on the device thread."""

    def __init__(self, plan: Plan, engine: Engine, endings: BranchStopping) -> None:
        self._plan, self._endings = plan, endings
        self._processors = Processors(plan.sampling, engine.device)
        self._beams = BeamSearch(_settings(plan)) if plan.mode is Mode.BEAMS else None
        self.search: Search = self._beams or DiverseBeamSearch(
            _diverse_settings(plan), self._process
        )

    def first(self, logits: Tensor, hidden: Tensor) -> list[Move]:
        """All beams are the prompt at first: logits [1, vocab]."""
        moves = self.next(logits.expand(self._plan.config.num_beams, -1), hidden)
        return [Move(0, move.token) for move in moves]

    def next(self, logits: Tensor, hidden: Tensor) -> list[Move]:
        """Logits float32 [num_beams, vocab]."""
        log_probs, texts = logits.log_softmax(dim=-1), self.search.texts
        if self._beams:
            scores = self._process(texts, log_probs)
            moves = self._beams.step(scores, self._endings.ends, self._noise(len(texts[0]), scores))
        else:
            moves = self.search.step(log_probs, self._endings.ends)
        self._endings.keep(self.search.texts)
        return moves

    def _process(self, texts: Sequence[tuple[int, ...]], log_probs: Tensor) -> Tensor:
        """Scores of the tokens after these texts, float32 [texts, vocab]."""
        return process(
            [Scored(self._processors, [*self._plan.tokens, *text], 1) for text in texts], log_probs
        )

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


def _room(plan: Plan) -> int:
    return plan.max_length - len(plan.tokens)


def _settings(plan: Plan) -> BeamSettings:
    return BeamSettings(
        num_beams=plan.config.num_beams,
        max_new_tokens=_room(plan),
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
        max_new_tokens=_room(plan),
        eos_token_ids=eos,
        pad_token_id=config.pad_token_id if config.HasField("pad_token_id") else next(iter(eos), 0),
        length_penalty=config.length_penalty,
        early_stopping=read_early_stopping(config.early_stopping),
    )
