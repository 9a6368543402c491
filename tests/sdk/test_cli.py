"""The command line: what it prints, where, and its exit codes."""

import argparse
import io
import json
import math
import os
import re
import subprocess
import sys
import threading
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from foredraft import __version__
from foredraft.cli import main
from foredraft.cli.command import _parser
from foredraft.cli.flags import flag_of
from foredraft.v1 import target_pb2
from foredraft.wire import GENERATION_FIELDS as FIELDS
from foredraft.wire.config import config_from
from tests.sdk.fake_target import (
    FakeTarget,
    answer,
    chunk,
    endless,
    fails,
    finished,
    silent,
    started,
)

Target = Callable[..., FakeTarget]
Capture = pytest.CaptureFixture[str]
LIMIT = "foredraft: the length limit ended the text after 5 tokens; --max-new-tokens sets it\n"
CLIENT = Path(__file__).resolve().parent.parent.parent / "client"


def test_generate(target: Target, capsys: Capture) -> None:
    assert main(["generate", "a", "--address", target().address]) == 0
    assert capsys.readouterr() == ("t1 t2 t3 t4 t5 \n", LIMIT)


def test_a_deadline_is_told_without_names_of_python(target: Target, capsys: Capture) -> None:
    command = ["generate", "a", "--address", target(silent).address, "--timeout", "0.5"]
    assert main(command) == 1
    assert capsys.readouterr().err == "foredraft: no end within 0.5 s; 2 tokens came\n"


def test_no_stream_and_statistics(target: Target, capsys: Capture) -> None:
    assert main(["generate", "a", "--address", target().address, "--no-stream", "--stats"]) == 0
    out, err = capsys.readouterr()
    assert out == "t1 t2 t3 t4 t5 \n"
    assert err.startswith(LIMIT)
    stats = json.loads(err.removeprefix(LIMIT))
    assert (stats["rounds"], stats["acceptance_rate"], stats["mean_acceptance_length"]) == (
        2,
        0.75,
        2.5,
    )


def test_several_sequences(target: Target, capsys: Capture) -> None:
    flags = ["--do-sample", "--num-return-sequences", "2"]
    assert main(["generate", "a", "--address", target().address, *flags]) == 0
    shown = "t1 t2 t3 t4 t5 \n--- 1\nt11 t12 t13 t14 t15 \n"
    told = "foredraft: the length limit ended 2 of 2 texts; --max-new-tokens sets it\n"
    assert capsys.readouterr() == (shown, told)
    assert main(["generate", "a", "--address", target().address, *flags, "--no-stream"]) == 0
    assert capsys.readouterr() == (shown, told)


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


@pytest.mark.parametrize("command", ["generate", "chat"])
def test_every_field_has_a_flag(command: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    told = capsys.readouterr().out
    assert [name for name in FIELDS if f"  {flag_of(name)}" not in told] == []
    assert [name for name in FIELDS if "_" in name and name in told] == []
    assert not re.search("None|True|False", told)


def test_every_flag_has_help() -> None:
    actions = [a for parser in _parsers(_parser()) for a in parser._actions]
    assert len(actions) > 100
    silent = [a.dest for a in actions if not a.help]
    assert set(silent) == {argparse.SUPPRESS}, "the commands themselves"


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yields a parser and those of its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _parsers(command)


@pytest.mark.parametrize(("told", "value"), [("never", "never"), ("true", True), ("false", False)])
def test_early_stopping(target: Target, told: str, value: str | bool) -> None:
    fake = target()
    flags = ["--num-beams", "2", "--early-stopping", told]
    assert main(["generate", "a", "--address", fake.address, *flags]) == 0
    assert config_from(fake.requests[0].config).early_stopping == value


def test_json_is_one_line_for_each_text(target: Target, capsys: Capture) -> None:
    flags = ["--do-sample", "--num-return-sequences", "2", "--json"]
    assert main(["generate", "a", "--address", target().address, *flags]) == 0
    out, err = capsys.readouterr()
    first, second = (json.loads(line) for line in out.splitlines())
    assert (first["text"], first["token_ids"], first["finish_reason"]) == (
        "t1 t2 t3 t4 t5 ",
        [1, 2, 3, 4, 5],
        "length",
    )
    assert first["origins"] == ["draft_model", "alternative", "target", "ngram", "target"]
    assert first["stats"]["mean_acceptance_length"] == 2.5
    assert second["sequence_index"] == 1
    assert "null" not in out
    assert err == "", "the reason is in the JSON"


def test_json_has_scores_that_were_asked_for(target: Target, capsys: Capture) -> None:
    def scored(request: Any, _: Any) -> Iterator[target_pb2.GenerateResponse]:
        yield started(request)
        row = target_pb2.ScoreRow(values=array("f", [0.5, -math.inf]).tobytes())
        yield chunk(0, (1,), scores=[row])
        yield finished(1)

    asked = ["generate", "a", "--output-scores", "--json"]
    assert main([*asked, "--address", target(scored).address]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["scores"] == [{"values": [0.5, None]}]


def test_show_tells_figures_below(target: Target, capsys: Capture) -> None:
    assert main(["generate", "a", "--address", target().address, "--show"]) == 0
    out, err = capsys.readouterr()
    assert out == "t1 t2 t3 t4 t5 \n", "no colours without a terminal"
    limit, tokens, rate, length, hidden = err.splitlines()
    assert limit + "\n" == LIMIT
    assert tokens.split(maxsplit=1) == [
        "tokens",
        "1 draft model, 1 n-gram, 1 alternative, 2 the target's own",
    ]
    assert re.fullmatch(r"tokens/s +[\d.]+, the first token after \d+\.\d\d s", rate)
    assert length.split() == ["mean", "acceptance", "length", "2.50"]
    assert re.fullmatch(r"time hidden +0\.75 s of the 1\.00 s that proposals took \(75%\)", hidden)


def test_standard_input(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = target()
    monkeypatch.setattr(sys, "stdin", io.StringIO("piped\n"))
    assert main(["generate", "--address", fake.address]) == 0
    assert fake.requests[0].prompts[0].text == "piped\n"


def test_version(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert (left.value.code, capsys.readouterr().out) == (0, f"foredraft {__version__}\n")


def test_info(target: Target, capsys: Capture) -> None:
    assert main(["info", "--address", target().address]) == 0
    shown = capsys.readouterr().out
    rows = dict(line.split(maxsplit=1) for line in shown.splitlines() if line[0] != " ")
    assert (rows["model"], rows["drafts"]) == ("fake", "draft:1: ready")
    assert "eos_token_id = [2]" in shown
    assert "null" not in shown
    assert main(["info", "--address", target().address, "--json"]) == 0
    told = capsys.readouterr().out
    shown = json.loads(told)
    assert (shown["model"], shown["generation_config"]) == (
        "fake",
        {"temperature": 0.5, "top_k": 0, "eos_token_id": [2]},
    )
    assert "null" not in told


def test_info_waits(target: Target, capsys: Capture) -> None:
    fake = target()
    fake.stop()
    back = threading.Timer(0.5, fake.start)
    back.start()
    try:
        assert main(["info", "--wait", "20", "--address", fake.address]) == 0
    finally:
        back.join()
    out, err = capsys.readouterr()
    assert out.startswith("model ")
    assert err == f"foredraft: waiting for {fake.address}\n"
    fake.stop()
    assert main(["info", "--wait", "0.2", "--address", fake.address]) == 1
    assert "0.2 s" in capsys.readouterr().err


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
    assert capsys.readouterr() == ("", "foredraft: --top-p: is 2; it must be less\n")


def test_an_error_after_text(target: Target, capsys: Capture) -> None:
    fake = target(fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "no room", after=1))
    assert main(["generate", "a", "--address", fake.address]) == 1
    assert capsys.readouterr() == ("t1 \n", "foredraft: no room\n")


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["generate", "a", "--max-new-tokens", "x"],
        ["generate", "a", "--temperature", "x"],
        ["generate", "a", "--eos-token-id", "x"],
        ["generate", "a", "--early-stopping", "x"],
        ["generate", "a", "--show", "--json"],
        ["generate", "a", "--what"],
        ["generate", "a", "--stop", "x"],
        ["generate", "a", "--max-new", "2"],
        ["generate", "two", "words"],
        ["generate", "a", "--timeout", "0"],
        ["generate", "a", "--timeout", "nan"],
        ["info", "--wait", "x"],
        ["info", "--wait", "-3"],
        ["info", "--address", "localhost"],
        ["chat", "--num-return-sequences", "2"],
        ["configs", "a", "--save", "["],
    ],
    ids=" ".join,
)
def test_wrong_usage(argv: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as left:
        main(argv)
    assert left.value.code == 2
    told = capsys.readouterr().err
    assert "usage: foredraft" in told
    assert not re.search(r"invalid \w+ value|Traceback|\w_\w", told)


_NO_CONFIG = "generation_config: there is no config named 'nope'"


@pytest.mark.parametrize(
    ("argv", "problem", "told"),
    [
        (["generate", "a"], _NO_CONFIG, _NO_CONFIG.replace("generation_c", "--generation-c")),
        (["generate", "a"], "prompts: has 9 tokens", "the prompt: has 9 tokens"),
        (
            ["generate", "a"],
            "max_new_tokens and prompts: leave no room for prompts",
            "--max-new-tokens and the prompt: leave no room for prompts",
        ),
        (["chat"], "chat: the template refuses it", "the conversation: the template refuses it"),
        (["chat"], "prompts: has 9 tokens", "the conversation: has 9 tokens"),
    ],
)
def test_messages_name_what_the_command_takes(
    argv: list[str],
    problem: str,
    told: str,
    target: Target,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    fake = target(fails(grpc.StatusCode.INVALID_ARGUMENT, problem))
    monkeypatch.setattr(sys, "stdin", io.StringIO("a message\n"))
    assert main([*argv, "--address", fake.address]) == 1
    assert capsys.readouterr().err == f"foredraft: {told}\n"


@pytest.mark.parametrize(("command", "what"), [("generate", "prompt"), ("chat", "conversation")])
def test_bytes_that_are_no_text(
    command: str, what: str, target: Target, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("a\udcff\n"))
    assert main([command, "--address", target().address]) == 1
    told = f"foredraft: the {what}: no UTF-8 text has its character '\\udcff'\n"
    assert capsys.readouterr().err == told


def test_messages_of_configs_name_no_flag_of_another_command(
    target: Target, capsys: Capture
) -> None:
    fake = target()
    at = ["--address", fake.address]
    assert main(["configs", "nope", *at]) == 1
    assert capsys.readouterr().err == "foredraft: name: there is none\n"
    assert main(["configs", "a", "--save", '{"top_p": "much"}', *at]) == 1
    assert capsys.readouterr().err.startswith("foredraft: top_p='much': ")


def test_messages_name_flags(target: Target, capsys: Capture) -> None:
    problem = (
        "num_beams: is 2, and top_k_of_all or penalty_alpha=0.6; has no effect with "
        "do_sample=False; set do_sample=True"
    )
    fake = target(fails(grpc.StatusCode.INVALID_ARGUMENT, problem))
    assert main(["generate", "a", "--address", fake.address]) == 1
    told = (
        "--num-beams: is 2, and top_k_of_all or --penalty-alpha=0.6; has no effect with "
        "--no-do-sample; set --do-sample"
    )
    assert capsys.readouterr().err == f"foredraft: {told}\n"


def test_a_reader_that_leaves_is_no_accident(target: Target) -> None:
    fake = target(endless)
    command = [sys.executable, "-m", "foredraft.cli", "generate", "a", "--address", fake.address]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"PYTHONPATH": str(CLIENT)}
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.read(3)
        process.stdout.close()
        assert process.wait(60) == 1
        assert process.stderr.read() == b""
    assert fake.left.wait(30)


def _smiles(request: Any, context: Any) -> Iterator[target_pb2.GenerateResponse]:
    """Answers in letters that few terminals have, with more text than a pipe takes."""
    for response in answer(request, context):
        if response.HasField("chunk"):
            response.chunk.text = "é🙂字\n" * 30_000
            del response.chunk.text_offsets[:]
        yield response


_RUN = [sys.executable, "-m", "foredraft.cli"]
_COMMANDS = [
    "generate a",
    "generate a --no-stream --stats",
    "generate 🙂",
    "generate a --show",
    "generate a --json",
    "info",
    "info --json",
    "chat --help",
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
