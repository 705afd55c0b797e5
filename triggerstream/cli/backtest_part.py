"""A part of a backtest, which a process of its own can fold."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from triggerstream.cli.processes import OnProgress, Progress
from triggerstream.core.errors import UsageError
from triggerstream.core.tasks import Configuration
from triggerstream.engine.replay.archive import HistoryLog
from triggerstream.engine.replay.backtest import Backtest
from triggerstream.engine.replay.backtest_counts import BacktestCounts
from triggerstream.engine.replay.history_lines import HistoryLines
from triggerstream.engine.replay.session_logs import Choice, SessionLogs
from triggerstream.settings import DEFAULT_APP
from triggerstream.wire import tasksfile

_TAIL = 100
"""Records at the end of a partition among which its latest arrival is: the last ones may be markers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksText:
    """A tasks file as text: what another process can be given."""

    name: str
    text: str

    def parsed(self) -> Configuration:
        """The configuration."""
        return tasksfile.read(self.text, name=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Sessions of a history, and the files to compare.

    ``address``: that of the app; ``partitions``: of its log, those to be read. Without ``address``,
    ``events`` is the file with the history. ``until_us`` is an instant, or with ``until_relative`` a time
    after the last event of the file.
    """

    old: TasksText
    new: TasksText
    choice: Choice
    address: str | None = None
    partitions: Sequence[int] = ()
    events: Path | None = None
    until_us: int | None = None
    until_relative: bool = False
    stream: IO[bytes] | None = field(default=None, repr=False)
    """Standard input, in place of a file, for the only part."""


def fold_part(part: Part, on_progress: OnProgress) -> BacktestCounts:
    """Fold a part under both files.

    Raises:
        TriggerstreamError: the history cannot be read.
    """
    from triggerstream.engine.garbage import collect_less_often

    collect_less_often()
    if part.address is not None:
        return asyncio.run(_fold_partitions(part, part.address, on_progress))
    if part.stream is not None:
        return _fold_lines(part, part.stream, "-", on_progress)
    path = part.events or Path()
    try:
        with path.open("rb") as lines:
            return _fold_lines(part, lines, str(path), on_progress)
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read: {exc.strerror}") from exc


def _fold_lines(part: Part, lines: IO[bytes], name: str, on_progress: OnProgress) -> BacktestCounts:
    history = HistoryLines(part.choice, name=name, default_app=DEFAULT_APP)
    progress = Progress()

    def on_read(number: int) -> None:
        progress.read += number // part.choice.shares  # each share reads all lines
        on_progress(progress)

    def on_folded(number: int) -> None:
        progress.done += number
        on_progress(progress)

    history.read(lines, on_read)
    until_us = part.until_us
    if until_us is not None and part.until_relative:
        until_us += history.latest_us
    backtest = Backtest(part.old.parsed(), part.new.parsed(), app=history.app, until_us=until_us)
    progress.total = history.logs.records
    history.logs.fold(backtest, on_folded)
    return backtest.counts


async def _fold_partitions(part: Part, address: str, on_progress: OnProgress) -> BacktestCounts:
    from triggerstream import bootstrap

    logs = await bootstrap.histories(address)
    try:
        chosen = [log for log in logs if log.number in part.partitions]
        extents = [await _extent(log, part.choice) for log in chosen]
        # Each share reads the records of all: it cannot know how many are its own.
        total = sum(end - begin for begin, end in extents)
        progress = Progress(total=total // part.choice.shares)

        def on_folded(number: int) -> None:
            progress.done += number
            on_progress(progress)

        backtest = Backtest(part.old.parsed(), part.new.parsed(), app=logs[0].app, until_us=part.until_us)
        for log, (begin, end) in zip(chosen, extents, strict=True):
            if begin > 0 and part.choice.since_us is None:
                backtest.counts.cut += part.choice.share == 0
            collected = SessionLogs(
                part.choice,
                app=log.app,
                control=log.control,
                partition=log.number,
                partitions=log.partitions,
            )
            async with aclosing(log.reader.records(begin, end)) as pieces:
                async for records in pieces:
                    for record in records:
                        collected.add(record)
                    progress.read += len(records) // part.choice.shares
                    on_progress(progress)
            collected.fold(backtest, on_folded)
        return backtest.counts
    finally:
        for log in logs:
            await log.close()


async def _extent(log: HistoryLog, choice: Choice) -> tuple[int, int]:
    return await log.reader.since(0 if choice.since_us is None else choice.since_us)


async def latest_arrival(address: str) -> int:
    """The latest arrival of the last records of each partition; 0 if there are none.

    Raises:
        TriggerstreamError: the log cannot be read.
    """
    from triggerstream import bootstrap

    logs, latest_us = await bootstrap.histories(address), 0
    try:
        for log in logs:
            begin, end = await log.reader.since(0)
            async with aclosing(log.reader.records(max(begin, end - _TAIL), end)) as pieces:
                async for records in pieces:
                    latest_us = max(latest_us, *(record.arrival_us for record in records), 0)
    finally:
        for log in logs:
            await log.close()
    return latest_us


def split(part: Part, *, partitions: Sequence[int], processes: int) -> Sequence[Part]:
    """``part`` for each of up to ``processes``: by partitions if there are enough, else by sessions."""
    if processes <= 1:
        return [replace(part, partitions=partitions)]
    if len(partitions) >= processes:
        return [replace(part, partitions=partitions[n::processes]) for n in range(processes)]
    return [
        replace(part, partitions=partitions, choice=replace(part.choice, share=n, shares=processes))
        for n in range(processes)
    ]
