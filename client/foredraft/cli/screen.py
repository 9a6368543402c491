"""What a command shows: text on standard output, and what is said about it on standard error.

Colours come from rich, if it is installed and a terminal reads. Nothing depends on them. This
module knows nothing of calls.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from foredraft import Origin

try:
    from rich.console import Console
    from rich.style import Style
except ImportError:  # the extra `cli` is not installed
    _STYLES: dict[Origin, Any] = {}
else:
    _STYLES = {
        "draft_model": Style(color="green"),
        "ngram": Style(color="cyan"),
        "alternative": Style(color="magenta"),
        "grammar": Style(color="blue"),
    }

Piece = tuple[str, Origin]
"""Text, and where its tokens came from."""

# A terminal obeys these, so that a text could repaint the screen or type for its reader.
_CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)], "\ufffd")


class Screen:
    """Standard output and standard error."""

    def __init__(self, colour: bool = False) -> None:
        """
        Args:
            colour: whether pieces are shown in the colour of their origin.
        """
        self._colour = colour
        self._in_line = False  # whether text stands in the line of the cursor

    def write(self, pieces: Sequence[Piece]) -> None:
        """Shows pieces of text as they come."""
        for text, origin in pieces:
            if text:
                print(self._painted(text, origin, sys.stdout), end="", flush=True)
                self._in_line = not text.endswith("\n")

    def end_line(self) -> None:
        """Ends the line of the text."""
        print(flush=True)
        self._in_line = False

    def break_line(self) -> None:
        """Ends the line of the text, if it has begun."""
        if self._in_line:
            self.end_line()

    def notice(self, message: str) -> None:
        """Says something about the text."""
        print(f"foredraft: {message}", file=sys.stderr, flush=True)

    def figures(self, rows: Sequence[tuple[str, Sequence[Piece]]]) -> None:
        """Shows figures below a text, each with its name."""
        width = max(len(name) for name, _ in rows)
        for name, pieces in rows:
            shown = "".join(self._painted(text, origin, sys.stderr) for text, origin in pieces)
            print(f"{name:{width}}  {shown}", file=sys.stderr, flush=True)

    @contextmanager
    def waiting(self, message: str) -> Iterator[None]:
        """Says what is waited for within the context."""
        if not _is_terminal(sys.stderr) or not _STYLES:
            self.notice(message)
            yield
        else:
            with Console(stderr=True).status(message):
                yield

    def _painted(self, text: str, origin: Origin, stream: TextIO) -> str:
        if not _is_terminal(stream):
            return text
        safe = text.translate(_CONTROLS)
        style = _STYLES.get(origin) if self._colour else None
        if style is None or not _has_colours(stream):
            return safe
        return str(style.render(safe))


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _has_colours(stream: TextIO) -> bool:
    """Whether a terminal shows colours, and its user wants them (`NO_COLOR`, `TERM`)."""
    console = Console(file=stream)
    return console.color_system is not None and not console.no_color
