"""Tokens of texts, texts of tokens, and watermarks of results."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from foredraft import InvalidRequestError, WatermarkDetection
from tests.sdk.fake_target import FakeTarget

Target = Callable[..., FakeTarget]
Connect = Callable[..., Any]
CHAT = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]


def test_tokenize(target: Target, connect: Connect) -> None:
    client = connect(target().address)
    assert client.tokenize("four") == [0, 1, 2, 3]
    assert client.tokenize(CHAT) == [0, 1]
    with pytest.raises(InvalidRequestError) as raised:
        client.tokenize("refused")
    assert raised.value.field == "prompts"


def test_tokenize_a_batch(target: Target, connect: Connect) -> None:
    fake = target()
    client = connect(fake.address)
    assert client.tokenize(["four", "a"]) == [[0, 1, 2, 3], [0]]
    assert client.tokenize(["a"]) == [[0]], "a batch of one is a batch"
    assert client.tokenize([CHAT, CHAT[1:]]) == [[0, 1], [0]]
    assert len(fake.tokenized) == 3, "a batch is one call"


def test_tokenize_takes_what_conversations_take(target: Target, connect: Connect) -> None:
    fake = target()
    client = connect(fake.address)
    client.tokenize(CHAT, tools=[{"name": "f"}], continue_final_message=True)
    chat = fake.tokenized[0].prompt.chat
    assert (list(chat.tools), chat.continue_final_message) == (['{"name": "f"}'], True)
    with pytest.raises(InvalidRequestError) as raised:
        client.tokenize("text", tools=[{"name": "f"}])
    assert raised.value.field == "tools"


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([1, 0, 2], "t1 t0 t2 "),
        ((1, 2), "t1 t2 "),
        (7, "t7 "),
        (torch.tensor([1, 2]), "t1 t2 "),
        (np.array([[1, 2], [3, 4]]), ["t1 t2 ", "t3 t4 "]),
        ([[1], [2, 3]], ["t1 ", "t2 t3 "]),
        ([[1]], ["t1 "]),
        ([], ""),
    ],
    ids=repr,
)
def test_decode(target: Target, connect: Connect, ids: Any, text: Any) -> None:
    assert connect(target().address).decode(ids) == text


def test_decode_may_leave_special_tokens_out(target: Target, connect: Connect) -> None:
    client = connect(target().address)
    assert client.decode([1, 0], skip_special_tokens=True) == "t1 "


@pytest.mark.parametrize("ids", ["text", [-1], [1.5], [[1], "a"], None, [2**32]], ids=repr)
def test_what_is_no_ids(target: Target, connect: Connect, ids: Any) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        connect(target().address).decode(ids)
    assert raised.value.field == "token_ids"


def test_a_watermark_of_a_result(target: Target, connect: Connect) -> None:
    client = connect(target().address)
    result = client.generate("a")
    assert client.detect_watermark(result) == WatermarkDetection(num_tokens_scored=5)
    assert client.detect_watermark([result, result]) == [WatermarkDetection(5)] * 2
    assert client.detect_watermark([1, 2, 3]) == WatermarkDetection(3)
