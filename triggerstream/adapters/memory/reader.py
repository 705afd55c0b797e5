"""Reader of a :class:`MemoryDatabase`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence

from triggerstream.adapters.memory.database import MemoryDatabase, outbox_rows
from triggerstream.core.answers import HandOver
from triggerstream.core.commands import Command
from triggerstream.core.errors import UsageError
from triggerstream.core.ids import CommandId, SessionId
from triggerstream.core.projections import SilentCommand
from triggerstream.engine.rows import (
    NO_ROW,
    ConfigurationText,
    DeadLetterRow,
    OutboxRow,
    Progress,
    SessionRow,
    hand_over_of_row,
)
from triggerstream.wire.records import Record
from triggerstream.wire.retired import RetiredKey


class MemoryReader:
    """A :class:`triggerstream.engine.ports.Reader` of a database."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def partition(self, session: SessionId) -> int:
        _check(session)
        return 0

    async def partitions(self) -> int:
        return 1

    async def session(self, session: SessionId) -> SessionRow | None:
        return (await self.some([session])).get(session)

    async def some(self, sessions: Collection[SessionId]) -> Mapping[SessionId, SessionRow]:
        for session in sessions:
            _check(session)
        known = self._database.sessions
        return {
            session: SessionRow(id=session, state=known[session].state, due_us=known[session].due_us)
            for session in sessions
            if session in known
        }

    async def retired(self, keys: Collection[RetiredKey]) -> Mapping[RetiredKey, bytes]:
        known = self._database.retired
        return {key: known[key] for key in keys if key in known}

    async def sessions(
        self, *, prefix: str = "", after: SessionId | None = None, limit: int = 50
    ) -> Sequence[SessionRow]:
        _check(prefix)
        _check(after or "")
        sessions = self._database.sessions
        ids = sorted(session for session in sessions if session.startswith(prefix))
        start = bisect_right(ids, after) if after is not None else 0
        return [
            SessionRow(id=i, state=sessions[i].state, due_us=sessions[i].due_us)
            for i in ids[start : start + limit]
        ]

    async def dead_letters(self, *, after: int = 0, limit: int = 50) -> Sequence[DeadLetterRow]:
        return [letter for letter in self._database.dead_letters if letter.number > after][:limit]

    async def dead_letters_at(
        self,
        offsets: Collection[int],
        *,
        partition: int = 0,  # noqa: ARG002 - there is one
    ) -> Mapping[int, DeadLetterRow]:
        return {
            letter.offset: letter
            for letter in self._database.dead_letters
            if letter.offset is not None and letter.offset in offsets and letter.left_out is None
        }

    async def configurations(self, *, partition: int = 0) -> Sequence[ConfigurationText]:  # noqa: ARG002 - there is one
        return self._database.configurations

    async def outbox(
        self, *, after: int = 0, limit: int = 50, sent_before_us: int | None = None
    ) -> Sequence[OutboxRow]:
        return outbox_rows(self._database, after=after, limit=limit, sent_before_us=sent_before_us)

    async def hand_overs(
        self,
        commands: Sequence[SilentCommand],
        *,
        partition: int = 0,  # noqa: ARG002 - there is one
    ) -> Mapping[CommandId, HandOver]:
        rows = {
            row.decision.id: row
            for row in self._database.outbox.values()
            if isinstance(row.decision, Command)
        }
        found = {one.command: rows.get(one.command) for one in commands}
        return {
            command: NO_ROW
            if row is None
            else hand_over_of_row(sent_us=row.sent_us, published_us=row.published_us)
            for command, row in found.items()
        }

    async def record(self, offset: int, *, partition: int = 0) -> Record | None:  # noqa: ARG002 - there is one
        records = self._database.records
        return records[offset] if 0 <= offset < len(records) else None

    async def records(self, *, after: int = -1, limit: int = 50, partition: int = 0) -> Sequence[Record]:  # noqa: ARG002 - there is one
        return self._database.records[after + 1 : after + 1 + limit]

    async def progress(self, *, partition: int = 0) -> Progress:  # noqa: ARG002 - there is one
        database = self._database
        return Progress(
            offset=database.offset,
            end=len(database.records),
            outbox=len(database.outbox),
            dead_letters=len(database.dead_letters),
        )

    async def close(self) -> None:
        """Do nothing."""


def _check(session: str) -> None:
    """Refuse an invalid session id.

    Raises:
        UsageError: it is not valid Unicode.
    """
    try:
        session.encode()
    except UnicodeEncodeError as exc:
        raise UsageError(f"{session!r}: a session id is valid Unicode") from exc
