"""Rebuilding what is kept of partitions, from their logs.

It goes in this order:

1. every partition is fenced: no engine can write to any of them
2. for each it is found out where its engine has to go on; where that is not known, or a log has lost its
   beginning, nothing is changed
3. one after the other, its log is folded up to there, and the result put in the place of what was kept, all
   or nothing; what the fold decides, re-homes or refuses on the way was carried out long ago, and is dropped

A crash at any moment leaves each partition as it was or rebuilt, with the same place to go on: it can be
repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum

from triggerstream.core import advice
from triggerstream.core.errors import DecodeError, UsageError
from triggerstream.core.events import ConfigApplied
from triggerstream.core.ids import SessionId
from triggerstream.core.placement import partition_of
from triggerstream.engine.archive import Archive, RecordReader, Tell, fold_on, lost_beginning, refold_of
from triggerstream.engine.failpoints import failpoint
from triggerstream.engine.ledger import FencedError
from triggerstream.engine.replay import Kept
from triggerstream.wire import events
from triggerstream.wire.records import Record

LATEST = -1
"""As an offset: the end of the log."""


class Source(StrEnum):
    """What says where a partition goes on."""

    CHECKPOINT = "checkpoint"
    GROUP = "group"
    GIVEN = "given"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """A partition that was rebuilt up to ``offset``, or would be.

    ``to_decide`` is how many commands the records from ``offset`` on decide; None: nobody asked.
    ``elsewhere`` counts the records before it that belong to another partition: they were appended there.
    """

    partition: int
    offset: int
    source: Source
    events: int
    sessions: int
    elsewhere: int
    to_decide: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How to rebuild. ``given`` says where partitions go on that nothing else says it of; None: any other.

    ``dry_run`` changes nothing. ``incomplete`` accepts a log that has lost its beginning.
    """

    given: Mapping[int | None, int]
    dry_run: bool = False
    incomplete: bool = False


async def rebuild(
    archives: Sequence[Archive],
    wish: Wish,
    tell: Tell,
    *,
    beyond: Mapping[int, RecordReader] | None = None,
) -> Sequence[Rebuilt]:
    """Rebuild what is kept of ``archives``, which are all partitions of the app.

    ``beyond``: further partitions of its log, where nothing says for certain that they are not the app's.

    Raises:
        UsageError: it cannot be done as asked; nothing was changed.
        FencedError: an engine came between; what is rebuilt already stays. Repeat it once that is stopped.
        LogError: the log failed; the same holds.
    """
    if not wish.dry_run:
        await asyncio.gather(*(archive.fence() for archive in archives))
        failpoint("rebuild.fenced")
    starts = await _starts(archives, wish, tell, beyond or {})
    return [
        await _rebuild(archive, *start, dry_run=wish.dry_run, tell=tell)
        for archive, start in zip(archives, starts, strict=True)
    ]


async def _starts(
    archives: Sequence[Archive], wish: Wish, tell: Tell, beyond: Mapping[int, RecordReader]
) -> Sequence[tuple[int, Source]]:
    starts: list[tuple[int, Source]] = []
    unknown: list[tuple[Archive, Kept]] = []
    unmarked: dict[int, tuple[int, int]] = {}
    for archive in archives:
        kept = await archive.kept()
        if kept.log_begin > 0 and not wish.incomplete:
            raise UsageError(
                f"partition {archive.number}: {lost_beginning(kept)}; --incomplete rebuilds from the rest, "
                "and forgets what only the lost records said"
            )
        if kept.partitions not in {None, archive.partitions}:
            raise UsageError(
                f"partition {archive.number}: its checkpoint was made with {kept.partitions} partitions, "
                f"those of others with {archive.partitions}"
            )
        start = _start(archive, kept, wish.given)
        if start is None:
            unknown.append((archive, kept))
            continue
        offset, source = start
        if source is Source.GROUP:
            offset = await _decided_up_to(archive, kept, offset, tell)
        if kept.offset is None:
            unmarked[archive.number] = (kept.log_begin, offset)
        starts.append((offset, source))
    if unknown:
        raise await _ask(unknown, tell)
    await _refuse_misplaced(archives, unmarked, tell, beyond)
    return starts


def _start(archive: Archive, kept: Kept, given: Mapping[int | None, int]) -> tuple[int, Source] | None:
    """Where the engine has to go on; None: not known. Records before the log's beginning or end are lost."""
    asked = given.get(archive.number, given.get(None))
    if kept.offset is not None:
        offset, source = kept.offset, Source.CHECKPOINT
    elif kept.group is not None:
        offset, source = kept.group, Source.GROUP
    elif kept.log_end == 0:
        offset, source = 0, Source.EMPTY
    elif asked is None:
        return None
    elif asked > kept.log_end:
        raise UsageError(
            f"partition {archive.number}: its log ends at offset {kept.log_end}: it cannot go on from {asked}"
        )
    else:
        offset, source = kept.log_end if asked == LATEST else asked, Source.GIVEN
    return max(min(offset, kept.log_end), kept.log_begin), source


async def _decided_up_to(archive: Archive, kept: Kept, offset: int, tell: Tell) -> int:
    """How far the log was folded at least: the group's offset may lag behind the last checkpoint.

    A decision is durable together with all that is before it, so the last one that is there tells.
    """
    if offset >= kept.log_end:
        return offset
    refold = refold_of(archive, kept)
    await fold_on(archive, refold, kept.log_begin, offset, tell)
    decided: Collection[bytes] | None = None
    async with aclosing(archive.records(offset, kept.log_end)) as pieces:
        async for records in pieces:
            if decided is None:
                decided = await archive.decided(records[0].arrival_us)
            if not decided:
                break
            for record in records:
                if any(item.value in decided for item in refold.fold([record])):
                    offset = record.offset + 1
    return offset


async def _ask(unknown: Sequence[tuple[Archive, Kept]], tell: Tell) -> UsageError:
    decided = 0
    for archive, kept in unknown:
        refold = refold_of(archive, kept)
        await fold_on(archive, refold, kept.log_begin, kept.log_end, tell)
        decided += refold.decided
    numbers = ", ".join(str(archive.number) for archive, _ in unknown)
    return UsageError(
        f"partition {numbers}: {unknown[0][1].why}, so nothing says how far it was folded: say where to go "
        f"on with --from-offset latest, earliest or PARTITION:OFFSET; earliest would decide {decided:,} "
        "commands, --dry-run tells for any"
    )


@dataclass(slots=True)
class _Misplaced:
    """What lies elsewhere than where the app has it and was never appended there, by its first place.

    ``fitting`` counts, for numbers of partitions, what would lie elsewhere if the app had that many.
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

    def uncopied(self) -> Mapping[tuple[int, int], SessionId]:
        """By place, what has no copy."""
        return {place: session for place, session in self.sessions.items() if place not in self.copied}


async def _refuse_misplaced(
    archives: Sequence[Archive],
    unmarked: Mapping[int, tuple[int, int]],
    tell: Tell,
    beyond: Mapping[int, RecordReader],
) -> None:
    """Raise where records that count as folded lie elsewhere than where the app has them, without a copy.

    Workers append such a record where it belongs before their checkpoint passes it. Where checkpoints are
    lost, and with them the app's number of partitions, this says that it was another one. ``unmarked``: by
    partition without a checkpoint, where its records begin, and where they begin that count as not folded.
    """
    own, all_ = len(archives), len(archives) + len(beyond)
    if not unmarked or all_ == 1:
        return
    found = _Misplaced(own=own, fitting=dict.fromkeys(range(1, all_ + 1), 0))
    logs: list[tuple[RecordReader | Archive, int, int, int]] = [
        (archive, archive.number, *unmarked[archive.number])
        for archive in archives
        if archive.number in unmarked
    ]
    logs += [(log, number, *(await log.since(0))) for number, log in beyond.items()]
    for log, number, begin, end in logs:
        if begin >= end:
            continue
        tell(number, 0, end - begin)
        async with aclosing(log.records(begin, end)) as pieces:
            async for records in pieces:
                for record in records:
                    found.look(record)
                tell(number, records[-1].offset + 1 - begin, end - begin)
                await asyncio.sleep(0)  # as in fold_on
    uncopied = found.uncopied()
    if not uncopied:
        return
    best = min(found.fitting, key=lambda number: (found.fitting[number], -number))
    said = (
        f"{len(uncopied):,} records of {len(set(uncopied.values())):,} sessions lie elsewhere than where "
        f"{own} partitions have them: these sessions would be lost"
    )
    if best != own and not found.fitting[best]:
        raise UsageError(f"{said}; {advice.rebuild_with_partitions(archives[0].address, partitions=best)}")
    raise UsageError(f"{said}; {advice.name_partitions(archives[0].address)}")


async def _rebuild(archive: Archive, offset: int, source: Source, *, dry_run: bool, tell: Tell) -> Rebuilt:
    kept = await archive.kept()
    refold = refold_of(archive, kept)
    await fold_on(archive, refold, kept.log_begin, offset, tell)
    refolded = refold.result()
    events, elsewhere, decided = refold.events, refold.elsewhere, refold.decided
    failpoint("rebuild.folded")
    to_decide = None
    if dry_run or source is Source.GIVEN:
        await fold_on(archive, refold, offset, kept.log_end, tell)
        to_decide = refold.decided - decided
    if not dry_run:
        try:
            await archive.replace(refolded, offset=offset)
        except FencedError as exc:
            raise FencedError(
                f"partition {archive.number}: a worker has taken it over: stop all workers, and repeat this"
            ) from exc
        failpoint("rebuild.replaced")
    return Rebuilt(
        partition=archive.number,
        offset=offset,
        source=source,
        events=events,
        sessions=len(refolded.states),
        elsewhere=elsewhere,
        to_decide=to_decide,
    )
