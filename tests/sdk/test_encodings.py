"""What a tokenizer of transformers returns is a prompt, and its padding is never fed as text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from foredraft import InvalidRequestError, Result
from tests.sdk.fake_target import FakeTarget

Target = Callable[..., FakeTarget]
Connect = Callable[..., Any]
MODEL = Path(__file__).resolve().parent.parent.parent / "demo" / "models" / "target"
TEXTS = ["def main(", "import os, sys\n", "x"]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _sent(fake: FakeTarget) -> list[list[int]]:
    return [list(prompt.token_ids.ids) for prompt in fake.requests[-1].prompts]


@pytest.mark.parametrize("unpacked", [True, False], ids=["unpacked", "as an argument"])
@pytest.mark.parametrize("tensors", ["pt", "np", None])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_left_out(
    target: Target, connect: Connect, tokenizer: Any, side: str, tensors: Any, unpacked: bool
) -> None:
    fake, expected = target(), [tokenizer(text)["input_ids"] for text in TEXTS]
    encoding = tokenizer(TEXTS, padding=True, padding_side=side, return_tensors=tensors)
    assert min(map(sum, encoding["attention_mask"])) < len(encoding["input_ids"][0])
    client = connect(fake.address)
    results = client.generate(**encoding) if unpacked else client.generate(encoding)
    assert [len(r.token_ids) for r in results] == [5, 5, 5]
    assert _sent(fake) == expected


def test_one_text(target: Target, connect: Connect, tokenizer: Any) -> None:
    fake, encoding = target(), tokenizer("def main(")
    client = connect(fake.address)
    assert isinstance(client.generate(**encoding, max_new_tokens=5), Result)
    assert _sent(fake) == [encoding["input_ids"]]
    assert isinstance(client.generate(encoding), Result)
    assert len(client.generate(tokenizer("def main(", return_tensors="pt"))) == 1
    with client.stream(**encoding) as stream:
        assert len(list(stream)) == 2


@pytest.mark.parametrize("ids", [[5, 6], torch.tensor([5, 6]), np.array([5, 6])], ids=repr)
def test_input_ids_alone(target: Target, connect: Connect, ids: Any) -> None:
    fake = target()
    client = connect(fake.address)
    assert isinstance(client.generate(input_ids=ids), Result)
    assert isinstance(client.generate({"input_ids": ids}), Result)
    assert isinstance(client.generate(ids, attention_mask=[0, 1]), Result)
    assert _sent(fake) == [[6]]


def test_the_other_calls_take_encodings(target: Target, connect: Connect, tokenizer: Any) -> None:
    fake = target()
    client = connect(fake.address)
    encoding = tokenizer(TEXTS, padding=True, return_tensors="pt")
    client.tokenize(encoding)
    sent = [list(prompt.token_ids.ids) for prompt in fake.tokenized[0].prompts]
    assert sent == [tokenizer(text)["input_ids"] for text in TEXTS]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "inputs"),
        ({"attention_mask": [1]}, "inputs"),
        ({"inputs": "a", "input_ids": [1]}, "input_ids"),
        ({"inputs": {"input_ids": [1]}, "attention_mask": [1]}, "attention_mask"),
        ({"input_ids": [1, 2], "attention_mask": [1]}, "attention_mask"),
        ({"input_ids": [[1, 2]], "attention_mask": [[1, 1], [1, 1]]}, "attention_mask"),
        ({"input_ids": [1, 2], "attention_mask": [1, 2]}, "attention_mask"),
        ({"input_ids": [1, 2, 3], "attention_mask": [1, 0, 1]}, "attention_mask"),
        ({"input_ids": [1, 2], "attention_mask": [0, 0]}, "inputs"),
        ({"inputs": "text", "attention_mask": [1]}, "input_ids"),
        ({"input_ids": ["a", "b"]}, "input_ids"),
        ({"input_ids": [1, 2], "token_type_ids": [0, 1]}, "token_type_ids"),
        ({"inputs": {"input_ids": [1], "offset_mapping": [1]}}, "offset_mapping"),
        ({"input_ids": "text"}, "input_ids"),
    ],
    ids=repr,
)
def test_what_is_no_encoding(
    target: Target, connect: Connect, arguments: dict[str, Any], field: str
) -> None:
    fake = target()
    with pytest.raises(InvalidRequestError) as raised:
        connect(fake.address).generate(**arguments)
    assert raised.value.field == field
    assert not fake.requests


def test_kinds_of_tokens_that_are_all_the_same_say_nothing(
    target: Target, connect: Connect
) -> None:
    fake = target()
    connect(fake.address).generate(input_ids=[[1, 2]], token_type_ids=[[0, 0]])
    assert _sent(fake) == [[1, 2]]
