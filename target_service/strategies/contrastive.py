"""Contrastive search: a likely token whose hidden state is unlike those before it (Su et al., arXiv
2202.06417).

Each step looks one token past `top_k` candidates at once. Knows nothing of how they are ranked.
"""

import torch
from torch import Tensor

from foredraft_engine.logits.processors import Processors, Scored, process
from foredraft_engine.scheduling.engine import Engine
from foredraft_engine.search.branches import peek
from foredraft_engine.search.contrastive_ranking import choose, unit
from foredraft_serving.metrics import TargetMetrics
from target_service.output.sequence_output import SequenceOutput
from target_service.output.speculation_stats import SpeculationStats
from target_service.request.plan import Plan


async def contrastive(
    plan: Plan, engine: Engine, output: SequenceOutput, metrics: TargetMetrics
) -> SpeculationStats:
    """Generates one sequence into the output."""
    tokens, statistics, stopping = list(plan.tokens), SpeculationStats(), output.stopping
    contrast = _Contrast(plan, engine)
    async with engine.pool.lend(
        (), plan.owner, plan.cache
    ) as row:  # fed anew: hidden states are not kept
        output.stream.admitted(plan.sampling.prompt_length)
        for start in range(0, len(tokens) - 1, engine.chunk_tokens):
            if stopping.out_of_time():
                break
            chunk = tokens[start : min(start + engine.chunk_tokens, len(tokens) - 1)]
            await engine.score(row, chunk, 0, contrast.read)
        if not stopping.reason:
            await engine.score(row, tokens[-1:], 1, contrast.begin)
            row.truncate(len(tokens) - 1)
        while not stopping.reason and not stopping.out_of_time():
            token = await peek(engine, row, tokens[-1], contrast.candidates, contrast.choose)
            tokens.append(token)
            statistics.passed()
            metrics.observe_round(0, 0, "")
            await output.send([token])
        if stopping.reason == "max_time":
            await output.finish(())
    return statistics


class _Contrast:
    """The text so far, its hidden states, and the candidates for its next token.

    Called on the device thread.
    """

    def __init__(self, plan: Plan, engine: Engine) -> None:
        self._alpha, self._k = plan.config.penalty_alpha, plan.config.top_k
        self._processors = Processors(plan.sampling, engine.device)
        self._tokens = list(plan.tokens)
        self._context: list[Tensor] = []  # unit hidden states of the tokens, [n, size] each
        self._probabilities = torch.empty(0)
        self.candidates: list[int] = []
        """Of the next token."""

    def read(self, logits: Tensor, hidden: Tensor) -> None:
        """Tokens of the prompt: hidden states [n, size]."""
        self._context.append(unit(hidden))

    def begin(self, logits: Tensor, hidden: Tensor) -> None:
        """The prompt's last token: logits [1, vocab]."""
        self.read(logits, hidden)
        self._propose(logits)

    def choose(self, logits: Tensor, hidden: Tensor) -> int:
        """One of the candidates, by what follows each:

        logits [k, vocab], hidden states [k, size].
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
        p = process([Scored(self._processors, self._tokens, 1)], logits).softmax(dim=-1)[0]
        self._probabilities, best = p.topk(min(self._k, len(p)))
        self.candidates = best.tolist()
