"""A TCP proxy with a delay and a rate, as a worker: the network that loopback is not.

This module knows nothing of what passes through.
"""

import argparse
import asyncio
import socket
import threading
from typing import Any

from benchmarks.worker import Worker, serve

_CHUNK = 1 << 16


class Proxy:
    """The caller's side of the proxy."""

    def __init__(self, worker: Worker, address: str) -> None:
        """Starts a proxy in front of an address."""
        self._worker = worker
        self.address: str = worker.ask(connect=address)["address"]

    def set(self, rtt_s: float, bytes_per_s: float = 0.0) -> None:
        """Sets delay and rate from now on: half of the round trip each way; 0 bytes per second is
        no limit.
        """
        self._worker.ask(delay_s=rtt_s / 2, bytes_per_s=bytes_per_s)


class _Link:
    """Carries both directions of every connection."""

    def __init__(self) -> None:
        self.delay_s = self.bytes_per_s = 0.0
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def answer(self, job: dict[str, Any]) -> dict[str, Any]:
        if "connect" in job:
            host, port = job["connect"].rsplit(":", 1)
            return {
                "address": asyncio.run_coroutine_threadsafe(
                    self._listen(host, int(port)), self._loop
                ).result()
            }
        self.delay_s, self.bytes_per_s = job["delay_s"], job["bytes_per_s"]
        return {}

    async def _listen(self, host: str, port: int) -> str:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there = await asyncio.open_connection(host, port)
            for end in (writer, there[1]):
                end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.gather(self._carry(reader, there[1]), self._carry(there[0], writer))

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carries one direction: what comes in leaves after the delay, and after what came before
        it.
        """
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        leaving = asyncio.create_task(self._leave(waiting, writer))
        free_at = 0.0
        try:
            while data := await reader.read(_CHUNK):
                now = self._loop.time()
                sent_s = len(data) / self.bytes_per_s if self.bytes_per_s else 0.0
                free_at = max(now, free_at) + sent_s
                waiting.put_nowait((free_at + self.delay_s, data))
            waiting.put_nowait((0.0, b""))
            await leaving
        except ConnectionError:
            leaving.cancel()
        writer.close()

    async def _leave(
        self, waiting: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter
    ) -> None:
        while True:
            due, data = await waiting.get()
            if not data:
                return
            if (early_s := due - self._loop.time()) > 0:
                await asyncio.sleep(early_s)
            writer.write(data)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.parse_args()
    serve(_Link().answer)
