"""The command line in a real pseudo-terminal, and the screen that its user sees."""

import codecs
import os
import pty
import select
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pyte

CLIENT = Path(__file__).resolve().parent.parent.parent / "client"
_COLUMNS, _LINES = 100, 40
_PATIENCE_S = 60.0
# Standard input becomes the terminal of the session, so that Ctrl-C reaches the program. gRPC does
# not outlive the fork that `preexec_fn` would need.
_IN_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from foredraft.cli import main
sys.exit(main())
"""


class Terminal:
    """Runs `foredraft` in a terminal."""

    def __init__(
        self, *arguments: str, encoding: str = "utf-8", environment: dict[str, str] | None = None
    ) -> None:
        """
        Args:
            encoding: the encoding of the terminal, and of what is typed.
            environment: variables of the program, beside those of a plain terminal.
        """
        variables = {
            "PYTHONPATH": str(CLIENT),
            "PYTHONIOENCODING": encoding,
            "TERM": "xterm-256color",
            "PATH": os.environ["PATH"],
        }
        self._main, side = pty.openpty()
        termios.tcsetwinsize(side, (_LINES, _COLUMNS))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _IN_TERMINAL, *arguments],
            stdin=side,
            stdout=side,
            stderr=side,
            start_new_session=True,
            env=variables | (environment or {}),
        )
        os.close(side)
        self._encoding, self._decoder = encoding, codecs.getincrementaldecoder(encoding)()
        self._screen = pyte.Screen(_COLUMNS, _LINES)
        self._stream = pyte.Stream(self._screen)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._main)

    @property
    def lines(self) -> list[str]:
        """The lines that are shown, without the empty ones below."""
        shown = [line.rstrip() for line in self._screen.display]
        while shown and not shown[-1]:
            shown.pop()
        return shown

    def type(self, text: str) -> None:
        """Types on the keyboard."""
        os.write(self._main, text.encode(self._encoding))

    def until(self, text: str, below: str = "", times: int = 1) -> None:
        """Reads until a text is shown, below another one if that is given, so many times."""
        deadline = time.monotonic() + _PATIENCE_S
        while not self._shows(text, below, times):
            assert time.monotonic() < deadline, f"no {text!r} on the screen: {self.lines}"
            assert self._read(0.2), f"ended without {text!r}: {self.lines}"

    def ended(self) -> int:
        """Reads until the program has ended; returns its exit code."""
        deadline = time.monotonic() + _PATIENCE_S
        while self._read(0.2):
            assert time.monotonic() < deadline, f"it goes on: {self.lines}"
        return self._process.wait(_PATIENCE_S)

    def colour_of(self, text: str) -> str:
        """Returns the colour in which a text is shown, the first time that it is."""
        for row, line in enumerate(self._screen.display):
            if (column := line.find(text)) >= 0:
                colours: set[Any] = {
                    self._screen.buffer[row][column + i].fg for i in range(len(text.rstrip()))
                }
                assert len(colours) == 1, f"{text!r} has several colours: {colours}"
                return str(colours.pop())
        raise AssertionError(f"no {text!r} on the screen: {self.lines}")

    def _shows(self, text: str, below: str, times: int) -> bool:
        shown = "\n".join(self._screen.display)
        for _ in range(times if below else 0):
            _, found, shown = shown.partition(below)
            if not found:
                return False
            shown = shown.partition("\n")[2]
        return text in shown

    def _read(self, patience_s: float) -> bool:
        """Shows what the program has written meanwhile; returns whether it may write more."""
        if not select.select([self._main], [], [], patience_s)[0]:
            return True
        try:
            data = os.read(self._main, 65_536)
        except OSError:  # the other side is closed
            return False
        self._stream.feed(self._decoder.decode(data))
        return bool(data)
