"""``make bench``: measures, prints the table, and writes the same rows to ``build/bench.json``.

``python -m tests.benchmarks [PART ...]`` measures the named parts, or all but the long ones. Results of
the same commit are kept in ``build/bench``, also of an interrupted run; ``--fresh`` measures again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tests.benchmarks import (
    backtest,
    baseline,
    before,
    core,
    embedded,
    kafka,
    kafka_latency,
    kafka_many,
    kafka_memory,
    kafka_recovery,
    kafka_sharing,
    latency,
    machine,
    open_instances,
    past,
    plain,
    timers,
    web,
)
from tests.benchmarks.journal import Fields, Journal
from tests.benchmarks.rows import Row, table, write
from tests.support.environment import forget_settings, keep_bytecode
from triggerstream.core.errors import TriggerstreamError

ROWS = Path("build/bench.json")
JOURNALS = Path("build/bench")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options of the command line. None: the part's own value."""

    rounds: int | None = None
    events: int | None = None
    sessions: int = kafka_recovery.SESSIONS
    minutes: float = kafka_memory.MINUTES
    base: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part that can be measured alone. ``minutes`` is how long it takes on a quiet machine."""

    about: str
    minutes: float
    run: Callable[[Journal, Settings], list[Row]]
    is_long: bool = False


def once(run: Callable[[], list[Row]]) -> Callable[[Journal, Settings], list[Row]]:
    """A part that is kept in the journal as a whole."""
    return lambda journal, _: _kept(journal, {"part": "whole"}, run)


def _kept(journal: Journal, key: Fields, run: Callable[[], list[Row]]) -> list[Row]:
    def rows() -> Fields:
        return {"rows": [row.fields() for row in run()]}

    return [Row.of(fields) for fields in journal.result(key, rows)["rows"]]


def compared(comparison: kafka.Comparison) -> Callable[[Journal, Settings], list[Row]]:
    """A part of the worker beside its peers, each run of which is kept in the journal."""

    def run(journal: Journal, settings: Settings) -> list[Row]:
        rounds = settings.rounds or comparison.rounds
        load = comparison.load if settings.events is None else comparison.load.resized(settings.events)
        return kafka.compare(replace(comparison, rounds=rounds, load=load), journal)

    return run


def _before(journal: Journal, settings: Settings) -> list[Row]:
    commit = baseline.commit_of(settings.base) if settings.base else baseline.base()
    events, rounds = settings.events or before.EVENTS, settings.rounds or before.ROUNDS
    return before.run(journal, commit=commit, events=events, rounds=rounds)


def _recovery(journal: Journal, settings: Settings) -> list[Row]:
    sessions = settings.sessions
    return _kept(journal, {"sessions": sessions}, partial(kafka_recovery.run, sessions))


def _memory(journal: Journal, settings: Settings) -> list[Row]:
    minutes = settings.minutes
    return _kept(journal, {"minutes": minutes}, partial(kafka_memory.run, minutes))


def _sharing(journal: Journal, settings: Settings) -> list[Row]:
    commit = baseline.commit_of(settings.base) if settings.base else baseline.base()
    return _kept(journal, {"sharing against": commit}, partial(kafka_sharing.run, commit))


_ABOUT = {
    "kafka": "worker, quix-streams and Kafka Streams, lean and with the same content, sessions in bursts",
    "kafka-scattered": "the same, each event of another session than the one before",
    "kafka-intervals": "quix-streams with the other commit intervals",
    "kafka-workers": "with and without the web view; two workers",
    "kafka-200": "200 partitions",
    "kafka-large": "2,000,000 sessions in one partition",
    "kafka-limits": "aiokafka without state, and stock Faust",
}
_MINUTES = {"kafka": 9.0, "kafka-large": 8.0}

PARTS: dict[str, Part] = {
    "core": Part(about="decode, step and encode of an event", minutes=1, run=once(core.run)),
    "plain": Part(about="lists of triggers, beside an earlier commit", minutes=1, run=once(plain.run)),
    "open-instances": Part(about="many open instances or triggers", minutes=1, run=once(open_instances.run)),
    "timers": Part(about="timers, many at once", minutes=3, run=once(timers.run)),
    "past": Part(about="events of a session by its past", minutes=1, run=once(past.run)),
    "backtest": Part(about="a backtest of a file of events", minutes=1, run=once(backtest.run)),
    "embedded": Part(about="the engine on SQLite", minutes=1, run=once(embedded.run)),
    "latency": Part(about="fire to the start of the task, with dev", minutes=1, run=once(latency.run)),
    "before": Part(about="fold and worker beside those of commit BASE", minutes=8, run=_before),
    **{
        one.part: Part(about=_ABOUT[one.part], minutes=_MINUTES.get(one.part, 5.0), run=compared(one))
        for one in kafka.COMPARISONS
    },
    "kafka-latency": Part(about="latency at 100 and 1,000 events/s", minutes=4, run=once(kafka_latency.run)),
    "kafka-sharing": Part(
        about="transactions, sockets and latency at 100 events/s, beside commit BASE", minutes=6, run=_sharing
    ),
    "kafka-many": Part(
        about="200 partitions: ready, sockets; a backlog in 96 on a busy machine",
        minutes=3,
        run=once(kafka_many.run),
    ),
    "web": Part(about="pages of two workers, 200,000 sessions", minutes=5, run=once(web.run), is_long=True),
    "recovery": Part(about="ready and fail-over, 1,000,000 sessions", minutes=8, run=_recovery, is_long=True),
    "memory": Part(about="memory at 2,000 events/s, MINUTES=60", minutes=62, run=_memory, is_long=True),
}


def listed() -> str:
    """The parts, a line each."""
    lines = []
    for name, part in PARTS.items():
        where = "bench-long" if part.is_long else "bench"
        lines.append(f"  {name:<16} {part.about} (make {where}, {part.minutes:g} min)")
    return "\n".join(lines)


def main(words: Sequence[str]) -> int:
    """Run the parts that are named, and write their rows as each ends; the status is 1 if one has no rows."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measure, print a table, and write rows to build/bench.json.",
        epilog=f"parts:\n{listed()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="default: all but long")
    parser.add_argument("--long", action="store_true", help="without PART: the long ones")
    parser.add_argument("--fresh", action="store_true", help="do not use what an earlier run measured")
    parser.add_argument("--rounds", type=int, help="how often each contender runs")
    parser.add_argument("--events", type=int, help="events of a run, both halves together")
    parser.add_argument("--sessions", type=int, default=kafka_recovery.SESSIONS, help="of recovery")
    parser.add_argument("--minutes", type=float, default=kafka_memory.MINUTES, help="of memory")
    parser.add_argument(
        "--base",
        default="",
        help=f"commit to compare with; default: the last release, {baseline.BASE} before the first",
    )
    given = parser.parse_args(words)
    for part in given.parts:
        if part not in PARTS:
            parser.error(f"there is no part {part!r}: choose from {', '.join(PARTS)}")
    settings = Settings(
        rounds=given.rounds,
        events=given.events,
        sessions=given.sessions,
        minutes=given.minutes,
        base=given.base,
    )
    chosen = given.parts or [name for name, part in PARTS.items() if part.is_long == given.long]
    forget_settings(os.environ)
    keep_bytecode(os.environ)  # else a process compiles all modules at each start
    print(machine.describe(), flush=True)
    if not machine.interpreter().has_pgo:
        print("The worker is about 1.25 x as fast on a Python built with PGO: make clean install", flush=True)
    status = 0
    for number, name in enumerate(chosen):
        print(f"{name}, part {number + 1} of {len(chosen)}, {time.strftime('%H:%M')}", flush=True)
        try:
            rows = measured(name, settings, fresh=given.fresh)
        except (AssertionError, OSError, subprocess.CalledProcessError, TriggerstreamError):
            print(f"{name} FAILED:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
            rows = []
        print(table(rows), flush=True)
        status = status if rows else 1
    return status


def measured(name: str, settings: Settings, *, fresh: bool = False) -> list[Row]:
    """The rows of a part, which are written as well."""
    path = JOURNALS / f"{name}.jsonl"
    if fresh:
        path.unlink(missing_ok=True)
    common = machine.fields()
    rows = PARTS[name].run(Journal(path, common), settings)
    if rows:
        write(name, rows, ROWS, common=common)
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
