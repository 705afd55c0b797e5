"""Archive for a replay, in memory: a log and the stored data of its engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from triggerstream.adapters.memory.database import MemoryDatabase, OutboxEntry
from triggerstream.core import advice, tasks
from triggerstream.core.commands import Command
from triggerstream.core.errors import DecodeError, LogError, UsageError
from triggerstream.core.ids import AppId, CommandId
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.engine.replay.archive import DurableDecisions
from triggerstream.engine.replay.refold import Kept, Refolded
from triggerstream.engine.rows import ConfigurationText
from triggerstream.wire import commands
from triggerstream.wire.records import Record
from triggerstream.wire.retired import encode_key

_PIECE = 2
"""Few, so that a test of a short log has several pieces."""


class InMemoryRecords:
    """A :class:`triggerstream.engine.replay.archive.RecordReader`. Records have their index as offset."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records

    async def records(self, begin: int, end: int) -> AsyncGenerator[Sequence[Record]]:
        """The records from ``begin`` to before ``end``, two in a chunk."""
        for at in range(begin, end, _PIECE):
            if piece := self._records[at : min(at + _PIECE, end)]:
                yield piece

    async def since(self, arrival_us: int) -> tuple[int, int]:
        """The offset of the first record of this time or later, and the offset after the last record."""
        found = (one.offset for one in self._records if one.arrival_us >= arrival_us)
        return next(found, len(self._records)), len(self._records)


class MemoryArchive:
    """An :class:`triggerstream.engine.replay.archive.Archive` of a database, which has one partition."""

    number = 0
    partitions = 1
    control = None
    address = advice.ANY_APP

    def __init__(self, database: MemoryDatabase, *, app: AppId) -> None:
        self.app = app
        self.configurations = ConfigurationCache()
        self._database = database
        self._fenced = False

    async def fence(self) -> None:
        """Lock the database, so that no engine starts on it.

        Raises:
            UsageError: an engine runs on it.
        """
        if self._fenced:
            return
        if self._database.owned:
            raise UsageError("another engine runs on this database")
        self._database.owned = self._fenced = True

    async def kept(self) -> Kept:
        """The data stored in the database now."""
        database = self._database
        if database.app not in {None, self.app}:
            raise UsageError(f"this database belongs to the app `{database.app}`, not to `{self.app}`")
        sessions = database.sessions
        return Kept(
            offset=database.offset,
            log_begin=0,
            log_end=len(database.records),
            states={session.encode(): stored.state for session, stored in sessions.items()},
            retired={encode_key(key): entry for key, entry in database.retired.items()},
            configurations=database.configurations,
            scanned=database.scanned,
            due={
                session.encode(): stored.due_us
                for session, stored in sessions.items()
                if stored.due_us is not None
            },
            commands=frozenset(self._waiting()) | self._refused(),
            fold=tasks.FOLD_VERSION,
        )

    def _waiting(self) -> dict[CommandId, int]:
        """The commands in the outbox, with the numbers of their rows."""
        rows = self._database.outbox
        return {row.decision.id: number for number, row in rows.items() if isinstance(row.decision, Command)}

    def _refused(self) -> frozenset[CommandId]:
        """The commands that could not be handed over, each with the event that reports this in the log."""
        found = set()
        for letter in self._database.dead_letters:
            if letter.offset is not None:
                continue
            try:
                found.add(commands.decode(letter.value or b"").id)
            except DecodeError:
                continue
        return frozenset(found)

    def records(self, begin: int, end: int) -> AsyncGenerator[Sequence[Record]]:
        return InMemoryRecords(self._database.records).records(begin, end)

    async def decided(self, arrival_us: int) -> DurableDecisions:  # noqa: ARG002 - the offset never lags
        """No decisions, because the checkpoint is in the same database."""
        return DurableDecisions()

    async def replace(self, refolded: Refolded, *, offset: int) -> None:
        """Store the result of the log. Waiting revocations and settled commands stay."""
        if not self._fenced:
            raise LogError("this archive was not fenced")
        database = self._database
        database.sessions = dict(refolded.states)
        database.retired = dict(refolded.retired)
        database.configurations = tuple(
            ConfigurationText.of(one) for one in refolded.rules.history if one.offset >= 0
        )
        database.offset = offset
        database.scanned = min(database.scanned, refolded.rules.current.offset)
        waiting = self._waiting()
        for command, number in waiting.items():
            row = database.outbox[number]
            if command in refolded.open:
                row.value, row.settled = refolded.open[command].value, False
            elif not row.settled:
                del database.outbox[number]
        last = max(database.outbox, default=0)
        missing = refolded.open.keys() - waiting.keys() - self._refused()
        for command, item in refolded.open.items():
            if command in missing:
                last += 1
                database.outbox[last] = OutboxEntry(decision=item.decision, value=item.value)

    async def close(self) -> None:
        """Unlock the database for the next engine."""
        if self._fenced:
            self._database.owned = self._fenced = False
