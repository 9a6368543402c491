"""The way of a call: where it goes, how long it may take, and whether it is tried again.

This module knows nothing of what is called, and does no input or output itself.
"""

import itertools
import math
import random
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import grpc

from foredraft._errors import InvalidRequestError
from foredraft._unreached import unreached
from foredraft.wire.addresses import address_fault

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
# How long an address may be silent, and how long the pause is, while a service is waited for.
_PROBE_S, _PROBE_PAUSE_S = 2.0, 0.25
# What gRPC takes as the name and as the value of a header.
_NAME, _VALUE = re.compile(r"[a-z0-9_.-]+"), re.compile(r"[ -~]*")
# A negative number means never.
_PUSHBACK = "grpc-retry-pushback-ms"

OPTIONS: list[tuple[str, Any]] = [
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Without this, a peer that hangs is noticed only after a minute, whatever the two options above
    # say.
    ("grpc.http2.ping_timeout_ms", 5_000),
    # Calls fail at once while gRPC waits before it connects again, and by default it waits up to
    # two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", 64 << 20),
    # A name with several addresses, such as a headless Service, stands for all of them: each call
    # takes the next one.
    ("grpc.lb_policy_name", "round_robin"),
    # The attempts of a call are counted here, and not a second time by a policy of gRPC's own.
    ("grpc.service_config_disable_resolution", 1),
]


class Attempts:
    """The attempts of one call: which stub, until when, and the pause before the next."""

    def __init__(self, stubs: Sequence[Any], retries: int, timeout_s: float | None) -> None:
        self._stubs, self._retries = stubs, retries
        self.timeout_s = timeout_s
        self._made = self._in_vain = 0
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s

    @property
    def stub(self) -> Any:
        """The stub to call now; after `next_pause_s` it is the next one."""
        return self._stubs[self._made % len(self._stubs)]

    def left_s(self) -> float | None:
        """Returns the seconds until the deadline, which all attempts share; None is no limit."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def progressed(self) -> None:
        """Records that an attempt brought something, so that a later loss is another matter."""
        self._in_vain = 0

    def next_pause_s(self, error: Any, began: bool = False) -> float | None:
        """Returns the seconds to wait before the next attempt, None if the error is final.

        Only a call that did not begin is repeated: one whose service was not reached, or was
        overloaded and said when to come back. The caller judges what to do about one that
        broke off.

        Args:
            began: whether something of the answer came, so that the call cannot just be repeated.
        """
        told_s = _told_pause_s(error)
        may_repeat = error.code() is grpc.StatusCode.UNAVAILABLE or told_s is not None
        if began or self._in_vain >= self._retries or not may_repeat:
            return None
        left_s = self.left_s()
        if told_s is None:
            # Jitter keeps callers that failed together from coming back together.
            pause_s: float = min(_FIRST_PAUSE_S * 2**self._in_vain, _LONGEST_PAUSE_S)
            pause_s *= random.uniform(0.5, 1.0)
            pause_s = pause_s if left_s is None else min(pause_s, left_s)
        elif (self._made + 1) % len(self._stubs):
            pause_s = 0.0  # another address may have room at once
        else:
            pause_s = told_s * random.uniform(1.0, 1.25)
            if left_s is not None and pause_s >= left_s:
                return None
        self._made += 1
        self._in_vain += 1
        return pause_s


class Probes(Attempts):
    """The attempts to find a service that is ready, for as long as there is time."""

    missing = "it does not answer"
    """What the last service said that is not ready."""

    def left_s(self) -> float | None:
        """Returns the seconds that the next address has to answer."""
        left_s = super().left_s()
        return _PROBE_S if left_s is None else min(_PROBE_S, left_s)

    def next_pause_s(self, error: Any, began: bool = False) -> float | None:
        """Returns the seconds to wait before the next probe, None if no probe can change the
        error or the time is over.
        """
        left_s = super().left_s()
        waits = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            self.missing = unreached(error.details())
        if error.code() not in waits or left_s == 0.0:
            return None
        self._made += 1
        return _PROBE_PAUSE_S if left_s is None else min(_PROBE_PAUSE_S, left_s)


def _told_pause_s(error: Any) -> float | None:
    """Returns when an overloaded service wants to be asked again, None if it does not say."""
    if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
        return None
    for name, value in error.trailing_metadata() or ():
        if name == _PUSHBACK:
            try:
                return int(value) / 1000 if int(value) >= 0 else None
            except ValueError:
                return None
    return None


class Route:
    """The stubs of a client, one for each address.

    Each call begins with the next one, and each attempt goes on to the next.
    """

    def __init__(self, stubs: Sequence[Any], max_retries: int) -> None:
        self._stubs, self._max_retries = list(stubs), max_retries
        self._turn = itertools.count()

    def attempts(self, timeout_s: float | None) -> Attempts:
        """Returns the attempts of a new call."""
        return Attempts(self._in_turn(), self._max_retries, timeout_s)

    def probes(self, timeout_s: float | None) -> Probes:
        """Returns the probes for a service that is ready."""
        return Probes(self._in_turn(), 0, timeout_s)

    def _in_turn(self) -> list[Any]:
        first = next(self._turn) % len(self._stubs)
        return self._stubs[first:] + self._stubs[:first]


def addresses_of(address: str | Sequence[str]) -> list[str]:
    """Returns one or several addresses as a list.

    Raises:
        InvalidRequestError: there is none, or one of them is no address of a gRPC service.
    """
    several = isinstance(address, Sequence) and not isinstance(address, str | bytes)
    addresses: list[Any] = list(address) if several else [address]
    if not addresses:
        raise InvalidRequestError("address: there is none", field="address")
    for one in addresses:
        if reason := address_fault(one):
            message = f"address={one!r} {reason}; it is host:port, as in 10.0.0.6:50052"
            raise InvalidRequestError(message, field="address")
    return addresses


def metadata_of(metadata: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    """Returns headers as gRPC takes them, with names in lower case.

    Raises:
        InvalidRequestError: a header has a character that no header can have.
    """
    for name, value in (metadata or {}).items():
        binary = name.lower().endswith("-bin")
        if not _NAME.fullmatch(name.lower()) or not (binary or _VALUE.fullmatch(value)):
            raise InvalidRequestError(
                f"metadata: header {name!r} has a character that is not printable ASCII",
                field="metadata",
            )
    return tuple((name.lower(), value) for name, value in (metadata or {}).items())


def timeout_of(timeout_s: float | None, default_s: float | None) -> float | None:
    """Returns the timeout of a call: its own, else the client's.

    Raises:
        InvalidRequestError: the timeout is no positive number of seconds.
    """
    chosen = default_s if timeout_s is None else timeout_s
    is_number = isinstance(chosen, int | float) and not isinstance(chosen, bool)
    if chosen is not None and not (is_number and chosen > 0 and math.isfinite(chosen)):
        raise InvalidRequestError(
            f"timeout={chosen!r}: takes a positive number of seconds", field="timeout"
        )
    return chosen


def retries_of(max_retries: int) -> int:
    """Returns the number of retries.

    Raises:
        InvalidRequestError: it is no whole number, or is negative.
    """
    if not isinstance(max_retries, int) or max_retries < 0:
        raise InvalidRequestError(
            f"max_retries={max_retries!r}: takes 0 or more", field="max_retries"
        )
    return max_retries
