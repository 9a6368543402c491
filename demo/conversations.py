"""Conversations that a chat model has with itself, as a draft for it will meet them.

Questions are given, or the model's own: it goes on from the bare beginning of a user's turn
(Magpie, arXiv 2406.08464). Its answers are greedy in half of the conversations.
"""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaForCausalLM

from demo.batch_decoder import BatchDecoder
from demo.instructions import about_a_text, instructions

SHAPES = ((128, 320), (128, 192))  # rows and length, by turns
_LONGEST_ANSWER, _LONGEST_QUESTION, _LONGEST_QUOTE = 224, 48, 120
_TEMPERATURES = (0.0, 0.0, 0.0, 0.7, 1.0)
_QUESTION_TEMPERATURE = 0.9


@dataclass(frozen=True)
class Conversations:
    """A batch of them."""

    ids: Tensor  # int32 [rows, length]
    hidden: Tensor  # bfloat16 [rows, length, width], what the head read at each place
    answers: Tensor  # bool [rows, length], whether the token belongs to an answer

    def save(self, path: Path) -> None:
        """Saves them; a file is complete before it takes its name."""
        fresh = path.with_suffix(".new")
        save_file({"ids": self.ids, "hidden": self.hidden, "answers": self.answers}, fresh)
        fresh.replace(path)

    @staticmethod
    def load(path: Path) -> "Conversations":
        return Conversations(**load_file(path))


class _Conversation:
    """One of them, token by token: what is put into it, and what the model may say."""

    def __init__(self, chat: "_Chat", choice: random.Random, question: str = "") -> None:
        """
        Args:
            question: the first one; the answers are greedy then.
        """
        self._encode, self._end, self._choice = chat.encode, chat.end, choice
        self._asks = instructions(choice)
        self._temperature = 0.0 if question else choice.choice(_TEMPERATURES)
        self._forced = deque(chat.encode(chat.opening))
        self._turn: list[int] = []
        self._answering = False
        self._ask(chat.end, question)

    def answers_next(self) -> bool:
        """Tells whether the next token belongs to an answer of the model."""
        return self._answering and not self._forced

    def temperature(self) -> float:
        """Returns the temperature of the next token, if the model says it."""
        return self._temperature if self._answering else _QUESTION_TEMPERATURE

    def take(self, said: int) -> int:
        """Returns the next token, which is what the model said unless another is due."""
        if self._forced:
            return self._forced.popleft()
        self._turn.append(said)
        longest = _LONGEST_ANSWER if self._answering else _LONGEST_QUESTION
        if said != self._end and len(self._turn) < longest:
            return said
        if self._answering:
            self._ask(said)
        else:
            if said != self._end:
                self._forced.append(self._end)
            self._begin_answer()
        return said

    def _ask(self, last: int, question: str = "") -> None:
        """Begins a user's turn, whose words are given, quoted, or left to the model."""
        if self._turn:
            self._forced.extend(self._encode("\n" if last == self._end else "<|im_end|>\n"))
        self._forced.extend(self._encode("<|im_start|>user\n"))
        drawn, answer = self._choice.random(), self._turn[:-1]
        self._turn, self._answering = [], False
        if question:
            self._forced.extend(self._encode(question))
        elif answer and len(answer) < _LONGEST_QUOTE and drawn < 0.4:
            self._forced.extend(self._encode(about_a_text(self._choice)))
            self._forced.extend(answer)
        elif drawn < 0.75:
            self._forced.extend(self._encode(next(self._asks)))
        else:
            return
        self._forced.append(self._end)
        self._begin_answer()

    def _begin_answer(self) -> None:
        self._forced.extend(self._encode("\n<|im_start|>assistant\n"))
        self._turn, self._answering = [], True


class _Chat:
    """How a tokenizer writes conversations."""

    def __init__(self, tokenizer: Any) -> None:
        empty = tokenizer.apply_chat_template([{"role": "user", "content": ""}], tokenize=False)
        self.opening: str = empty[: empty.index("<|im_start|>user")]
        self.end: int = tokenizer.convert_tokens_to_ids("<|im_end|>")
        self._tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text."""
        return list(self._tokenizer.encode(text, add_special_tokens=False))


def conversations(model: LlamaForCausalLM, tokenizer: Any, number: int, seed: int) -> Conversations:
    """Returns the batch of that number."""
    rows, length = SHAPES[number % len(SHAPES)]
    chat, choice = _Chat(tokenizer), random.Random(f"{seed}/{number}")
    held = [_Conversation(chat, choice) for _ in range(rows)]
    return _spoken(model, held, length, seed * 1_000_003 + number)


def answers_to(
    model: LlamaForCausalLM, tokenizer: Any, questions: Sequence[str], length: int, seed: int
) -> Conversations:
    """Returns conversations that begin with these questions, and whose answers are greedy."""
    chat, choice = _Chat(tokenizer), random.Random(f"{seed}/questions")
    held = [_Conversation(chat, choice, question) for question in questions]
    return _spoken(model, held, length, seed)


@torch.inference_mode()
def _spoken(
    model: LlamaForCausalLM, held: Sequence[_Conversation], length: int, seed: int
) -> Conversations:
    """Lets the model speak, in all conversations at once."""
    rows, generator = len(held), torch.Generator().manual_seed(seed)
    decoder = BatchDecoder(model, rows, length)
    ids = torch.empty(rows, length, dtype=torch.int32)
    hidden = torch.empty(rows, length, model.config.hidden_size, dtype=torch.bfloat16)
    answers = torch.zeros(rows, length, dtype=torch.bool)
    said = [0] * rows
    for place in range(length):
        answers[:, place] = torch.tensor([each.answers_next() for each in held])
        ids[:, place] = torch.tensor(
            [each.take(token) for each, token in zip(held, said, strict=True)]
        )
        hidden[:, place] = decoder.feed(ids[:, place].long())
        heat = torch.tensor([each.temperature() for each in held])
        said = _drawn(decoder.logits(hidden[:, place]), heat, generator)
    return Conversations(ids, hidden, answers)


def _drawn(logits: Tensor, heat: Tensor, generator: torch.Generator) -> list[int]:
    """Draws a token for each row, at its temperature."""
    warm = heat.nonzero()[:, 0]
    noise = torch.empty(len(warm), logits.shape[1]).exponential_(generator=generator).log_()
    logits[warm] -= heat[warm, None] * noise
    drawn: list[int] = logits.argmax(-1).tolist()
    return drawn
