"""`triggerstream replay`: what is kept of sessions, checked against the log or rebuilt from it."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
import orjson

from triggerstream.cli.options import at_option, existing, json_option, run
from triggerstream.cli.printing import compact, json_line, print_line, table
from triggerstream.core import advice
from triggerstream.core.errors import UsageError
from triggerstream.core.ids import Json, JsonObject
from triggerstream.settings import locate

if TYPE_CHECKING:
    from triggerstream.engine.replay.archive import Archive, OnProgress
    from triggerstream.engine.replay.check import Checked
    from triggerstream.engine.replay.rebuild import Rebuilt
    from triggerstream.engine.replay.refold import Difference

_LONG = 400
_LINES = 20
"""Differences of a partition that people are shown; --json has up to 1,000."""


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
@click.option(
    "--check", is_flag=True, help="Report where the stored sessions differ from what the log gives."
)
@click.option("--rebuild", is_flag=True, help="Replace the stored sessions by what the log gives.")
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
@click.option("--dry-run", is_flag=True, help="Rebuild nothing; count what would be decided afterwards.")
@click.option("--yes", is_flag=True, help="Rebuild even if counted sessions or commands would be lost.")
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
    """Check what is kept of sessions against the log, or rebuild it from there.

    Both fold the whole log up to the checkpoint, in memory: nothing of it is decided or handed over again. A
    check may be made while workers run; its exit status is 1 where something differs. For a rebuild, stop the
    workers, or the engine; one that was interrupted is repeated.
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
                json_line(_difference_fields(one.partition, difference))
            _json_new_commands(one)
            json_line(_checked_fields(one))
        else:
            _show_differences(one)
            _show_fold(one)
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
        _show_checked(found)
        events = sum(one.events for one in found)
        said = "everything is as the log has it" if agrees else "not everything is as the log has it"
        print_line(f"{said}: {_pace(events, started)}")
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
            _json_new_commands(one)
            json_line(_rebuilt_fields(one, dry_run=dry_run))
        return
    for one in found:
        _show_fold(one)
    _show_rebuilt(found)
    said = "nothing was changed" if dry_run else "rebuilt: engines may start again"
    print_line(f"{said}: {_pace(sum(one.events for one in found), started)}")


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
    """A bar on standard error, for the partition that is folded; none where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task("", total=None)

        def on_progress(partition: int, done: int, total: int) -> None:
            said = f"partition {partition} of {partitions}" if partitions > 1 else "log"
            bar.update(task, description=said, completed=done, total=total)

        yield on_progress


# ---- what is printed ----------------------------------------------------------------------------


def _difference_fields(partition: int, difference: Difference) -> JsonObject:
    fields: JsonObject = {"partition": partition, "session": difference.session, "place": difference.place}
    for name, text in (("kept", difference.kept), ("log", difference.log)):
        if text is not None:
            value: Json = orjson.loads(text)
            fields[name] = value
    return fields


def _checked_fields(one: Checked) -> JsonObject:
    return compact(
        {
            "partition": one.partition,
            "offset": one.offset,
            "events": one.events,
            "sessions": one.sessions,
            "differing": one.differing,
            "agrees": one.agrees,
            "fold": one.fold,
            "refused": one.refused,
        }
    )


def _rebuilt_fields(one: Rebuilt, *, dry_run: bool) -> JsonObject:
    return compact(
        {
            "partition": one.partition,
            "offset": one.offset,
            "source": one.source.value,
            "events": one.events,
            "sessions": one.sessions,
            "elsewhere": one.elsewhere,
            "toDecide": one.to_decide,
            "fold": one.fold,
            "lost": one.lost.sessions or None,
            "rebuilt": not dry_run,
        }
    )


def _show_differences(one: Checked) -> None:
    if one.refused is not None:
        print_line(f"partition {one.partition}: {one.refused}")
    for difference in one.differences[:_LINES]:
        line = str(difference)
        print_line(f"partition {one.partition}: {line if len(line) <= _LONG else line[: _LONG - 1] + '…'}")
    if len(one.differences) > _LINES:
        print_line(f"partition {one.partition}: there are more: --json has up to 1,000")


def _json_new_commands(one: Checked | Rebuilt) -> None:
    for new in one.new_commands:
        json_line(
            {
                "partition": one.partition,
                "session": new.session,
                "instance": new.instance,
                "newCommand": new.command,
            }
        )


def _show_fold(one: Checked | Rebuilt) -> None:
    """Print the sessions' fold version if it differs, and the commands that only this release decides."""
    from triggerstream.core.tasks import FOLD_VERSION

    if one.fold is None:
        return
    which = f"version {one.fold} of the fold, and this release has {FOLD_VERSION}"
    print_line(f"partition {one.partition}: its sessions were folded with {which}")
    for new in one.new_commands[:_LINES]:
        said = f"only this release decides {new.instance} of session {new.session}, command {new.command}"
        print_line(f"partition {one.partition}: {said}")
    if len(one.new_commands) > _LINES:
        more = f"there are {len(one.new_commands):,} such commands: --json has all"
        print_line(f"partition {one.partition}: {more}")


def _show_checked(found: Sequence[Checked]) -> None:
    table(
        ["partition", "up to offset", "events", "sessions", "differing"],
        [
            [
                str(one.partition),
                str(one.offset),
                f"{one.events:,}",
                f"{one.sessions:,}",
                f"{one.differing:,}" if one.refused is None else "not checked",
            ]
            for one in found
        ],
    )


def _show_rebuilt(found: Sequence[Rebuilt]) -> None:
    table(
        ["partition", "continues at", "according to", "events", "sessions", "commands to decide"],
        [
            [
                str(one.partition),
                str(one.offset),
                _SOURCES[one.source.value],
                f"{one.events:,}",
                f"{one.sessions:,}",
                "" if one.to_decide is None else f"{one.to_decide:,}",
            ]
            for one in found
        ],
    )


_SOURCES = {
    "checkpoint": "its checkpoint",
    "group": "the group's offset",
    "given": "--from-offset",
    "empty": "an empty log",
}


def _pace(events: int, started: float) -> str:
    took_s = max(time.monotonic() - started, 0.001)
    return f"{events:,} events in {took_s:.1f} s, {events / took_s:,.0f} a second"
