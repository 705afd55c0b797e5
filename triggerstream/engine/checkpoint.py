"""The checkpoint: all that one batch of a partition changed, made durable as one or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec import Struct

from triggerstream.core.commands import Decision
from triggerstream.core.ids import CommandId, SessionId
from triggerstream.core.tasks import Rules
from triggerstream.wire.records import NewRecord, Record
from triggerstream.wire.retired import RetiredKey


class Stored(Struct, frozen=True, kw_only=True):
    """A session's state as it is stored. ``due_us``: when its next timer is due."""

    state: bytes
    due_us: int | None
    config: int


class Decided(Struct, frozen=True, kw_only=True):
    """A decision and its bytes on the wire."""

    decision: Decision
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LostRange:
    """Unreadable offsets of a partition, ``first`` to ``last``, that an operator has declared lost."""

    partition: int
    first: int
    last: int

    def __str__(self) -> str:
        """The range as text: ``3:41-57``."""
        return f"{self.partition}:{self.first}-{self.last}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A record that was not folded, with a sentence that says why and what would have been right.

    ``last``: the dead letter is for all offsets from the record's to this one, which cannot be read.
    ``left_out`` is None for a record of the log. Otherwise the dead letter is a trigger that follows from a
    record which was folded without it: ``record`` has the trigger as a separate event and the position of
    that record, and ``left_out`` numbers such triggers of one record from 0.
    """

    record: Record
    reason: str
    last: int | None = None
    left_out: int | None = None


def dead_letter_of(record: Record, reason: str) -> DeadLetter:
    """The dead letter of ``record``, or of the range of the log that it replaces."""
    unreadable = record.unreadable
    if unreadable is None:
        return DeadLetter(record=record, reason=reason)
    first = Record(
        partition=record.partition,
        offset=unreadable.first,
        arrival_us=record.arrival_us,
        key=None,
        value=None,
    )
    return DeadLetter(record=first, reason=f"not read: {unreadable.reason}", last=record.offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The effects of a batch, in the order in which they were decided.

    ``retired`` are entries of instances that have left their session's state; None: the entry is deleted.
    ``offset`` is the next offset to read. ``settled`` are the commands that need no hand-over any more.
    ``rehomed`` are records that belong to another partition. ``rules`` is set if a configuration was among
    the records. ``records`` is the number of records, ``size`` the number of bytes to make durable.
    """

    partition: int
    offset: int
    decided: tuple[Decided, ...] = ()
    states: Mapping[SessionId, Stored] = field(default_factory=dict)
    retired: Mapping[RetiredKey, bytes | None] = field(default_factory=dict)
    settled: tuple[CommandId, ...] = ()
    dead_letters: tuple[DeadLetter, ...] = ()
    rehomed: tuple[NewRecord, ...] = ()
    rules: Rules | None = None
    events: int = 0
    """The number of records that were folded, for counters."""
    prevented: int = 0
    """Number of instances and seeds that bounds prevented; for counters."""
    unused: int = 0
    """Number of triggers that no task of the configuration in force uses; for counters."""
    forgotten_ids: int = 0
    """Number of events whose repetition is no longer noticed (``$bounds.digests``); for counters."""
    unknown: int = 0
    """Number of outcomes, orders and timers for sessions of which nothing is known; for counters."""
    records: int = 0
    size: int = 0

    @property
    def left_out(self) -> int:
        """Number of dead letters that are triggers which a bound left out."""
        return sum(letter.left_out is not None for letter in self.dead_letters)


def keep_retired(kept: dict[RetiredKey, bytes], changes: Mapping[RetiredKey, bytes | None]) -> None:
    """Take over the entries of retired instances that a checkpoint writes or deletes."""
    for key, entry in changes.items():
        if entry is None:
            kept.pop(key, None)
        else:
            kept[key] = entry
