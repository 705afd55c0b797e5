"""Counts of what a tasks file would do to existing sessions, and the tables and lines that show them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from triggerstream.cli.opening import existing
from triggerstream.cli.printing import count_of, print_line, table
from triggerstream.cli.progress import part_name, progress_bar
from triggerstream.core import advice
from triggerstream.core.changes import FINAL, Consequence, may_have_consequences
from triggerstream.core.errors import TriggerstreamError
from triggerstream.core.ids import Json, JsonObject
from triggerstream.core.tasks import Configuration

if TYPE_CHECKING:
    from triggerstream.engine.queries.changes import CountedChange, TaskCounts

_COLUMNS = {
    Consequence.TOUCHED: "waiting and touched",
    Consequence.BEGUN: "begun at once",
    Consequence.DECIDED: "decided at once",
    Consequence.DUE: "of these, timer due",
    Consequence.EXPIRED: "expired at once",
    Consequence.ABANDONED: "abandoned at once",
    Consequence.CANCELLED: "cancelled at once",
    Consequence.FAILED: "failed: beyond a bound",
}
_ALWAYS = (Consequence.TOUCHED, Consequence.DECIDED)
"""Columns that are shown even if they hold zeros only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """The counts for the sessions at ``at``; or the ``problem`` because of which there are none."""

    at: str
    change: CountedChange | None
    problem: str | None = None


async def count_change(before: Configuration, after: Configuration, at: str) -> Counting:
    """Count what ``after`` in place of ``before`` would do to the sessions at ``at``.

    No session is looked at if the files alone show that nothing would happen.
    """
    from triggerstream import bootstrap
    from triggerstream.engine.garbage import collect_less_often
    from triggerstream.engine.queries.changes import CountedChange, count_changes

    if before.hash == after.hash or not may_have_consequences(before, after):
        return Counting(at=at, change=CountedChange())
    collect_less_often()
    try:
        snapshots = await bootstrap.snapshots(existing(at))
        with progress_bar() as show:

            def on_counted(partition: int, step: str, done: int, total: int | None) -> None:
                show(f"{step} {part_name(partition, len(snapshots), 'sessions')}", done, total)

            now_us = time.time_ns() // 1_000
            change = await count_changes(snapshots, after, at_us=now_us, on_counted=on_counted)
    except TriggerstreamError as exc:
        return Counting(at=at, change=None, problem=str(exc))
    return Counting(at=at, change=change)


def change_fields(counting: Counting) -> JsonObject:
    """The counts as JSON, for programs."""
    change = counting.change
    if change is None:
        return {"sessions": None, "notCounted": counting.problem}
    tasks: JsonObject = {name: _task_fields(counts) for name, counts in change.tasks.items()}
    partitions: list[Json] = [
        {
            "partition": one.partition,
            "offset": one.offset,
            "lastOffset": one.last_offset,
            "logEnd": one.log_end,
        }
        for one in change.partitions
    ]
    return {"sessions": {"looked": change.sessions, "partitions": partitions, "tasks": tasks}}


def _task_fields(counts: TaskCounts) -> JsonObject:
    examples: JsonObject = {one.value: [*counts.examples[one]] for one in Consequence if counts.counts[one]}
    return {**{one.value: counts.counts[one] for one in Consequence}, "examples": examples}


def show_change(counting: Counting) -> None:
    """Print the counts, with sessions as examples, and the point of the log that they describe."""
    change = counting.change
    if change is None:
        print_line(f"what would happen to sessions is not known: {counting.problem}", err=True)
        return
    if not change.partitions:
        print_line("to sessions: nothing would happen before their next events")
        return
    if change.tasks:
        shown = [one for one in Consequence if one in _ALWAYS or change.total(one)]
        rows = [
            [name, *(f"{counts.counts[one]:,}" for one in shown)] for name, counts in change.tasks.items()
        ]
        table(["task", *(_COLUMNS[one] for one in shown)], rows)
        for name, counts in change.tasks.items():
            for one, sessions in counts.examples.items():
                print_line(f"{name}, {_COLUMNS[one]}: {', '.join(sessions)}{_more(counts, one)}")
        print_line(advice.explain_examples(counting.at))
    else:
        print_line("to sessions: nothing would happen before their next events")
    print_line(_point(change))


def _more(counts: TaskCounts, one: Consequence) -> str:
    return ", …" if counts.counts[one] > len(counts.examples[one]) else ""


def _point(change: CountedChange) -> str:
    """The point of the log that the counts describe, and the events that they do not know."""
    partitions = change.partitions
    unfolded = sum(one.unfolded for one in partitions)
    if len(partitions) == 1:
        (only,) = partitions
        moved = "" if only.offset == only.last_offset else f" to {only.last_offset}"
        where = f"at offset {only.offset}{moved}"
    else:
        where = f"at the checkpoints of {len(partitions)} partitions"
    beyond = (
        f"{count_of(unfolded, 'event')} of the log that {'is' if unfolded == 1 else 'are'} not folded yet"
    )
    missing = [*([beyond] if unfolded else ()), "what arrives before the file does"]
    counted = f"counted in {count_of(change.sessions, 'session')}, as they were {where}"
    return f"{counted}; not counted: {', and '.join(missing)}"


def describe_final(change: CountedChange) -> str:
    """The final consequences in a few words: `31 instances decided, 2 abandoned`."""
    return ", ".join(_final(change))


def _final(change: CountedChange) -> Iterator[str]:
    noun = "instance"
    for one in (known for known in Consequence if known in FINAL):
        number = change.total(one)
        if number:
            counted = count_of(number, noun) if noun else f"{number:,}"
            yield f"{counted} {one.value}"
            noun = ""
