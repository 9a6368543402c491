"""API tokens and names in certificates, over real services: who is served, and how much of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from smg_grpc_proto.generated import vllm_engine_pb2, vllm_engine_pb2_grpc

from foredraft import (
    AsyncClient,
    ForedraftError,
    OverloadedError,
    PermissionDeniedError,
    UnauthenticatedError,
    tls,
)
from foredraft.v1 import target_pb2, target_pb2_grpc
from foredraft.wire.api_tokens import new_token, token_table
from foredraft_serving.access import quotas
from foredraft_serving.server import READINESS
from target_service.request.defaults import Config
from tests.certificates import Authority
from tests.fakes import SlowRows, TableRows, random_table, table_model
from tests.loopback import LoopbackTarget, draft_service, named_fields, target_service
from tests.premises import begins_again, in_time

VOCAB = 10
TABLE = random_table(VOCAB, 0)
PROMPT = [1, 2, 3]
CALL: dict[str, Any] = {"num_assistant_tokens": 3, "eos_token_id": []}
PATIENCE_S = 60.0


class TokenFile:
    """A file of tokens that a test writes."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "tokens.toml"
        self.path.touch()

    def add(self, name: str, **limits: int) -> str:
        """Adds a token; returns it."""
        token = new_token()
        self.path.write_text(self.path.read_text() + token_table(name, token, limits))
        return token


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path)


@asynccontextmanager
async def target(
    tokens: TokenFile | None = None, step_s: float = 0.0, **settings: Any
) -> AsyncIterator[LoopbackTarget]:
    rows = SlowRows(TABLE, step_s) if step_s else TableRows(TABLE)
    its: dict[str, Any] = {"api_tokens": str(tokens.path)} if tokens else {}
    async with target_service(rows, table_model(VOCAB), **its, **settings) as running:
        yield running


def client(running: LoopbackTarget, token: str | None = None, **options: Any) -> AsyncClient:
    return AsyncClient(running.address, token=token, **{"max_retries": 0, **options})


async def ids(running: LoopbackTarget, token: str | None, **options: Any) -> list[int]:
    async with client(running, token) as caller:
        result = await caller.generate(PROMPT, **{"max_new_tokens": 8, **options}, **CALL)
        return list(result.token_ids)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110 - what is waited for is asked for
            await asyncio.sleep(0.1)


async def is_served(running: LoopbackTarget, token: str) -> bool:
    try:
        await ids(running, token)
    except UnauthenticatedError:
        return False
    return True


async def test_a_text_needs_a_token_and_is_the_same_with_one(tokens: TokenFile) -> None:
    token = tokens.add("alice")
    async with target() as open_to_all:
        plain = await ids(open_to_all, None)
    async with target(tokens) as running:
        assert await ids(running, token) == plain
        told = set()
        for wrong in (None, new_token(), token[:-1], token + "x", "alice"):
            with pytest.raises(UnauthenticatedError) as refused:
                await ids(running, wrong)
            told.add(str(refused.value))
        assert len(told) == 1, "what is told does not tell what is wrong"
        refusals = running.value("foredraft_requests_refused_total", reason="credentials")
        assert refusals == running.value(
            "foredraft_request_failure_total", reason="unauthenticated"
        )
        assert refusals == 5


_HEADERS = {
    "another scheme": (("authorization", "Basic {}"),),
    "no scheme": (("authorization", "{}"),),
    "two headers": (("authorization", "Bearer {}"), ("authorization", "Bearer {}")),
    "nothing behind it": (("authorization", "Bearer "),),
}


@pytest.mark.parametrize("headers", _HEADERS)
async def test_every_call_needs_its_header_as_it_should_be(tokens: TokenFile, headers: str) -> None:
    token = tokens.add("alice")
    shown = tuple((name, value.format(token)) for name, value in _HEADERS[headers])
    async with (
        target(tokens) as running,
        grpc.aio.insecure_channel(running.address) as channel,
    ):
        services: tuple[tuple[Any, Any, str], ...] = (
            (target_pb2_grpc.TargetServiceStub, target_pb2, "TargetService"),
            (vllm_engine_pb2_grpc.VllmEngineStub, vllm_engine_pb2, "VllmEngine"),
        )
        for kind, messages, name in services:
            stub = kind(channel)
            for method in messages.DESCRIPTOR.services_by_name[name].methods:
                request = GetMessageClass(method.input_type)()
                call = getattr(stub, method.name)(request, metadata=shown)
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await (anext(aiter(call)) if method.server_streaming else call)
                assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_health_and_reflection_answer_everybody(tokens: TokenFile) -> None:
    async with (
        target(tokens) as running,
        grpc.aio.insecure_channel(running.address) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(service=READINESS))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        async for told in reflection.ServerReflectionInfo(iter([asked])):
            names = {one.name for one in told.list_services_response.service}
            assert "foredraft.v1.TargetService" in names


@begins_again
async def test_tokens_come_and_go_while_the_service_runs(tokens: TokenFile) -> None:
    first = tokens.add("first")
    async with target(tokens, 0.05) as running, client(running, first) as caller:
        async with caller.stream(PROMPT, max_new_tokens=120, **CALL) as stream:
            await anext(aiter(stream))
            tokens.path.write_text("")
            second = tokens.add("second")
            await until(lambda: is_served(running, second))
            assert await _is_refused(running, first)
            in_time(running.engine.pool.in_use > 0, "the stream has ended before")
            async for _ in stream:
                pass
        assert len(stream.result.token_ids) == 120, "a call that runs goes on to its end"


async def test_a_file_that_cannot_be_used_leaves_the_last_one_in_force(
    tokens: TokenFile, caplog: pytest.LogCaptureFixture
) -> None:
    token = tokens.add("alice")
    async with target(tokens) as running:
        tokens.path.write_text("[broken")
        for _ in range(2):
            await asyncio.sleep(1.1)
            assert await is_served(running, token)
        assert caplog.text.count("what was read before stays in force") == 1
        tokens.path.write_text("")  # nobody is served any more: that is no fault
        await until(lambda: _is_refused(running, token))
    assert token not in caplog.text


async def _is_refused(running: LoopbackTarget, token: str) -> bool:
    return not await is_served(running, token)


async def refusal(
    running: LoopbackTarget, token: str, **fields: Any
) -> tuple[grpc.aio.AioRpcError, float | None]:
    """Returns the refusal of a call, and when it says to come back."""
    sequences = fields.pop("prompts", 1)
    prompt = {"token_ids": {"ids": fields.pop("prompt", PROMPT)}}
    request = target_pb2.GenerateRequest(prompts=[prompt] * sequences, config=Config(**fields))
    async with grpc.aio.insecure_channel(running.address) as channel:
        stub: Any = target_pb2_grpc.TargetServiceStub(channel)
        call = stub.Generate(request, metadata=(("authorization", f"Bearer {token}"),))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await anext(aiter(call))
    error = refused.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return error, _retry_after_s(error)


def _retry_after_s(error: grpc.aio.AioRpcError) -> float | None:
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.RetryInfo()
                if detail.Unpack(info):
                    return float(info.retry_delay.ToMilliseconds() / 1000)
    return None


@pytest.mark.parametrize(
    ("limit", "fields", "named"),
    [
        ("max_prompt_tokens", {"prompt": [1] * 5}, {"prompts"}),
        ("max_new_tokens", {"max_new_tokens": 5}, {"max_new_tokens"}),
        ("max_new_tokens", {"max_length": 8}, {"max_length"}),
        (
            "max_sequences",
            {"num_return_sequences": 5, "do_sample": True},
            {"num_return_sequences", "prompts"},
        ),
        ("max_sequences", {"prompts": 5}, {"num_return_sequences", "prompts"}),
    ],
)
async def test_what_is_beyond_a_limit_at_any_time_is_named(
    tokens: TokenFile, limit: str, fields: dict[str, Any], named: set[str]
) -> None:
    token, free = tokens.add("alice", **{limit: 4}), tokens.add("bob")
    async with target(tokens) as running:
        error, retry_after_s = await refusal(running, token, **fields)
        assert named_fields(error) == named
        assert "this token is allowed 4" in (error.details() or "")
        assert retry_after_s is None, "there is no time at which it could succeed"
        assert running.value("foredraft_requests_refused_total", reason=limit) == 1
        assert running.value("foredraft_request_failure_total", reason="limited") == 1
        # What is just allowed goes through, and others have limits of their own.
        assert len(await ids(running, token, max_new_tokens=4)) == 4
        assert len(await ids(running, free, max_new_tokens=5)) == 5
        with pytest.raises(OverloadedError, match="this token is allowed 4"):
            async with client(running, token, max_retries=3) as caller:
                await caller.generate([[1] * 5] * 5, max_new_tokens=5)


async def test_an_answer_whose_length_the_call_leaves_open_is_as_long_as_is_allowed(
    tokens: TokenFile,
) -> None:
    token, free = tokens.add("alice", max_new_tokens=4), tokens.add("bob")
    for defaults in (Config(), Config(max_new_tokens=9), Config(max_length=12)):
        async with target(tokens, defaults=defaults) as running:
            assert len(await ids(running, token, max_new_tokens=None)) == 4
            assert len(await ids(running, free, max_new_tokens=None)) > 4


async def test_sequences_at_the_same_time(tokens: TokenFile) -> None:
    token, other = tokens.add("alice", max_sequences=2), tokens.add("bob", max_sequences=2)
    async with target(tokens, 0.01) as running, client(running, token) as caller:
        async with caller.stream([PROMPT] * 2, max_new_tokens=400, **CALL) as stream:
            await anext(aiter(stream))
            error, retry_after_s = await refusal(running, token)
            assert "2 sequences of this token run or wait" in (error.details() or "")
            assert retry_after_s is not None
            assert not named_fields(error)
            assert await ids(running, other), "another token has its own"
        await until(lambda: _is_idle(running))
        assert await ids(running, token), "they are free when their call ends"


async def _is_idle(running: LoopbackTarget) -> bool:
    return not running.engine.pool.in_use


async def test_tokens_a_minute(tokens: TokenFile) -> None:
    token, other = tokens.add("alice", tokens_per_minute=60), tokens.add("bob")
    async with target(tokens) as running:
        # An answer is not cut, though it is longer; what it owes is waited for.
        assert len(await ids(running, token, max_new_tokens=90)) == 90
        error, retry_after_s = await refusal(running, token)
        assert "60 tokens a minute" in (error.details() or "")
        assert retry_after_s is not None
        assert 4 < retry_after_s <= 90 + len(PROMPT) - 60 + 1  # one comes back each second
        assert await ids(running, other)
        reason = "tokens_per_minute"
        assert running.value("foredraft_requests_refused_total", reason=reason) == 1


async def test_tokens_count_though_nobody_reads_them(tokens: TokenFile) -> None:
    token = tokens.add("alice", tokens_per_minute=60)
    async with target(tokens) as running, client(running, token) as caller:
        stream = caller.stream(PROMPT, max_new_tokens=200, **CALL)
        await anext(aiter(stream))
        await until(lambda: _is_idle(running))
        await stream.close()
        _, retry_after_s = await refusal(running, token)
        assert retry_after_s is not None
        assert retry_after_s > 30, "beyond the longest pause that load asks for"


async def test_a_client_comes_back_when_it_was_told(
    tokens: TokenFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, token = [0.0], tokens.add("alice", tokens_per_minute=60)
    monkeypatch.setattr(quotas, "time", SimpleNamespace(monotonic=lambda: now[0]))
    async with target(tokens) as running, client(running, token, max_retries=1) as caller:

        async def is_refused() -> bool:
            reason = "tokens_per_minute"
            return running.value("foredraft_requests_refused_total", reason=reason) == 1

        await caller.generate(PROMPT, max_new_tokens=58, **CALL)  # 61 tokens with the prompt
        again = asyncio.create_task(caller.generate(PROMPT, max_new_tokens=8, **CALL))
        await until(is_refused)
        now[0] += 2.0
        assert len((await again).token_ids) == 8


def _draft(tokens: TokenFile | None = None, **settings: Any) -> Any:
    its = {"api_tokens": str(tokens.path)} if tokens else {}
    return draft_service(TableRows(TABLE), table_model(VOCAB), ngram="off", **its, **settings)


async def test_a_draft_serves_the_targets_that_have_a_token(
    tokens: TokenFile, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shown, old = tmp_path / "token", tokens.add("target")
    shown.write_text(f"{old}\n")
    async with (
        _draft(tokens) as draft,
        target(drafts=draft.address, draft_token=str(shown), fallback="none") as running,
        client(running) as caller,
    ):
        assert (await caller.generate(PROMPT, max_new_tokens=8, **CALL)).stats.accepted > 0
        shown.write_text(tokens.add("renewed"))
        await asyncio.sleep(1.1)
        tokens.path.write_text(token_table("renewed", shown.read_text(), {}))
        await asyncio.sleep(1.1)
        assert (await caller.generate(PROMPT, max_new_tokens=8, **CALL)).stats.accepted > 0
        assert (await caller.info()).drafts == {draft.address: "ready"}
    assert old not in caplog.text


@pytest.mark.parametrize("shows", ["no token", "another token"])
async def test_a_draft_refuses_a_target_without_its_token(
    tokens: TokenFile, tmp_path: Path, shows: str
) -> None:
    shown = tmp_path / "token"
    shown.write_text(new_token())
    link: dict[str, Any] = {"draft_token": str(shown)} if shows == "another token" else {}
    async with (
        _draft(tokens) as draft,
        target() as alone,
        target(drafts=draft.address, fallback="none", **link) as running,
        client(running) as caller,
    ):
        result = await caller.generate(PROMPT, max_new_tokens=8, **CALL)
        assert result.stats.accepted == 0
        assert list(result.token_ids) == await ids(alone, None), "it costs speed and no text"
        state = (await caller.info()).drafts[draft.address]
        assert "it does not serve this target, see --draft-token (UNAUTHENTICATED" in state
        assert draft.value("foredraft_draft_requests_total", outcome="refused") >= 1


async def test_a_target_has_a_number_of_sequences_on_a_draft(
    tokens: TokenFile, tmp_path: Path
) -> None:
    shown = tmp_path / "token"
    shown.write_text(tokens.add("target", max_sequences=1))
    async with (
        _draft(tokens) as draft,
        target(drafts=draft.address, draft_token=str(shown), fallback="none") as running,
        client(running) as caller,
    ):
        results = await caller.generate([PROMPT] * 4, max_new_tokens=100, **CALL)
        assert sum(result.stats.accepted > 0 for result in results) >= 1
        assert draft.value("foredraft_draft_requests_total", outcome="refused") >= 1
        assert (await caller.info()).drafts == {draft.address: "ready"}


@pytest.mark.parametrize("name", ["target", "caller", "127.0.0.1"])
async def test_a_draft_serves_the_names_that_it_was_told(tmp_path: Path, name: str) -> None:
    ours = Authority(tmp_path, "ours")
    own, its = ours.issue(), ours.issue(name)
    flags: dict[str, Any] = {"tls_cert": own.cert, "tls_key": own.key, "client_ca": ours.ca}
    link: dict[str, Any] = {"draft_ca": ours.ca, "draft_cert": its.cert, "draft_key": its.key}
    async with (
        _draft(client_names="target, 127.0.0.1", **flags) as draft,
        target(drafts=draft.address, fallback="none", **link) as running,
        client(running) as caller,
    ):
        result = await caller.generate(PROMPT, max_new_tokens=8, **CALL)
        state = (await caller.info()).drafts[draft.address]
        assert (result.stats.accepted > 0) == (name != "caller")
        assert (state == "ready") == (name != "caller")
        assert name != "caller" or "see --draft-cert (PERMISSION_DENIED" in state


async def test_a_target_asks_for_a_name_and_a_token_where_it_was_told_both(
    tmp_path: Path, tokens: TokenFile
) -> None:
    ours, token = Authority(tmp_path, "ours"), tokens.add("alice")
    own = ours.issue()
    flags: dict[str, Any] = {"tls_cert": own.cert, "tls_key": own.key, "client_ca": ours.ca}
    refused: dict[tuple[str, bool], type[ForedraftError]] = {
        ("bob", True): PermissionDeniedError,
        ("alice", False): UnauthenticatedError,
        ("bob", False): UnauthenticatedError,
    }
    async with target(tokens, client_names="alice", **flags) as running:
        for name, has_token in [("alice", True), *refused]:
            its = ours.issue(name)
            credentials = tls(ca=ours.ca, cert=its.cert, key=its.key)
            shown = token if has_token else None
            async with client(running, shown, credentials=credentials) as caller:
                if kind := refused.get((name, has_token)):
                    with pytest.raises(kind):
                        await caller.info()
                else:
                    assert (await caller.info()).model == "table"
