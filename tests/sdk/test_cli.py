"""The command line: what it prints, where, and its exit codes."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from foredraft._cli import main
from foredraft.v1 import target_pb2
from foredraft.wire import GENERATION_FIELDS as FIELDS
from tests.sdk.fake_target import FakeTarget, answer, endless, fails

Target = Callable[..., FakeTarget]
Capture = pytest.CaptureFixture[str]
CLIENT = Path(__file__).resolve().parent.parent.parent / "client"


def test_generate(target: Target, capsys: Capture) -> None:
    assert main(["generate", "a", "--address", target().address]) == 0
    assert capsys.readouterr() == ("t1 t2 t3 t4 t5 \n", "")


def test_no_stream_and_statistics(target: Target, capsys: Capture) -> None:
    assert main(["generate", "a", "--address", target().address, "--no-stream", "--stats"]) == 0
    out, err = capsys.readouterr()
    assert out == "t1 t2 t3 t4 t5 \n"
    stats = json.loads(err)
    assert (stats["rounds"], stats["acceptance_rate"], stats["mean_acceptance_length"]) == (
        2,
        0.75,
        2.5,
    )


def test_several_sequences(target: Target, capsys: Capture) -> None:
    flags = ["--do-sample", "--num-return-sequences", "2"]
    assert main(["generate", "a", "--address", target().address, *flags]) == 0
    assert capsys.readouterr().out == "t1 t2 t3 t4 t5 \n--- 1\nt11 t12 t13 t14 t15 \n"


def test_flags_become_fields(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = target()
    monkeypatch.setenv("FOREDRAFT_ADDRESS", fake.address)
    monkeypatch.setattr(sys, "stdin", io.StringIO("from stdin"))
    flags = (
        "--max-new-tokens 7 --do-sample --temperature 0.7 --seed 3 --sampling-rule "
        "rejection --eos-token-id [2,3]"
    )
    more = ["--stop-strings", "a b", "--stop-strings", "c", "--sequence-bias", "[[[1,2],3.5]]"]
    assert main(["generate", "-", *flags.split(), *more, "--no-remove-invalid-values"]) == 0
    request = fake.requests[0]
    config = request.config
    assert request.prompts[0].text == "from stdin"
    assert (request.seed, config.max_new_tokens, config.do_sample, config.temperature) == (
        3,
        7,
        True,
        0.7,
    )
    assert (list(config.eos_token_id.ids), list(config.stop_strings.values)) == (
        [2, 3],
        ["a b", "c"],
    )
    assert [(list(entry.ids), entry.bias) for entry in config.sequence_bias.values] == [
        ([1, 2], 3.5)
    ]
    assert config.HasField("remove_invalid_values")
    assert not config.remove_invalid_values


def test_every_field_has_a_flag(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as left:
        main(["generate", "--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert [name for name in FIELDS if "--" + name.replace("_", "-") not in shown] == []


def test_info(target: Target, capsys: Capture) -> None:
    assert main(["info", "--address", target().address]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["model"], shown["generation_config"]["eos_token_id"]) == ("fake", [2])


def test_named_configs(target: Target, capsys: Capture) -> None:
    fake = target()
    at = ["--address", fake.address]
    assert main(["configs", "precise", "--save", '{"top_k": 5, "do_sample": true}', *at]) == 0
    assert main(["configs", *at]) == 0
    assert main(["configs", "precise", *at]) == 0
    names, config = capsys.readouterr().out.split("\n", 1)
    assert (names, json.loads(config)) == ("precise", {"top_k": 5, "do_sample": True})
    assert main(["generate", "a", "--generation-config", "precise", *at]) == 0
    assert fake.requests[0].config_name == "precise"
    assert main(["configs", "secret", "--save", "{}", *at]) == 1
    assert "not allowed" in capsys.readouterr().err
    for wrong in (
        ["a", "--save", "[1]"],
        ["--save", "{}"],
        ["a", "--save", '{"name": "b"}'],
        ["a", "--save", "{"],
    ):
        with pytest.raises(SystemExit):
            main(["configs", *wrong, *at])


def test_an_error_is_one_line(target: Target, capsys: Capture) -> None:
    fake = target(fails(grpc.StatusCode.INVALID_ARGUMENT, "top_p: is 2;\nit must be less"))
    assert main(["generate", "a", "--address", fake.address]) == 1
    assert capsys.readouterr() == ("", "foredraft: top_p: is 2; it must be less\n")


def test_an_error_after_text(target: Target, capsys: Capture) -> None:
    fake = target(fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "no room", after=1))
    assert main(["generate", "a", "--address", fake.address]) == 1
    assert capsys.readouterr() == ("t1 \n", "foredraft: no room\n")


@pytest.mark.parametrize(
    "argv",
    [[], ["generate"], ["generate", "a", "--max-new-tokens", "x"], ["generate", "a", "--what"]],
)
def test_wrong_usage(argv: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as left:
        main(argv)
    assert left.value.code == 2
    assert "usage: foredraft" in capsys.readouterr().err


def test_a_reader_that_leaves_is_no_accident(target: Target) -> None:
    fake = target(endless)
    command = [sys.executable, "-m", "foredraft._cli", "generate", "a", "--address", fake.address]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"PYTHONPATH": str(CLIENT)}
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.read(3)
        process.stdout.close()
        assert process.wait(10) == 1
        assert process.stderr.read() == b""
    assert fake.left.wait(1)


def _smiles(request: Any, context: Any) -> Iterator[target_pb2.GenerateResponse]:
    """Answers in letters that few terminals have, with more text than a pipe takes."""
    for response in answer(request, context):
        if response.HasField("chunk"):
            response.chunk.text = "é🙂字\n" * 30_000
            del response.chunk.text_offsets[:]
        yield response


_RUN = [sys.executable, "-m", "foredraft._cli"]
_COMMANDS = [
    "generate a",
    "generate a --no-stream --stats",
    "generate 🙂",
    "info",
    "configs",
    "generate --help",
]


@pytest.mark.parametrize("command", _COMMANDS)
@pytest.mark.parametrize(
    "terminal", [{"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}]
)
def test_a_terminal_without_the_letters(
    command: str, terminal: dict[str, str], target: Target
) -> None:
    env = {"PYTHONPATH": str(CLIENT), "FOREDRAFT_ADDRESS": target(_smiles).address, **terminal}
    ended = subprocess.run(
        [*_RUN, *command.split()], capture_output=True, env=env, timeout=60, check=False
    )
    assert b"Traceback" not in ended.stderr, ended.stderr.decode()
    assert ended.returncode == 0
    if command == "generate a" and terminal.get("PYTHONIOENCODING") == "latin-1":
        assert ended.stdout.startswith(b"\xe9??\n")


@pytest.mark.parametrize("command", [*_COMMANDS, "generate a --top-p 3 2>&1", "nonsense 2>&1"])
@pytest.mark.parametrize("reader", ["true", "head -c 1"])
def test_a_reader_who_has_left_is_no_error(command: str, reader: str, target: Target) -> None:
    env = {
        "PYTHONPATH": str(CLIENT),
        "FOREDRAFT_ADDRESS": target(_smiles).address,
        "PATH": os.environ["PATH"],
    }
    line = f"{' '.join(_RUN)} {command} | {reader}"
    ended = subprocess.run(line, shell=True, capture_output=True, env=env, timeout=60, check=False)
    assert ended.stderr in (b"",) or ended.stderr.startswith(b"{"), ended.stderr.decode()


def test_a_full_disk_is_one_line(target: Target) -> None:
    env = {"PYTHONPATH": str(CLIENT), "FOREDRAFT_ADDRESS": target(_smiles).address}
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            [*_RUN, "generate", "a"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=env,
            timeout=60,
            check=False,
        )
    assert ended.stderr == b"foredraft: cannot write: No space left on device\n"
    assert ended.returncode == 1
