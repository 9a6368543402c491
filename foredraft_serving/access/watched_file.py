"""A file that a service reads again while it runs.

This module knows nothing of what is in it.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from foredraft_serving.settings import SettingsError

log = logging.getLogger(__name__)

T = TypeVar("T")

_EVERY_S = 1.0


class WatchedFile(Generic[T]):
    """What a file holds, as it was when it could be used last; one thread uses it."""

    def __init__(self, flag: str, path: str, parse: Callable[[str], T]) -> None:
        """Reads the file.

        Args:
            flag: names the file in messages.
            parse: makes of its text what it stands for, and raises ValueError with what is wrong.

        Raises:
            SettingsError: the file is missing, or is not what it should be.
        """
        self._named, self._path, self._parse = f"{flag} {path}", path, parse
        self._seen = self._read()
        self._value = self._parsed(self._seen)
        self._read_at = time.monotonic()
        self._fault = ""

    def current(self) -> T:
        """Returns what the file holds; a change is seen after a second at most."""
        if time.monotonic() - self._read_at < _EVERY_S:
            return self._value
        self._read_at = time.monotonic()
        try:
            seen = self._read()
            if seen != self._seen:
                self._value, self._seen = self._parsed(seen), seen
                log.info("%s was read again", self._named)
            self._fault = ""
        except SettingsError as error:
            if str(error) != self._fault:
                log.warning("what was read before stays in force: %s", error)
            self._fault = str(error)
        return self._value

    def _read(self) -> bytes:
        try:
            return Path(self._path).read_bytes()
        except OSError as error:
            raise SettingsError(f"{self._named}: {error.strerror or error}") from error

    def _parsed(self, content: bytes) -> T:
        try:
            return self._parse(content.decode())
        except UnicodeDecodeError as error:
            raise SettingsError(f"{self._named}: it is no text in UTF-8") from error
        except ValueError as error:
            raise SettingsError(f"{self._named}: {error}") from error
