"""Clients that others wrote, against both services: what each does, by the name of the client."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from foredraft.v1 import draft_pb2, generation_pb2, target_pb2
from tests.certificates import Authority
from tests.fakes import SlowRows, TableRows, random_table, table_model
from tests.foreign.call import Call, ForeignClient, Trust
from tests.foreign.grpclib_client import Grpclib
from tests.foreign.programs import BufCurl, GrpcJs
from tests.integration.processes import ROOT
from tests.loopback import LoopbackTarget, draft_service, target_service
from tests.tools import find

VOCAB = 10
TABLE = random_table(VOCAB, 0)
PROMPT = [1, 2]
GENERATE = "foredraft.v1.TargetService.Generate"
INFO = "foredraft.v1.TargetService.GetModelInfo"
DRAFT = "foredraft.v1.DraftService.Draft"
REFLECT = "grpc.reflection.v1alpha.ServerReflection.ServerReflectionInfo"
CLIENTS = ("buf curl", "@grpc/grpc-js", "grpclib")
STEP_S, LONG = 0.05, 480  # a call of 24 seconds
ASK_INFO = [(target_pb2.GetModelInfoRequest(), 1)]

Cells = dict[str, set[str]]


@pytest.fixture(scope="module")
def cells(measured: Callable[[str], None]) -> Iterator[Cells]:
    """What each client has done; the summary of the run shows it as a table."""
    found: Cells = {}
    yield found
    measured("clients that others wrote:")
    for what, clients in found.items():
        row = [f"{name} {'yes' if name in clients else '-'}" for name in CLIENTS]
        measured(f"  {what:22} {'   '.join(row)}")


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, tmp_path: Path, cells: Cells) -> Iterator[ForeignClient]:
    kinds: dict[str, Callable[[], ForeignClient]] = {
        "buf curl": BufCurl,
        "@grpc/grpc-js": lambda: GrpcJs(tmp_path),
        "grpclib": Grpclib,
    }
    failed = request.session.testsfailed
    what = request.node.originalname.removeprefix("test_").replace("_", " ")
    done = cells.setdefault(what, set())
    yield kinds[request.param]()
    if request.session.testsfailed == failed:
        done.add(request.param)


@pytest.fixture
async def target() -> AsyncIterator[LoopbackTarget]:
    async with target_service(SlowRows(TABLE, STEP_S), table_model(VOCAB)) as running:
        yield running


def _greedy(tokens: list[int], count: int) -> list[int]:
    text = list(tokens)
    for _ in range(count):
        text.append(int(TABLE[text[-2], text[-1]].argmax()))
    return text[len(tokens) :]


def _generate(count: int, prompt: list[int] = PROMPT) -> target_pb2.GenerateRequest:
    ids = generation_pb2.Prompt(token_ids=generation_pb2.TokenIds(ids=prompt))
    config = generation_pb2.GenerationConfig(max_new_tokens=count, num_assistant_tokens=0)
    return target_pb2.GenerateRequest(prompts=[ids], config=config)


def _ids(answers: Any) -> list[int]:
    return [token for answer in answers for token in answer.chunk.token_ids]


async def _is_free(target: LoopbackTarget) -> None:
    """Waits until no sequence holds a row: long before the call would have ended by itself."""
    for _ in range(LONG // 2):
        if not target.engine.pool.in_use:
            return
        await asyncio.sleep(STEP_S)
    pytest.fail("the call goes on without its caller")


async def test_unary(client: ForeignClient, target: LoopbackTarget) -> None:
    outcome = await client.make(Call(target.address, INFO, ASK_INFO))
    assert (outcome.code, outcome.answers[0].vocabulary_size) == ("OK", VOCAB)


async def test_server_stream(client: ForeignClient, target: LoopbackTarget) -> None:
    outcome = await client.make(Call(target.address, GENERATE, [(_generate(8), 9)]))
    assert (outcome.code, _ids(outcome.answers)) == ("OK", _greedy(PROMPT, 8))
    kinds = [answer.WhichOneof("message") for answer in outcome.answers]
    assert (kinds[0], kinds[-1]) == ("started", "finished")


async def test_bidirectional_stream(client: ForeignClient) -> None:
    sampling = generation_pb2.GenerationConfig(max_length=200)
    opening = draft_pb2.Open(epoch=5, prompt_ids=PROMPT, sampling=sampling, k=3, max_length=200)
    first = _greedy(PROMPT, 3)
    other = (first[2] + 1) % VOCAB  # two are accepted, then another follows than the third
    commit = draft_pb2.Commit(base_len=2, accepted_ids=first[:2], next_id=other, k=3)
    said = [
        (draft_pb2.DraftRequest(open=opening), 2),
        (draft_pb2.DraftRequest(commit=commit), 1),
    ]
    async with draft_service(TableRows(TABLE), table_model(VOCAB)) as draft:
        outcome = await client.make(Call(draft.address, DRAFT, said))
    assert outcome.code == "OK"
    opened, *blocks = outcome.answers
    assert opened.opened.epoch == 5
    proposed = [list(answer.block.outcomes[0].proposal.ids) for answer in blocks]
    assert proposed == [first, _greedy([*PROMPT, *first[:2], other], 3)]


async def test_cancel(client: ForeignClient, target: LoopbackTarget) -> None:
    call = Call(target.address, GENERATE, [(_generate(LONG), 4)], cancels=True)
    outcome = await client.make(call)
    assert outcome.code == "CANCELLED"
    assert 3 <= len(_ids(outcome.answers)) < LONG
    await _is_free(target)


async def test_deadline(client: ForeignClient, target: LoopbackTarget) -> None:
    call = Call(target.address, GENERATE, [(_generate(LONG), 2)], timeout_s=2)
    outcome = await client.make(call)
    assert outcome.code == "DEADLINE_EXCEEDED"
    assert 1 <= len(_ids(outcome.answers)) < LONG
    await _is_free(target)


async def test_rich_error(client: ForeignClient, target: LoopbackTarget) -> None:
    outcome = await client.make(Call(target.address, GENERATE, [(_generate(8, [VOCAB]), 0)]))
    assert outcome.code == "INVALID_ARGUMENT"
    assert outcome.fields == {"prompts"}
    assert "outside the vocabulary" in outcome.message


async def test_reflection(client: ForeignClient, target: LoopbackTarget) -> None:
    request = reflection_pb2.ServerReflectionRequest
    own = "foredraft.v1.TargetService"
    asked = [(request(list_services=""), 1), (request(file_containing_symbol=own), 1)]
    outcome = await client.make(Call(target.address, REFLECT, asked))
    assert outcome.code == "OK"
    listed, described = outcome.answers
    services = {service.name for service in listed.list_services_response.service}
    assert services >= {own, "grpc.health.v1.Health"}
    files = described.file_descriptor_response.file_descriptor_proto
    methods = {
        method.name
        for file in map(FileDescriptorProto.FromString, files)
        for service in file.service
        for method in service.method
    }
    assert methods == {
        method.name for method in target_pb2.DESCRIPTOR.services_by_name["TargetService"].methods
    }


async def test_health(client: ForeignClient, target: LoopbackTarget) -> None:
    for name in ("", "foredraft.v1.TargetService", "readiness"):
        asked = [(health_pb2.HealthCheckRequest(service=name), 1)]
        outcome = await client.make(Call(target.address, "grpc.health.v1.Health.Check", asked))
        assert outcome.code == "OK"
        assert outcome.answers[0].status == health_pb2.HealthCheckResponse.SERVING


async def test_tls(client: ForeignClient, tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    service = ours.issue()
    flags: dict[str, Any] = {
        "tls_cert": service.cert,
        "tls_key": service.key,
        "client_ca": theirs.ca,
    }
    async with target_service(TableRows(TABLE), table_model(VOCAB), **flags) as target:

        async def asked(trust: Trust | None) -> str:
            return (await client.make(Call(target.address, INFO, ASK_INFO, 10, trust=trust))).code

        assert await asked(Trust(ours.ca, theirs.issue("caller"))) == "OK"
        assert await asked(Trust(ours.ca)) != "OK", "it shows no certificate"
        assert await asked(Trust(theirs.ca, theirs.issue("caller"))) != "OK", "a service of others"
        assert await asked(None) != "OK", "plain text"


async def test_the_commands_of_the_document_run() -> None:
    document = (ROOT / "docs" / "integrations.md").read_text()
    commands = re.findall(r"^    (buf curl (?:.*\\\n)*.*)$", document, re.MULTILINE)
    assert len(commands) == 2
    buf = find("buf")
    async with target_service(TableRows(TABLE), table_model(VOCAB)) as target:
        for command in commands:
            given = command.replace("localhost:50052", target.address).replace("buf", buf, 1)
            process = await asyncio.create_subprocess_shell(given, stdout=asyncio.subprocess.PIPE)
            said, _ = await process.communicate()
            assert process.returncode == 0, command
            assert b'"model": "table"' in said or b"FINISH_REASON_LENGTH" in said
