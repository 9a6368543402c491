"""Token healing: the prompt's last token is taken back, and the model chooses among those that
begin with its text.

The semantics are transformers' (`GenerationMixin.heal_tokens`), but for its search of the
vocabulary, which goes by decoded text and misses tokens that begin with a space: here a token's own
form is looked for. Knows nothing of what is generated then.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from foredraft_engine.cache_spec import CacheSpec
from foredraft_engine.scheduling.engine import Engine

# transformers' own: what goes on beats everything else, and no change beats a change.
_BIAS, _FAVOUR = 10.0, 1.0


class TokenHealing:
    """Of the prompts of one model."""

    def __init__(self, tokenizer: Any, engine: Engine) -> None:
        self._tokenizer, self._engine = tokenizer, engine

    async def heal(
        self, prompt: Sequence[int], owner: str, cache: CacheSpec | None = None
    ) -> tuple[int, ...]:
        """The prompt with another last token, if the model prefers one;

        without white space around it.
        """
        text = self._tokenizer.decode(prompt, skip_special_tokens=True).strip()
        ids = tuple(self._tokenizer(text)["input_ids"])
        # What begins every text shall not speak for a token.
        before = [token for token in ids[:-1] if token != self._tokenizer.bos_token_id]
        others = self._extensions(ids[-1]) if before else []
        if len(others) <= 1:
            return ids or tuple(prompt)

        def choose(logits: Tensor, hidden: Tensor) -> int:
            biased = logits[0].clone()
            biased[others] += _BIAS
            biased[ids[-1]] += _FAVOUR
            return int(biased.argmax())

        async with self._engine.pool.lend(before, owner, cache) as row:
            async for _ in self._engine.prefill(row, before):
                pass
            return (*ids[:-1], await self._engine.score(row, before[-1:], 1, choose))

    def _extensions(self, token: int) -> list[int]:
        """All tokens that begin with the form of this one."""
        form = self._tokenizer.convert_ids_to_tokens(token)
        return [
            other
            for other_form, other in self._tokenizer.get_vocab().items()
            if other_form.startswith(form)
        ]
