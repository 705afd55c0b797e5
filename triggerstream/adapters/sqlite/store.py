"""The embedded engine's own tables: states, outbox, dead letters, configurations, its offset."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import IO, TypeVar

from triggerstream.adapters.clock import SystemClock
from triggerstream.adapters.directory_lock import lock_directory
from triggerstream.adapters.sqlite import database
from triggerstream.adapters.sqlite.clock_guard import check_clock
from triggerstream.adapters.sqlite.configurations import add_configurations, note_fold, read_configurations
from triggerstream.adapters.sqlite.database import NOT_LEFT_OUT, connect, locate, transaction
from triggerstream.adapters.sqlite.log import SqliteLog
from triggerstream.adapters.sqlite.outbox import add_decided, note_published, note_sent, read_outbox, settle
from triggerstream.adapters.sqlite.wake import POLL_S, WakeSignal
from triggerstream.core.errors import ClockError, LogError, UsageError
from triggerstream.core.ids import AppId, SessionId
from triggerstream.core.tasks import Rules
from triggerstream.engine.checkpoint import Checkpoint
from triggerstream.engine.clock_step import CLOCK_PAUSE_S
from triggerstream.engine.ports import Clock
from triggerstream.engine.private_files import make_private_directory
from triggerstream.engine.rows import (
    OutboxRow,
    PublishedRow,
    RefusedRow,
    RescheduledRow,
    Resumed,
    SentRow,
    Unmigrated,
)
from triggerstream.wire.records import Record

_T = TypeVar("_T")

_READ_BYTES = 8 * 1024 * 1024
"""A batch is cut beyond this, so that 1,000 of the largest events do not take 256 MiB."""
_ROWS = 32
"""Read at a time between two looks at the size."""
_PARAMETERS = 500
_LOCK_TIMEOUT_S = 60.0
"""Time without the write lock after which the engine ends. It is long, because a restart does not cure a
producer that hangs."""
_CHECKPOINT_PAGES = 2_000
"""16 MiB: above that a write-ahead log is moved into the database."""
_CACHE_KIB = 65_536

_UPSERT_SESSION = """
INSERT INTO sessions (id, state, due_us, config) VALUES (?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET state = excluded.state, due_us = excluded.due_us, config = excluded.config
"""


class SqliteStore:
    """A :class:`triggerstream.engine.ports.Store`: the engine's side of one state directory.

    It locks the directory while it is open.

    Reads are short and come from the system's cache, so they run in the event loop; a thread would cost more.
    Writes, which wait for the disk, run in one thread.
    """

    def __init__(
        self, path: Path | str, *, app: AppId, log: SqliteLog | None = None, clock: Clock | None = None
    ) -> None:
        self._file = locate(path)
        self._app = app
        self._log = log
        self._clock = clock or SystemClock()
        self._wake = WakeSignal(self._file)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="triggerstream-store")
        self._rung = asyncio.Event()
        self._woken = False
        self._owner: IO[str] | None = None
        self._connections: list[sqlite3.Connection] = []
        self._next_row = 1

    async def open(self) -> Resumed:
        """Lock the directory for this engine, until ``close`` or the end of the process.

        Raises:
            UsageError: another engine has it, it belongs to another app, or its file is not a triggerstream
                database.
        """
        try:
            make_private_directory(self._file.parent)
            self._owner = lock_directory(self._file)
        except OSError as exc:
            raise LogError(f"{self._file.parent}: cannot be used: {exc}") from exc
        try:
            resumed = await self._write(self._open)
        except BaseException:
            await self._close_connections()
            raise
        self._next_row = resumed.outbox + 1
        fd = self._wake.open(create=True)
        if fd is not None:
            asyncio.get_running_loop().add_reader(fd, self._on_wake)
        if self._log is not None:
            self._log.listen(self._rung.set)
        return resumed

    def _open(self) -> Resumed:
        self._writer = self._keep(connect(self._file, create=True))
        self._writer.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        self._writer.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._writer.execute("PRAGMA busy_timeout = 0")  # transaction() waits by itself
        self._reader = self._keep(connect(self._file, read_only=True))
        self._reader.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        with transaction(self._writer, timeout_s=_LOCK_TIMEOUT_S):
            self._writer.execute("INSERT OR IGNORE INTO meta VALUES ('app', ?)", (self._app,))
            note_fold(self._writer)
            meta = dict(self._writer.execute("SELECT name, value FROM meta"))
        if meta["app"] != self._app:
            raise UsageError(f"{self._file}: belongs to the app `{meta['app']}`, not to `{self._app}`")
        (last_row,) = self._reader.execute("SELECT coalesce(max(number), 0) FROM outbox").fetchone()
        return Resumed(
            offset=meta["offset"],
            configurations=read_configurations(self._reader),
            outbox=last_row,
            due={
                SessionId(session): due_us
                for session, due_us in self._reader.execute(
                    "SELECT id, due_us FROM sessions WHERE due_us IS NOT NULL"
                )
            },
            scanned=meta["scanned"],
        )

    async def read(self, offset: int, *, limit: int) -> Sequence[Record]:
        records: list[Record] = []
        size = 0
        try:
            rows = self._reader.execute(
                "SELECT offset, arrival_us, key, value, headers FROM log"
                " WHERE offset >= ? ORDER BY offset LIMIT ?",
                (offset, limit),
            )
            while size < _READ_BYTES and (some := rows.fetchmany(_ROWS)):
                records += map(database.to_record, some)
                size += sum(len(row[3]) for row in some if row[3] is not None)
            rows.close()
        except sqlite3.Error as exc:
            raise self._failed(exc) from exc
        return records

    async def end(self) -> int:
        return self._end()

    def _end(self) -> int:
        try:
            return database.end(self._reader)
        except sqlite3.Error as exc:
            raise self._failed(exc) from exc

    async def wait(self, offset: int) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._rung.clear()
            if self._woken or self._end() > offset:
                self._woken = False
                return
            poll = loop.call_later(POLL_S, self._rung.set)
            try:
                await self._rung.wait()
            finally:
                poll.cancel()

    def wake(self) -> None:
        self._woken = True
        self._rung.set()

    def _on_wake(self) -> None:
        self._wake.clear()
        self._rung.set()

    async def load(self, expected: Collection[SessionId]) -> Callable[[SessionId], bytes | None]:
        states: dict[SessionId, bytes | None] = dict.fromkeys(expected)
        rest = iter(states)
        try:
            while some := tuple(islice(rest, _PARAMETERS)):
                marks = ",".join("?" * len(some))
                query = f"SELECT id, state FROM sessions WHERE id IN ({marks})"  # noqa: S608 - only marks
                found = self._reader.execute(query, some).fetchall()
                states.update(found)
        except sqlite3.Error as exc:
            raise self._failed(exc) from exc

        def state_of(session: SessionId) -> bytes | None:
            return states[session] if session in states else self._load(session)

        return state_of

    def _load(self, session: SessionId) -> bytes | None:
        try:
            row = self._reader.execute("SELECT state FROM sessions WHERE id = ?", (session,)).fetchone()
        except sqlite3.Error as exc:
            raise self._failed(exc) from exc
        return None if row is None else row[0]

    async def commit(self, checkpoint: Checkpoint, *, sent: Sequence[SentRow] = ()) -> int:
        first = self._next_row
        await self._write(lambda: self._commit(checkpoint, sent, first))
        self._next_row = first + len(checkpoint.decided)
        if checkpoint.rehomed:
            self._rung.set()
        return first

    def _commit(self, checkpoint: Checkpoint, sent: Sequence[SentRow], first: int) -> None:
        with transaction(self._writer, timeout_s=_LOCK_TIMEOUT_S):
            if sent:
                note_sent(self._writer, sent)
            if checkpoint.states:
                self._put_states(checkpoint)
            if checkpoint.retired:
                self._put_retired(checkpoint)
            if checkpoint.decided:
                add_decided(self._writer, checkpoint.decided, first)
            if checkpoint.settled:
                settle(self._writer, checkpoint.settled)
            execute = self._writer.execute
            for letter in checkpoint.dead_letters:
                record, left_out = letter.record, letter.left_out
                # The bytes of a record that became a dead letter are in the log.
                key, value = (None, None) if left_out is None else (record.key, record.value)
                execute(
                    "INSERT OR IGNORE INTO dead_letters (at_us, offset, left_out, key, value, reason)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (
                        record.arrival_us,
                        record.offset,
                        NOT_LEFT_OUT if left_out is None else left_out,
                        key,
                        value,
                        letter.reason,
                    ),
                )
            if checkpoint.rules is not None:
                add_configurations(self._writer, checkpoint.rules)
            if checkpoint.rehomed:
                database.append(self._writer, checkpoint.rehomed, self._clock.now_us())
            execute("UPDATE meta SET value = ? WHERE name = 'offset'", (checkpoint.offset,))

    def _put_states(self, checkpoint: Checkpoint) -> None:
        self._writer.executemany(
            _UPSERT_SESSION,
            [(session, s.state, s.due_us, s.config) for session, s in checkpoint.states.items()],
        )

    def _put_retired(self, checkpoint: Checkpoint) -> None:
        entries = checkpoint.retired.items()
        self._writer.executemany(
            "DELETE FROM retired WHERE session = ? AND task = ? AND number = ?",
            [key for key, entry in entries if entry is None],
        )
        self._writer.executemany(
            "INSERT OR REPLACE INTO retired (session, task, number, entry) VALUES (?, ?, ?, ?)",
            [(*key, entry) for key, entry in entries if entry is not None],
        )

    async def sent(self, sent: Sequence[SentRow]) -> None:
        def write() -> None:
            with transaction(self._writer, timeout_s=_LOCK_TIMEOUT_S):
                note_sent(self._writer, sent)

        await self._write(write)

    async def published(self, published: Sequence[PublishedRow]) -> None:
        def write() -> None:
            with transaction(self._writer, timeout_s=_LOCK_TIMEOUT_S):
                note_published(self._writer, published)

        await self._write(write)

    async def refuse(self, refused: RefusedRow) -> None:
        def write() -> None:
            with transaction(self._writer, timeout_s=_LOCK_TIMEOUT_S):
                row = self._writer.execute(
                    "DELETE FROM outbox WHERE number = ? RETURNING session, value", (refused.number,)
                ).fetchone()
                if row is None:
                    return
                self._writer.execute(
                    "INSERT INTO dead_letters (at_us, key, value, reason) VALUES (?, ?, ?, ?)",
                    (self._clock.now_us(), row[0].encode(), row[1], refused.reason),
                )
                if refused.failed is not None:
                    now_us = check_clock(self._writer, self._clock)
                    database.append(self._writer, [refused.failed], now_us)

        while True:
            try:
                await self._write(write)
                break
            except ClockError:
                await self._clock.sleep(CLOCK_PAUSE_S)
        self._rung.set()

    async def outbox(self, *, after: int, limit: int) -> Sequence[OutboxRow]:
        try:
            return read_outbox(self._reader, after=after, limit=limit)
        except sqlite3.Error as exc:
            raise self._failed(exc) from exc

    async def unmigrated(
        self, config: int, *, after: tuple[int, int] | None, limit: int
    ) -> Sequence[Unmigrated]:
        try:
            rows = self._reader.execute(
                "SELECT config, number, id, state FROM sessions"
                " WHERE config < ? AND (config, number) > (?, ?) ORDER BY config, number LIMIT ?",
                (config, *(after or (-2, 0)), limit),
            ).fetchall()
        except sqlite3.Error as exc:
            raise self._failed(exc) from exc
        return [
            Unmigrated(place=(met, number), session=SessionId(session), state=state)
            for met, number, session, state in rows
        ]

    async def reschedule(self, sessions: Sequence[RescheduledRow], *, scanned: int | None = None) -> None:
        def write() -> None:
            with transaction(self._writer, timeout_s=_LOCK_TIMEOUT_S):
                self._writer.executemany(
                    "UPDATE sessions SET due_us = ?, config = ? WHERE id = ?",
                    [(one.due_us, one.config, one.session) for one in sessions],
                )
                if scanned is not None:
                    self._writer.execute("UPDATE meta SET value = ? WHERE name = 'scanned'", (scanned,))

        await self._write(write)

    async def forget(self, rules: Rules) -> Rules:
        def write() -> Rules:
            (oldest,) = self._writer.execute("SELECT min(config) FROM sessions").fetchone()
            kept = rules.forget(rules.current.offset if oldest is None else oldest)
            if kept is not rules:
                with transaction(self._writer, timeout_s=_LOCK_TIMEOUT_S):
                    first = kept.history[0].offset
                    self._writer.execute("DELETE FROM configurations WHERE offset < ?", (first,))
            return kept

        return await self._write(write)

    async def close(self) -> None:
        """Close and unlock the directory, so that another engine may open it."""
        if self._owner is not None:
            fd = self._wake.open()
            if fd is not None:
                asyncio.get_running_loop().remove_reader(fd)
            self._wake.close()
            await self._close_connections()
        self._executor.shutdown()

    async def _close_connections(self) -> None:
        await self._write(self._disconnect)
        if self._owner is not None:
            self._owner.close()
            self._owner = None

    def _keep(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        self._connections.append(connection)
        return connection

    def _disconnect(self) -> None:
        while self._connections:
            self._connections.pop().close()

    async def _write(self, write: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, write)
        except sqlite3.Error as exc:
            raise self._failed(exc) from exc

    def _failed(self, exc: sqlite3.Error) -> LogError:
        return LogError(f"{self._file}: {exc}")
