"""Rebuilds the stored data of partitions from their logs.

The steps, in this order:

1. every partition is fenced: no engine can write to any of them
2. for each, the offset at which its engine must continue is found. If one is unknown, or a log has lost its
   beginning, nothing is changed
3. one after the other, each log is folded up to that offset, and the result replaces the stored data, all or
   nothing. Decisions, copies and dead letters of this fold were carried out before, and are dropped

A crash at any moment leaves each partition unchanged or rebuilt, with the same offset. The rebuild can be
repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum

from triggerstream.core import advice, tasks
from triggerstream.core.errors import DecodeError, UsageError
from triggerstream.core.events import ConfigApplied
from triggerstream.core.ids import SessionId
from triggerstream.core.placement import partition_of
from triggerstream.engine.failpoints import failpoint
from triggerstream.engine.partitioned.ports import FencedError
from triggerstream.engine.replay.archive import (
    Archive,
    OnProgress,
    RecordReader,
    fold_on,
    lost_beginning,
    refold_of,
)
from triggerstream.engine.replay.losses import Losses, NewCommand, losses, new_commands
from triggerstream.engine.replay.refold import Kept
from triggerstream.wire import events
from triggerstream.wire.records import Record

LATEST = -1
"""As an offset: the end of the log."""
DECIDED = -2
"""Value for an offset: after the last record whose command is in the commands topic."""


class Source(StrEnum):
    """The source of the offset at which a partition continues."""

    CHECKPOINT = "checkpoint"
    GROUP = "group"
    GIVEN = "given"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """Result of a rebuild of a partition up to ``offset``, or of a dry run.

    ``to_decide`` is the number of commands that the records from ``offset`` on decide; None: not counted.
    ``elsewhere`` is the number of records before it that belong to another partition, and were appended
    there.
    """

    partition: int
    offset: int
    source: Source
    events: int
    sessions: int
    elsewhere: int
    to_decide: int | None = None
    fold: int | None = None
    """Fold version of the states, if it differs from this release's."""
    new_commands: Sequence[NewCommand] = ()
    """Commands that only this release's fold decides, in that case."""
    outbox: bool = False
    """True if the engine has an outbox, so that it hands over such commands itself."""
    lost: Losses = field(default_factory=Losses)


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildOptions:
    """Options of a rebuild. ``given``: offsets of partitions whose position is unknown; key None: all others.

    ``dry_run`` changes nothing. ``incomplete`` accepts a log that has lost its beginning. ``agreed``: the
    operator accepts losses, and that commands which only this release decides may count as decided.
    """

    given: Mapping[int | None, int]
    dry_run: bool = False
    incomplete: bool = False
    agreed: bool = False


async def rebuild(
    archives: Sequence[Archive],
    options: RebuildOptions,
    on_progress: OnProgress,
    *,
    beyond: Mapping[int, RecordReader] | None = None,
) -> Sequence[Rebuilt]:
    """Rebuild the stored states of ``archives``, which are all partitions of the app.

    ``beyond``: further partitions of its log that may belong to the app, because no checkpoint has its
    number.

    Raises:
        UsageError: the rebuild is not possible with these options; nothing was changed.
        FencedError: an engine started meanwhile. Partitions already rebuilt stay; stop the engine and repeat.
        LogError: the log failed. Partitions already rebuilt stay; repeat.
    """
    if not options.dry_run:
        await asyncio.gather(*(archive.fence() for archive in archives))
        failpoint("rebuild.fenced")
    starts = await _starts(archives, options, on_progress, beyond or {})
    done: list[Rebuilt] = []
    for archive, (offset, source) in zip(archives, starts, strict=True):
        # Once a partition would lose something, the others are only counted.
        keep = options.dry_run or (not options.agreed and any(one.lost or one.new_commands for one in done))
        done.append(
            await _rebuild(archive, offset, source, options=options, keep=keep, on_progress=on_progress)
        )
    if not options.dry_run and not options.agreed:
        _refuse_losses(archives[0].address, done)
    return done


def _refuse_losses(address: str, done: Sequence[Rebuilt]) -> None:
    """Raise if a rebuild would lose sessions, or skip commands.

    Raises:
        UsageError: it would; partitions without losses may already be rebuilt.
    """
    lost = sum((one.lost for one in done), Losses())
    decided = sum(len(one.new_commands) for one in done)
    said = []
    if lost:
        said.append(
            f"{lost.sessions:,} sessions with {lost.commands:,} commands that are not settled are stored, "
            "but are not in the log: they would be lost"
        )
    if decided:
        count = "would count as decided, and only `instances resend` would hand them over"
        becomes = "would be handed over" if any(one.outbox for one in done) else count
        said.append(
            f"stored states were folded with version {next(one.fold for one in done if one.fold)} "
            f"of the fold; {decided:,} commands that only this release decides {becomes}"
        )
    if said:
        raise UsageError(f"{'; '.join(said)}; {advice.rebuild_all_the_same(address)}")


async def _starts(
    archives: Sequence[Archive],
    options: RebuildOptions,
    on_progress: OnProgress,
    beyond: Mapping[int, RecordReader],
) -> Sequence[tuple[int, Source]]:
    starts: list[tuple[int, Source]] = []
    unknown: list[tuple[Archive, Kept]] = []
    spans: dict[int, _Span] = {}
    for archive in archives:
        kept = await archive.kept()
        if kept.log_begin > 0 and not options.incomplete:
            raise UsageError(
                f"partition {archive.number}: {lost_beginning(kept)}; "
                f"{advice.rebuild_from_rest(archive.address)}"
            )
        if kept.partitions not in {None, archive.partitions}:
            raise UsageError(
                f"partition {archive.number}: its checkpoint was made with {kept.partitions} partitions, "
                f"those of others with {archive.partitions}"
            )
        start = _start(archive, kept, options.given)
        if start is None:
            unknown.append((archive, kept))
            continue
        offset, source = start
        by_commands = given_offset(archive, options) == DECIDED and source is Source.GIVEN
        if source is Source.GROUP or by_commands:
            offset = await _decided_up_to(archive, kept, offset, on_progress)
        folded = kept.log_begin if kept.offset is not None else offset
        spans[archive.number] = _Span(begin=kept.log_begin, folded=folded, end=kept.log_end)
        starts.append((offset, source))
    if unknown:
        raise await _ask(unknown, on_progress)
    await _refuse_misplaced(archives, spans, on_progress, beyond, agreed=options.agreed)
    return starts


def given_offset(archive: Archive, options: RebuildOptions) -> int | None:
    """The offset that ``options`` gives for the partition."""
    return options.given.get(archive.number, options.given.get(None))


def _start(archive: Archive, kept: Kept, given: Mapping[int | None, int]) -> tuple[int, Source] | None:
    """The offset at which the engine continues, or None. Records before the log's start or end are lost."""
    asked = given.get(archive.number, given.get(None))
    if asked == DECIDED:
        asked = kept.log_begin  # a lower bound; the commands topic may give a higher one
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


async def _decided_up_to(archive: Archive, kept: Kept, offset: int, on_progress: OnProgress) -> int:
    """The offset up to which the log was surely folded: the group's may lag behind the last checkpoint.

    A decision is durable together with everything before it, so the last durable decision gives the bound.
    """
    if offset >= kept.log_end:
        return offset
    refold = refold_of(archive, kept)
    await fold_on(archive, refold, kept.log_begin, offset, on_progress)
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


async def _ask(unknown: Sequence[tuple[Archive, Kept]], on_progress: OnProgress) -> UsageError:
    decided = 0
    for archive, kept in unknown:
        refold = refold_of(archive, kept)
        await fold_on(archive, refold, kept.log_begin, kept.log_end, on_progress)
        decided += refold.decided
    numbers = ", ".join(str(archive.number) for archive, _ in unknown)
    return UsageError(
        f"partition {numbers}: {unknown[0][1].why}, so nothing says how far it was folded: "
        f"{advice.rebuild_from_offset(unknown[0][0].address, commands=decided)}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """A partition's log from ``begin`` to before ``end``.

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


async def _refuse_misplaced(
    archives: Sequence[Archive],
    spans: Mapping[int, _Span],
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
    said = (
        f"{len(uncopied):,} records of {len(set(uncopied.values())):,} sessions are not where {own} "
        "partitions would place them: these sessions would be lost"
    )
    if best != own and not found.fitting[best]:
        raise UsageError(f"{said}; {advice.rebuild_with_partitions(archives[0].address, partitions=best)}")
    if not agreed:
        raise UsageError(f"{said}; {advice.name_partitions(archives[0].address)}")


async def _rebuild(
    archive: Archive,
    offset: int,
    source: Source,
    *,
    options: RebuildOptions,
    keep: bool,
    on_progress: OnProgress,
) -> Rebuilt:
    """Fold a partition again; unless ``keep``, replace the stored states by the result."""
    kept = await archive.kept()
    refold = refold_of(archive, kept)
    if source is Source.CHECKPOINT and kept.log_begin > 0 and kept.commands is None:
        # The events of these states are no longer in the log, so the states are taken as they are.
        refold.begin_with(kept.states)
    else:
        await fold_on(archive, refold, kept.log_begin, offset, on_progress)
    refolded = refold.result()
    lost = losses(refolded, kept)
    other = kept.fold is not None and kept.fold != tasks.FOLD_VERSION
    decided_anew = new_commands(refolded, kept) if other else ()
    keep = keep or (not options.agreed and bool(lost or decided_anew))
    events, elsewhere, decided = refold.events, len(refold.misplaced), refold.decided
    failpoint("rebuild.folded")
    to_decide = None
    if options.dry_run or source is Source.GIVEN:
        await fold_on(archive, refold, offset, kept.log_end, on_progress)
        to_decide = refold.decided - decided
    if not keep:
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
        fold=kept.fold if other else None,
        new_commands=decided_anew,
        outbox=kept.commands is not None,
        lost=lost,
    )
