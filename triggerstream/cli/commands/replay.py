"""`triggerstream replay`: check stored sessions against the log, or rebuild them from it."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from triggerstream.cli.opening import existing, run
from triggerstream.cli.options import at_option, json_option
from triggerstream.cli.printing import json_line, print_line
from triggerstream.cli.progress import part_name, progress_bar
from triggerstream.cli.replay_lines import (
    checked_fields,
    difference_fields,
    json_new_commands,
    pace,
    rebuilt_fields,
    show_checked,
    show_differences,
    show_fold,
    show_rebuilt,
)
from triggerstream.core import advice
from triggerstream.core.errors import UsageError
from triggerstream.settings import locate

if TYPE_CHECKING:
    from triggerstream.engine.replay.archive import Archive, OnProgress


class FromOffset(click.ParamType):
    """``latest``, ``earliest``, an offset, or ``PARTITION:OFFSET``, as partition (None: any) and offset."""

    name = "offset"

    def convert(
        self,
        value: Any,  # noqa: ANN401 - click's signature
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[int | None, int]:
        """The partition and the offset."""
        from triggerstream.engine.replay.starts import DECIDED, LATEST

        if isinstance(value, tuple):
            return value
        partition, colon, offset = value.rpartition(":")
        named = {"latest": LATEST, "earliest": 0, "commands": DECIDED}.get(offset)
        if (colon and not partition.isdecimal()) or (named is None and not offset.isdecimal()):
            names = "commands, latest, earliest, an offset, or PARTITION:OFFSET"
            self.fail(f"{value!r}: write {names}", param, ctx)
        return int(partition) if colon else None, int(offset) if named is None else named


@click.command()
@click.option("--check", is_flag=True, help="Report how the stored sessions differ from a fold of the log.")
@click.option("--rebuild", is_flag=True, help="Replace the stored sessions with a fold of the log.")
@click.option(
    "--from-offset",
    "given",
    type=FromOffset(),
    multiple=True,
    metavar="[PARTITION:]OFFSET",
    help="Where to continue partitions without a checkpoint or group offset: commands, latest, earliest, "
    "a number.",
)
@click.option(
    "--partitions",
    type=click.IntRange(1, 10_000),
    help="The app's number of partitions, if no checkpoint has it.",
)
@click.option("--incomplete", is_flag=True, help="Rebuild even if the log has lost its beginning.")
@click.option(
    "--dry-run", is_flag=True, help="Rebuild nothing; count the commands that workers would decide."
)
@click.option(
    "--yes",
    is_flag=True,
    help="Rebuild even if sessions or commands would be lost, or commands go out again.",
)
@at_option
@json_option
def replay(
    *,
    check: bool,
    rebuild: bool,
    given: Sequence[tuple[int | None, int]],
    partitions: int | None,
    incomplete: bool,
    dry_run: bool,
    yes: bool,
    at: str,
    as_json: bool,
) -> None:
    """Check stored sessions against the log, or rebuild them from it.

    Both fold the whole log up to the checkpoint, in memory: nothing of it is decided or handed over again. A
    check may be made while workers run; its exit status is 1 if something differs. Before a rebuild, stop
    the workers, or the engine; repeat a rebuild that was interrupted.
    """
    if check == rebuild:
        raise click.UsageError(f"give --check or --rebuild{', not both' if check else ''}")
    if check:
        if given or incomplete or dry_run or yes or partitions is not None:
            options = "--from-offset, --partitions, --incomplete, --dry-run and --yes"
            raise click.UsageError(f"{options} go with --rebuild")
        sys.exit(0 if run(_check(at, as_json=as_json)) else 1)
    wanted = _Wanted(
        given=dict(given), partitions=partitions, incomplete=incomplete, dry_run=dry_run, agreed=yes
    )
    run(_rebuild(at, wanted, as_json=as_json))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """Options of a rebuild."""

    given: dict[int | None, int]
    partitions: int | None
    incomplete: bool
    dry_run: bool
    agreed: bool


async def _check(at: str, *, as_json: bool) -> bool:
    from triggerstream import bootstrap
    from triggerstream.engine.replay.check import check, uncopied

    started = time.monotonic()
    async with _archives(at, to_rebuild=False) as archives:
        misplaced = await bootstrap.find_misplaced(locate(at))
        with _progress(len(archives)) as on_progress:
            found = [await check(archive, on_progress) for archive in archives]
        lost = await uncopied(archives, found)
    for one in found:
        if as_json:
            for difference in one.differences:
                json_line(difference_fields(one.partition, difference))
            json_new_commands(one)
            json_line(checked_fields(one))
        else:
            show_differences(one)
            show_fold(one)
    agrees = all(one.agrees for one in found) and misplaced is None and not lost
    for (partition, offset), session in sorted(lost.items()):
        if as_json:
            json_line({"partition": partition, "offset": offset, "session": session, "misplaced": True})
    if lost and not as_json:
        (partition, offset), session = min(lost.items())
        print_line(
            f"{len(lost):,} records of {len(set(lost.values())):,} sessions are not where {len(found)} "
            f"partitions would place them and have no copy there, the first in partition {partition} at "
            f"offset {offset}, of session {session}: their producers must send them again"
        )
    if misplaced is not None:
        if as_json:
            json_line({"topic": misplaced.topic, "message": misplaced.message, "repair": misplaced.repair})
        else:
            print_line(str(misplaced))
    if not as_json:
        show_checked(found)
        events = sum(one.events for one in found)
        outcome = "everything agrees with the log" if agrees else "not everything agrees with the log"
        print_line(f"{outcome}: {pace(events, started)}")
        if any(one.differing for one in found):
            print_line(advice.rebuild(at))
    return agrees


async def _rebuild(at: str, wanted: _Wanted, *, as_json: bool) -> None:
    from triggerstream import bootstrap
    from triggerstream.engine.replay.rebuild import rebuild
    from triggerstream.engine.replay.starts import RebuildOptions

    started = time.monotonic()
    given, dry_run = wanted.given, wanted.dry_run
    async with _archives(at, to_rebuild=not dry_run, partitions=wanted.partitions) as archives:
        beyond = await bootstrap.added_logs(locate(at), partitions=wanted.partitions)
        if not beyond:
            misplaced = await bootstrap.find_misplaced(locate(at), partitions=wanted.partitions)
            if misplaced is not None:
                raise UsageError(str(misplaced))
        numbers = {archive.number for archive in archives}
        for partition in given:
            if partition is not None and partition not in numbers:
                raise UsageError(
                    f"--from-offset: there is no partition {partition}, but {len(numbers)} from 0 on"
                )
        with _progress(len(archives)) as on_progress:
            options = RebuildOptions(
                given=given, dry_run=dry_run, incomplete=wanted.incomplete, agreed=wanted.agreed
            )
            found = await rebuild(archives, options, on_progress, beyond=beyond)
    if as_json:
        for one in found:
            json_new_commands(one)
            json_line(rebuilt_fields(one, dry_run=dry_run))
        return
    for one in found:
        show_fold(one)
    show_rebuilt(found)
    outcome = "nothing was changed" if dry_run else "rebuilt: engines may start again"
    print_line(f"{outcome}: {pace(sum(one.events for one in found), started)}")


@asynccontextmanager
async def _archives(
    at: str, *, to_rebuild: bool, partitions: int | None = None
) -> AsyncIterator[Sequence[Archive]]:
    from triggerstream import bootstrap
    from triggerstream.engine.garbage import collect_less_often

    address = existing(at)
    collect_less_often()
    archives = await bootstrap.archives(address, to_rebuild=to_rebuild, partitions=partitions)
    try:
        yield archives
    finally:
        for archive in archives:
            await archive.close()


@contextmanager
def _progress(partitions: int) -> Iterator[OnProgress]:
    """A progress bar for the partition that is folded."""
    with progress_bar() as show:
        yield lambda partition, done, total: show(part_name(partition, partitions, "log"), done, total)
