"""Archive of a state directory: its log, states, configurations and outbox."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, TypeVar

from triggerstream.adapters.directory_lock import lock_directory
from triggerstream.adapters.sqlite import database
from triggerstream.adapters.sqlite.configurations import add_configurations, read_configurations
from triggerstream.adapters.sqlite.database import connect, locate, transaction
from triggerstream.core import tasks
from triggerstream.core.errors import DecodeError, LogError, UsageError
from triggerstream.core.ids import AppId, CommandId, SessionId, TaskName
from triggerstream.engine.checkpoint import Decided
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.engine.replay.archive import DurableDecisions
from triggerstream.engine.replay.refold import Kept, Refolded
from triggerstream.wire import commands
from triggerstream.wire.records import Record
from triggerstream.wire.retired import RetiredKey, encode_key

_T = TypeVar("_T")

_LOCK_TIMEOUT_S = 60.0
_PIECE = 1_000
"""Records that are folded at once."""


class SqliteArchive:
    """An :class:`triggerstream.engine.replay.archive.Archive` of the only partition.

    All data is in one database, so it is replaced in one transaction. The log determines which commands are
    open. A missing row of the outbox is restored, and handed over again under the same id. A row that is not
    settled is deleted if the log has its outcome, or no such command. Waiting revocations stay.
    """

    number = 0
    partitions = 1
    control = None

    def __init__(self, path: Path | str, *, app: AppId) -> None:
        self._file = locate(path)
        self.address = str(self._file.parent)
        self.app = app
        self.configurations = ConfigurationCache()
        self._connection: sqlite3.Connection | None = None
        self._owner: IO[str] | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="triggerstream-replay")

    async def fence(self) -> None:
        """Lock the directory, so that no engine starts on it.

        Raises:
            UsageError: an engine runs on it.
        """
        if self._owner is not None:
            return
        try:
            self._owner = lock_directory(self._file)
        except OSError as exc:
            raise LogError(f"{self._file.parent}: cannot be used: {exc}") from exc

    async def kept(self) -> Kept:
        """The data stored in the database now."""
        return await self._run(partial(_kept, file=self._file, app=self.app))

    async def records(self, begin: int, end: int) -> AsyncGenerator[Sequence[Record]]:
        while begin < end:
            records = await self._run(partial(_records, begin=begin, end=end))
            if not records:
                return
            yield records
            begin = records[-1].offset + 1

    async def since(self, arrival_us: int) -> tuple[int, int]:
        """The first offset of records of this time or later, and the end offset now."""
        return await self._run(partial(_since, arrival_us=arrival_us))

    async def decided(self, arrival_us: int) -> DurableDecisions:  # noqa: ARG002 - the offset never lags
        """No decisions, because the checkpoint is in the same database."""
        return DurableDecisions()

    async def replace(self, refolded: Refolded, *, offset: int) -> None:
        """Replace the stored data by the result of the log, in one transaction."""

        def write(connection: sqlite3.Connection) -> None:
            with transaction(connection, timeout_s=_LOCK_TIMEOUT_S):
                _replace(connection, refolded, offset)

        await self._run(write)

    async def close(self) -> None:
        """Close the database, and unlock the directory."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await asyncio.get_running_loop().run_in_executor(self._executor, connection.close)
        self._executor.shutdown()
        if self._owner is not None:
            self._owner.close()
            self._owner = None

    async def _run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        def run() -> _T:
            if self._connection is None:
                self._connection = connect(self._file, read_only=self._owner is None)
            return work(self._connection)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, run)
        except sqlite3.Error as exc:
            raise LogError(f"{self._file}: {exc}") from exc


def _records(connection: sqlite3.Connection, *, begin: int, end: int) -> list[Record]:
    rows = connection.execute(
        "SELECT offset, arrival_us, key, value, headers FROM log"
        " WHERE offset >= ? AND offset < ? ORDER BY offset LIMIT ?",
        (begin, end, _PIECE),
    )
    return [database.to_record(row) for row in rows]


def _since(connection: sqlite3.Connection, *, arrival_us: int) -> tuple[int, int]:
    end = database.end(connection)
    query = "SELECT coalesce(min(offset), ?) FROM log WHERE arrival_us >= ?"
    (begin,) = connection.execute(query, (end, arrival_us)).fetchone()
    return begin, end


def _kept(connection: sqlite3.Connection, *, file: Path, app: AppId) -> Kept:
    connection.execute("BEGIN")  # one consistent snapshot
    try:
        meta = dict(connection.execute("SELECT name, value FROM meta"))
        if (found := meta.get("app", app)) != app:
            raise UsageError(f"{file}: belongs to the app `{found}`, not to `{app}`")
        end = database.end(connection)
        (begin,) = connection.execute("SELECT coalesce(min(offset), ?) FROM log", (end,)).fetchone()
        states: dict[bytes, bytes] = {}
        due: dict[bytes, int] = {}
        for session, state, due_us in connection.execute(
            "SELECT id, CAST(state AS BLOB), due_us FROM sessions"
        ):
            states[session.encode()] = state
            if due_us is not None:
                due[session.encode()] = due_us
        return Kept(
            offset=meta["offset"],
            log_begin=begin,
            log_end=end,
            states=states,
            retired={
                encode_key(RetiredKey(SessionId(session), TaskName(task), number)): entry
                for session, task, number, entry in connection.execute(
                    "SELECT session, task, number, CAST(entry AS BLOB) FROM retired"
                )
            },
            configurations=read_configurations(connection),
            scanned=meta["scanned"],
            due=due,
            commands=frozenset(_waiting(connection)) | _refused(connection),
            fold=meta.get("fold", 1),
        )
    finally:
        connection.execute("ROLLBACK")


def _waiting(connection: sqlite3.Connection) -> list[CommandId]:
    return [CommandId(row[0]) for row in connection.execute("SELECT command FROM outbox WHERE NOT revoke")]


def _refused(connection: sqlite3.Connection) -> frozenset[CommandId]:
    """The commands that could not be handed over, each with the event that reports this in the log."""
    found = set()
    for (value,) in connection.execute("SELECT value FROM dead_letters WHERE offset IS NULL"):
        try:
            found.add(commands.decode(value).id)
        except DecodeError:
            continue
    return frozenset(found)


def _replace(connection: sqlite3.Connection, refolded: Refolded, offset: int) -> None:
    connection.execute("DELETE FROM sessions")
    connection.executemany(
        "INSERT INTO sessions (id, state, due_us, config) VALUES (?, ?, ?, ?)",
        ((session, one.state, one.due_us, one.config) for session, one in refolded.states.items()),
    )
    connection.execute("DELETE FROM retired")
    connection.executemany(
        "INSERT INTO retired (session, task, number, entry) VALUES (?, ?, ?, ?)",
        ((*key, entry) for key, entry in refolded.retired.items()),
    )
    connection.execute("DELETE FROM configurations")
    add_configurations(connection, refolded.rules)
    connection.execute("UPDATE meta SET value = ? WHERE name = 'offset'", (offset,))
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('fold', ?)", (tasks.FOLD_VERSION,))
    connection.execute(
        "UPDATE meta SET value = min(value, ?) WHERE name = 'scanned'", (refolded.rules.current.offset,)
    )
    _replace_outbox(connection, refolded.open)


def _replace_outbox(connection: sqlite3.Connection, open_: Mapping[CommandId, Decided]) -> None:
    known = set(_waiting(connection))
    # A settled row exists because it was not handed over yet, and it still must be.
    connection.executemany(
        "DELETE FROM outbox WHERE command = ? AND NOT revoke AND NOT settled",
        [(command,) for command in known if command not in open_],
    )
    connection.executemany(
        "UPDATE outbox SET value = ?, session = ?, settled = 0 WHERE command = ? AND NOT revoke",
        [(open_[one].value, open_[one].decision.session, one) for one in known if one in open_],
    )
    missing = open_.keys() - known - _refused(connection)
    (last,) = connection.execute("SELECT coalesce(max(number), 0) FROM outbox").fetchone()
    connection.executemany(
        "INSERT INTO outbox (number, command, revoke, session, value) VALUES (?, ?, 0, ?, ?)",
        [
            (number, item.decision.id, item.decision.session, item.value)
            for number, item in enumerate(
                (item for command, item in open_.items() if command in missing), last + 1
            )
        ],
    )
