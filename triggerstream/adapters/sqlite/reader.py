"""The read-only view of a state directory, whether its engine runs or not."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from triggerstream.adapters.sqlite import database
from triggerstream.adapters.sqlite.configurations import read_configurations
from triggerstream.adapters.sqlite.database import NOT_LEFT_OUT, connect, decoder_of, locate
from triggerstream.adapters.sqlite.outbox import read_hand_overs, read_outbox
from triggerstream.core.answers import HandOver
from triggerstream.core.errors import LogError, UsageError
from triggerstream.core.ids import CommandId, SessionId, TaskName
from triggerstream.core.projections import SilentCommand
from triggerstream.engine.rows import ConfigurationText, DeadLetterRow, OutboxRow, Progress, SessionRow
from triggerstream.engine.stored_states import StateDecoder
from triggerstream.wire.records import Record
from triggerstream.wire.retired import RetiredKey

_T = TypeVar("_T")

_BEYOND = "\U0010ffff"
"""No text that begins with a prefix comes after the prefix with this code point, which no character has."""

_VALUES = 500
"""Values in the list of one query: SQLite before 3.32 takes at most 999."""

_DEAD_LETTERS = """
SELECT d.number, d.at_us, d.offset, d.left_out, coalesce(d.key, l.key),
    iif(d.left_out < 0, coalesce(d.value, l.value), d.value), iif(d.left_out < 0, l.headers, NULL), d.reason
FROM dead_letters d LEFT JOIN log l ON l.offset = d.offset
"""


class SqliteReader:
    """A :class:`triggerstream.engine.ports.Reader` of one state directory. It takes no lock."""

    def __init__(self, path: Path | str) -> None:
        self._file = locate(path)
        self._decoder = decoder_of(self._file)
        self._connection: sqlite3.Connection | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="triggerstream-reader")

    async def partition(self, session: SessionId) -> int:
        try:
            session.encode()
        except UnicodeEncodeError as exc:
            raise _no_session(exc) from exc
        return 0

    async def partitions(self) -> int:
        return 1

    async def session(self, session: SessionId) -> SessionRow | None:
        return (await self.some([session])).get(session)

    async def some(self, sessions: Collection[SessionId]) -> Mapping[SessionId, SessionRow]:
        rows = await self._all_of("SELECT id, state, due_us FROM sessions WHERE id IN ({})", sessions)
        return {row[0]: _session_row(row, self._decoder) for row in rows}

    async def retired(self, keys: Collection[RetiredKey]) -> Mapping[RetiredKey, bytes]:
        query = "SELECT session, task, number, entry FROM retired WHERE session IN ({})"
        rows = await self._all_of(query, {key.session for key in keys})
        found = {RetiredKey(SessionId(row[0]), TaskName(row[1]), row[2]): row[3] for row in rows}
        return {key: found[key] for key in keys if key in found}

    async def sessions(
        self, *, prefix: str = "", after: SessionId | None = None, limit: int = 50
    ) -> Sequence[SessionRow]:
        on_from = "id >= ?" if after is None or after < prefix else "id > ?"
        rows = await self._all(
            f"SELECT id, state, due_us FROM sessions WHERE {on_from} AND id < ? ORDER BY id LIMIT ?",  # noqa: S608 - one of two constants
            max(prefix, after or ""),
            prefix + _BEYOND,
            limit,
        )
        return [_session_row(row, self._decoder) for row in rows]

    async def dead_letters(self, *, after: int = 0, limit: int = 50) -> Sequence[DeadLetterRow]:
        rows = await self._all(f"{_DEAD_LETTERS} WHERE d.number > ? ORDER BY d.number LIMIT ?", after, limit)
        return [_dead_letter_row(row) for row in rows]

    async def dead_letters_at(
        self,
        offsets: Collection[int],
        *,
        partition: int = 0,  # noqa: ARG002 - there is one
    ) -> Mapping[int, DeadLetterRow]:
        query = f"{_DEAD_LETTERS} WHERE d.left_out = {NOT_LEFT_OUT} AND d.offset IN ({{}})"
        return {row[2]: _dead_letter_row(row) for row in await self._all_of(query, offsets)}

    async def configurations(self, *, partition: int = 0) -> Sequence[ConfigurationText]:  # noqa: ARG002 - there is one
        return await self._read(read_configurations)

    async def outbox(
        self, *, after: int = 0, limit: int = 50, sent_before_us: int | None = None
    ) -> Sequence[OutboxRow]:
        return await self._read(
            lambda connection: read_outbox(
                connection, after=after, limit=limit, sent_before_us=sent_before_us
            )
        )

    async def hand_overs(
        self,
        commands: Sequence[SilentCommand],
        *,
        partition: int = 0,  # noqa: ARG002 - there is one
    ) -> Mapping[CommandId, HandOver]:
        named = [one.command for one in commands]
        return await self._read(lambda connection: read_hand_overs(connection, named))

    async def record(self, offset: int, *, partition: int = 0) -> Record | None:  # noqa: ARG002 - there is one
        records = await self.records(after=offset - 1, limit=1)
        return records[0] if records and records[0].offset == offset else None

    async def records(self, *, after: int = -1, limit: int = 50, partition: int = 0) -> Sequence[Record]:  # noqa: ARG002 - there is one
        rows = await self._all(
            "SELECT offset, arrival_us, key, value, headers FROM log"
            " WHERE offset > ? ORDER BY offset LIMIT ?",
            after,
            limit,
        )
        return [database.to_record(row) for row in rows]

    async def progress(self, *, partition: int = 0) -> Progress:  # noqa: ARG002 - there is one
        def read(connection: sqlite3.Connection) -> Progress:
            (offset,) = connection.execute("SELECT value FROM meta WHERE name = 'offset'").fetchone()
            return Progress(
                offset=offset,
                end=database.end(connection),
                outbox=_count(connection, "outbox"),
                dead_letters=_count(connection, "dead_letters"),
            )

        return await self._read(read)

    async def close(self) -> None:
        """Close the database."""
        if self._connection is not None:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._connection.close)
            self._connection = None
        self._executor.shutdown()

    async def _all(self, query: str, *parameters: str | int) -> list[Any]:
        return await self._read(lambda connection: connection.execute(query, parameters).fetchall())

    async def _all_of(self, query: str, values: Collection[str] | Collection[int]) -> list[Any]:
        """The rows of ``query``, in which ``{}`` stands for the list of ``values``."""
        wanted = list(values)

        def read(connection: sqlite3.Connection) -> list[Any]:
            rows: list[Any] = []
            for at in range(0, len(wanted), _VALUES):
                some = wanted[at : at + _VALUES]
                rows += connection.execute(query.format(", ".join("?" * len(some))), some).fetchall()
            return rows

        return await self._read(read)

    async def _read(self, read: Callable[[sqlite3.Connection], _T]) -> _T:
        def run() -> _T:
            if self._connection is None:
                self._connection = connect(self._file, read_only=True)
            return read(self._connection)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, run)
        except sqlite3.Error as exc:
            raise LogError(f"{self._file}: {exc}") from exc
        except UnicodeEncodeError as exc:
            raise _no_session(exc) from exc


def _count(connection: sqlite3.Connection, what: str) -> int:
    """The number of rows of ``what``. SQLite counts in the smallest index, not in the rows."""
    (count,) = connection.execute(f"SELECT count(*) FROM {what}").fetchone()  # noqa: S608 - a constant
    return int(count)


def _no_session(exc: UnicodeEncodeError) -> UsageError:
    return UsageError(f"{exc.object!r}: a session id is valid Unicode")


def _session_row(row: tuple[str, bytes, int | None], decoder: StateDecoder) -> SessionRow:
    session, state, due_us = row
    return SessionRow(id=SessionId(session), state=state, due_us=due_us, decoder=decoder)


def _dead_letter_row(
    row: tuple[int, int, int | None, int, bytes | None, bytes | None, str | None, str],
) -> DeadLetterRow:
    number, at_us, offset, left_out, key, value, headers, reason = row
    return DeadLetterRow(
        number=number,
        at_us=at_us,
        offset=offset,
        key=key,
        value=value,
        headers=() if headers is None else database.to_headers(headers),
        reason=reason,
        left_out=None if left_out == NOT_LEFT_OUT else left_out,
    )
