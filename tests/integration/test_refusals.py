"""Only the loss of the transport counts against a draft, and a wrong one is called by its name."""

import asyncio
import http.server
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest

from draft_service.settings import ROWS_ALONE
from foredraft import AsyncClient, Client, InvalidRequestError
from foredraft.v1 import draft_pb2, draft_pb2_grpc, generation_pb2
from foredraft_engine.model.loading import LoadedModel
from foredraft_engine.vocabulary import Vocabulary
from target_service.drafting.draft_pool import DraftEndpoint
from target_service.drafting.draft_status import StreamEnd, stream_end
from tests.fakes import LetterTokenizer, TableRows, random_table, table_model
from tests.loopback import LoopbackTarget, draft_service, named_fields, served, target_service
from tests.premises import begins_again, in_time

VOCAB = 10
add_draft = draft_pb2_grpc.add_DraftServiceServicer_to_server
TABLE = random_table(VOCAB, 0)
BAD = 9
"""The token at the beginning of a prompt that the draft refuses."""
CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]


class Fussy(draft_pb2_grpc.DraftServiceServicer):
    """Ends the streams of some prompts with a status, and drafts for the others."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code
        self.opened = 0

    async def Draft(self, requests: Any, context: Any) -> AsyncIterator[draft_pb2.DraftResponse]:
        epoch = length = 0
        async for request in requests:
            if request.HasField("open"):
                epoch, length = request.open.epoch, len(request.open.prompt_ids)
                length += len(request.open.generated_ids)
                if request.open.prompt_ids[0] == BAD:
                    self.opened += 1
                    await context.abort(self._code, "not this one")
                yield draft_pb2.DraftResponse(opened=draft_pb2.Opened(epoch=epoch))
            else:
                length = request.commit.base_len + len(request.commit.accepted_ids) + 1
            proposal = draft_pb2.Proposal(ids=[1], kind=draft_pb2.DRAFTER_KIND_MODEL)
            outcomes = [draft_pb2.Outcome(proposal=proposal)]
            yield draft_pb2.DraftResponse(
                block=draft_pb2.Block(epoch=epoch, block_id=1, base_len=length, outcomes=outcomes)
            )


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
async def test_a_refused_sequence_says_nothing_about_others(code: grpc.StatusCode) -> None:
    fussy = Fussy(code)  # type: ignore[abstract]
    end, _ = stream_end(code, "")
    options: dict[str, Any] = {"num_assistant_tokens": 1, "assistant_confidence_threshold": 0.0}
    async with (
        served(fussy, add_draft) as draft,
        target_service(TableRows(TABLE), table_model(VOCAB), draft, draft_timeout=5.0) as target,
        AsyncClient(target.address) as client,
    ):
        plain = await client.generate([BAD, 1], max_new_tokens=30, num_assistant_tokens=0)
        refused = await client.generate([BAD, 1], max_new_tokens=30, **options)
        assert refused.token_ids == plain.token_ids
        assert refused.stats.fallbacks, "the draft refused this one"
        assert fussy.opened <= 3, "a refusal is not asked for again and again"
        clean = await client.generate([1, 2], max_new_tokens=30, **options)
    if end in (StreamEnd.REFUSED, StreamEnd.FAULTY):
        assert set(refused.stats.fallbacks) == {"refused"}
        assert not clean.stats.fallbacks, "a refusal of one sequence cost another its draft"
    else:
        assert clean.stats.fallbacks, "the whole service is lost or wrong"


def other_tokenizer(**special: int) -> LoadedModel:
    """Returns the table's model with other special ids."""
    model = table_model(VOCAB)
    tokenizer = LetterTokenizer(VOCAB)
    for name, value in special.items():
        setattr(tokenizer, name, value)
    return replace(model, tokenizer=tokenizer, vocabulary=Vocabulary.of(tokenizer))


@contextmanager
def http_server() -> Iterator[str]:
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


async def _unused_reason(target: LoopbackTarget, prompt: list[int]) -> str:
    """Generates until the target knows why its draft cannot be used."""
    async with AsyncClient(target.address) as client:
        for _ in range(1000):
            result = await client.generate(prompt, max_new_tokens=10, num_assistant_tokens=2)
            if result.stats.draft_unused_reason:
                return result.stats.draft_unused_reason
            await asyncio.sleep(0.05)
    return ""


@pytest.mark.parametrize(
    ("draft_model", "told"),
    [
        # The prompt has an id that this draft does not know.
        (table_model(VOCAB - 3), f"id {VOCAB - 3}, which is 'h', is only here"),
        (table_model(VOCAB + 2), f"id {VOCAB}, which is 'k', is only there"),
        (other_tokenizer(eos_token_id=3), "its eos_token_id is 3, and the target's is None"),
    ],
    ids=["smaller", "larger", "another EOS"],
)
async def test_a_draft_of_another_vocabulary_is_named(draft_model: LoadedModel, told: str) -> None:
    rows = TableRows(random_table(draft_model.vocabulary.size, 1))
    async with (
        draft_service(rows, draft_model) as draft,
        target_service(TableRows(TABLE), table_model(VOCAB), draft.address) as target,
    ):
        reason = await _unused_reason(target, [VOCAB - 1, 1, 2])
        assert told in reason, reason
        assert target.value("foredraft_target_drafts", state="mismatch") in (0.0, 1.0)


async def test_a_target_as_its_own_draft_is_named() -> None:
    async with (
        target_service(TableRows(TABLE), table_model(VOCAB)) as wrong,
        target_service(TableRows(TABLE), table_model(VOCAB), wrong.address) as target,
    ):
        assert "no draft service" in await _unused_reason(target, [1, 2])


async def test_a_web_server_as_a_draft_is_named() -> None:
    with http_server() as address:
        async with target_service(TableRows(TABLE), table_model(VOCAB), address) as target:
            async with AsyncClient(target.address) as client:
                result = await client.generate([1, 2], max_new_tokens=30, num_assistant_tokens=2)
                assert set(result.stats.fallbacks) <= {"lost", "mismatch", "late"}
            assert "does not speak gRPC" in await _unused_reason(target, [1, 2])


@begins_again
async def test_commits_of_a_million_ids_are_refused_at_once() -> None:
    sampling = generation_pb2.GenerationConfig(top_k=0, max_length=200, max_matching_ngram_size=2)
    opened = draft_pb2.Open(epoch=1, sampling=sampling, k=3, max_length=200, prompt_ids=[1, 2])
    commit = draft_pb2.Commit(base_len=2, next_id=1, k=1, accepted_ids=[1] * 10**6)
    explicit = generation_pb2.TokenIds(ids=[1] * 10**6)
    proposal = draft_pb2.Commit(base_len=2, next_id=1, k=1, explicit_ids=explicit)
    cases = {"accepted_ids": commit, "explicit_ids": proposal}
    async with (
        draft_service(None, None, ngram="only") as draft,
        grpc.aio.insecure_channel(draft.address) as channel,
    ):
        stub: Any = draft_pb2_grpc.DraftServiceStub(channel)
        for field, message in cases.items():
            began = time.perf_counter()
            call = stub.Draft(iter_of(opened, message))
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                async for _ in call:
                    pass
            assert named_fields(refused.value) == {field}
            in_time(time.perf_counter() - began < 1.0, f"{field} takes long")


class Broken(Fussy):
    """Sends every sequence a block that cannot be verified."""

    async def Draft(self, requests: Any, context: Any) -> AsyncIterator[draft_pb2.DraftResponse]:
        self.opened += 1
        async for request in requests:
            if request.HasField("open"):
                epoch, length = request.open.epoch, len(request.open.prompt_ids)
                yield draft_pb2.DraftResponse(opened=draft_pb2.Opened(epoch=epoch))
                proposal = draft_pb2.Proposal(ids=[VOCAB + 7])
                block = draft_pb2.Block(
                    epoch=epoch,
                    block_id=1,
                    base_len=length,
                    outcomes=[draft_pb2.Outcome(proposal=proposal)],
                )
                yield draft_pb2.DraftResponse(block=block)


async def test_a_draft_that_fails_everybody_is_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    # However long the calls take: pauses last longer than all of them.
    for name in ("_FIRST_PAUSE_S", "_LONGEST_PAUSE_S"):
        monkeypatch.setattr(f"target_service.drafting.draft_pool.{name}", 600.0)
    broken = Broken(grpc.StatusCode.OK)  # type: ignore[abstract]
    async with (
        served(broken, add_draft) as draft,
        target_service(TableRows(TABLE), table_model(VOCAB), draft, draft_timeout=5.0) as target,
        AsyncClient(target.address) as client,
    ):
        for i in range(40):
            await client.generate([1, i % 8], max_new_tokens=4, num_assistant_tokens=2)
    assert broken.opened < 20, "every sequence paid for a draft that fails everybody"


async def test_pauses_grow_until_a_proposal_is_useful() -> None:
    """An answer that cannot be verified ends no row of failures."""
    draft = DraftEndpoint("127.0.0.1:1", table_model(VOCAB).vocabulary)
    pauses_s = []
    for _ in range(3):
        draft.answered()
        draft.failed("as the test wants it")
        pauses_s.append(draft._pause_s)
    assert pauses_s[0] < pauses_s[1] < pauses_s[2]
    draft.was_useful()
    draft.failed("as the test wants it")
    assert draft._pause_s == pauses_s[0]
    await draft.close()


@pytest.mark.parametrize(
    "metadata", [{"x-name": "a\nb"}, {"x-name": "\0"}, {"x-name": "é"}, {"a b": "c"}, {"é": "c"}]
)
def test_a_header_that_is_none_is_refused_by_name(metadata: dict[str, str]) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        Client("127.0.0.1:1", metadata=metadata)
    assert refused.value.field == "metadata"


async def test_a_draft_refuses_more_sequences_than_may_wait() -> None:
    sampling = generation_pb2.GenerationConfig(top_k=0, max_length=200, max_matching_ngram_size=2)
    opened = draft_pb2.Open(epoch=1, sampling=sampling, k=1, max_length=200, prompt_ids=[1, 2])
    async with (
        draft_service(None, None, ngram="only", max_waiting=1) as draft,
        grpc.aio.insecure_channel(draft.address) as channel,
    ):
        stub: Any = draft_pb2_grpc.DraftServiceStub(channel)
        calls = [stub.Draft() for _ in range(ROWS_ALONE + 1)]
        for call in calls:
            await call.write(draft_pb2.DraftRequest(open=opened))
            assert (await call.read()).HasField("opened")
        one_more = stub.Draft()
        await one_more.write(draft_pb2.DraftRequest(open=opened))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await one_more.read()
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for call in calls:
            call.cancel()


async def iter_of(
    opened: draft_pb2.Open, commit: draft_pb2.Commit
) -> AsyncIterator[draft_pb2.DraftRequest]:
    yield draft_pb2.DraftRequest(open=opened)
    yield draft_pb2.DraftRequest(commit=commit)
    await asyncio.sleep(10)
