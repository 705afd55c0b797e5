"""The durable side of an embedded engine, in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from triggerstream.core.commands import Decision
from triggerstream.core.ids import AppId, SessionId
from triggerstream.engine.checkpoint import Stored
from triggerstream.engine.rows import ConfigurationText, DeadLetterRow, OutboxRow
from triggerstream.wire.records import NewRecord, Record
from triggerstream.wire.retired import RetiredKey


@dataclass(slots=True)
class OutboxEntry:
    """A decision in the outbox. ``settled``: it is deleted once it was handed over."""

    decision: Decision
    value: bytes
    sent_us: int | None = None
    settled: bool = False
    published_us: int | None = None


@dataclass(slots=True)
class MemoryDatabase:
    """Everything that an embedded engine makes durable, and the log that it reads."""

    records: list[Record] = field(default_factory=list)
    sessions: dict[SessionId, Stored] = field(default_factory=dict)
    retired: dict[RetiredKey, bytes] = field(default_factory=dict)
    outbox: dict[int, OutboxEntry] = field(default_factory=dict)
    dead_letters: list[DeadLetterRow] = field(default_factory=list)
    configurations: tuple[ConfigurationText, ...] = ()
    offset: int = 0
    scanned: int = -1
    app: AppId | None = None
    owned: bool = False
    listeners: list[Callable[[], None]] = field(default_factory=list)

    def append(self, records: Sequence[NewRecord], *, now_us: int) -> None:
        """Append ``records``; they arrive at ``now_us``, also if the clock stepped back."""
        for record in records:
            self.records.append(
                Record(
                    partition=0,
                    offset=len(self.records),
                    arrival_us=now_us,
                    key=record.key,
                    value=record.value,
                    headers=record.headers,
                )
            )
        for appended in self.listeners:
            appended()

    def restarted(self) -> MemoryDatabase:
        """This database as the next process finds it: without an engine and listeners."""
        return replace(
            self,
            records=list(self.records),
            sessions=dict(self.sessions),
            retired=dict(self.retired),
            outbox={number: replace(row) for number, row in self.outbox.items()},
            dead_letters=list(self.dead_letters),
            owned=False,
            listeners=[],
        )


def outbox_rows(
    database: MemoryDatabase, *, after: int, limit: int, sent_before_us: int | None = None
) -> list[OutboxRow]:
    """Rows of the outbox with a number greater than ``after``, in order."""
    rows = [
        OutboxRow(
            number=number,
            command=row.decision.id,
            session=row.decision.session,
            value=row.value,
            sent_us=row.sent_us,
        )
        for number, row in sorted(database.outbox.items())
        if number > after
        and (sent_before_us is None or (row.sent_us is not None and row.sent_us < sent_before_us))
    ]
    return rows[:limit]
