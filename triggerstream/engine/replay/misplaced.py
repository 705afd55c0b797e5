"""Finds records that are in the wrong partition of a log whose checkpoints are lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from triggerstream.core import advice
from triggerstream.core.errors import DecodeError, UsageError
from triggerstream.core.events import ConfigApplied
from triggerstream.core.ids import SessionId
from triggerstream.core.placement import partition_of
from triggerstream.engine.replay.archive import Archive, OnProgress, RecordReader
from triggerstream.wire import events
from triggerstream.wire.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The log of a partition from ``begin`` to before ``end``.

    Records before ``folded`` count as folded, although no checkpoint says so.
    """

    begin: int
    folded: int
    end: int


@dataclass(slots=True)
class _Misplaced:
    """Records in the wrong partition without a copy in the right one, by position.

    ``fitting`` counts, for each number of partitions, records that would be in the wrong partition with it.
    """

    own: int
    fitting: dict[int, int]
    sessions: dict[tuple[int, int], SessionId] = field(default_factory=dict)
    copied: set[tuple[int, int]] = field(default_factory=set)

    def look(self, record: Record) -> None:
        """Note ``record``."""
        origin = events.origin_of(record.headers)
        if origin is not None:
            self.copied.add(origin)
            return
        try:
            event = events.decode(record)
        except DecodeError:
            return
        if isinstance(event, ConfigApplied):
            return
        key = event.session.encode()
        for number in self.fitting:
            if partition_of(key, number) != record.partition:
                self.fitting[number] += 1
        if partition_of(key, self.own) != record.partition:
            self.sessions[record.partition, record.offset] = event.session

    def look_for_copy(self, record: Record) -> None:
        """Note ``record`` if it is a copy."""
        origin = events.origin_of(record.headers)
        if origin is not None:
            self.copied.add(origin)

    def uncopied(self) -> Mapping[tuple[int, int], SessionId]:
        """Sessions of records without a copy, by position."""
        return {place: session for place, session in self.sessions.items() if place not in self.copied}


async def _walk(
    log: Archive | RecordReader,
    number: int,
    span: tuple[int, int],
    look: Callable[[Record], None],
    on_progress: OnProgress,
) -> None:
    begin, end = span
    if begin >= end:
        return
    on_progress(number, 0, end - begin)
    async with aclosing(log.records(begin, end)) as pieces:
        async for records in pieces:
            for record in records:
                look(record)
            if records:
                on_progress(number, records[-1].offset + 1 - begin, end - begin)
            await asyncio.sleep(0)  # as in fold_on


async def refuse_misplaced(
    archives: Sequence[Archive],
    spans: Mapping[int, Span],
    on_progress: OnProgress,
    beyond: Mapping[int, RecordReader],
    *,
    agreed: bool,
) -> None:
    """Raise if records that count as folded are in the wrong partition, without a copy in the right one.

    Workers append a copy of such a record before their checkpoint passes it. If the checkpoints are lost, and
    with them the app's number of partitions, records without a copy show that the number was another one. A
    copy may be in a partition that has a checkpoint, after its folded records. ``agreed``: if no number of
    partitions fits better, these records may be left out.
    """
    own, all_ = len(archives), len(archives) + len(beyond)
    if all_ == 1 or not (beyond or any(span.begin < span.folded for span in spans.values())):
        return
    found = _Misplaced(own=own, fitting=dict.fromkeys(range(1, all_ + 1), 0))
    for archive in archives:
        span = spans[archive.number]
        await _walk(archive, archive.number, (span.begin, span.folded), found.look, on_progress)
    for number, log in beyond.items():
        await _walk(log, number, await log.since(0), found.look, on_progress)
    if found.uncopied():
        for archive in archives:
            span = spans[archive.number]
            await _walk(archive, archive.number, (span.folded, span.end), found.look_for_copy, on_progress)
    uncopied = found.uncopied()
    if not uncopied:
        return
    best = min(found.fitting, key=lambda number: (found.fitting[number], -number))
    message = (
        f"{len(uncopied):,} records of {len(set(uncopied.values())):,} sessions are not where {own} "
        "partitions would place them: these sessions would be lost"
    )
    if best != own and not found.fitting[best]:
        raise UsageError(f"{message}; {advice.rebuild_with_partitions(archives[0].address, partitions=best)}")
    if not agreed:
        raise UsageError(f"{message}; {advice.name_partitions(archives[0].address)}")
