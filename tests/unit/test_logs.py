"""Records: one line each, whatever callers send."""

import json
import logging
import os
import subprocess
import sys

import pytest

from foredraft_serving import logs


@pytest.fixture(autouse=True)
def restored() -> object:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("target")
    logging.getLogger("x").info(
        "request ended", extra=logs.fields(outcome="ok", duration_s=0.123456789)
    )
    assert capsys.readouterr().err.endswith(
        "INFO target x: request ended outcome=ok duration_s=0.123457\n"
    )


def test_nothing_begins_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("target")
    logging.getLogger("x").info("ended", extra=logs.fields(outcome="ok\n2026 INFO all is well"))
    assert len(capsys.readouterr().err.splitlines()) == 1


async def test_json_with_the_request(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("draft", form="json")
    logs.serve_request("ab12")
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("x").warning(
            "went %s", "wrong", exc_info=True, extra=logs.fields(rounds=3)
        )
    record = json.loads(capsys.readouterr().err)
    assert record | {"time": "", "exception": ""} == {
        "time": "", "level": "warning", "service": "draft", "logger": "x", "message": "went wrong",
        "request_id": "ab12", "rounds": 3, "exception": "",
    }  # fmt: skip
    assert "ValueError: no" in record["exception"]


def test_levels(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("draft", level="warning")
    logging.getLogger("x").info("quiet")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_without_the_letters_of_a_line(encoding: str) -> None:
    code = (
        "import logging; from foredraft_serving import logs; logs.set_up('target');"
        "logging.getLogger('x').info('a 🙂 text', extra=logs.fields(prompt='字'))"
    )
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env=env, timeout=60, check=True
    )
    assert b"Logging error" not in ended.stderr
    assert ended.stderr.endswith(b'a \\U0001f642 text prompt="\\u5b57"\n') or (
        b"\\U0001f642 text prompt=\\u5b57" in ended.stderr
    )


def test_what_libraries_print_by_themselves_comes_once(capsys: pytest.CaptureFixture[str]) -> None:
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging as transformers_logging

    loggers = [
        hub_logging.get_logger("huggingface_hub.file_download"),
        transformers_logging.get_logger("transformers.modeling_utils"),
    ]
    logs.set_up("draft", form="json")
    libraries = [logging.getLogger(one.name.partition(".")[0]) for one in loggers]
    before = [(library.handlers[:], library.propagate) for library in libraries]
    try:
        logs.adopt(*(library.name for library in libraries))
        for logger in loggers:
            logger.error("nobody answers")
    finally:
        for library, (handlers, propagate) in zip(libraries, before, strict=True):
            library.handlers[:], library.propagate = handlers, propagate
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["logger"], line["message"]) for line in lines] == [
        (logger.name, "nobody answers") for logger in loggers
    ]
