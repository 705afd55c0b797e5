"""Comparison of CPU time with an earlier commit, whose wheel and this commit run in turns.

The fold alone, and the whole worker on Kafka, in bursts and scattered. CPU time, medians of the rounds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from tests.benchmarks import baseline, plain
from tests.benchmarks.journal import Fields, Journal
from tests.benchmarks.kafka import BURSTS, SCATTERED, Comparison, compare
from tests.benchmarks.kafka_cluster import say
from tests.benchmarks.peers.contenders import WORKER, Build
from tests.benchmarks.plain import FoldRounds
from tests.benchmarks.rows import Row

EVENTS = 160_000
ROUNDS = 7
NOISE = 1.02
"""Ratio up to which two programs count as equal: one program beside a copy of itself had up to this ratio."""


def run(journal: Journal, *, commit: str, events: int = EVENTS, rounds: int = ROUNDS) -> list[Row]:
    """Ratios of CPU time, this commit / ``commit``, and a sentence that sums them up on standard error."""
    with TemporaryDirectory() as name:
        build = baseline.build(commit, Path(name))

        def folds() -> Fields:
            return {"rows": [row.fields() for row in _folds(build, rounds)]}

        kept = journal.result({"fold against": commit, "rounds": rounds}, folds)
        rows = [Row.of(fields) for fields in kept["rows"]]
        for part, load in (
            ("before, bursts", BURSTS.resized(events)),
            ("before, scattered", SCATTERED.resized(events)),
        ):
            contenders = (WORKER, replace(WORKER, build=build))
            comparison = Comparison(part=part, load=load, contenders=contenders, rounds=rounds)
            rows += compare(comparison, journal)
    say(verdict(rows, commit))
    return rows


def _folds(build: Build, rounds: int) -> list[Row]:
    """µs an event of each log of :mod:`tests.benchmarks.plain_rounds`."""
    with ExitStack() as stack:
        earlier = stack.enter_context(FoldRounds(build.python, build.variables))
        ours = stack.enter_context(FoldRounds(Path(sys.executable), {}))
        pairs = [(earlier.round(), ours.round()) for _ in range(rounds)]
    return [
        Row(
            name=f"before, fold: {name}",
            value=median(now[case] for _, now in pairs),
            unit=plain.UNITS.get(case, "µs/event"),
            peer=f"commit {build.commit[:12]}",
            ratio=median(now[case] / before[case] for before, now in pairs),
        )
        for case, name in plain.NAMES.items()
    ]


def verdict(rows: Iterable[Row], commit: str) -> str:
    """A sentence that says what costs more CPU time than at ``commit``, if anything does."""
    more = []
    for row in rows:
        if row.ratio is None or row.unit not in {"µs/event", "events/CPU s", *plain.UNITS.values()}:
            continue
        cost = 1 / row.ratio if row.unit == "events/CPU s" else row.ratio
        if cost > NOISE:
            more.append(f"{row.name}: {cost:.2f} x")
    if not more:
        return f"nothing of the plain path costs more than at commit {commit[:12]}"
    return f"COSTS MORE than at commit {commit[:12]}: " + "; ".join(more)
