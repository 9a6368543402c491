"""The connection to a draft service, made anew when the certificates for it change.

This module knows nothing of what is said on it.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc.aio

from foredraft.v1 import draft_pb2, draft_pb2_grpc
from foredraft.wire.addresses import is_loopback
from foredraft_serving.access.watched_file import WatchedFile, watched_file
from foredraft_serving.certificates import (
    CertificateFiles,
    Certificates,
    CertificateTexts,
    watched_certificates,
)
from foredraft_serving.server import READINESS
from foredraft_serving.settings import SettingsError
from foredraft_serving.tls import channel_credentials
from target_service.settings import TargetSettings

_OPTIONS = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    # gRPC notices a peer that hangs only after a minute without this, whatever the two above say.
    ("grpc.http2.ping_timeout_ms", 2_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", 64 << 20),
    # A name may have several addresses, for example that of a headless Service. Each sequence is a
    # stream of its own and goes to the next address whose server says that it is ready.
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.service_config", json.dumps({"healthCheckConfig": {"serviceName": READINESS}})),
]


@dataclass(frozen=True, slots=True)
class DraftCredentials:
    """How a target calls draft services, and what it shows to them."""

    certificates: Certificates | None = None
    """The certificates of TLS; None is plain text."""
    token: WatchedFile[str] | None = None
    """The file of an API token; None shows none."""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The headers of a call that begins now."""
        return (("authorization", f"Bearer {self.token.current()}"),) if self.token else ()


def draft_credentials(settings: TargetSettings) -> DraftCredentials:
    """Returns the credentials for draft services.

    Raises:
        SettingsError: a file cannot be used, or a flag needs another one.
    """
    return DraftCredentials(_certificates(settings), _token(settings))


def _token(settings: TargetSettings) -> WatchedFile[str] | None:
    if not settings.draft_token:
        return None
    for address in settings.draft_addresses:
        if not settings.draft_ca and not settings.insecure and not is_loopback(address):
            raise SettingsError(
                f"--draft-token would go to {address} in plain text, where others can read it: "
                "give --draft-ca, or --insecure for a network that lets nobody else in"
            )
    return watched_file("--draft-token", settings.draft_token, _read_token)


def _read_token(text: str) -> str:
    if not re.fullmatch(r"[!-~]+", token := text.strip()):
        raise ValueError("it has to hold one token, of printable ASCII without blanks")
    return token


def _certificates(settings: TargetSettings) -> Certificates | None:
    files = CertificateFiles(
        ("--draft-cert", settings.draft_cert),
        ("--draft-key", settings.draft_key),
        ("--draft-ca", settings.draft_ca),
    )
    if not files.given:
        return None
    return watched_certificates(files)


@dataclass(slots=True)
class _Opened:
    """A channel, and how many streams are on it."""

    channel: grpc.aio.Channel
    stub: Any
    streams: int = 0


class DraftChannel:
    """A way to a draft service. Streams stay on the channel on which they began."""

    def __init__(self, address: str, credentials: DraftCredentials) -> None:
        self._address, self._credentials = address, credentials
        self._texts: CertificateTexts | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._now: _Opened | None = None

    def info(self, request: draft_pb2.GetDraftInfoRequest, **options: Any) -> Any:
        """Starts a `GetDraftInfo` call with options of gRPC."""
        metadata = self._credentials.metadata
        return self._current().stub.GetDraftInfo(request, metadata=metadata, **options)

    def open(self, requests: AsyncIterator[draft_pb2.DraftRequest], metadata: Any) -> Any:
        """Starts a `Draft` stream that sends `requests`."""
        opened = self._current()
        opened.streams += 1
        call = opened.stub.Draft(requests, metadata=(*self._credentials.metadata, *metadata))
        call.add_done_callback(lambda _: self._left(opened))
        return call

    async def close(self) -> None:
        """Closes the connection."""
        if self._now is not None:
            await self._now.channel.close()
        if self._closing:
            await asyncio.wait(self._closing)

    def _current(self) -> _Opened:
        certificates = self._credentials.certificates
        texts = certificates.current() if certificates else None
        if self._now is None or texts != self._texts:
            before, self._texts = self._now, texts
            channel = self._new(texts)
            self._now = _Opened(channel, draft_pb2_grpc.DraftServiceStub(channel))
            if before is not None and not before.streams:
                self._close(before)
        return self._now

    def _new(self, texts: CertificateTexts | None) -> grpc.aio.Channel:
        if texts is None:
            return grpc.aio.insecure_channel(self._address, options=_OPTIONS)
        credentials = channel_credentials(texts)
        return grpc.aio.secure_channel(self._address, credentials, options=_OPTIONS)

    def _left(self, opened: _Opened) -> None:
        opened.streams -= 1
        if not opened.streams and opened is not self._now:
            self._close(opened)

    def _close(self, opened: _Opened) -> None:
        closing = asyncio.get_running_loop().create_task(opened.channel.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
