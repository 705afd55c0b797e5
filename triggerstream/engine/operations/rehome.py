"""Decides how records of added partitions are appended to the app's own partitions.

Kafka cannot remove partitions that were added to a topic, and producers that use the topic's number of
partitions continue to write there. No worker folds those partitions; their records are appended to the app's
own, with the identity of the original, so that a second copy has no effect.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from triggerstream.core.errors import DecodeError
from triggerstream.core.events import ConfigApplied
from triggerstream.core.ids import AppId, SessionId
from triggerstream.core.placement import partition_of
from triggerstream.wire import events
from triggerstream.wire.records import NewRecord, Record
from triggerstream.wire.signature import ControlKeys

Origin: TypeAlias = tuple[int, int]
"""Partition and offset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MisplacedRecord:
    """Copy of a record of an added partition, to be appended to ``partition``.

    ``origin`` is its identity. ``session`` is None for a record that is not a valid event: the owner of
    ``partition`` makes it a dead letter. ``trusted``: it may be signed again.
    """

    partition: int
    record: NewRecord
    origin: Origin
    session: SessionId | None
    trusted: bool


@dataclass(slots=True)
class MisplacedRecords:
    """Counts records in added partitions without a copy, and their sessions."""

    records: int = 0
    sessions: set[SessionId] = field(default_factory=set)

    def count(self, misplaced: MisplacedRecord) -> None:
        """Count one."""
        self.records += 1
        if misplaced.session is not None:
            self.sessions.add(misplaced.session)


def copy_misplaced(
    record: Record, *, app: AppId, control: ControlKeys | None, partitions: int
) -> MisplacedRecord | None:
    """The copy to append for ``record``; None for a configuration, which is already in every partition."""
    origin = events.origin_of(record.headers) or (record.partition, record.offset)
    session, trusted = None, False
    try:
        event = events.decode(record)
        if isinstance(event, ConfigApplied):
            return None
        session = event.session
        if control is not None:
            control.authenticate(app, record, event)
        trusted = True
    except DecodeError:
        pass
    key = record.key if session is None else session.encode()
    return MisplacedRecord(
        partition=partition_of(key or b"", partitions),
        record=NewRecord(key=key, value=record.value or b"", headers=events.rehomed_headers(record)),
        origin=origin,
        session=session,
        trusted=trusted,
    )
