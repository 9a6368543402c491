"""Clients that are programs: requests on stdin, answers on stdout, the status on stderr."""

import asyncio
import base64
import json
import os
import signal
from abc import ABC, abstractmethod
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.json_format import MessageToJson, ParseDict
from google.rpc import error_details_pb2

from tests.foreign.call import Call, Outcome, named, unpacked
from tests.tools import MODULES, find

_HERE = Path(__file__).resolve().parent
_PROTOS = _HERE.parent.parent / "protos"
_PATIENCE_S = 60.0


class _Program(ABC):
    """Runs a program for each call."""

    @abstractmethod
    def _command(self, call: Call) -> list[str]:
        """Returns the program and its arguments."""

    @abstractmethod
    def _outcome(self, said: str, answers: list[Any]) -> Outcome:
        """Reads what the program says about an end that is not OK."""

    async def make(self, call: Call) -> Outcome:
        process = await asyncio.create_subprocess_exec(
            *self._command(call), stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True
        )
        try:
            async with asyncio.timeout(_PATIENCE_S):
                answers = await _talk(process, call)
                assert process.stderr is not None
                said = (await process.stderr.read()).decode()
                await process.wait()
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        parsed = [ParseDict(answer, call.answer_type()) for answer in answers]
        return self._outcome(said, parsed)


async def _talk(process: Process, call: Call) -> list[dict[str, Any]]:
    """Sends each request after the answers that it waits for; returns all answers."""
    assert process.stdin is not None
    heard = _values(process)
    answers: list[dict[str, Any]] = []
    for request, awaited in call.requests:
        text = MessageToJson(request, preserving_proto_field_name=True, indent=None)
        process.stdin.write(f"{text}\n".encode())
        if not call.descriptor.client_streaming:
            process.stdin.close()  # nothing more follows
        awaited += len(answers)
        while len(answers) < awaited and (answer := await anext(heard, None)):
            answers.append(answer)
    if call.cancels:
        os.killpg(process.pid, signal.SIGINT)  # to the program and those that it runs
    process.stdin.close()
    answers += [answer async for answer in heard]
    return answers


async def _values(process: Process) -> AsyncIterator[dict[str, Any]]:
    """Yields the JSON values that a program prints, each as soon as it is whole."""
    assert process.stdout is not None
    decoder, text = json.JSONDecoder(), ""
    while line := (await process.stdout.readline()).decode():
        text += line
        try:
            value, _ = decoder.raw_decode(text)
        except json.JSONDecodeError:
            continue  # more lines follow
        text = ""
        yield value
    assert not text.strip(), text


class BufCurl(_Program):
    """`buf curl`, which learns each method by reflection."""

    name = "buf curl"

    def __init__(self) -> None:
        self._buf = find("buf")

    def _command(self, call: Call) -> list[str]:
        scheme, flags = "http", ["--protocol", "grpc"]
        if call.trust:
            scheme = "https"
            flags += ["--cacert", call.trust.ca]
            if shown := call.trust.shown:
                flags += ["--cert", shown.cert, "--key", shown.key]
        if call.timeout_s:
            flags += ["--timeout", f"{call.timeout_s}s"]
        url = f"{scheme}://{call.address}{call.path}"
        return [self._buf, "curl", *flags, "--data", "@-", url]

    def _outcome(self, said: str, answers: list[Any]) -> Outcome:
        if not said:
            return Outcome("OK", answers=answers)
        if not said.startswith("{"):  # no status: a fault of its own, or of the connection
            return Outcome("", said, answers)
        error = json.loads(said)
        details = [
            error_details_pb2.BadRequest.FromString(base64.b64decode(f"{detail['value']}=="))
            for detail in error.get("details", ())
            if detail["type"] == "google.rpc.BadRequest"
        ]
        code = error["code"].upper().replace("CANCELED", "CANCELLED")
        return Outcome(code, error["message"], answers, named(details))


class GrpcJs(_Program):
    """@grpc/grpc-js, with the files of `protos/`; with descriptors for services of gRPC's own."""

    name = "@grpc/grpc-js"

    def __init__(self, folder: Path) -> None:
        """Makes a client; `folder` is for files of its own."""
        find("proto-loader-gen-types")  # installed with its packages
        self._node, self._folder = find("node"), folder

    def _command(self, call: Call) -> list[str]:
        given: dict[str, Any] = {
            "modules": str(MODULES),
            "address": call.address,
            "path": call.path,
            "timeout_s": call.timeout_s,
        }
        file = call.descriptor.containing_service.file
        if (_PROTOS / file.name).exists():
            given |= {"protos": str(_PROTOS), "files": [file.name]}
        else:
            descriptors = FileDescriptorSet()
            file.CopyToProto(descriptors.file.add())
            path = self._folder / f"{Path(file.name).stem}.binpb"
            path.write_bytes(descriptors.SerializeToString())
            given["descriptors"] = str(path)
        if call.trust:
            given["ca"] = call.trust.ca
            if shown := call.trust.shown:
                given |= {"cert": shown.cert, "key": shown.key}
        return [self._node, "--no-deprecation", str(_HERE / "grpc_js.mjs"), json.dumps(given)]

    def _outcome(self, said: str, answers: list[Any]) -> Outcome:
        assert said.startswith("{"), said
        status = json.loads(said)
        details = unpacked(base64.b64decode(status.get("details", "")))
        return Outcome(status["code"], status["message"], answers, named(details))
