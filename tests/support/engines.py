"""An embedded engine in a thread of the test's own process, on a real database."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from triggerstream import bootstrap
from triggerstream.adapters.memory import MemoryDispatcher
from triggerstream.core.commands import Command
from triggerstream.core.events import Body
from triggerstream.core.ids import AppId
from triggerstream.engine.embedded.engine import EmbeddedEngine
from triggerstream.engine.ports import Log
from triggerstream.settings import SqliteAddress
from triggerstream.wire.events import encode
from triggerstream.wire.records import NewRecord

T = TypeVar("T")


class RunningEngine:
    """Folds the database in ``directory``; what it hands over is kept in ``dispatcher``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.dispatcher = MemoryDispatcher()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._engine, self._log = self._run(self._start())
        self._running = asyncio.run_coroutine_threadsafe(self._engine.run(), self._loop)
        self._run(self._engine.ready())

    async def _start(self) -> tuple[EmbeddedEngine, Log]:
        return bootstrap.embedded(
            SqliteAddress(path=self.directory / "triggerstream.db"),
            app=AppId("triggerstream"),
            dispatcher=self.dispatcher,
            on_checkpoint=lambda _: None,
        )

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def apply(self, text: str) -> None:
        """Bring a tasks file into force."""
        self._run(self._engine.apply(text))

    def append(self, session: str, *bodies: Body) -> None:
        """Append events of a session, and wait until they are folded."""
        self.append_raw([NewRecord(key=session.encode(), value=encode(body)) for body in bodies])

    def append_raw(self, records: Sequence[NewRecord]) -> None:
        """Append records, and wait until they are folded."""

        async def work() -> None:
            await self._log.append(records)
            await self._engine.reached(self._engine.offset + await self._engine.lag())

        self._run(work())

    def commands(self, count: int) -> list[Command]:
        """The first ``count`` commands that were handed over."""
        decisions = self._run(self.dispatcher.wait_for(count))
        return [decision for decision in decisions if isinstance(decision, Command)]

    def stop(self) -> None:
        """End it in good order."""
        self._loop.call_soon_threadsafe(self._engine.stop)
        self._running.result(20)
        self._run(self._log.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def running_engine(directory: Path, tasks: str | None = None) -> Iterator[RunningEngine]:
    """An engine on ``directory``, with ``tasks`` in force."""
    engine = RunningEngine(directory)
    try:
        if tasks is not None:
            engine.apply(tasks)
        yield engine
    finally:
        engine.stop()
