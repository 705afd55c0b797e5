"""The log: a table of events, to which any number of processes append at once."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from triggerstream.adapters.clock import SystemClock
from triggerstream.adapters.sqlite.clock_guard import check_clock
from triggerstream.adapters.sqlite.database import append, connect, locate, transaction
from triggerstream.adapters.sqlite.wake import WakeSignal
from triggerstream.core.errors import LogError
from triggerstream.core.ids import SessionId
from triggerstream.engine.ports import Clock
from triggerstream.wire.records import NewRecord

LOCK_TIMEOUT_S = 10.0
"""Maximum time that an append waits for the write lock. Others hold it for milliseconds, unless stopped."""
_PRODUCER_CHECKPOINT_PAGES = 32_768
"""256 MiB. The engine moves the write-ahead log into the database; a producer only where no engine runs."""


class _ThreadConnection:
    """The connection of a thread in one process. It is closed when it is deleted, as when the thread ends."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.pid = os.getpid()

    def close(self) -> None:
        """Close it, but not in a process that has inherited it: that could take the parent's locks."""
        if self.pid == os.getpid():
            self.connection.close()

    __del__ = close


class SqliteLog:
    """Log and outcome log of one state directory.

    Concurrent appends share one transaction. Each process and thread that reports has its own connection. A
    connection that was inherited through a fork is never used.
    """

    def __init__(self, path: Path | str, *, create: bool = False, clock: Clock | None = None) -> None:
        self._file = locate(path)
        self._create = create
        self._clock = clock or SystemClock()
        self._wake = WakeSignal(self._file)
        self._listeners: list[Callable[[], None]] = []
        self._local = threading.local()
        self._inherited: list[_ThreadConnection] = []
        self._waiting: list[tuple[Sequence[NewRecord], asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="triggerstream-log")

    def listen(self, appended: Callable[[], None]) -> None:
        """Call ``appended`` in the event loop after each transaction of this object."""
        self._listeners.append(appended)

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Append ``records`` in order, all or none. They are durable when this returns.

        Raises:
            ClockError: this machine's clock was set far forward; nothing is appended.
            LogError: not known to be durable.
            UsageError: the directory holds no database, or a newer one.
        """
        if not records:
            return
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((records, done))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        await done

    async def _write_all(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                records = [record for part, _ in group for record in part]
                try:
                    await loop.run_in_executor(self._executor, self._write, records)
                except Exception as exc:  # noqa: BLE001 - each of those who wait raises it
                    for _, done in group:
                        if not done.done():
                            done.set_exception(exc)
                    continue
                for _, done in group:
                    if not done.done():
                        done.set_result(None)
                for appended in self._listeners:
                    appended()
        finally:
            self._writing = None

    def report(self, session: SessionId, value: bytes) -> None:
        """Append one outcome event. It is durable when this returns.

        Raises:
            ClockError: this machine's clock was set far forward; nothing is appended.
            LogError: not known to be durable.
            UsageError: the directory holds no database, or a newer one.
        """
        self._write([NewRecord(key=session.encode(), value=value)])

    def _write(self, records: Sequence[NewRecord]) -> None:
        connection = self._connection()
        try:
            with transaction(connection, timeout_s=LOCK_TIMEOUT_S):
                append(connection, records, check_clock(connection, self._clock))
        except sqlite3.Error as exc:
            raise LogError(f"{self._file}: the log did not take {len(records)} events: {exc}") from exc
        self._wake.send()

    def _connection(self) -> sqlite3.Connection:
        known: _ThreadConnection | None = getattr(self._local, "own", None)
        if known is not None:
            if known.pid == os.getpid():
                return known.connection
            self._inherited.append(known)  # it stays open
        connection = connect(self._file, create=self._create)
        connection.execute(f"PRAGMA wal_autocheckpoint = {_PRODUCER_CHECKPOINT_PAGES}")
        connection.execute("PRAGMA busy_timeout = 0")  # transaction() waits by itself
        self._local.own = _ThreadConnection(connection)
        return connection

    async def close(self) -> None:
        """Finish appends, then close the database."""
        while self._writing is not None:
            await asyncio.wait([self._writing])
        await asyncio.get_running_loop().run_in_executor(self._executor, self._disconnect)
        self._executor.shutdown()
        self._disconnect()
        self._wake.close()

    def _disconnect(self) -> None:
        known: _ThreadConnection | None = getattr(self._local, "own", None)
        if known is not None and known.pid == os.getpid():
            known.close()
            del self._local.own
