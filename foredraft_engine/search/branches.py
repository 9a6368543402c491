"""Several continuations of one prompt, one token at a time: beams, or candidates for a token.

If the model's rows can hold branches, the texts are branches of one row. They share the keys and
values of the prompt and of each other, and nothing is copied. Otherwise each text has a row of its
own, and is copied only where a second text continues the same parent.

This module knows nothing of why a text is continued.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from foredraft_engine.cache_spec import CacheSpec
from foredraft_engine.feed import Tree
from foredraft_engine.scheduling.engine import Engine
from foredraft_engine.scheduling.jobs import Reduce
from foredraft_engine.scheduling.row_pool import Row


class Branches(Protocol):
    """Texts of one length, numbered from 0 in each generation."""

    async def grow(self, parents: Sequence[int], ids: Sequence[int], reduce: Reduce) -> Any:
        """Makes the next generation: text i is the previous text `parents[i]`, followed by ids[i].

        Texts that are no parents are given up. The parent of the first generation is the prompt,
        as text 0.

        Returns:
            The result of `reduce` on the texts' logits, float32 [texts, vocab], and hidden states,
            [texts, size].
        """


def fits(
    engine: Engine, prompt_tokens: int, texts: int, new_tokens: int, quantized: bool = False
) -> bool:
    """Returns whether the engine has room for these texts, in one row or in a row each.

    Args:
        prompt_tokens: the length of the prompt.
        texts: the number of texts at a time.
        new_tokens: the largest number of tokens in a text after the prompt.
        quantized: whether the rows are quantized.
    """
    in_one_row = not quantized and _in_one_row(engine, prompt_tokens, texts, new_tokens)
    return in_one_row or texts <= engine.pool.count


@asynccontextmanager
async def branches(
    engine: Engine,
    tokens: Sequence[int],
    texts: int,
    new_tokens: int,
    scope: str,
    cache: CacheSpec | None = None,
) -> AsyncIterator[tuple[Row, Branches]]:
    """Lends the rows that several texts need.

    The caller first fills the row of the prompt with the whole prompt.

    Args:
        tokens: the prompt.
        texts: the number of texts at a time.
        new_tokens: the largest number of tokens in a text after the prompt.
        scope: rows are reused among the sequences of one scope only.
        cache: how the rows are quantized, if they are. Quantized texts have a row each, because a
            row is quantized by positions.

    Returns:
        The row of the prompt, and the texts.
    """
    if cache is None and _in_one_row(engine, len(tokens), texts, new_tokens):
        async with engine.pool.lend(tokens, scope) as row:
            yield row, _OneRow(engine, row, tokens)
    else:
        async with engine.pool.lend_several([tokens, *[()] * (texts - 1)], scope, cache) as rows:
            yield rows[0], _SeveralRows(engine, rows)


def _in_one_row(engine: Engine, prompt_tokens: int, texts: int, new_tokens: int) -> bool:
    """Returns whether one row has room for texts that share nothing but the prompt."""
    return (
        engine.rows.branches
        and prompt_tokens + texts * new_tokens <= engine.rows.capacity + engine.rows.spare
    )


def _logits_and_hidden(logits: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    return logits, hidden


class _OneRow:
    """Texts as paths through the places after the prompt. Each generation has places of its own."""

    def __init__(self, engine: Engine, row: Row, tokens: Sequence[int]) -> None:
        self._engine, self._row, self._trunk = engine, row, len(tokens)
        self._paths: list[list[int]] = [[]]
        self._end = self._trunk  # one past the last place in use

    async def grow(self, parents: Sequence[int], ids: Sequence[int], reduce: Reduce) -> Any:
        paths = [self._paths[parent] for parent in parents]
        tree = Tree(self._trunk, [self._trunk + len(path) for path in paths], paths)
        start, self._end = self._end, self._end + len(ids)
        self._paths = [[*path, start + i] for i, path in enumerate(paths)]
        return await self._engine.score_tree(self._row, start, ids, tree, reduce)


class _SeveralRows:
    """Texts with a row each. The first row holds the prompt."""

    def __init__(self, engine: Engine, rows: Sequence[Row]) -> None:
        self._engine, self._rows = engine, list(rows)
        self._held = [rows[0]]  # the row of each text of the last generation

    async def grow(self, parents: Sequence[int], ids: Sequence[int], reduce: Reduce) -> Any:
        held = await self._fork(parents)
        scores = [
            self._engine.score(row, [token], 1, _logits_and_hidden)
            for row, token in zip(held, ids, strict=True)
        ]
        self._held = held
        logits, hidden = zip(*await asyncio.gather(*scores), strict=True)
        return await self._engine.run(lambda: reduce(torch.cat(logits), torch.cat(hidden)))

    async def _fork(self, parents: Sequence[int]) -> list[Row]:
        """Returns a row for each text.

        The first child of a parent keeps the parent's row, the others get rows of given-up texts.
        """
        kept = {parent: self._held[parent] for parent in parents}
        free = [row for row in self._rows if not any(row is other for other in kept.values())]
        rows: list[Row] = []
        for i, parent in enumerate(parents):
            if parent not in parents[:i]:
                rows.append(kept[parent])
            else:
                rows.append(free.pop())
                await self._engine.copy(kept[parent], rows[-1], len(kept[parent].cached))
        return rows


async def peek(
    engine: Engine, row: Row, token: int, candidates: Sequence[int], reduce: Reduce
) -> Any:
    """Feeds a token, and scores what follows each of several candidates for the next token.

    Afterwards the row holds the token, but none of the candidates.

    Returns:
        The result of `reduce` on the candidates' logits, float32 [k, vocab], and hidden states,
        [k, size].
    """
    start, k = len(row.cached), len(candidates)
    if engine.rows.branches and start + 1 + k <= engine.rows.capacity + engine.rows.spare:
        tree = Tree.with_alternatives(start, 1, [1] * k)
        assert tree is not None
        result = await engine.score_tree(
            row,
            start,
            [token, *candidates],
            tree,
            lambda logits, hidden: reduce(logits[1:], hidden[1:]),
        )
        row.cached.append(token)
        return result
    parts: list[tuple[Tensor, Tensor]] = []
    for candidate in candidates:
        row.truncate(start)
        parts.append(await engine.score(row, [token, candidate], 1, _logits_and_hidden))
    row.truncate(start + 1)
    logits, hidden = zip(*parts, strict=True)
    return await engine.run(
        lambda: reduce(torch.cat(logits), torch.cat([part[-1:] for part in hidden]))
    )
