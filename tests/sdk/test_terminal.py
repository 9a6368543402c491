"""What a terminal shows of `foredraft generate`, in several encodings, with colours and without."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from foredraft.v1 import target_pb2
from tests.sdk.fake_target import FakeTarget, answer, endless
from tests.sdk.terminal import CLIENT, Terminal

Target = Callable[..., FakeTarget]
COLOURS = {"t1 ": "green", "t2 ": "magenta", "t3 ": "default", "t4 ": "cyan", "t5 ": "default"}
PLAIN = dict.fromkeys(COLOURS, "default")
FIGURES = ["tokens ", "tokens/s ", "mean acceptance length ", "time hidden "]


def _shown(address: str, *flags: str, **options: Any) -> Terminal:
    with Terminal("generate", "a", "--address", address, *flags, **options) as terminal:
        assert terminal.ended() == 0, terminal.lines
    return terminal


def test_tokens_have_the_colour_of_their_origin(target: Target) -> None:
    terminal = _shown(target().address, "--show")
    assert terminal.lines[0] == "t1 t2 t3 t4 t5"
    assert {text: terminal.colour_of(text) for text in COLOURS} == COLOURS
    assert terminal.lines[1].startswith("foredraft: the length limit")
    for line, name in zip(terminal.lines[2:], FIGURES, strict=True):
        assert line.startswith(name)
    assert terminal.colour_of("1 draft model") == "green"
    assert terminal.colour_of("1 n-gram") == "cyan"
    assert terminal.colour_of("1 alternative") == "magenta"


@pytest.mark.parametrize(
    ("flags", "variables"),
    [
        ([], {}),
        (["--show"], {"NO_COLOR": "1"}),
        (["--show"], {"TERM": "dumb"}),
    ],
    ids=["not asked for", "NO_COLOR", "a dumb terminal"],
)
def test_nothing_is_coloured(flags: list[str], variables: dict[str, str], target: Target) -> None:
    terminal = _shown(target().address, *flags, environment=variables)
    assert {text: terminal.colour_of(text) for text in COLOURS} == PLAIN


@pytest.fixture
def without_rich(tmp_path: Path) -> dict[str, str]:
    """Variables of a program that finds no rich, as without the extra `cli`."""
    (tmp_path / "rich").mkdir()
    (tmp_path / "rich" / "__init__.py").write_text("raise ImportError('not installed')")
    return {"PYTHONPATH": f"{tmp_path}:{CLIENT}"}


def test_without_rich_it_is_plain(target: Target, without_rich: dict[str, str]) -> None:
    terminal = _shown(target().address, "--show", environment=without_rich)
    assert {text: terminal.colour_of(text) for text in COLOURS} == PLAIN
    for line, name in zip(terminal.lines[2:], FIGURES, strict=True):
        assert line.startswith(name)


def test_waiting_is_told(target: Target, without_rich: dict[str, str]) -> None:
    address = target().address
    for variables, lines in ((without_rich, 1), ({}, 0)):  # rich takes its line away again
        with Terminal("info", "--wait", "--address", address, environment=variables) as terminal:
            assert terminal.ended() == 0
        assert "\n".join(terminal.lines).count(f"waiting for {address}") == lines
        assert "draft:1: ready" in "\n".join(terminal.lines)


def _says(text: str) -> Callable[..., Iterator[target_pb2.GenerateResponse]]:
    """Answers with this text in each chunk."""

    def script(request: Any, context: Any) -> Iterator[target_pb2.GenerateResponse]:
        for response in answer(request, context):
            if response.HasField("chunk"):
                chunk = response.chunk
                chunk.text = text
                chunk.text_offsets[:] = [0] * len(chunk.token_ids)
            yield response

    return script


@pytest.mark.parametrize(
    ("encoding", "shown"), [("utf-8", "é 字"), ("latin-1", "é ?"), ("ascii", "? ?")]
)
@pytest.mark.parametrize("rich", [True, False], ids=["rich", "no rich"])
def test_letters_that_a_terminal_has_not(
    encoding: str, shown: str, rich: bool, target: Target, without_rich: dict[str, str]
) -> None:
    fake = target(_says("é 字\n"))
    variables = {} if rich else without_rich
    terminal = _shown(fake.address, "--show", encoding=encoding, environment=variables)
    assert [line.replace("字 ", "字") for line in terminal.lines[:2]] == [shown, shown]
    assert terminal.lines[-1].startswith("time hidden")


@pytest.mark.parametrize("flags", [[], ["--show"], ["--no-stream"]], ids=" ".join)
def test_a_text_cannot_command_the_terminal(flags: list[str], target: Target) -> None:
    fake = target(_says("a\x1b[31mb\x1b]0;title\x07c\x9b2J\n"))
    terminal = _shown(fake.address, *flags)
    assert terminal.lines[0] == "a�[31mb�]0;title�c�2J"
    assert terminal.colour_of("[31mb") != "red"


def test_a_pipe_gets_the_text_as_it_is(target: Target) -> None:
    address = target(_says("a\x1b[31mb")).address
    command = [sys.executable, "-m", "foredraft.cli", "generate", "a", "--address", address]
    done = subprocess.run(
        command, capture_output=True, env={"PYTHONPATH": str(CLIENT)}, timeout=60, check=True
    )
    assert done.stdout == b"a\x1b[31mb" * 2 + b"\n"


def test_ctrl_c_ends_it(target: Target) -> None:
    fake = target(endless)
    with Terminal("generate", "a", "--address", fake.address) as terminal:
        terminal.until("t1 t1")
        terminal.type("\x03")
        assert terminal.ended() == 130
    assert "Traceback" not in "".join(terminal.lines)
    assert fake.left.wait(30), "the service must not go on for nobody"


def test_a_prompt_is_asked_for(target: Target) -> None:
    with Terminal("generate", "--address", target().address) as terminal:
        assert terminal.ended() == 2
    assert "give a prompt, or pipe it into standard input" in "\n".join(terminal.lines)
