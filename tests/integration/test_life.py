"""The life of a service: alive before ready, drained without losing a stream, and its logs."""

import asyncio
import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from foredraft import Client, ForedraftError, Result, UnavailableError
from foredraft.v1 import draft_pb2, draft_pb2_grpc
from foredraft_serving import health
from foredraft_serving.probe import is_serving
from foredraft_serving.server import LIVENESS, READINESS, Server
from tests.integration.processes import MODELS, Process, service, until

SERVICE = "foredraft.v1.DraftService"
STATUS = health_pb2.HealthCheckResponse
LONG: dict[str, Any] = {"max_new_tokens": 200, "num_assistant_tokens": 5, "eos_token_id": []}
PROMPT = "def zebra_crossing("


class Slow(draft_pb2_grpc.DraftServiceServicer):
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.came, self.may_end = asyncio.Event(), asyncio.Event()

    async def GetDraftInfo(self, request: Any, context: Any) -> draft_pb2.GetDraftInfoResponse:
        self.came.set()
        await self.may_end.wait()
        return draft_pb2.GetDraftInfoResponse(model="slow")


async def _health(channel: grpc.aio.Channel, *names: str) -> list[int]:
    stub = health_pb2_grpc.HealthStub(channel)
    answers = [await stub.Check(health_pb2.HealthCheckRequest(service=name)) for name in names]
    return [answer.status for answer in answers]


async def test_liveness_and_readiness_part() -> None:
    names = (LIVENESS, READINESS, SERVICE, "")
    async with Server({}, [SERVICE]) as server:
        address = await server.start("127.0.0.1:0")
        async with grpc.aio.insecure_channel(address) as channel:
            info: Any = draft_pb2_grpc.DraftServiceStub(channel).GetDraftInfo
            assert await _health(channel, *names) == [STATUS.SERVING, *[STATUS.NOT_SERVING] * 3]
            with pytest.raises(grpc.aio.AioRpcError, match="it loads its model") as early:
                await info(draft_pb2.GetDraftInfoRequest())
            assert early.value.code() is grpc.StatusCode.UNAVAILABLE

            slow = Slow()  # type: ignore[abstract]  # its other methods are UNIMPLEMENTED
            await server.ready(draft_pb2_grpc.add_DraftServiceServicer_to_server, slow)
            assert await _health(channel, *names) == [STATUS.SERVING] * 4

            watch = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(service=READINESS)
            )
            assert (await watch.read()).status == STATUS.SERVING
            running = asyncio.ensure_future(info(draft_pb2.GetDraftInfoRequest()))
            await slow.came.wait()
            stopping = asyncio.create_task(server.stop(120))
            assert (await watch.read()).status == STATUS.NOT_SERVING
            assert await _health(channel, *names) == [STATUS.SERVING, *[STATUS.NOT_SERVING] * 3]
            with pytest.raises(grpc.aio.AioRpcError, match="about to end"):
                await info(draft_pb2.GetDraftInfoRequest())
            assert not stopping.done()
            slow.may_end.set()
            assert (await running).model == "slow"
            async with asyncio.timeout(60):  # whoever watches health does not hold the end up
                await stopping


async def test_reflection_names_the_services() -> None:
    async with Server({}, [SERVICE]) as server:
        address = await server.start("127.0.0.1:0")

        def ask() -> list[str]:
            with grpc.insecure_channel(address) as channel:
                return list(ProtoReflectionDescriptorDatabase(channel).get_services())

        assert {SERVICE, "grpc.health.v1.Health"} <= set(await asyncio.to_thread(ask))


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture
def pair(logs: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Process, Process]]:
    name = request.node.name
    draft_flags = ["--model", str(MODELS / "draft"), "--log-format", "json", "--grace", "60"]
    with service("draft", logs / f"{name}-draft.log", *draft_flags) as draft:
        flags = [
            "--model",
            str(MODELS / "target"),
            "--draft",
            draft.address,
            "--draft-timeout",
            "60",
            "--log-format",
            "json",
            "--grace",
            "60",
        ]
        flags += getattr(request, "param", [])
        with service("target", logs / f"{name}-target.log", *flags) as target:
            yield target, draft


class Stream(threading.Thread):
    """A stream that is read in a thread of its own."""

    def __init__(self, address: str, **fields: Any) -> None:
        super().__init__()
        self._address, self._fields = address, fields
        self.begun = threading.Event()
        self.result: Result | None = None
        self.error: ForedraftError | None = None

    def run(self) -> None:
        with Client(self._address) as client, client.stream(PROMPT, **self._fields) as stream:
            try:
                for _ in stream:
                    self.begun.set()
                self.result = stream.result
            except ForedraftError as error:
                self.error = error


def _streams(target: Process, count: int, **fields: Any) -> list[Stream]:
    streams = [Stream(target.address, **fields) for _ in range(count)]
    for stream in streams:
        stream.start()
    for stream in streams:
        assert stream.begun.wait(60)
    return streams


def _refused(client: Client) -> bool:
    try:
        client.generate("x", max_new_tokens=1)
    except UnavailableError:
        return True
    return False


def test_a_drain_loses_no_stream(pair: tuple[Process, Process]) -> None:
    target, draft = pair
    with Client(target.address) as client:
        want = client.generate(PROMPT, **LONG).token_ids
    streams = _streams(target, 6, **LONG)
    draft.send_signal(signal.SIGTERM)
    target.send_signal(signal.SIGTERM)
    with Client(target.address, max_retries=0) as late:
        until(lambda: _refused(late))  # the signal may take a moment to arrive
    for stream in streams:
        stream.join(60)
        assert stream.error is None
        assert stream.result is not None
        assert stream.result.token_ids == want
        # The draft that drains follows running sequences to their end.
        assert not stream.result.stats.fallbacks
    assert target.wait() == draft.wait() == 0


def test_a_second_signal_ends_at_once(pair: tuple[Process, Process]) -> None:
    target, _ = pair
    # So many that they have much to do when the second signal comes, which ends them unfinished.
    streams = _streams(target, 8, **(LONG | {"max_new_tokens": 1900}))
    target.send_signal(signal.SIGTERM)
    with Client(target.address, max_retries=0) as late:
        until(lambda: _refused(late))
    assert target.returncode is None
    target.send_signal(signal.SIGTERM)
    for stream in streams:
        stream.join(60)
    assert target.wait() == 0
    cut_off = [stream.error for stream in streams if stream.error is not None]
    assert cut_off
    assert all(error.partial[0].token_ids for error in cut_off)


def _records(process: Process) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in process.log.read_text().splitlines() if line.startswith("{")
    ]


def _ended(process: Process, request_id: str) -> dict[str, Any]:
    """Returns the record of a request's end, which may follow its last message by a moment."""

    def found() -> list[dict[str, Any]]:
        return [
            r
            for r in _records(process)
            if r.get("request_id") == request_id and "ended" in r["message"]
        ]

    until(lambda: bool(found()))
    return found()[0]


def test_logs_tell_a_request_by_its_id_and_nothing_of_its_text(
    pair: tuple[Process, Process],
) -> None:
    target, draft = pair
    with Client(target.address) as client:
        result = client.generate(PROMPT, max_new_tokens=24, num_assistant_tokens=5)
        with pytest.raises(ForedraftError) as refused:
            client.generate(PROMPT, stop_strings=["zebra"] * 100)
    ended = _ended(target, result.request_id)
    assert ended["outcome"] == "ok"
    assert ended["generated_tokens"] == 24
    assert ended["rounds"] == result.stats.rounds
    assert ended["duration_s"] > 0
    assert _ended(draft, result.request_id)["accepted"] <= result.stats.proposed
    assert _ended(target, refused.value.request_id)["field"] == "stop_strings"
    for process in pair:
        assert "zebra" not in process.log.read_text()
        assert result.text.strip() not in process.log.read_text()


@pytest.mark.parametrize("pair", [["--log-texts"]], indirect=True)
def test_texts_are_logged_where_asked_for(pair: tuple[Process, Process]) -> None:
    target, _ = pair
    with Client(target.address) as client:
        result = client.generate(PROMPT, max_new_tokens=8)
    ended = _ended(target, result.request_id)
    assert ended["prompts"] == [PROMPT]
    assert ended["outputs"] == [result.text]


async def test_health_on_a_port_of_its_own_does_not_vouch_for_a_loop_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "_HANGS_AFTER_S", 0.5)
    monkeypatch.setattr(health, "_SIGN_S", 0.05)
    async with Server({}, [SERVICE], health_listen="127.0.0.1:0") as server:
        await server.start("127.0.0.1:0")

        def asked(name: str) -> bool:
            return is_serving(server.health_address, name)

        async def until_it_lives() -> None:
            async with asyncio.timeout(60):
                while not await asyncio.to_thread(asked, LIVENESS):
                    pass

        await until_it_lives()
        assert not await asyncio.to_thread(asked, READINESS)
        answers: list[bool] = []
        asking = threading.Thread(target=lambda: answers.append(asked(LIVENESS)))
        time.sleep(1.0)  # noqa: ASYNC251 - the event loop is to hang, until the answer is there
        asking.start()
        asking.join()
        assert answers == [False]
        await until_it_lives()
