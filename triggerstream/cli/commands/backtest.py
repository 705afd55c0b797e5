"""`triggerstream backtest`: fold a history under two tasks files, and show how their commands differ."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from triggerstream.cli.options import json_option, kafka_config_option
from triggerstream.core.errors import DecodeError, UsageError

if TYPE_CHECKING:
    from triggerstream.cli.backtest_part import Part

_STANDARD_INPUT: Final = "-"
_SQLITE: Final = b"SQLite format 3\0"
_BYTES_FOR_TWO: Final = 4 * 1024 * 1024
"""Size of a file of events below which a second process takes longer to start than it saves."""


@click.command()
@click.argument("new", metavar="NEW", type=click.Path(path_type=Path))
@click.option(
    "--against", "old", metavar="OLD", type=click.Path(path_type=Path), required=True, help="The other file."
)
@click.option(
    "--from",
    "source",
    metavar="WHERE|EVENTS",
    required=True,
    help="The history: an app in Kafka (kafka://127.0.0.1:9092/app), a state directory, or a file of events "
    "as `sessions export` prints them (- reads standard input).",
)
@click.option(
    "--since",
    metavar="TIME|DURATION",
    help="Only events that arrived at TIME or later, or within DURATION before now: sessions begin "
    "with them.",
)
@click.option(
    "--sessions",
    metavar="ID",
    multiple=True,
    help="Only sessions with this id, in which * stands for any characters. May be repeated.",
)
@click.option(
    "--until",
    metavar="TIME",
    help="Let time pass until TIME, or for +DURATION after the last event, in every session: timers that are "
    "due fire. Else each session's time ends with its own last event.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 256),
    help="Processes that fold in parallel. By default one for each processor.",
)
@kafka_config_option
@json_option
def backtest(
    *,
    new: Path,
    old: Path,
    source: str,
    since: str | None,
    sessions: tuple[str, ...],
    until: str | None,
    processes: int | None,
    as_json: bool,
) -> None:
    """Show which commands NEW would have decided differently from OLD, for past events.

    Folds the same history under both files, each as if it had been in force from the beginning; tasks files
    in the history are ignored. Nothing is sent or stored. Prints for each task the commands that NEW adds,
    removes, changes (arguments, run, queue, …) or decides later or earlier, with sessions as examples.

    The history's commands are those that OLD decides. A command that NEW decides with the same arguments ends
    as in the history: its outcome counts at its place, or right after the command if NEW decides it later.
    Any other command of NEW finishes at once with an empty result, and is counted. Operators' orders apply as
    they are. Time is that of the events' arrivals.

    Exits with 0 if nothing differs, 1 if anything does.
    """
    from triggerstream.cli.backtest_lines import explain_advice, show_json, show_report
    from triggerstream.cli.backtest_part import fold_part
    from triggerstream.cli.processes import Progress, run_parts
    from triggerstream.cli.progress import progress_bar
    from triggerstream.engine.replay.backtest_counts import BacktestCounts

    part, parts = _parts(
        new, old, source=source, since=since, sessions=sessions, until=until, processes=processes
    )
    started = time.monotonic()
    with progress_bar() as show:

        def on_progress(progress: Progress) -> None:
            if progress.total is None:
                show("events read", progress.read, None)
            else:
                show("events folded" if progress.done else "events read", progress.done, progress.total)

        results = run_parts(parts, fold_part, on_progress)
    seconds = time.monotonic() - started
    counts = BacktestCounts()
    for result in results:
        counts.add(result)
    if as_json:
        show_json(counts, seconds=seconds)
    else:
        how = explain_advice(at=part.address, new=str(new), events=source, until=until)
        show_report(counts, seconds=seconds, how=how)
    sys.exit(1 if counts.differs else 0)


def _parts(
    new: Path,
    old: Path,
    *,
    source: str,
    since: str | None,
    sessions: tuple[str, ...],
    until: str | None,
    processes: int | None,
) -> tuple[Part, list[Part]]:
    """The whole history, and its parts.

    Raises:
        TriggerstreamError: a file or the history cannot be used.
    """
    from triggerstream.cli.backtest_part import Part, TasksText, latest_arrival, split
    from triggerstream.cli.opening import existing
    from triggerstream.cli.tasks_file import load
    from triggerstream.engine.replay.session_logs import Choice

    texts = [TasksText(name=str(path), text=load(path).text) for path in (old, new)]
    choice = Choice(patterns=sessions, since_us=None if since is None else _since(since))
    until_us, relative = (None, False) if until is None else _until(until)
    part = Part(old=texts[0], new=texts[1], choice=choice, until_us=until_us, until_relative=relative)
    most = processes or os.cpu_count() or 1
    if source == _STANDARD_INPUT:
        part = replace(part, stream=sys.stdin.buffer)
        return part, [part]
    if _is_events(source):
        part = replace(part, events=Path(source))
        enough = 1 if relative else (Path(source).stat().st_size // _BYTES_FOR_TWO) + 1
        most = min(most, enough) if processes is None or relative else most
        return part, [*split(part, partitions=(), processes=most)]
    address = str(existing(source))
    if until_us is not None and relative:
        until_us += asyncio.run(latest_arrival(address))
    part = replace(part, address=address, until_us=until_us, until_relative=False)
    numbers = asyncio.run(_partitions(address))
    return part, [*split(part, partitions=numbers, processes=most)]


async def _partitions(address: str) -> list[int]:
    from triggerstream import bootstrap

    logs = await bootstrap.histories(address)
    for log in logs:
        await log.close()
    return [log.number for log in logs]


def _is_events(source: str) -> bool:
    """True if ``source`` is a file of events; False for an address, a directory, or a database.

    Raises:
        UsageError: it cannot be read.
    """
    path = Path(source)
    try:
        if "://" in source or path.is_dir():
            return False
        if not path.is_file():
            raise UsageError(f"{source}: there is no such file of events or state directory")
        with path.open("rb") as file:
            return file.read(len(_SQLITE)) != _SQLITE
    except (OSError, ValueError) as exc:
        raise UsageError(f"{source}: cannot be read: {exc}") from exc


def _since(text: str) -> int:
    from triggerstream.wire.durations import parse_duration
    from triggerstream.wire.instants import parse_instant

    ago = parse_duration(text)
    if ago is not None:
        return time.time_ns() // 1_000 - ago
    try:
        return parse_instant(text, path="TIME")
    except DecodeError as exc:
        raise UsageError(f"--since: {exc}; or write 90s, 36h or 30d") from exc


def _until(text: str) -> tuple[int, bool]:
    """An instant, or the time after the last event; True for the latter."""
    from triggerstream.wire.durations import parse_duration
    from triggerstream.wire.instants import parse_instant

    if text.startswith("+"):
        micros = parse_duration(text[1:])
        if micros is None:
            raise UsageError("--until: write +90s, +5m, +36h, +3d or +1h30m, or a time")
        return micros, True
    if parse_duration(text) is not None:
        raise UsageError(f"--until: did you mean `+{text}`?")
    try:
        return parse_instant(text, path="TIME"), False
    except DecodeError as exc:
        raise UsageError(f"--until: {exc}") from exc
