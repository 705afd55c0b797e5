"""An index of sessions in a separate file. It is deleted whenever it may be wrong."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from triggerstream.core.errors import LogError
from triggerstream.core.ids import SessionId
from triggerstream.core.listing import DuePlace
from triggerstream.engine.private_files import make_private_directory, make_private_file
from triggerstream.engine.queries.index import NO_TIMERS

_TABLES = """
CREATE TABLE stamp (version INTEGER NOT NULL, text TEXT NOT NULL);
CREATE TABLE tags (number INTEGER PRIMARY KEY, tag TEXT NOT NULL UNIQUE);
CREATE TABLE sessions (id TEXT PRIMARY KEY, tags TEXT NOT NULL, due INTEGER) WITHOUT ROWID;
CREATE INDEX due ON sessions (due, id) WHERE due IS NOT NULL;
CREATE TABLE entries (tag INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY (tag, id)) WITHOUT ROWID;
"""
_VERSION = 3
_CACHE_KIB = 16_384
"""For all indexes of the process together."""
_LEAST_CACHE_KIB = 256
_BEYOND = "\U0010ffff"


class SqliteIndex:
    """A :class:`triggerstream.engine.queries.index.Index`, not synced to disk, because it can be rebuilt.

    ``of``: the number of indexes in the process, which share the memory for caches.
    """

    def __init__(self, path: Path, *, of: int = 1) -> None:
        self._path = path
        self._cache_kib = max(_CACHE_KIB // of, _LEAST_CACHE_KIB)
        self._numbers: dict[str, int] = {}
        self._connection: sqlite3.Connection | None = None

    def resume(self, stamp: str) -> bool:
        try:
            connection = self._open()
            found = connection.execute("SELECT version, text FROM stamp").fetchall()
            if found != [(_VERSION, stamp)]:
                self.clear()
                return False
            # On the disk before anything changes, so that the index is rebuilt after a crash.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("DELETE FROM stamp")
            connection.execute("PRAGMA synchronous = OFF")
            self._numbers = dict(connection.execute("SELECT tag, number FROM tags"))
        except sqlite3.Error:
            self.clear()
            return False
        return True

    def put(
        self, entries: Sequence[tuple[SessionId, frozenset[str]]], due: Mapping[SessionId, int] = NO_TIMERS
    ) -> None:
        try:
            connection = self._open()
            connection.execute("BEGIN")
            self._put(connection, entries, due)
            connection.execute("COMMIT")
        except sqlite3.Error as exc:
            raise self._failed(exc) from exc

    def _put(
        self,
        connection: sqlite3.Connection,
        entries: Sequence[tuple[SessionId, frozenset[str]]],
        due: Mapping[SessionId, int],
    ) -> None:
        """Write what differs, all sessions at once: one by one, they cost 1.3 times as much."""
        latest = dict(entries)
        places = ", ".join("?" * len(latest))
        query = f"SELECT id, tags, due FROM sessions WHERE id IN ({places})"  # noqa: S608 - question marks
        known = {row[0]: row for row in connection.execute(query, [*latest])}
        removed: list[tuple[int, str]] = []
        added: list[tuple[int, str]] = []
        changed: list[tuple[str, str, int | None]] = []
        gone: list[tuple[str]] = []
        for session, tags in latest.items():
            new, due_us = {self._number(connection, tag) for tag in tags}, due.get(session)
            row = known.get(session)
            old = set(map(int, row[1].split())) if row is not None else set()
            if old == new and (row is None or row[2] == due_us):
                continue
            removed += [(number, session) for number in old - new]
            added += [(number, session) for number in new - old]
            if new:
                changed.append((session, " ".join(map(str, sorted(new))), due_us))
            else:
                gone.append((session,))
        connection.executemany("DELETE FROM entries WHERE tag = ? AND id = ?", removed)
        connection.executemany("INSERT OR IGNORE INTO entries VALUES (?, ?)", added)
        connection.executemany("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?)", changed)
        connection.executemany("DELETE FROM sessions WHERE id = ?", gone)

    def find(
        self, wanted: Sequence[str], *, prefix: str, after: SessionId | None, limit: int
    ) -> Sequence[SessionId]:
        numbers = [self._numbers.get(tag) for tag in wanted]
        if None in numbers:
            return []
        first, *others = numbers
        more = " AND EXISTS (SELECT 1 FROM entries o WHERE o.tag = ? AND o.id = e.id)" * len(others)
        on_from = "e.id >= ?" if after is None or after < prefix else "e.id > ?"
        where = f"e.tag = ? AND {on_from} AND e.id < ?{more}"
        query = f"SELECT e.id FROM entries e WHERE {where} ORDER BY e.id LIMIT ?"  # noqa: S608 - constants
        values = (first, max(prefix, after or ""), prefix + _BEYOND, *others, limit)
        try:
            return [SessionId(row[0]) for row in self._open().execute(query, values)]
        except sqlite3.Error as exc:
            raise self._failed(exc) from exc

    def find_due(
        self, wanted: Sequence[str], *, prefix: str, after: DuePlace | None, until_us: int, limit: int
    ) -> Sequence[DuePlace]:
        numbers = [self._numbers.get(tag) for tag in wanted]
        if None in numbers:
            return []
        more = " AND EXISTS (SELECT 1 FROM entries o WHERE o.tag = ? AND o.id = s.id)" * len(numbers)
        where = (
            f"s.due IS NOT NULL AND (s.due, s.id) > (?, ?) AND s.due <= ? AND s.id >= ? AND s.id < ?{more}"
        )
        query = f"SELECT s.due, s.id FROM sessions s WHERE {where} ORDER BY s.due, s.id LIMIT ?"  # noqa: S608 - constants
        values = (*(after or (-1, "")), until_us, prefix, prefix + _BEYOND, *numbers, limit)
        try:
            return [DuePlace(row[0], SessionId(row[1])) for row in self._open().execute(query, values)]
        except sqlite3.Error as exc:
            raise self._failed(exc) from exc

    def clear(self) -> None:
        self._disconnect()
        for path in self._files():
            path.unlink(missing_ok=True)
        self._numbers = {}

    def close(self, stamp: str | None) -> None:
        if stamp is not None:
            with suppress(sqlite3.Error):
                connection = self._open()
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("INSERT INTO stamp VALUES (?, ?)", (_VERSION, stamp))
        self._disconnect()

    def _number(self, connection: sqlite3.Connection, tag: str) -> int:
        number = self._numbers.get(tag)
        if number is None:
            number = len(self._numbers) + 1
            connection.execute("INSERT INTO tags VALUES (?, ?)", (number, tag))
            self._numbers[tag] = number
        return number

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            make_private_directory(self._path.parent)
            make_private_file(self._path)
            connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            self._connection = connection
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(f"PRAGMA cache_size = -{self._cache_kib}")
            if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,):
                connection.executescript(_TABLES)
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _failed(self, exc: sqlite3.Error) -> LogError:
        self.clear()
        return LogError(f"{self._path}: {exc}: the index of sessions is rebuilt")

    def _files(self) -> list[Path]:
        return [self._path.with_name(self._path.name + more) for more in ("", "-wal", "-shm")]
