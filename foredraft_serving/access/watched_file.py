"""A text file that a service reads again while it runs.

This module knows nothing of what is in it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from foredraft_serving.last_good import LastGood
from foredraft_serving.settings import SettingsError

T = TypeVar("T")

WatchedFile = LastGood[bytes, T]
_EVERY_S = 1.0


def watched_file(flag: str, path: str, parse: Callable[[str], T]) -> WatchedFile[T]:
    """Returns what the file holds; a change is seen after a second at most.

    Args:
        flag: names the file in messages.
        parse: makes of its text what it stands for, and raises ValueError with what is wrong.

    Raises:
        SettingsError: the file is missing, or is not what it should be.
    """
    named = f"{flag} {path}"

    def read() -> bytes:
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise SettingsError(f"{named}: {error.strerror or error}") from error

    def parsed(content: bytes) -> T:
        try:
            return parse(content.decode())
        except UnicodeDecodeError as error:
            raise SettingsError(f"{named}: it is no text in UTF-8") from error
        except ValueError as error:
            raise SettingsError(f"{named}: {error}") from error

    return LastGood(named, read, parsed, every_s=_EVERY_S)
