"""Contrastive search chooses a likely token whose hidden state differs from those before it (Su et
al., "A Contrastive Framework for Neural Text Generation", arXiv 2202.06417).

Each step looks one token past all `top_k` candidates at once. This module knows nothing of how
candidates are ranked.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from foredraft_engine.logits.processing import Scored
from foredraft_engine.logits.processors import Processors
from foredraft_engine.logits.validity import whole_scores
from foredraft_engine.scheduling.engine import Engine
from foredraft_engine.search.branches import peek
from foredraft_engine.search.contrastive_ranking import choose, unit
from target_service.output.sequence_output import SequenceOutput
from target_service.output.speculation_stats import SpeculationStats
from target_service.request.plan import Plan
from target_service.strategies.resources import Resources


async def contrastive(
    plan: Plan, resources: Resources, outputs: Sequence[SequenceOutput]
) -> SpeculationStats:
    """Generates one sequence into the first output."""
    engine, output, stopping = resources.engine, outputs[0], outputs[0].stopping
    tokens, stats = list(plan.tokens), SpeculationStats()
    search = _Search(plan, engine)
    # The whole prompt is fed, because a row that is reused has keys but no hidden states.
    async with engine.pool.lend((), plan.identity.scope, plan.cache) as row:
        output.stream.admitted(plan.sampling.prompt_length)
        for start in range(0, len(tokens) - 1, engine.chunk_tokens):
            if stopping.is_out_of_time():
                break
            chunk = tokens[start : min(start + engine.chunk_tokens, len(tokens) - 1)]
            await engine.score(row, chunk, 0, search.read)
        if not stopping.reason:
            await engine.score(row, tokens[-1:], 1, search.begin)
            row.truncate(len(tokens) - 1)
        while not stopping.reason and not stopping.is_out_of_time():
            token = await peek(engine, row, tokens[-1], search.candidates, search.choose)
            tokens.append(token)
            stats.observe_pass()
            resources.metrics.observe_round(0, 0, "")
            await output.send([token])
        if stopping.reason == "max_time":
            await output.finish(())
    return stats


class _Search:
    """The text so far, its hidden states, and the candidates for its next token.

    All methods are called on the device thread.
    """

    def __init__(self, plan: Plan, engine: Engine) -> None:
        self._alpha, self._k = plan.config.penalty_alpha, plan.config.top_k
        self._processors = Processors(plan.sampling, engine.device, plan.grammar)
        self._tokens = list(plan.tokens)
        self._context: list[Tensor] = []  # unit hidden states of the tokens, [n, size] each
        self._probabilities = torch.empty(0)
        self.candidates: list[int] = []
        """The candidates for the next token, the likeliest first."""

    def read(self, logits: Tensor, hidden: Tensor) -> None:
        """Reads tokens of the prompt with hidden states [n, size]."""
        self._context.append(unit(hidden))

    def begin(self, logits: Tensor, hidden: Tensor) -> None:
        """Reads the last token of the prompt with logits [1, vocab]."""
        self.read(logits, hidden)
        self._propose(logits)

    def choose(self, logits: Tensor, hidden: Tensor) -> int:
        """Returns the best candidate.

        Args:
            logits: those after each candidate, float32 [k, vocab].
            hidden: the hidden state of each candidate, [k, size].
        """
        if len(self._context) > 1:
            self._context = [torch.cat(self._context)]
        states = unit(hidden)
        best = choose(self._context[0], states, self._probabilities, self._alpha)
        self._context.append(states[best : best + 1])
        self._tokens.append(self.candidates[best])
        self._propose(logits[best : best + 1])
        return self._tokens[-1]

    def _propose(self, logits: Tensor) -> None:
        scores = whole_scores([Scored(self._processors, self._tokens, 1)], logits)
        p = scores.softmax(dim=-1)[0]
        best = p.topk(min(self._k, len(p)))
        # Bans may leave fewer tokens than candidates.
        possible = int((best.values > 0).sum())
        self._probabilities = best.values[:possible]
        self.candidates = best.indices[:possible].tolist()
