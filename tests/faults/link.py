"""A TCP link that a test can slow down, hold up, half-close, cut, or lead to another address."""

import asyncio
import threading
from typing import Any

_CHUNK_BYTES = 1 << 16


class Link:
    """Carries connections from its own address to another one, in a thread of its own."""

    def __init__(self, to: str) -> None:
        self.to = to
        """Where new connections lead."""
        self.delay_s = 0.0
        self.refuses = False
        """Whether new connections are closed at once."""
        self._passes = asyncio.Event()
        self._passes.set()
        self._loop = asyncio.new_event_loop()
        self._writers: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server: asyncio.Server = self._run(self._listen())
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def hold(self) -> None:
        """Lets nothing arrive until `release`, as when a network is gone for a while."""
        self._loop.call_soon_threadsafe(self._passes.clear)

    def release(self) -> None:
        """Lets everything arrive that was held."""
        self._loop.call_soon_threadsafe(self._passes.set)

    def cut(self) -> None:
        """Breaks all connections off."""
        self._run(self._break(half=False))

    def half_close(self) -> None:
        """Closes the direction to the service; the other one stays open and carries nothing new."""
        self._run(self._break(half=True))

    def close(self) -> None:
        """Breaks all connections off, those that are still being made too, and ends the thread."""
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        self.refuses = True
        # asyncio's own tasks, which accept, fail where the server is closed before they ran.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in self._connections:
                task.cancel()
            await asyncio.wait(others)
        self._server.close()
        await self._break(half=False)

    async def _break(self, half: bool) -> None:
        for there, back in self._writers:
            if half and there.can_write_eof() and not there.is_closing():
                there.write_eof()
            elif not half:
                there.transport.abort()
                back.transport.abort()
        if not half:
            self._writers.clear()

    async def _listen(self) -> asyncio.Server:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._connect(reader, writer))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
            # A task that is cancelled before it begins closes nothing itself.
            task.add_done_callback(lambda _: writer.transport.abort())

        return await asyncio.start_server(accept, "127.0.0.1", 0)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self.to.rsplit(":", 1)
        try:
            if self.refuses:
                raise ConnectionRefusedError
            answers, there = await asyncio.open_connection(host, int(port))
            self._writers.append((there, writer))
            await asyncio.gather(self._carry(reader, there), self._carry(answers, writer))
        except OSError:
            return

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(_CHUNK_BYTES):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self._passes.wait()
                if not writer.is_closing():
                    writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()
