"""Stopping criteria run in the SDK: asked about every token, cut inside a chunk, with the call
ended at once.
"""

import builtins
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from prometheus_client import CollectorRegistry
from transformers import (
    EosTokenCriteria,
    MaxLengthCriteria,
    MaxTimeCriteria,
    StoppingCriteria,
    StoppingCriteriaList,
)

from foredraft import Client, InvalidRequestError
from foredraft.v1 import generation_pb2, target_pb2
from tests.sdk.fake_target import PROMPT_IDS, FakeTarget, chunk, endless, finished, started

Target = Callable[..., FakeTarget]
Connect = Callable[..., Any]


class Seen(StoppingCriteria):
    """A criterion that an id meets; it keeps what it was asked."""

    def __init__(self, token: int) -> None:
        self.token = token
        self.asked: list[tuple[int, ...]] = []

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        assert input_ids.dtype == torch.long
        assert input_ids.shape[0] == 1
        assert scores is None
        self.asked.append(tuple(input_ids[0].tolist()))
        return input_ids[:, -1] == self.token


def test_the_text_is_cut_inside_a_chunk(target: Target, connect: Connect) -> None:
    fake, seen = target(), Seen(2)
    result = connect(fake.address).generate("a", logprobs=0, stopping_criteria=[seen])
    assert (result.token_ids, result.text, result.finish_reason) == (
        (1, 2),
        "t1 t2 ",
        "stopping_criteria",
    )
    assert len(result.logprobs) == 2
    assert (result.prompt_tokens, result.stats.seed) == (3, 42)
    assert seen.asked == [(*PROMPT_IDS, 1), (*PROMPT_IDS, 1, 2)]
    assert fake.requests[0].return_prompt_ids
    assert fake.left.wait(30)


def test_an_endless_call_is_cancelled(target: Target, connect: Connect) -> None:
    fake, registry = target(endless), CollectorRegistry()
    client = connect(fake.address, registry=registry)
    with client.stream(
        "a", stopping_criteria=lambda ids, _: ids.shape[1] == len(PROMPT_IDS) + 4
    ) as stream:
        chunks = list(stream)
        assert fake.left.wait(30), "at once, not when the stream is left"
        assert [c.finish_reason for c in chunks] == [None] * 3 + ["stopping_criteria"]
        assert stream.result.token_ids == (1, 1, 1, 1)
    ended = "foredraft_client_requests_total"
    assert registry.get_sample_value(ended, {"outcome": "ok"}) == 1


def test_the_last_chunk_of_a_stream_is_cut(target: Target, connect: Connect) -> None:
    with connect(target().address).stream(
        "a", stopping_criteria=StoppingCriteriaList([Seen(2)])
    ) as stream:
        (only,) = list(stream)
    assert (only.token_ids, only.text, only.text_offsets, only.num_accepted) == (
        (1, 2),
        "t1 t2 ",
        (0, 3),
        2,
    )
    assert only.finish_reason == "stopping_criteria"
    assert only.origins == ("draft_model", "alternative")


def test_every_sequence_by_itself(target: Target, connect: Connect) -> None:
    fake = target()
    client = connect(fake.address)
    fields = {"do_sample": True, "num_return_sequences": 2}
    results = client.generate(["a", "b"], stopping_criteria=[Seen(12), Seen(23)], **fields)
    assert [r.token_ids for r in results] == [
        (1, 2, 3, 4, 5),
        (11, 12),
        (21, 22, 23),
        (31, 32, 33, 34, 35),
    ]
    assert [r.finish_reason for r in results] == [
        "length",
        "stopping_criteria",
        "stopping_criteria",
        "length",
    ]
    with client.stream(["a", "b"], stopping_criteria=[Seen(2), Seen(11)]) as stream:
        assert [(c.sequence_index, c.token_ids) for c in stream] == [(0, (1, 2)), (1, (11,))]
    assert [r.token_ids for r in stream.result] == [(1, 2), (11,)]


def test_the_call_goes_on_until_the_last_sequence_has_ended(
    target: Target, connect: Connect
) -> None:
    """Sequence 0 is ignored once it is cut; the service ends sequence 1."""
    fake = target()
    with connect(fake.address).stream(["a", "b"], stopping_criteria=Seen(2)) as stream:
        assert [(c.sequence_index, c.token_ids) for c in stream] == [
            (0, (1, 2)),
            (1, (11, 12, 13)),
            (1, (14, 15)),
        ]
    assert [r.finish_reason for r in stream.result] == ["stopping_criteria", "length"]


def test_sequences_that_only_the_service_counts(target: Target, connect: Connect) -> None:
    """The model's own config may ask for several sequences of a prompt where the call does not."""

    def two_of_each(request: Any, _: Any) -> Iterator[target_pb2.GenerateResponse]:
        message = started(request)
        message.started.num_sequences = 4
        for i, ids in enumerate(message.started.prompt_ids):
            ids.ids[:] = [100 + i]
        yield message
        for i in range(4):
            yield chunk(i, (i + 1,), target_pb2.FINISH_REASON_LENGTH if i == 3 else None)
        yield finished(4)

    seen = Seen(3)
    results = connect(target(two_of_each).address).generate(["a", "b"], stopping_criteria=[seen])
    assert [r.token_ids for r in results] == [(1,), (2,), (3,), (4,)]
    assert seen.asked == [(100, 1), (100, 2), (101, 3), (101, 4)]
    assert results[2].finish_reason == "stopping_criteria"


def test_what_was_generated_before_is_part_of_the_text(target: Target, connect: Connect) -> None:
    seen = Seen(1)
    result = connect(target().address).generate("a", generated_ids=[8, 9], stopping_criteria=seen)
    assert seen.asked == [(*PROMPT_IDS, 8, 9, 1)]
    assert result.prompt_tokens == len(PROMPT_IDS)


def test_transformers_own(target: Target, connect: Connect) -> None:
    client = connect(target().address)
    assert client.generate("a", stopping_criteria=[MaxLengthCriteria(5)]).token_ids == (1, 2)
    assert client.generate("a", stopping_criteria=[EosTokenCriteria([3, 9])]).token_ids == (1, 2, 3)
    assert client.generate("a", stopping_criteria=[MaxTimeCriteria(60.0)]).finish_reason == "length"
    assert client.generate("a", stopping_criteria=[MaxTimeCriteria(0.0)]).token_ids == (1,)
    assert client.generate("a", stopping_criteria=[]).finish_reason == "length"


def test_a_streamer_sees_what_is_kept(target: Target, connect: Connect) -> None:
    class Kept:
        def __init__(self) -> None:
            self.put_ids: list[list[int]] = []

        def put(self, ids: torch.Tensor) -> None:
            self.put_ids.append(ids.flatten().tolist())

        def end(self) -> None:
            self.put_ids.append([])

    kept = Kept()
    connect(target().address).generate("a", streamer=kept, stopping_criteria=[Seen(2)])
    assert kept.put_ids == [list(PROMPT_IDS), [1, 2], []]


def test_every_entry_of_a_token_is_cut(target: Target, connect: Connect) -> None:
    def scored(request: Any, _: Any) -> Iterator[target_pb2.GenerateResponse]:
        yield started(request)
        rows = [target_pb2.ScoreRow(values=b"0000")] * 3
        yield chunk(0, (1, 2, 3), num_accepted=3, text_offsets=[0, 3, 6], scores=rows, logits=rows)

    result = connect(target(scored).address).generate("a", stopping_criteria=Seen(1))
    assert (result.text, len(result.scores), len(result.logits)) == ("t1 ", 1, 1)
    assert result.origins == ("unknown",), "a service of an earlier version tells none"


@pytest.mark.parametrize("answer", [None, "no", torch.tensor([True, False])])
def test_an_answer_that_is_none(target: Target, connect: Connect, answer: Any) -> None:
    fake = target(endless)
    with pytest.raises((TypeError, RuntimeError)):
        connect(fake.address).generate("a", stopping_criteria=lambda ids, scores: answer)
    assert fake.left.wait(30), "the service must not go on for nobody"


def test_what_is_refused(target: Target, connect: Connect) -> None:
    fake = target()
    client = connect(fake.address)
    with pytest.raises(InvalidRequestError, match="int is none") as raised:
        client.generate("a", stopping_criteria=[3])
    assert raised.value.field == "stopping_criteria"
    with pytest.raises(InvalidRequestError, match="beam search") as raised:
        client.generate("a", stopping_criteria=[Seen(1)], num_beams=2)
    assert raised.value.fields == ("stopping_criteria", "num_beams")
    assert not fake.requests


def test_without_torch(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    import_ = builtins.__import__

    def none(name: str, *args: Any, **kwargs: Any) -> Any:
        if name in ("torch", "transformers"):
            raise ImportError(name)
        return import_(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", none)
    fake = target()
    with Client(fake.address, registry=CollectorRegistry()) as client:
        with pytest.raises(InvalidRequestError, match="torch is not installed"):
            client.generate("a", stopping_criteria=[lambda ids, scores: True])
        assert client.generate("a").finish_reason == "length"
        with pytest.raises(InvalidRequestError, match="pip install transformers"):
            client.generation_config().to_transformers()
    assert len(fake.requests) == 1


def test_named_configs(target: Target, connect: Connect) -> None:
    fake = target()
    client = connect(fake.address)
    client.save_generation_config("precise", max_new_tokens=5, eos_token_id=2)
    assert client.generation_configs() == ["precise"]
    assert client.generation_config("precise").eos_token_id == (2,)
    assert client.generation_config() == client.info().generation_config
    client.generate("a", "precise", max_new_tokens=3)
    assert fake.requests[0].config_name == "precise"
    assert fake.requests[0].config == generation_pb2.GenerationConfig(max_new_tokens=3)
