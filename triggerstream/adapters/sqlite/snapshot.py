"""The stored sessions of a state directory, read in pages."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from triggerstream.adapters.sqlite import database
from triggerstream.adapters.sqlite.configurations import read_configurations
from triggerstream.adapters.sqlite.database import connect, decoder_of, locate
from triggerstream.core.errors import LogError, UsageError
from triggerstream.core.ids import AppId
from triggerstream.engine.configuration_cache import ConfigurationCache, rules_of
from triggerstream.engine.queries.snapshots import (
    PAGE,
    OnRead,
    SnapshotBegin,
    SnapshotPage,
)

_T = TypeVar("_T")


class SqliteSnapshot:
    """A :class:`triggerstream.engine.queries.snapshots.SessionSnapshot` of a state directory.

    It takes no lock. Each page is a transaction of its own, and the engine may go on between two: one
    transaction over all pages would let the write-ahead log grow until the last session was read.
    """

    number = 0

    def __init__(
        self, path: Path | str, *, app: AppId, configurations: ConfigurationCache | None = None
    ) -> None:
        self._file = locate(path)
        self._app = app
        self._configurations = configurations or ConfigurationCache()
        self._connection: sqlite3.Connection | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="triggerstream-snapshot")
        self.decoder = decoder_of(self._file)

    async def open(self, on_read: OnRead) -> SnapshotBegin:  # noqa: ARG002 - nothing is read yet
        return await self._read(self._begin)

    def _begin(self, connection: sqlite3.Connection) -> SnapshotBegin:
        meta = dict(connection.execute("SELECT name, value FROM meta"))
        if (found := meta.get("app", self._app)) != self._app:
            raise UsageError(f"{self._file}: belongs to the app `{found}`, not to `{self._app}`")
        (sessions,) = connection.execute("SELECT count(*) FROM sessions").fetchone()
        return SnapshotBegin(
            rules=rules_of(self._app, read_configurations(connection), self._configurations),
            offset=meta["offset"],
            log_end=database.end(connection),
            sessions=sessions,
        )

    async def pages(self) -> AsyncGenerator[SnapshotPage]:
        last = 0
        while True:
            last, page = await self._read(partial(_page, after=last))
            if not page.entries:
                return
            yield page

    async def close(self) -> None:
        """Close the database."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await asyncio.get_running_loop().run_in_executor(self._executor, connection.close)
        self._executor.shutdown()

    async def _read(self, read: Callable[[sqlite3.Connection], _T]) -> _T:
        """The result of ``read`` in a transaction of its own."""

        def run() -> _T:
            if self._connection is None:
                self._connection = connect(self._file, read_only=True)
            self._connection.execute("BEGIN")
            try:
                return read(self._connection)
            finally:
                self._connection.execute("ROLLBACK")

        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, run)
        except sqlite3.Error as exc:
            raise LogError(f"{self._file}: {exc}") from exc


def _page(connection: sqlite3.Connection, *, after: int) -> tuple[int, SnapshotPage]:
    """The number of the last row, and the sessions in the rows beyond ``after`` up to it."""
    rows = connection.execute(
        "SELECT number, id, CAST(state AS BLOB) FROM sessions WHERE number > ? ORDER BY number LIMIT ?",
        (after, PAGE),
    ).fetchall()
    (offset,) = connection.execute("SELECT value FROM meta WHERE name = 'offset'").fetchone()
    entries = [(session.encode(), state) for _, session, state in rows]
    return rows[-1][0] if rows else after, SnapshotPage(entries=entries, offset=offset)
