"""`foredraft chat`: what is sent, what is kept, and what the terminal shows."""

import io
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from foredraft.cli import main
from foredraft.v1 import target_pb2
from tests.sdk.fake_target import FakeTarget, answer, chunk, fails, started
from tests.sdk.terminal import Terminal

Target = Callable[..., FakeTarget]
Capture = pytest.CaptureFixture[str]


def test_a_conversation_without_a_terminal(
    target: Target, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    fake = target()
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello\n\nand again\n"))
    assert main(["chat", "--system", "be brief", "--address", fake.address]) == 0
    assert capsys.readouterr().out == "t1 t2 t3 t4 t5 \n" * 2
    first, second = (request.prompts[0].chat.messages for request in fake.requests)
    assert [(m.role, m.content) for m in first] == [("system", "be brief"), ("user", "hello")]
    assert [(m.role, m.content) for m in second[2:]] == [
        ("assistant", "t1 t2 t3 t4 t5 "),
        ("user", "and again"),
    ]
    assert [r.config.max_new_tokens for r in fake.requests] == [512, 512]
    # The rows of the first turn are found again, by this conversation alone.
    shown = [called["authorization"] for called in fake.metadata]
    assert shown[0] == shown[1]
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello\n"))
    assert main(["chat", "--address", fake.address]) == 0
    assert fake.metadata[-1]["authorization"] != shown[0]
    main(["generate", "a", "--address", fake.address])
    assert "authorization" not in fake.metadata[-1]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--max-new-tokens", "7"], 7),
        (["--max-length", "70"], 0),
        (["--generation-config", "precise"], 0),
    ],
)
def test_an_answer_is_as_long_as_its_flags_say(
    flags: list[str], expected: int, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = target()
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello\n"))
    assert main(["chat", *flags, "--address", fake.address]) == 0
    assert fake.requests[0].config.max_new_tokens == expected


def test_a_conversation_ends_with_an_error(
    target: Target, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    fake = target(fails(grpc.StatusCode.INVALID_ARGUMENT, "prompts: the model has no template"))
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello\nagain\n"))
    assert main(["chat", "--address", fake.address]) == 1
    assert len(fake.requests) == 1
    told = "foredraft: the conversation: the model has no template\n"
    assert capsys.readouterr().err == told


def _said(fake: FakeTarget) -> list[list[tuple[str, str]]]:
    """Returns the conversation of each request."""
    return [[(m.role, m.content) for m in r.prompts[0].chat.messages] for r in fake.requests]


def test_a_conversation_in_a_terminal(target: Target) -> None:
    fake = target()
    with Terminal("chat", "--show", "--address", fake.address) as terminal:
        terminal.until("> ")
        terminal.type("hello\r")
        terminal.until("time hidden")
        assert terminal.colour_of("t1 ") == "green"
        terminal.until("> ", below="time hidden")
        terminal.type("once more\r")
        terminal.until("t5", below="once more")
        terminal.until("> ", below="time hidden", times=2)
        terminal.type("\x04")
        assert terminal.ended() == 0
    assert _said(fake)[1][:2] == [("user", "hello"), ("assistant", "t1 t2 t3 t4 t5 ")]


def test_ctrl_c_ends_an_answer_and_not_the_conversation(target: Target) -> None:
    left = threading.Event()

    def slow(request: Any, context: Any) -> Iterator[target_pb2.GenerateResponse]:
        context.add_callback(left.set)
        yield started(request)
        yield chunk(0, (1, 2))
        while context.is_active():
            time.sleep(0.01)

    fake = target(slow, answer)
    with Terminal("chat", "--address", fake.address) as terminal:
        terminal.until("> ")
        terminal.type("hello\r")
        terminal.until("t1 t2")
        terminal.type("\x03")
        terminal.until("foredraft: stopped")
        assert left.wait(30), "the service must not go on for nobody"
        terminal.until("> ", below="stopped")
        terminal.type("go on\r")
        terminal.until("t5", below="go on")
        terminal.until("> ", below="t5")
        terminal.type("\x03")
        terminal.until("Ctrl-D leaves")
        terminal.until("> ", below="Ctrl-D")
        terminal.type("\x04")
        assert terminal.ended() == 0
    assert _said(fake)[1] == [("user", "hello"), ("assistant", "t1 t2 "), ("user", "go on")]


def test_what_was_stopped_before_its_answer_is_not_kept(target: Target) -> None:
    reached = threading.Event()

    def silent(request: Any, context: Any) -> Iterator[target_pb2.GenerateResponse]:
        yield started(request)
        reached.set()
        while context.is_active():
            time.sleep(0.01)

    fake = target(silent, answer)
    with Terminal("chat", "--address", fake.address) as terminal:
        terminal.until("> ")
        terminal.type("hello\r")
        assert reached.wait(30)
        terminal.type("\x03")
        terminal.until("foredraft: stopped")
        terminal.until("> ", below="stopped")
        terminal.type("again\r")
        terminal.until("t5")
        terminal.until("> ", below="t5")
        terminal.type("\x04")
        assert terminal.ended() == 0
    assert _said(fake)[1] == [("user", "again")]


def test_an_error_does_not_end_a_typed_conversation(target: Target) -> None:
    refusal = fails(grpc.StatusCode.INVALID_ARGUMENT, "max_new_tokens: the text is full")
    fake = target(refusal, answer)
    with Terminal("chat", "--address", fake.address) as terminal:
        terminal.until("> ")
        terminal.type("hello\r")
        terminal.until("foredraft: --max-new-tokens: the text is full")
        terminal.until("> ", below="foredraft")
        terminal.type("again\r")
        terminal.until("t5")
        terminal.until("> ", below="t5")
        terminal.type("\x04")
        assert terminal.ended() == 0
    assert _said(fake)[1] == [("user", "again")], "what had no answer is not kept"
