"""What files say while they may change: read again, and kept as it was where it cannot be used.

This module knows nothing of what is in the files.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from foredraft_serving.settings import SettingsError

log = logging.getLogger(__name__)

R = TypeVar("R")
T = TypeVar("T")


class LastGood(Generic[R, T]):
    """What files hold, as it was when they could be used last; threads may share it."""

    def __init__(
        self, named: str, read: Callable[[], R], parse: Callable[[R], T], every_s: float = 0.0
    ) -> None:
        """Reads the files.

        Args:
            named: names the files in the log.
            read: returns what is in the files, and raises SettingsError if it cannot.
            parse: makes of it what it stands for, and raises SettingsError if it is nothing that
                can be used.
            every_s: the time for which what was read is not read again.

        Raises:
            SettingsError: by `read` and `parse`.
        """
        self._named, self._read, self._parse, self._every_s = named, read, parse, every_s
        self._lock = threading.Lock()
        self._seen = read()
        self._value = parse(self._seen)
        self._read_at = time.monotonic()
        self._fault = ""

    def current(self) -> T:
        """Returns what the files hold now, or held when they could be used last."""
        with self._lock:
            if time.monotonic() - self._read_at < self._every_s:
                return self._value
            self._read_at = time.monotonic()
            try:
                seen = self._read()
                if seen != self._seen:
                    self._value, self._seen = self._parse(seen), seen
                    log.info("%s: read again", self._named)
                self._fault = ""
            except SettingsError as error:
                if str(error) != self._fault:
                    log.warning("what was read before stays in force: %s", error)
                self._fault = str(error)
            return self._value
