"""One raw HTTP/2 connection, which sends what a library would refuse to send."""

import asyncio
import ssl
from collections import Counter
from functools import lru_cache

from hpack import Encoder, NeverIndexedHeaderTuple
from hyperframe.exceptions import HyperframeError
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME_HEADER_BYTES = 9
_CANCEL = 8


class Connection:
    """A connection that has said nothing yet. It answers pings and settings, as it has to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._reading = asyncio.create_task(self._read())
        self.is_closed = False
        """Whether the other end has closed it."""
        self.ended: Counter[int] = Counter()
        """The streams that the other end has ended."""

    @staticmethod
    async def open(address: str, tls: ssl.SSLContext | None = None) -> "Connection":
        host, _, port = address.rpartition(":")
        return Connection(*await asyncio.open_connection(host, int(port), ssl=tls))

    async def send(self, data: bytes) -> None:
        """Sends bytes; those for a connection that has been closed are dropped."""
        if self.is_closed:
            return
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError:
            self.is_closed = True

    async def greet(self) -> None:
        """Says what every client says first."""
        await self.send(PREFACE + SettingsFrame(0).serialize())

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.wait([self._reading])
        self._writer.transport.abort()

    async def _read(self) -> None:
        try:
            while True:
                header = await self._reader.readexactly(_FRAME_HEADER_BYTES)
                frame, length = Frame.parse_frame_header(memoryview(header))
                frame.parse_body(memoryview(await self._reader.readexactly(length)))
                await self._answer(frame)
        except (OSError, asyncio.IncompleteReadError, HyperframeError):
            self.is_closed = True

    async def _answer(self, frame: Frame) -> None:
        if isinstance(frame, RstStreamFrame) or "END_STREAM" in frame.flags:
            self.ended[frame.stream_id] += 1
        elif "ACK" in frame.flags:
            return
        elif isinstance(frame, PingFrame):
            await self.send(PingFrame(0, frame.opaque_data, flags=["ACK"]).serialize())
        elif isinstance(frame, SettingsFrame):
            await self.send(SettingsFrame(0, flags=["ACK"]).serialize())


@lru_cache
def headers(path: str, *more: tuple[str, str]) -> bytes:
    """Returns the headers of a call, encoded so that neither end has to remember any."""
    own = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ]
    return bytes(Encoder().encode([NeverIndexedHeaderTuple(*one) for one in (*own, *more)]))


def opened(stream: int, block: bytes) -> bytes:
    """Returns the frame that opens a stream."""
    return HeadersFrame(stream, block, flags=["END_HEADERS"]).serialize()


def unfinished(stream: int, block: bytes) -> bytes:
    """Returns a frame of headers that others are to follow."""
    return HeadersFrame(stream, block).serialize()


def continued(stream: int, block: bytes) -> bytes:
    """Returns a frame of headers that follows others, and that others are to follow."""
    return ContinuationFrame(stream, block).serialize()


def message(stream: int, says_bytes: int, data: bytes) -> bytes:
    """Returns the frame of a gRPC message that says how long it is, whatever it has."""
    return DataFrame(stream, b"\0" + says_bytes.to_bytes(4, "big") + data).serialize()


def reset(stream: int) -> bytes:
    """Returns the frame that gives a stream up."""
    return RstStreamFrame(stream, error_code=_CANCEL).serialize()
