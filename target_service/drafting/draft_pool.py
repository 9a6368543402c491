"""The draft services that a target knows, and whether each of them can be used now.

This module knows nothing of sequences: `target_service.drafting.remote_session` follows those.
"""

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from typing import Any

import grpc.aio

from foredraft.v1 import draft_pb2
from foredraft_engine.sampling import Rule
from foredraft_engine.vocabulary import Vocabulary
from foredraft_serving.logs import REQUEST_ID
from foredraft_serving.messages import kind_from, vocabulary_from
from foredraft_serving.tracing import headers
from target_service.drafting.draft_channel import DraftChannel, DraftCredentials
from target_service.drafting.draft_status import StreamEnd, stream_end
from target_service.drafting.draft_times import EVERY_NUMBER, DraftTimes

log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 4.0
# A draft service with another vocabulary may be replaced by one with the target's.
_MISMATCH_PAUSE_S = 15.0
# So many sequences in a row have to meet a fault until none is opened for a while.
_FAULTS = 8
_INFO_TIMEOUT_S = 5.0
_LOOK_TIMEOUT_S = 3.0
_MOST_REASON = 300  # characters of what it says
_EXCUSE_PERIOD = 100  # in timeouts: a draft service may be late once in that time at no charge

_NO_CREDENTIALS = DraftCredentials()


class DraftEndpoint:
    """The connection to one draft service, and what is known of that service."""

    def __init__(
        self,
        address: str,
        vocabulary: Vocabulary,
        numbers_of_outcomes: Sequence[int] = EVERY_NUMBER,
        credentials: DraftCredentials = _NO_CREDENTIALS,
    ) -> None:
        """Connects with the first sequence.

        Args:
            numbers_of_outcomes: the numbers of outcomes to choose among, see `DraftTimes`.
            credentials: how it is called, and what it is shown.
        """
        self.address = address
        self.sessions = 0
        """The number of sequences that it follows for this target."""
        self.drafts_ahead = True
        """Whether it drafts for outcomes, which n-gram lookup does not."""
        self.mismatch = ""
        """Why its proposals cannot be used; empty if they can."""
        self._unheld_reason = ""  # why its proposals hold to no response format
        self._vocabulary = vocabulary
        self._numbers = numbers_of_outcomes
        self._times: dict[tuple[Rule, bool], DraftTimes] = {}
        self._channel = DraftChannel(address, credentials)
        self._pause_s = 0.0
        self._paused_until = 0.0
        self._failure = self._looked = ""  # what a sequence, and what a look, found wrong
        self._excused_at = -math.inf
        self._faults = 0  # of sequences, since a proposal came that can be verified

    @property
    def description(self) -> str:
        """The state for people: "ready", or what is wrong."""
        unheld = f", without response_format ({self._unheld_reason})" if self._unheld_reason else ""
        return self.mismatch or self._failure or self._looked or f"ready{unheld}"

    @property
    def state(self) -> str:
        """The state for metrics: "ready", "down" or "mismatch"."""
        return "mismatch" if self.mismatch else "down" if self._failure else "ready"

    @property
    def is_usable(self) -> bool:
        """Whether a stream may be opened now."""
        return time.monotonic() >= self._paused_until

    @property
    def is_trusted(self) -> bool:
        """Whether it is worth waiting for: nothing went wrong since its last answer."""
        return not self._failure and not self.mismatch

    def times(self, rule: Rule) -> DraftTimes:
        """Returns what its proposals cost under a rule."""
        key = rule, self.drafts_ahead
        if key not in self._times:
            self._times[key] = DraftTimes(self._numbers if self.drafts_ahead else (0,))
        return self._times[key]

    def open(self, requests: Any, request_id: str) -> Any:
        """Starts a `Draft` stream that sends `requests`; the id joins the logs of both services."""
        metadata = ((REQUEST_ID, request_id),) if request_id else ()
        return self._channel.open(requests, (*metadata, *headers()))

    def answered(self) -> None:
        """Records that it sent a block, whatever the block holds: it is there."""
        if self._failure:
            log.info("draft %s is back", self.address)
        self._failure, self._looked, self._paused_until = "", "", 0.0

    def was_useful(self) -> None:
        """Records that a block of it held a proposal that can be verified: its next pause is short.

        An answer alone does not shorten it, since a draft that fails everybody answers, too.
        """
        self._faults, self._pause_s = 0, 0.0

    def failed(self, reason: str) -> None:
        """Records that its stream was lost, and pauses longer each time before the next one."""
        if not self._failure:
            log.warning("draft %s: %s; going on without it", self.address, reason)
        self._failure = reason
        self._pause_s = min(max(_FIRST_PAUSE_S, 2 * self._pause_s), _LONGEST_PAUSE_S)
        self._paused_until = time.monotonic() + self._pause_s

    def ended(self, end: StreamEnd, reason: str) -> None:
        """Records that a stream ended, which counts against the draft only if all are concerned."""
        match end:
            case StreamEnd.LOST:
                self.failed(reason)
            case StreamEnd.WRONG:
                self._is_wrong(reason)
            case StreamEnd.REFUSED:
                log.info("draft %s refuses a sequence: %s", self.address, reason)
            case StreamEnd.FAULTY:
                log.info("draft %s fails a sequence: %s", self.address, reason)
                self._faults += 1
                if self._faults >= _FAULTS:
                    self.failed(f"{self._faults} sequences failed in a row: {reason}")

    def was_late(self, timeout_s: float) -> bool:
        """Records that it did not answer in time, so that other sequences do not wait for it.

        Returns:
            Whether the lost time is excused, because being late once in a while is normal. The
            budget of `Goodput` would otherwise decode plainly for a hundred times as long.
        """
        if not self._failure:
            log.warning("draft %s: no answer in time; going on without it", self.address)
        self._failure = "late"
        now = time.monotonic()
        if now - self._excused_at >= _EXCUSE_PERIOD * timeout_s:
            self._excused_at = now
        return now - self._excused_at <= timeout_s  # excuses all sequences that wait at this time

    async def fits(self, opened: draft_pb2.Opened) -> bool:
        """Returns whether its vocabulary is the target's; logs once that it is not, and where.

        N-gram lookup has no vocabulary and fits every target.
        """
        self.drafts_ahead = kind_from(opened.kind) != "ngram"
        if opened.HasField("unheld_reason"):
            self._unheld_reason = opened.unheld_reason[:_MOST_REASON]
        theirs = vocabulary_from(opened.vocabulary) if opened.HasField("vocabulary") else None
        if theirs is None or theirs.fingerprint == self._vocabulary.fingerprint:
            self.mismatch = ""
            return True
        if not self.mismatch:
            self._is_wrong(
                f"its vocabulary ({theirs.size} tokens) is not the target's "
                f"({self._vocabulary.size} tokens): {await self._first_difference()}"
            )
        self._paused_until = time.monotonic() + _MISMATCH_PAUSE_S
        return False

    def _is_wrong(self, reason: str) -> None:
        """Records that it cannot be used for any sequence of this target."""
        if not self.mismatch:
            log.warning("draft %s is not used: %s", self.address, reason)
        self.mismatch = reason
        self._paused_until = time.monotonic() + _MISMATCH_PAUSE_S

    async def _first_difference(self) -> str:
        """Returns where its vocabulary differs from the target's, for people."""
        request = draft_pb2.GetDraftInfoRequest(with_tokens=True)
        try:
            info = await self._channel.info(request, timeout=_INFO_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            return f"where they differ is not known ({error.code().name})"
        return self._vocabulary.first_difference(info.tokens, dict(info.special_ids))

    async def look(self) -> None:
        """Logs whether it can be reached; sequences find out by themselves."""
        self._looked = "has not answered yet"
        # A call that waits for a connection is not told why there is none, and one that does not
        # wait is.
        for waits in (True, False):
            try:
                await self._channel.info(
                    draft_pb2.GetDraftInfoRequest(), timeout=_LOOK_TIMEOUT_S, wait_for_ready=waits
                )
            except grpc.aio.AioRpcError as error:
                end, reason = stream_end(error.code(), error.details() or "")
                if end is StreamEnd.WRONG:
                    self._is_wrong(reason)
                    return
            else:
                self._looked = ""
                log.info("draft %s answers", self.address)
                return
        self._looked = f"cannot be reached ({reason})"
        log.warning(
            "draft %s cannot be reached (%s): texts go on without it, and each sequence tries it "
            "again; is a foredraft-draft listening there?",
            *(self.address, reason),
        )

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()


class DraftPool:
    """All draft services of a target."""

    def __init__(
        self,
        addresses: Sequence[str],
        vocabulary: Vocabulary,
        numbers_of_outcomes: Sequence[int] = EVERY_NUMBER,
        credentials: DraftCredentials = _NO_CREDENTIALS,
    ) -> None:
        self.endpoints = [
            DraftEndpoint(address, vocabulary, numbers_of_outcomes, credentials)
            for address in addresses
        ]

    def pick(self) -> DraftEndpoint | None:
        """Returns the usable endpoint with the fewest sequences, trusted ones first."""
        usable = [endpoint for endpoint in self.endpoints if endpoint.is_usable]
        return min(usable, key=lambda e: (not e.is_trusted, e.sessions), default=None)

    @property
    def unused_reason(self) -> str:
        """Why no draft service can be used at all; empty if one can, or if there is none."""
        if not self.endpoints or any(not endpoint.mismatch for endpoint in self.endpoints):
            return ""
        return "; ".join(f"{endpoint.address}: {endpoint.mismatch}" for endpoint in self.endpoints)

    async def look(self) -> None:
        """Logs which of them can be reached."""
        await asyncio.gather(*(endpoint.look() for endpoint in self.endpoints))

    async def close(self) -> None:
        """Closes all connections."""
        for endpoint in self.endpoints:
            await endpoint.close()
