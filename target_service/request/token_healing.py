"""Token healing takes the prompt's last token back and lets the model choose among the tokens that
begin with its text.

The semantics are those of transformers' `GenerationMixin.heal_tokens`, except for the search of the
vocabulary. transformers searches by decoded text and misses tokens that begin with a space; here a
token's own form is searched for. This module knows nothing of what is generated then.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from foredraft_engine.cache_spec import CacheSpec
from foredraft_engine.scheduling.engine import Engine
from foredraft_serving.worker_pool import WorkerPool

# These are transformers' values: a longer token beats all others, and the same token beats a
# change.
_BIAS, _FAVOUR = 10.0, 1.0


class TokenHealing:
    """Heals the prompts of one model."""

    def __init__(self, tokenizer: Any, engine: Engine) -> None:
        self._tokenizer, self._engine = tokenizer, engine

    async def heal(
        self,
        pool: WorkerPool,
        prompt: Sequence[int],
        scope: str,
        cache: CacheSpec | None = None,
    ) -> tuple[int, ...]:
        """Returns the prompt with another last token, if the model prefers one, and without white
        space around it.
        """
        ids, before, others = await pool.run(self._candidates, prompt)
        if len(others) <= 1:
            return ids or tuple(prompt)

        def choose(logits: Tensor, hidden: Tensor) -> int:
            biased = logits[0].clone()
            biased[others] += _BIAS
            biased[ids[-1]] += _FAVOUR
            return int(biased.argmax())

        async with self._engine.pool.lend(before, scope, cache) as row:
            async for _ in self._engine.prefill(row, before):
                pass
            return (*ids[:-1], await self._engine.score(row, before[-1:], 1, choose))

    def _candidates(self, prompt: Sequence[int]) -> tuple[tuple[int, ...], list[int], list[int]]:
        """Returns the prompt's ids anew, those before its last, and what the last may become."""
        text = self._tokenizer.decode(prompt, skip_special_tokens=True).strip()
        ids = tuple(self._tokenizer(text)["input_ids"])
        # The token that begins every text must not speak for another token.
        before = [token for token in ids[:-1] if token != self._tokenizer.bos_token_id]
        return ids, before, self._extensions(ids[-1]) if before else []

    def _extensions(self, token: int) -> list[int]:
        """Returns all tokens that begin with the form of this one."""
        form = self._tokenizer.convert_ids_to_tokens(token)
        return [
            other
            for other_form, other in self._tokenizer.get_vocab().items()
            if other_form.startswith(form) and other < self._engine.vocabulary_size
        ]
