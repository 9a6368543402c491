"""Drafts that lie, dawdle or speak with another's voice: the text stays the target's."""

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from torch import Tensor

from foredraft import AsyncClient, InternalError
from foredraft.v1 import draft_pb2, draft_pb2_grpc
from foredraft_engine.feed import Feed
from tests.fakes import SlowRows, TableRows, random_table, table_model
from tests.loopback import draft_service, served, target_service
from tests.premises import begins_again, in_time

VOCAB = 10
add_draft = draft_pb2_grpc.add_DraftServiceServicer_to_server
PROMPT = [1, 2, 3]
TABLE = random_table(VOCAB, 0)


def _rows(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def _ids(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


def _block(base_len: int, epoch: int, **proposal: Any) -> draft_pb2.Block:
    outcome = draft_pb2.Outcome(proposal=draft_pb2.Proposal(**proposal))
    return draft_pb2.Block(epoch=epoch, block_id=1, base_len=base_len, outcomes=[outcome])


Lie = Callable[[int, int], draft_pb2.Block]
LIES: dict[str, Lie] = {
    "id outside the vocabulary": lambda n, e: _block(n, e, ids=[VOCAB]),
    "row of q that does not add up": lambda n, e: _block(
        n, e, ids=[1], q=draft_pb2.SparseRows(ids=_ids(1), probabilities=_rows(0.2), counts=[1])
    ),
    "NaN in q": lambda n, e: _block(
        n,
        e,
        ids=[1],
        q=draft_pb2.SparseRows(ids=_ids(1), probabilities=_rows(float("nan")), counts=[1]),
    ),
    "fewer rows than ids": lambda n, e: _block(
        n, e, ids=[1, 2], q=draft_pb2.SparseRows(ids=_ids(1), probabilities=_rows(1.0), counts=[1])
    ),
    "torn bytes": lambda n, e: _block(
        n, e, ids=[1], q=draft_pb2.SparseRows(ids=b"abc", probabilities=b"abc", counts=[1])
    ),
    "far too many tokens": lambda n, e: _block(n, e, ids=[1] * 3000),
    "another epoch": lambda n, e: _block(n, e + 7, ids=[1]),
    "another base": lambda n, e: _block(n + 2, e, ids=[1]),
    "no outcome": lambda n, e: draft_pb2.Block(epoch=e, block_id=1, base_len=n),
    "an outcome for something else": lambda n, e: draft_pb2.Block(
        epoch=e,
        base_len=n,
        outcomes=[draft_pb2.Outcome(path=[1], proposal=draft_pb2.Proposal(ids=[1]))],
    ),
}


class Liar(draft_pb2_grpc.DraftServiceServicer):
    """Answers every request with the same kind of lie."""

    def __init__(self, lie: Lie) -> None:
        self._lie = lie

    async def Draft(self, requests: Any, context: Any) -> AsyncIterator[draft_pb2.DraftResponse]:
        length = epoch = 0
        async for request in requests:
            if request.HasField("open"):
                epoch, length = (
                    request.open.epoch,
                    len(request.open.prompt_ids) + len(request.open.generated_ids),
                )
                yield draft_pb2.DraftResponse(opened=draft_pb2.Opened(epoch=epoch))
            else:
                length = request.commit.base_len + len(request.commit.accepted_ids) + 1
            yield draft_pb2.DraftResponse(block=self._lie(length, epoch))


@pytest.mark.parametrize("name", LIES)
async def test_a_lie_costs_speed_only(name: str) -> None:
    model = table_model(VOCAB)
    async with (
        served(Liar(LIES[name]), add_draft) as draft,  # type: ignore[abstract]
        target_service(TableRows(TABLE), model, draft, draft_timeout=0.05) as target,
        AsyncClient(target.address) as client,
    ):
        plain = await client.generate(PROMPT, max_new_tokens=20, num_assistant_tokens=0)
        got = await client.generate(PROMPT, max_new_tokens=20, num_assistant_tokens=4)
        assert got.token_ids == plain.token_ids
        if name != "far too many tokens":
            assert got.stats.fallbacks
        assert target.value("foredraft_rows_in_use") == 0


FAVOURITE = 7


def _understated(base_len: int, epoch: int) -> draft_pb2.Block:
    """Always one token, and a q that says how unlikely that was."""
    q = [0.01 if token == FAVOURITE else 0.99 / (VOCAB - 1) for token in range(VOCAB)]
    rows = draft_pb2.SparseRows(ids=_ids(*range(VOCAB)), probabilities=_rows(*q), counts=[VOCAB])
    return _block(base_len, epoch, ids=[FAVOURITE], q=rows)


@pytest.mark.parametrize(
    "fields",
    [{}, {"do_sample": True, "seed": 3, "sampling_rule": "coupled"}],
    ids=["greedy", "coupled"],
)
async def test_a_false_q_changes_no_text_where_acceptance_is_equality(
    fields: dict[str, Any],
) -> None:
    """It does under `rejection`, as SECURITY.md says: nobody can check by what q a draft drew."""
    async with (
        served(Liar(_understated), add_draft) as draft,  # type: ignore[abstract]
        target_service(TableRows(TABLE), table_model(VOCAB), draft) as target,
        AsyncClient(target.address) as client,
    ):
        fields = {"max_new_tokens": 40, "eos_token_id": [], **fields}
        plain = await client.generate(PROMPT, num_assistant_tokens=0, **fields)
        got = await client.generate(PROMPT, num_assistant_tokens=1, **fields)
        assert got.token_ids == plain.token_ids


async def _until(condition: Callable[[], bool]) -> None:
    """Waits up to a minute."""
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that")


async def test_a_row_for_each_sequence_and_none_left() -> None:
    """Sequences share the draft's forwards; every exit frees the rows of both services."""
    model, draft_rows = table_model(VOCAB), TableRows(TABLE)
    async with (
        draft_service(draft_rows, model, ngram="off") as draft,
        target_service(TableRows(TABLE), model, draft.address) as target,
        AsyncClient(target.address) as client,
    ):
        assert draft.engine is not None
        fields: dict[str, Any] = {
            "max_new_tokens": 60,
            "num_assistant_tokens": 3,
            "seed": 1,
            "do_sample": True,
        }
        await client.generate(PROMPT, num_return_sequences=12, **fields)
        assert max(draft_rows.steps) > 3
        stream = client.stream(PROMPT, num_return_sequences=12, **{**fields, "max_new_tokens": 400})
        async with stream:
            await anext(aiter(stream))
            # The stream is not read on, so that the sequences stay; the last may be opening when
            # the first speaks.
            await _until(lambda: target.engine.pool.in_use == draft.engine.pool.in_use == 12)  # type: ignore[union-attr]
        await _until(lambda: target.engine.pool.in_use == draft.engine.pool.in_use == 0)  # type: ignore[union-attr]


async def test_vocabularies_padded_to_different_widths_work_together() -> None:
    """Ids past the vocabulary mean nothing on either side, however likely a model finds them."""
    model = table_model(VOCAB)
    narrow, wide = TABLE.clone(), random_table(VOCAB + 6, 9, spread=0.0)
    wide[:VOCAB, :VOCAB, :VOCAB] = TABLE
    wide[:, :, VOCAB:] = 50.0
    async with (
        draft_service(TableRows(wide), model, ngram="off") as draft,
        target_service(TableRows(narrow), model, draft.address) as target,
        AsyncClient(target.address) as client,
    ):
        result = await client.generate(PROMPT, max_new_tokens=30, num_assistant_tokens=4)
        assert result.stats.accepted == result.stats.proposed > 0
        sampled = await client.generate(
            PROMPT, max_new_tokens=30, num_assistant_tokens=4, do_sample=True, top_k=0
        )
        assert max(sampled.token_ids) < VOCAB
        assert sampled.stats.accepted > 0.98 * sampled.stats.proposed


async def test_time_ends_a_generation_between_rounds() -> None:
    async with (
        target_service(TableRows(TABLE), table_model(VOCAB)) as target,
        AsyncClient(target.address) as client,
    ):
        result = await client.generate(PROMPT, max_new_tokens=400, max_time=0.02)
    assert result.finish_reason == "max_time"
    assert len(result.token_ids) < 400


async def test_several_drafts_share_the_sequences() -> None:
    model = table_model(VOCAB)
    async with (
        draft_service(TableRows(TABLE), model) as one,
        draft_service(TableRows(TABLE), model) as two,
        target_service(TableRows(TABLE), model, f"{one.address}, {two.address}") as target,
        AsyncClient(target.address) as client,
    ):
        await client.generate(
            [[i, 1, 2] for i in range(8)], max_new_tokens=30, num_assistant_tokens=2
        )
        assert one.engine
        assert two.engine
        assert sum(one.engine.rows.steps) > 0 < sum(two.engine.rows.steps)  # type: ignore[attr-defined]
        await one.stop()
        result = await client.generate(PROMPT, max_new_tokens=30, num_assistant_tokens=2)
        again = await client.generate(PROMPT, max_new_tokens=30, num_assistant_tokens=0)
        assert result.token_ids == again.token_ids


async def test_a_sequence_that_fails_ends_its_neighbours() -> None:
    """If the model fails for one of several sequences of a call, the call ends and no row stays."""
    model, rows = table_model(VOCAB), TableRows(TABLE)
    broken = rows._logits

    def fails_at_length(tokens: Any) -> Any:
        if len(tokens) > 40 and tokens[0] == 4:
            raise RuntimeError("the device is on fire")
        return broken(tokens)

    rows._logits = fails_at_length  # type: ignore[method-assign]
    async with target_service(rows, model) as target, AsyncClient(target.address) as client:
        with pytest.raises(InternalError) as caught:
            await client.generate([[4, 1], [5, 1]], max_new_tokens=400)
        assert "fire" not in str(caught.value), "what goes wrong inside is for the log"
        await _until(lambda: target.engine.pool.in_use == 0)
        assert len((await client.generate([5, 1], max_new_tokens=30)).token_ids) == 30


class Mute(draft_pb2_grpc.DraftServiceServicer):
    """Listens and never answers."""

    def __init__(self) -> None:
        self.heard: list[draft_pb2.Commit] = []

    async def Draft(self, requests: Any, context: Any) -> AsyncIterator[draft_pb2.DraftResponse]:
        async for request in requests:
            if request.HasField("open"):
                yield draft_pb2.DraftResponse(opened=draft_pb2.Opened(epoch=request.open.epoch))
            else:
                self.heard.append(request.commit)


async def test_a_draft_that_is_behind_is_told_what_is_verified_instead() -> None:
    mute = Mute()  # type: ignore[abstract]
    async with (
        served(mute, add_draft) as draft,
        target_service(
            SlowRows(TABLE, 0.01), table_model(VOCAB), draft, draft_timeout=0.05
        ) as target,
        AsyncClient(target.address) as client,
    ):
        result = await client.generate(PROMPT, max_new_tokens=60, num_assistant_tokens=4)
    assert set(result.stats.fallbacks) == {"late"}
    assert result.stats.drafter == "ngram", "the greedy text of a table repeats itself"
    # The first round waits in vain. From then on the draft is asked again whenever an answer is
    # overdue, and not in every round, which would interrupt it. It hears everything that was
    # committed, and what is verified at that moment.
    assert all(commit.WhichOneof("verifying") == "explicit_ids" for commit in mute.heard)
    assert 1 < len(mute.heard) < result.stats.rounds
    assert 0 < sum(len(commit.explicit_ids.ids) for commit in mute.heard) <= result.stats.proposed
    text, told = [*PROMPT, *result.token_ids], len(PROMPT) + 1
    for commit in mute.heard:
        end = commit.base_len + len(commit.accepted_ids) + 1
        assert [*commit.accepted_ids, commit.next_id] == text[commit.base_len : end]
        assert commit.base_len <= told, "none is left out"
        told = end


class Hesitant(SlowRows):
    """Takes longer for its twentieth step than anybody waits."""

    def forward(self, feeds: Sequence[Feed], scored: Sequence[int]) -> Tensor:
        if len(self.steps) == 20:
            time.sleep(0.4)
        return super().forward(feeds, scored)


@begins_again
async def test_a_draft_that_is_late_once_is_used_again() -> None:
    """A second that was waited for in vain would otherwise be followed by a hundred seconds without
    drafts.
    """
    model = table_model(VOCAB)
    async with (
        draft_service(Hesitant(TABLE, 0.001), model, ngram="off") as draft,
        target_service(
            SlowRows(TABLE, 0.04), model, draft.address, draft_timeout=0.2, fallback="none"
        ) as target,
        AsyncClient(target.address) as client,
    ):
        result = await client.generate(PROMPT, max_new_tokens=300)
    assert result.stats.fallbacks["late"] > 0
    in_time(result.stats.rounds < 150, result.stats)
