"""Beam search, beam sampling and diverse beam search: the best whole texts, of the several that are followed at a time.

Sampling takes continuations without replacement, by Gumbel noise (Kool et al., arXiv 1903.06059); diverse beams are
those of Vijayakumar et al., arXiv 1610.02424. Knows nothing of how beams are scored, or where their keys are kept.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from decoding.beams import BeamSearch, BeamSettings, Move
from decoding.branches import branches
from decoding.engine import Engine
from decoding.noise import Purpose, gumbel, key
from decoding.processors import Processors, Scored, process
from foredraft.v1 import generation_pb2
from serving.metrics import TargetMetrics
from target_service.endings import Endings
from target_service.outlet import Outlet
from target_service.plan import Plan
from target_service.statistics import Statistics

_EARLY_STOPPING = {generation_pb2.EARLY_STOPPING_TRUE: True, generation_pb2.EARLY_STOPPING_NEVER: "never"}


async def beams(plan: Plan, engine: Engine, outlets: Sequence[Outlet], metrics: TargetMetrics) -> Statistics:
    """Generates the best texts into the outlets, the best into the first."""
    tokens, settings = plan.tokens, _settings(plan)
    search, statistics = BeamSearch(settings), Statistics()
    endings, count, sent = Endings(outlets[0].stopping.fork()), len(outlets), 0
    choose = _Choice(plan, engine, search, endings)
    async with branches(engine, tokens, settings.num_beams, settings.max_new_tokens, plan.owner) as (row, texts):
        for outlet in outlets:
            outlet.stream.admitted(plan.sampling.prompt_length)
        async for _ in engine.prefill(row, tokens):
            pass
        moves = await engine.score(row, tokens[-1:], 1, choose.first)
        while True:
            statistics.passed()
            metrics.observe_round(0, 0, "")
            shared = search.shared(count)
            if search.done:
                break
            for outlet in outlets:
                await outlet.send(shared[sent:])
            sent = max(sent, len(shared))
            moves = await texts.grow([m.parent for m in moves], [m.token for m in moves], choose.next)
        for outlet, found in zip(outlets, search.best(count), strict=True):
            outlet.score = found.score
            await outlet.finish(found.ids[sent:])
    return statistics


class _Choice:
    """What becomes of the beams by their logits. Called on the device thread."""

    def __init__(self, plan: Plan, engine: Engine, search: BeamSearch, endings: Endings) -> None:
        self._plan, self._search, self._endings = plan, search, endings
        self._processors = Processors(plan.sampling, engine.device)

    def first(self, logits: Tensor, hidden: Tensor) -> list[Move]:
        """All beams are the prompt at first: logits [1, vocab]."""
        moves = self.next(logits.expand(self._search.settings.num_beams, -1), hidden)
        return [Move(0, move.token) for move in moves]

    def next(self, logits: Tensor, hidden: Tensor) -> list[Move]:
        """Logits float32 [num_beams, vocab]."""
        texts, prompt = self._search.texts, self._plan.tokens
        scored = [Scored(self._processors, [*prompt, *text], 1) for text in texts]
        log_probs = process(scored, logits.log_softmax(dim=-1))
        moves = self._search.step(log_probs, self._endings.ends, self._noise(len(texts[0]), log_probs))
        self._endings.keep(self._search.texts)
        return moves

    def _noise(self, at: int, log_probs: Tensor) -> Tensor | None:
        sampling = self._plan.sampling
        if not sampling.is_sampled:
            return None
        beams, vocab = log_probs.shape
        keys = [key(sampling.seed, Purpose.BEAM, sampling.sequence_index, at, beam) for beam in range(beams)]
        return gumbel(torch.tensor(keys, device=log_probs.device), vocab)


def _settings(plan: Plan) -> BeamSettings:
    config = plan.config
    return BeamSettings(
        num_beams=config.num_beams,
        max_new_tokens=plan.max_length - len(plan.tokens),
        num_eos=len(plan.sampling.eos_token_id),
        length_penalty=config.length_penalty,
        early_stopping=_EARLY_STOPPING.get(config.early_stopping, False),  # type: ignore[arg-type]
    )
