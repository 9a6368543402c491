"""transformers' own streamers get the prompt first, then the tokens as they come, and an end on
every path.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import grpc
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    AsyncTextIteratorStreamer,
    PreTrainedTokenizerFast,
    TextIteratorStreamer,
    TextStreamer,
)

from foredraft import AsyncClient, InternalError, InvalidRequestError
from tests.sdk.fake_target import FakeTarget, fails

Target = Callable[..., FakeTarget]
Connect = Callable[..., Any]
GENERATED, PROMPT = "t1 t2 t3 t4 t5", "t5 t6 t7 "


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """Id 3 is the word "t3"."""
    words = Tokenizer(WordLevel({f"t{i}": i for i in range(64)}, unk_token="t0"))
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words)


class Recorder:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.given: list[torch.Tensor] = []
        self.ends = 0

    def put(self, value: torch.Tensor) -> None:
        self.given.append(value)

    def end(self) -> None:
        self.ends += 1


def test_what_a_streamer_is_given(target: Target, connect: Connect) -> None:
    fake, recorder = target(), Recorder()
    result = connect(fake.address).generate("a", streamer=recorder)
    assert [(v.tolist(), v.dtype, v.device.type) for v in recorder.given] == [
        ([[5, 6, 7]], torch.long, "cpu"),
        ([1, 2, 3], torch.long, "cpu"),
        ([4, 5], torch.long, "cpu"),
    ]
    assert recorder.ends == 1
    assert result.token_ids == (1, 2, 3, 4, 5)
    assert fake.requests[0].return_prompt_ids


@pytest.mark.parametrize("skip_prompt", [True, False])
def test_text_streamer(
    target: Target,
    connect: Connect,
    tokenizer: Any,
    skip_prompt: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    connect(target().address).generate(
        "a", streamer=TextStreamer(tokenizer, skip_prompt=skip_prompt)
    )
    assert capsys.readouterr().out == ("" if skip_prompt else PROMPT) + GENERATED + "\n"


def test_text_iterator_streamer(target: Target, connect: Connect, tokenizer: Any) -> None:
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=10)
    client = connect(target().address)
    thread = threading.Thread(target=client.generate, args=("a",), kwargs={"streamer": streamer})
    thread.start()
    assert "".join(streamer) == GENERATED
    thread.join()


async def test_asynchronous_text_iterator_streamer(target: Target, tokenizer: Any) -> None:
    streamer = AsyncTextIteratorStreamer(tokenizer, skip_prompt=True, timeout=10)
    async with AsyncClient(target().address) as client:
        running = asyncio.create_task(client.generate("a", streamer=streamer))
        assert "".join([piece async for piece in streamer]) == GENERATED
        assert (await running).token_ids == (1, 2, 3, 4, 5)


def test_the_end_comes_also_after_an_error(target: Target, connect: Connect) -> None:
    recorder = Recorder()
    with pytest.raises(InternalError):
        connect(target(fails(grpc.StatusCode.INTERNAL, after=2)).address).generate(
            "a", streamer=recorder
        )
    assert [v.tolist() for v in recorder.given] == [[[5, 6, 7]], [1], [2]]
    assert recorder.ends == 1


@pytest.mark.parametrize(
    ("inputs", "fields"),
    [(["a", "b"], {}), (["a"], {}), ("a", {"num_return_sequences": 2}), ("a", {"top_p": "x"})],
)
def test_refusals_end_the_streamer_too(
    target: Target, connect: Connect, inputs: Any, fields: dict[str, Any]
) -> None:
    fake, recorder = target(), Recorder()
    with pytest.raises(InvalidRequestError) as raised:
        connect(fake.address).generate(inputs, streamer=recorder, do_sample=True, **fields)
    assert raised.value.field == ("top_p" if "top_p" in fields else "streamer")
    assert (recorder.given, recorder.ends) == ([], 1)
    assert not fake.requests


def test_a_streamer_that_fails_ends_the_call(target: Target, connect: Connect) -> None:
    class Broken(Recorder):
        def put(self, value: torch.Tensor) -> None:
            raise RuntimeError("full")

    fake, broken = target(), Broken()
    with pytest.raises(RuntimeError, match="full"):
        connect(fake.address).generate("a", streamer=broken)
    assert broken.ends == 1
    assert fake.left.wait(30)
