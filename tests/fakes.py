"""Stand-ins with exactly known behaviour: a model that is a table, and a tokenizer of letters."""

import string
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from foredraft_engine.feed import Feed, Tree
from foredraft_engine.forward_pass import ForwardPass
from foredraft_engine.model.loading import LoadedModel
from foredraft_engine.vocabulary import Vocabulary


class TableRows:
    """A model whose logits are a table's row at the last two tokens: [vocab, vocab, vocab]."""

    layout = "table"
    quantizes = False
    runs_ahead = False

    def __init__(self, table: Tensor, count: int = 64, capacity: int = 512) -> None:
        self.table = table
        self.count, self.capacity, self.spare = count, capacity, 512
        self.device, self.branches = torch.device("cpu"), True
        self.hidden = torch.zeros(0, 1)  # a table has no hidden states
        self._held: list[list[int]] = [[] for _ in range(count)]
        self._branches: list[dict[int, int]] = [{} for _ in range(count)]  # tokens by place
        self.steps: list[int] = []  # jobs in each forward
        self.fed: list[int] = []  # tokens in each forward
        self.copied: list[int] = []  # tokens copied by each copy

    def forward(self, feeds: Sequence[Feed], scored: Sequence[int]) -> Tensor:
        self.steps.append(len(feeds))
        self.fed.append(sum(len(feed.ids) for feed in feeds))
        rows = []
        for feed, n in zip(feeds, scored, strict=True):
            held = self._held[feed.row]
            if feed.tree:
                rows += [
                    self._logits(text) for text in self._grow(feed, feed.tree)[len(feed.ids) - n :]
                ]
                continue
            assert feed.start <= len(held), "a feed leaves a gap"
            held[feed.start :] = feed.ids
            rows += [self._logits(held[: len(held) - n + 1 + i]) for i in range(n)]
        return torch.stack(rows) if rows else torch.zeros(0, self.table.shape[-1])

    def prepare(self, feeds: Sequence[Feed], scored: Sequence[int]) -> ForwardPass:
        return ForwardPass([], partial(self._run, feeds, scored))

    def _run(
        self,
        feeds: Sequence[Feed],
        scored: Sequence[int],
        tensors: Sequence[Tensor],
        ids: Tensor | None,
    ) -> Tensor:
        if ids is not None:
            each = ids.split([len(feed.ids) for feed in feeds])
            feeds = [replace(f, ids=its.tolist()) for f, its in zip(feeds, each, strict=True)]
        return self.forward(feeds, scored)

    def _grow(self, feed: Feed, tree: Tree) -> list[list[int]]:
        """Adds the new tokens of a tree; returns the text that ends with each."""
        held, nodes, texts = self._held[feed.row], self._branches[feed.row], []
        del held[feed.start :]
        assert tree.trunk <= len(held) <= feed.start, "branches are written over the text"
        for i, (token, position, seen) in enumerate(
            zip(feed.ids, tree.positions, tree.seen, strict=True)
        ):
            nodes[feed.start + i] = token
            path = [held[place] if place < len(held) else nodes[place] for place in seen]
            texts.append([*held[: tree.trunk], *path, token])
            assert len(texts[-1]) == position + 1
            if position == feed.start + i == len(held):
                held.append(token)  # it continues the text
        return texts

    def copy_row(self, source: int, target: int, length: int, start: int = 0) -> None:
        assert self._held[target][:start] == self._held[source][:start]
        self._held[target] = self._held[source][:length]
        self.copied.append(length - start)

    def lend(self, row: int) -> None:
        pass

    def row_bytes(self, row: int) -> int:
        return 0

    def _logits(self, tokens: Sequence[int]) -> Tensor:
        return self.table[tokens[-2] if len(tokens) > 1 else 0, tokens[-1]]


class SlowRows(TableRows):
    """A table whose steps take time, and fail when `fails` is set."""

    def __init__(self, table: Tensor, step_s: float, count: int = 4, token_s: float = 0.0) -> None:
        """Makes a step take `step_s` seconds, and `token_s` more for every token."""
        super().__init__(table, count)
        self._step_s, self._token_s = step_s, token_s
        self.fails = False

    def forward(self, feeds: Sequence[Feed], scored: Sequence[int]) -> Tensor:
        time.sleep(self._step_s + self._token_s * sum(len(f.ids) for f in feeds))
        if self.fails:
            raise RuntimeError("out of memory")
        return super().forward(feeds, scored)


def random_table(vocab: int, seed: int, spread: float = 1.5) -> Tensor:
    """Returns random logits for a table, float32 [vocab, vocab, vocab]."""
    return torch.randn(vocab, vocab, vocab, generator=torch.Generator().manual_seed(seed)) * spread


class LetterTokenizer:
    """A tokenizer whose ids are letters, without special ids."""

    chat_template = None
    bos_token_id = eos_token_id = pad_token_id = unk_token_id = None

    def __init__(self, vocab: int) -> None:
        self._letters = string.ascii_letters[:vocab]

    def get_vocab(self) -> dict[str, int]:
        return {letter: i for i, letter in enumerate(self._letters)}

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return "".join(self._letters[i] for i in ids)

    def convert_ids_to_tokens(self, token: int) -> str:
        return self._letters[token]

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        return "".join(tokens)

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [self._letters.index(letter) for letter in text]}


def table_model(vocab: int, name: str = "table") -> LoadedModel:
    """Returns a loaded model with the letter tokenizer. Its logits come from the engine's rows."""
    tokenizer = LetterTokenizer(vocab)
    return LoadedModel(name, torch.nn.Identity(), tokenizer, Vocabulary.of(tokenizer), 512)
