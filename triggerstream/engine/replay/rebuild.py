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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from triggerstream.core import advice, tasks
from triggerstream.core.errors import UsageError
from triggerstream.engine.failpoints import failpoint
from triggerstream.engine.partitioned.ports import FencedError
from triggerstream.engine.replay.archive import (
    Archive,
    OnProgress,
    RecordReader,
    fold_on,
    refold_of,
)
from triggerstream.engine.replay.losses import Losses, NewCommand, losses, new_commands
from triggerstream.engine.replay.misplaced import refuse_misplaced
from triggerstream.engine.replay.starts import RebuildOptions, Source, Start, find_starts


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
    starts = await find_starts(archives, options, on_progress)
    spans = {archive.number: start.span for archive, start in zip(archives, starts, strict=True)}
    await refuse_misplaced(archives, spans, on_progress, beyond or {}, agreed=options.agreed)
    done: list[Rebuilt] = []
    for archive, start in zip(archives, starts, strict=True):
        # Once a partition would lose something, the others are only counted.
        keep = options.dry_run or (not options.agreed and any(one.lost or one.new_commands for one in done))
        done.append(await _rebuild(archive, start, options=options, keep=keep, on_progress=on_progress))
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
    losses = []
    if lost:
        losses.append(
            f"{lost.sessions:,} sessions with {lost.commands:,} commands that are not settled are stored, "
            "but are not in the log: they would be lost"
        )
    if decided:
        count = "would count as decided, and only `instances resend` would hand them over"
        becomes = "would be handed over" if any(one.outbox for one in done) else count
        losses.append(
            f"stored states were folded with version {next(one.fold for one in done if one.fold)} "
            f"of the fold; {decided:,} commands that only this release decides {becomes}"
        )
    if losses:
        raise UsageError(f"{'; '.join(losses)}; {advice.rebuild_all_the_same(address)}")


async def _rebuild(
    archive: Archive,
    start: Start,
    *,
    options: RebuildOptions,
    keep: bool,
    on_progress: OnProgress,
) -> Rebuilt:
    """Fold a partition again; unless ``keep``, replace the stored states by the result."""
    offset, source = start.offset, start.source
    kept = await archive.kept()
    refold = refold_of(archive, kept)
    if source is Source.CHECKPOINT and kept.log_begin > 0 and kept.commands is None:
        # The events of these states are no longer in the log, so the states are taken as they are.
        refold.begin_with(kept.states, kept.retired)
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
