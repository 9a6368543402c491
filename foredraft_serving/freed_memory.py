"""Gives freed memory back to the system.

glibc keeps what large messages leave behind in its heaps, several hundred megabytes of it, and
gives it back when it is told to. Other C libraries have no such call, and none is made there.
"""

import asyncio
import ctypes
import sys
import threading

_AFTER_S = 2.0  # in which more large messages may come


class FreedMemory:
    """The memory that calls left behind."""

    def __init__(self) -> None:
        self._due: asyncio.TimerHandle | None = None

    def grew(self) -> None:
        """Records that a large message came: memory is given back once it will be free."""
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(_AFTER_S, self._begin)

    def close(self) -> None:
        """Gives nothing back any more."""
        if self._due is not None:
            self._due.cancel()

    def _begin(self) -> None:
        self._due = None
        # It takes some milliseconds, for which the event loop need not wait.
        threading.Thread(target=_give_back, name="freed-memory", daemon=True).start()


def _give_back() -> None:
    if sys.platform != "linux":
        return
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
