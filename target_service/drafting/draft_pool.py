"""The draft services that a target knows: connections, and whether each can be used now.

Knows nothing of sequences: `target_service.drafting.remote_session` follows those.
"""

import json
import logging
import math
import time
from collections.abc import Sequence
from typing import Any

import grpc.aio

from foredraft.v1 import draft_pb2, draft_pb2_grpc
from foredraft_engine.vocabulary import Vocabulary
from foredraft_serving.logs import REQUEST_ID
from foredraft_serving.messages import kind_from, vocabulary_from
from foredraft_serving.server import READINESS
from foredraft_serving.tracing import headers
from target_service.drafting.goodput import DraftTimes

log = logging.getLogger(__name__)

_OPTIONS = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    # Without this a peer that hangs is noticed after a minute, whatever the two above say.
    ("grpc.http2.ping_timeout_ms", 2_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", 64 << 20),
    # A name with several addresses, as of a headless Service, is a pool: each sequence is a stream,
    # which goes to the next of those that say they are ready.
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.service_config", json.dumps({"healthCheckConfig": {"serviceName": READINESS}})),
]
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 4.0
# A draft of another language may be replaced by one of ours.
_OTHER_LANGUAGE_S = 15.0
_SELDOM = 100  # timeouts, in which a draft may be late once without being charged for it


class DraftEndpoint:
    """One draft service."""

    def __init__(self, address: str, language: Vocabulary) -> None:
        self.address = address
        self.sessions = 0
        self.times = DraftTimes()
        self.branches = True  # whether it drafts ahead: a model's business
        self.mismatch = ""  # why its proposals cannot be used; empty when they can
        self._language = language
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._stub = draft_pb2_grpc.DraftServiceStub(self._channel)
        self._pause_s = 0.0
        self._not_before = 0.0
        self._down = ""
        self._excused_at = -math.inf

    @property
    def state(self) -> str:
        """For people: "ready", or what is wrong."""
        return self.mismatch or self._down or "ready"

    @property
    def standing(self) -> str:
        """For metrics: "ready", "down" or "mismatch"."""
        return "mismatch" if self.mismatch else "down" if self._down else "ready"

    @property
    def usable(self) -> bool:
        """Whether a session may be opened now."""
        return time.monotonic() >= self._not_before

    @property
    def trusted(self) -> bool:
        """Whether it is worth waiting for: nothing went wrong since it last answered."""
        return not self._down and not self.mismatch

    def open(self, requests: Any, request_id: str) -> Any:
        """Starts a DraftEndpoint stream that sends `requests`;

        the id joins the logs of both services.
        """
        named = ((REQUEST_ID, request_id),) if request_id else ()
        return self._stub.Draft(requests, metadata=(*named, *headers()))

    def answered(self) -> None:
        """It sent something useful."""
        if self._down:
            log.info("draft %s is back", self.address)
        self._down, self._pause_s, self._not_before = "", 0.0, 0.0

    def failed(self, reason: str) -> None:
        """It was lost or late: pause before the next session, longer every time."""
        if not self._down:
            log.warning("draft %s: %s; going on without", self.address, reason)
        self._down = reason
        self._pause_s = min(max(_FIRST_PAUSE_S, 2 * self._pause_s), _LONGEST_PAUSE_S)
        self._not_before = time.monotonic() + self._pause_s

    def late(self, timeout_s: float) -> bool:
        """It did not answer in time; other sequences need not wait for it to find that out.

        Returns whether that is excused, as what happens to anybody once in a while. The ledger of
        `goodput` would have a hundred times as long pass without assistance.
        """
        if not self._down:
            log.warning("draft %s: no answer in time; going on without", self.address)
        self._down = "late"
        now = time.monotonic()
        if now - self._excused_at >= _SELDOM * timeout_s:
            self._excused_at = now
        return now - self._excused_at <= timeout_s  # all who waited at the same time are

    def check(self, opened: draft_pb2.Opened) -> bool:
        """Whether it speaks the target's language; says so once if not."""
        self.branches = kind_from(opened.kind) != "ngram"
        theirs = vocabulary_from(opened.vocabulary) if opened.HasField("vocabulary") else None
        if theirs is None or theirs.fingerprint == self._language.fingerprint:
            self.mismatch = ""  # the same language, or n-grams, which speak every language
            return True
        if not self.mismatch:
            self.mismatch = (
                f"its vocabulary ({theirs.size} tokens) is not the target's ({self._language.size} tokens): "
                "the id-to-token map or the special ids differ"
            )
            log.warning("draft %s is not used: %s", self.address, self.mismatch)
        self._not_before = time.monotonic() + _OTHER_LANGUAGE_S
        return False

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()


class DraftPool:
    """All of them."""

    def __init__(self, addresses: Sequence[str], language: Vocabulary) -> None:
        self.all = [DraftEndpoint(address, language) for address in addresses]

    def pick(self) -> DraftEndpoint | None:
        """The usable one that follows the fewest sequences; trusted ones first."""
        usable = [d for d in self.all if d.usable]
        return min(usable, key=lambda d: (not d.trusted, d.sessions), default=None)

    @property
    def unused_reason(self) -> str:
        """Why no draft service can be used at all; empty if one can or there is none."""
        if not self.all or any(not d.mismatch for d in self.all):
            return ""
        return "; ".join(f"{d.address}: {d.mismatch}" for d in self.all)

    async def close(self) -> None:
        """Closes all connections."""
        for draft in self.all:
            await draft.close()
