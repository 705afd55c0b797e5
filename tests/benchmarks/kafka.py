"""The worker on a real Kafka beside its peers: parts, each a load, a number of partitions, and contenders.

Contenders take turns, so that the machine is the same for all; each round begins with another one. Ratios are
medians over the rounds of worker / peer in one round. A part that was interrupted continues where it was.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from tests.benchmarks.journal import Fields, Journal
from tests.benchmarks.kafka_cluster import cluster, quiet, say, say_load, say_skipped
from tests.benchmarks.kafka_runs import Run, run_once
from tests.benchmarks.loads import Bursts, Load, Returning, Scattered
from tests.benchmarks.peers.contenders import COMMIT_MS, FAUST, PLAIN, WORKER, Contender, kafka_streams, quix
from tests.benchmarks.rows import Row
from tests.support.kafka.server import KafkaUnavailableError
from triggerstream.adapters.kafka.topics import DEFAULT_PARTITIONS
from triggerstream.core.errors import TriggerstreamError

EVENTS = 504_000
"""In both halves together, with 10,500 sessions in each of 12 partitions. The JVM is warm in the second."""
ROUNDS = 5
LARGE_SESSIONS = 2_000_000
_LARGE_STRIDE = 32
_FAUST_EVENTS = 96_000
"""Stock Faust takes ten times as long as the others."""
_BROKER_WARM_UP = 50_000

MAIN = (
    WORKER,
    quix("lean"),
    quix("same", COMMIT_MS),
    kafka_streams("lean"),
    kafka_streams("same"),
)
SAME = (WORKER, quix("same", COMMIT_MS), kafka_streams("same"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One part: a load, partitions, contenders. Ratios are those of the first contender to the others."""

    part: str
    load: Load
    contenders: Sequence[Contender]
    partitions: int = DEFAULT_PARTITIONS
    rounds: int = ROUNDS


BURSTS = Bursts(sessions=1).resized(EVENTS)
SCATTERED = Scattered(sessions=1).resized(EVENTS)

COMPARISONS = (
    Comparison(part="kafka", load=BURSTS, contenders=MAIN),
    Comparison(part="kafka-scattered", load=SCATTERED, contenders=MAIN),
    Comparison(
        part="kafka-intervals", load=BURSTS, contenders=(WORKER, quix("lean", COMMIT_MS), quix("same"))
    ),
    Comparison(
        part="kafka-workers",
        load=BURSTS,
        contenders=(WORKER, replace(WORKER, has_web=False), replace(WORKER, processes=2)),
    ),
    Comparison(part="kafka-200", load=BURSTS, contenders=SAME, partitions=200, rounds=3),
    Comparison(
        part="kafka-large",
        load=Returning(sessions=LARGE_SESSIONS, stride=_LARGE_STRIDE, partitions=1),
        contenders=SAME,
        partitions=1,
        rounds=1,
    ),
    Comparison(
        part="kafka-limits", load=BURSTS.resized(_FAUST_EVENTS), contenders=(WORKER, PLAIN, FAUST), rounds=3
    ),
)


Rounds = list[dict[str, Run]]
"""The runs of each round, by the contender's name. One that failed is not in it."""


def compare(comparison: Comparison, journal: Journal) -> list[Row]:
    """CPU, time and ratios of each contender; none where there is no Kafka."""
    contenders = []
    for contender in comparison.contenders:
        if (lacking := contender.missing()) is None:
            contenders.append(contender)
        else:
            say(f"SKIPPED, {contender.name}: lacking {lacking}")
    say(f"{comparison.part}: {comparison.load.name}, {comparison.partitions} partitions")
    quiet()
    say_load()
    possible = replace(comparison, contenders=contenders)
    try:
        return rows_of(possible, measure(possible, journal))
    except KafkaUnavailableError as exc:
        say_skipped(exc)
        return []


def measure(comparison: Comparison, journal: Journal) -> Rounds:
    """The runs of all rounds. A server is started for the first that is not in ``journal``."""
    contenders, made = comparison.contenders, Rounds()
    total, began = comparison.rounds * len(contenders), time.monotonic()
    with ExitStack() as stack:

        @cache
        def server() -> tuple[str, Path]:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            bootstrap = stack.enter_context(cluster(folder))
            _warm_up(bootstrap, folder)
            return bootstrap, folder

        for number in range(comparison.rounds):
            runs: dict[str, Run] = {}
            first = number % len(contenders)
            for at, contender in enumerate([*contenders[first:], *contenders[:first]]):
                done = number * len(contenders) + at
                said = f"{comparison.part}, run {done + 1} of {total}, {contender.name}"
                run = _run(said, comparison, contender, journal, number=number, server=server)
                if run is not None:
                    runs[contender.name] = run
                minutes = (time.monotonic() - began) / 60
                say(f"{minutes:.1f} min, about {minutes / (done + 1) * (total - done - 1):.1f} min left")
            made.append(runs)
    return made


def _warm_up(bootstrap: str, folder: Path) -> None:
    """Compile the broker's code, and make its topic for transactions, before the first run that counts."""
    say("warming the broker up")
    partitions = DEFAULT_PARTITIONS
    run_once(
        WORKER, BURSTS.resized(_BROKER_WARM_UP), bootstrap=bootstrap, folder=folder, partitions=partitions
    )


def _run(
    said: str,
    comparison: Comparison,
    contender: Contender,
    journal: Journal,
    *,
    number: int,
    server: Callable[[], tuple[str, Path]],
) -> Run | None:
    """The run, from the journal if it is there; None if the contender failed, which is said."""

    def run() -> Fields:
        bootstrap, folder = server()
        place = folder / f"run-{number}"
        try:
            made = run_once(
                contender,
                comparison.load,
                bootstrap=bootstrap,
                folder=place,
                partitions=comparison.partitions,
            )
        finally:
            shutil.rmtree(place, ignore_errors=True)
        return made.fields()

    key = key_of(comparison, contender, number)
    is_known = journal.knows(key)
    try:
        found = Run.of(journal.result(key, run))
    except (AssertionError, TriggerstreamError) as exc:
        say(f"{said}: FAILED, and left out: {exc}")
        return None
    rate = comparison.load.events / found.cpu_s if found.cpu_s else 0.0
    again = ", measured before" if is_known else ""
    say(f"{said}: {rate:,.0f} events/CPU s, {found.wall_s:.1f} s{again} {found.wrong}".rstrip())
    return found


def key_of(comparison: Comparison, contender: Contender, number: int) -> Fields:
    """The key of a run in a journal."""
    return {
        "part": comparison.part,
        "load": comparison.load.name,
        "partitions": comparison.partitions,
        "contender": contender.name,
        "round": number,
    }


def rows_of(comparison: Comparison, rounds: Rounds) -> list[Row]:
    """Medians of each contender, and ratios of the first to each other one."""
    events, first = comparison.load.events, comparison.contenders[0].name
    rows: list[Row] = []
    for name in dict.fromkeys(contender.name for contender in comparison.contenders):
        runs = [runs[name] for runs in rounds if name in runs]
        if not runs:
            continue
        wrong = "; ".join(sorted({run.wrong for run in runs if run.wrong}))
        said = f"{comparison.part}: {name}" + (f" [{wrong}]" if wrong else "")
        cpu_s, wall_s = median(run.cpu_s for run in runs), median(run.wall_s for run in runs)
        for unit, spent_s in (("events/CPU s", cpu_s), ("events/s", wall_s)):
            if spent_s:
                value = events / spent_s
                rows.append(Row(name=said, value=value, unit=unit, cpu_s=cpu_s, wall_s=wall_s))
        ready_s = median(run.ready_s for run in runs)
        rows.append(Row(name=f"{said}, start to first command", value=ready_s, unit="s"))
    for contender in comparison.contenders[1:]:
        pairs = [
            (runs[first], runs[contender.name]) for runs in rounds if {first, contender.name} <= set(runs)
        ]
        rows += _ratios(comparison, first, contender.name, pairs)
    return rows


def _ratios(comparison: Comparison, first: str, peer: str, pairs: list[tuple[Run, Run]]) -> list[Row]:
    """Rows with the events that ``first`` folds in the time, and in the CPU time, of one of ``peer``."""
    events, said = comparison.load.events, f"{comparison.part}: {first}"
    rows = []
    for unit, times in (
        ("events/CPU s", [(ours.cpu_s, theirs.cpu_s) for ours, theirs in pairs]),
        ("events/s", [(ours.wall_s, theirs.wall_s) for ours, theirs in pairs]),
    ):
        known = [(ours, theirs) for ours, theirs in times if ours and theirs]
        if known:
            value = events / median(ours for ours, _ in known)
            ratio = median(theirs / ours for ours, theirs in known)
            rows.append(Row(name=said, value=value, unit=unit, peer=peer, ratio=ratio))
    return rows
