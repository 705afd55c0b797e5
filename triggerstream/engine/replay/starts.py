"""The offset at which the engine of each rebuilt partition continues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum

from triggerstream.core import advice
from triggerstream.core.errors import UsageError
from triggerstream.engine.replay.archive import (
    Archive,
    DurableDecisions,
    OnProgress,
    fold_on,
    lost_beginning,
    refold_of,
)
from triggerstream.engine.replay.misplaced import Span
from triggerstream.engine.replay.refold import Kept

LATEST = -1
"""Offset that stands for the end of the log."""
DECIDED = -2
"""Value for an offset: after the last record whose command is in the commands topic."""


class Source(StrEnum):
    """The source of the offset at which a partition continues."""

    CHECKPOINT = "checkpoint"
    GROUP = "group"
    GIVEN = "given"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildOptions:
    """Options of a rebuild. ``given``: offsets of partitions whose position is unknown; key None: all others.

    ``dry_run`` changes nothing. ``incomplete`` accepts a log that has lost its beginning. ``agreed``: the
    operator accepts losses, that commands which only this release decides may count as decided, and that
    commands go out again if those in the commands topic cannot be read.
    """

    given: Mapping[int | None, int]
    dry_run: bool = False
    incomplete: bool = False
    agreed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Offset at which a partition's engine continues. ``span`` is its log before and after that offset."""

    offset: int
    source: Source
    span: Span


async def find_starts(
    archives: Sequence[Archive], options: RebuildOptions, on_progress: OnProgress
) -> Sequence[Start]:
    """The offset at which the engine of each archive continues.

    Raises:
        UsageError: it is unknown for one, or a log has lost its beginning.
        LogError: a log failed.
    """
    starts: list[Start] = []
    unknown: list[tuple[Archive, Kept]] = []
    for archive in archives:
        kept = await archive.kept()
        if kept.log_begin > 0 and not options.incomplete:
            raise UsageError(
                f"partition {archive.number}: {lost_beginning(kept)}; "
                f"{advice.rebuild_from_rest(archive.address)}"
            )
        if kept.log_begin > 0 and kept.lost is not None and not options.agreed:
            raise UsageError(
                f"partition {archive.number}: {lost_beginning(kept)}, and {kept.lost}: sessions would be "
                "lost, or go back to an older state; "
                f"{advice.rebuild_all_the_same(archive.address)}"
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
        by_commands = _given(archive, options.given) == DECIDED and source is Source.GIVEN
        if source is Source.GROUP or by_commands:
            offset, lost = await _decided_up_to(archive, kept, offset, on_progress)
            if lost is not None and not options.agreed:
                raise UsageError(
                    f"partition {archive.number}: {lost}, so commands decided from event {offset} on would "
                    f"go out again, under their ids; {advice.rebuild_all_the_same(archive.address)}"
                )
        folded = kept.log_begin if kept.offset is not None else offset
        span = Span(begin=kept.log_begin, folded=folded, end=kept.log_end)
        starts.append(Start(offset=offset, source=source, span=span))
    if unknown:
        raise await _ask(unknown, on_progress)
    return starts


def _given(archive: Archive, given: Mapping[int | None, int]) -> int | None:
    return given.get(archive.number, given.get(None))


def _start(archive: Archive, kept: Kept, given: Mapping[int | None, int]) -> tuple[int, Source] | None:
    """The offset at which the engine continues, or None. Records before the log's start or end are lost."""
    asked = _given(archive, given)
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


async def _decided_up_to(
    archive: Archive, kept: Kept, offset: int, on_progress: OnProgress
) -> tuple[int, str | None]:
    """The offset up to which the log was surely folded: the group's may lag behind the last checkpoint.

    A decision is durable together with everything before it, so the last durable decision gives the bound.
    Also the reason why decisions after that one cannot be read, if that is so: the bound may be too low.
    """
    if offset >= kept.log_end:
        return offset, None
    refold = refold_of(archive, kept)
    await fold_on(archive, refold, kept.log_begin, offset, on_progress)
    durable: DurableDecisions | None = None
    newest = -1
    async with aclosing(archive.records(offset, kept.log_end)) as pieces:
        async for records in pieces:
            if durable is None:
                durable = await archive.decided(records[0].arrival_us)
            if not durable.positions:
                break
            for record in records:
                found = [durable.positions.get(item.value, -1) for item in refold.fold([record])]
                if (last := max(found, default=-1)) >= 0:
                    offset, newest = record.offset + 1, max(newest, last)
    if durable is None or durable.lost is None or durable.lost[0] < newest:
        return offset, None
    return offset, durable.lost[1]


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
