"""A way to a broker that can be made slow or silent: bytes from the broker arrive late, or not at all."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.support.ports import HOST

_CHUNK = 65_536


@dataclass(eq=False)
class Proxy:
    """Passes connections to ``port`` on. Answers are delayed by ``delay_s``, independent of their size."""

    port: int
    delay_s: float = 0.0
    seen: Callable[[bytes], None] = lambda _sent: None
    """Called with what clients send."""
    _speaks: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def silence(self) -> None:
        """Hold back all that the broker says from now on. Connections stay, and new ones are taken."""
        self._speaks.clear()

    def speak(self) -> None:
        """Pass on what the broker says, and what was held back."""
        self._speaks.set()

    async def serve(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with suppress(ConnectionError):
            broker, requests = await asyncio.open_connection(HOST, self.port)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._there(client, requests))
                    group.create_task(self._back(broker, answers))
            except* ConnectionError:
                pass
            finally:
                requests.close()
                answers.close()
        self._tasks.discard(task)

    async def _there(self, client: asyncio.StreamReader, requests: asyncio.StreamWriter) -> None:
        while sent := await client.read(_CHUNK):
            self.seen(sent)
            requests.write(sent)
            await requests.drain()
        requests.close()

    async def _back(self, broker: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        late: deque[tuple[float, bytes]] = deque()
        arrived = asyncio.Event()

        async def deliver() -> None:
            while True:
                while not late:
                    arrived.clear()
                    await arrived.wait()
                due, said = late.popleft()
                await asyncio.sleep(due - loop.time())
                await self._speaks.wait()
                if not said:
                    return answers.close()
                answers.write(said)
                await answers.drain()

        async with asyncio.TaskGroup() as group:
            group.create_task(deliver())
            while True:
                said = await broker.read(_CHUNK)
                late.append((loop.time() + self.delay_s, said))
                arrived.set()
                if not said:
                    return

    async def close(self) -> None:
        """End every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def proxy(*, listening: int, port: int) -> AsyncIterator[Proxy]:
    """A proxy at the port ``listening`` to the broker at ``port``, at first as if it were not there."""
    made = Proxy(port)
    made.speak()
    server = await asyncio.start_server(made.serve, HOST, listening)
    try:
        yield made
    finally:
        server.close()
        await made.close()
        await server.wait_closed()
