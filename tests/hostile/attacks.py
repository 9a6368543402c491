"""What a hostile caller does to a port that speaks HTTP/2, bounded in count and time.

Each attack returns the connections that it leaves open.
"""

import asyncio
import random
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from hyperframe.frame import DataFrame, Frame, PingFrame, SettingsFrame

from tests.hostile.connection import (
    PREFACE,
    Connection,
    continued,
    headers,
    message,
    opened,
    reset,
    unfinished,
)

CONNECTIONS, FLOODS, STREAMS = 100, 4, 1000
FLOOD_S = 1.0
_MOST_FRAME_BYTES = 16_000
_MIB = 1 << 20
# A header of 3000 bytes that is to be remembered, and the byte that names it again.
_REMEMBERED = b"\x40\x06x-long\x7f\xb9\x16" + b"y" * 3000
_AGAIN = b"\xbe"
# A header that is not remembered.
_LITERAL = b"\x00\x01x\x64" + b"y" * 100


@dataclass(frozen=True)
class Port:
    """A port, and a method that is called there."""

    address: str
    path: str
    tls: ssl.SSLContext | None = None

    async def connect(self, count: int, *, greets: bool = True) -> list[Connection]:
        made = [await Connection.open(self.address, self.tls) for _ in range(count)]
        for connection in made if greets else ():
            await connection.greet()
        return made


Attack = Callable[[Port], Awaitable[list[Connection]]]


async def silence(port: Port) -> list[Connection]:
    """Connects and says nothing."""
    return await port.connect(CONNECTIONS, greets=False)


async def preface_by_bytes(port: Port) -> list[Connection]:
    """Sends the first words a byte at a time, and not the last of them."""
    connections = await port.connect(CONNECTIONS, greets=False)
    for byte in PREFACE[:-4]:
        for connection in connections:
            await connection.send(bytes([byte]))
        await asyncio.sleep(0.01)
    return connections


async def no_settings(port: Port) -> list[Connection]:
    """Sends the first words and nothing after them."""
    connections = await port.connect(CONNECTIONS, greets=False)
    for connection in connections:
        await connection.send(PREFACE)
    return connections


async def garbage(port: Port) -> list[Connection]:
    """Sends random bytes, with and without the right first words."""
    draw = random.Random(7)
    connections = await port.connect(CONNECTIONS, greets=False)
    for i, connection in enumerate(connections):
        await connection.send((PREFACE if i % 2 else b"") + draw.randbytes(1 << (i % 16)))
    return connections


async def garbage_below_tls(port: Port) -> list[Connection]:
    """Sends random bytes where a TLS handshake is due."""
    return await garbage(replace(port, tls=None))


async def headers_without_end(port: Port) -> list[Connection]:
    """Begins the headers of a call on each connection, and never ends them."""
    connections = await port.connect(CONNECTIONS)
    for connection in connections:
        await connection.send(unfinished(1, headers(port.path)))
    return connections


async def messages_without_end(port: Port) -> list[Connection]:
    """Begins long messages, and sends a byte of them now and then."""
    connections = await port.connect(CONNECTIONS)
    for connection in connections:
        await connection.send(opened(1, headers(port.path)) + message(1, 16 * _MIB, b"\x0a"))
    for _ in range(5):
        await asyncio.sleep(0.05)
        for connection in connections:
            await connection.send(DataFrame(1, b"\0").serialize())
    return connections


async def lengths_that_lie(port: Port) -> list[Connection]:
    """Announces four gigabytes, or less than follows."""
    connections = await port.connect(CONNECTIONS)
    for stream, says_bytes in ((1, 2**32 - 1), (3, 3)):
        for i, connection in enumerate(connections):
            block = headers(port.path)
            await connection.send(opened(stream, block) + message(stream, says_bytes, bytes(i)))
    return connections


async def headers_by_the_megabyte(port: Port) -> list[Connection]:
    """Sends calls with more headers than anybody needs."""
    connections = await port.connect(FLOODS)
    block = headers(port.path, *((f"x-{i}", "y" * 100) for i in range(10_000)))
    for connection in connections:
        await connection.send(unfinished(1, block[:_MOST_FRAME_BYTES]))
        for at in range(_MOST_FRAME_BYTES, len(block), _MOST_FRAME_BYTES):
            await connection.send(continued(1, block[at : at + _MOST_FRAME_BYTES]))
    return connections


async def compressed_headers(port: Port) -> list[Connection]:
    """Names one long header thousands of times, a byte each."""
    connections = await port.connect(FLOODS)
    for connection in connections:
        await connection.send(opened(1, headers(port.path) + _REMEMBERED))
        for stream in range(3, 43, 2):
            await connection.send(opened(stream, headers(port.path) + _AGAIN * 10_000))
    return connections


async def idle_streams(port: Port) -> list[Connection]:
    """Opens a thousand streams on one connection and sends nothing on them."""
    (connection,) = await port.connect(1)
    for stream in range(1, 2 * STREAMS, 2):
        await connection.send(opened(stream, headers(port.path)))
    return [connection]


async def idle_streams_apart(port: Port) -> list[Connection]:
    """Opens a thousand connections with an idle stream each."""
    connections = await port.connect(STREAMS)
    for connection in connections:
        await connection.send(opened(1, headers(port.path)))
    return connections


async def _flood(pieces: Callable[[int], bytes], first: bytes, port: Port) -> list[Connection]:
    """Sends on all connections, as fast as they take it, what `pieces` makes of a rising number."""
    connections = await port.connect(FLOODS)
    for connection in connections:
        await connection.send(first)
    until, number = time.monotonic() + FLOOD_S, 0
    while time.monotonic() < until:
        for connection in connections:
            await connection.send(pieces(number))
        number += 1
        await asyncio.sleep(0.01)
    return connections


def _flooding(frame: Frame) -> Attack:
    """Returns a flood of one small frame, on a stream that is open."""

    async def attack(port: Port) -> list[Connection]:
        pieces = frame.serialize() * 200
        return await _flood(lambda _: pieces, opened(1, headers(port.path)), port)

    return attack


async def continuations(port: Port) -> list[Connection]:
    """Goes on with headers that never end."""
    piece = continued(1, _LITERAL * 100)
    return await _flood(lambda _: piece, unfinished(1, headers(port.path)), port)


async def resets(port: Port) -> list[Connection]:
    """Opens streams and resets them at once, some ten thousand a second."""

    def pairs(number: int) -> bytes:
        streams = range(100 * number + 1, 100 * number + 101, 2)
        return b"".join(opened(one, headers(port.path)) + reset(one) for one in streams)

    return await _flood(pairs, b"", port)


ATTACKS: dict[str, Attack] = {
    "silence": silence,
    "a preface by bytes": preface_by_bytes,
    "no settings": no_settings,
    "garbage": garbage,
    "garbage below TLS": garbage_below_tls,
    "headers without end": headers_without_end,
    "messages without end": messages_without_end,
    "lengths that lie": lengths_that_lie,
    "headers by the megabyte": headers_by_the_megabyte,
    "compressed headers": compressed_headers,
    "idle streams on one connection": idle_streams,
    "idle streams on many connections": idle_streams_apart,
    "continuations": continuations,
    "resets": resets,
    "pings": _flooding(PingFrame(0, bytes(8))),
    "settings": _flooding(SettingsFrame(0)),
    "empty data": _flooding(DataFrame(1)),
}
