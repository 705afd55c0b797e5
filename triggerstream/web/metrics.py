"""Metrics in Prometheus' form, made of what a process tells of itself when they are asked for.

Labels are partitions, topics and hashes of configurations: never a session, never a command.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from typing import TypeAlias, TypeVar

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from triggerstream.engine.durations import BOUNDS_S, Durations
from triggerstream.engine.health import BridgeFigures, Phase, Place, Pulse, WorkerFigures
from triggerstream.engine.partition import Counters

PREFIX = "triggerstream_"

_F = TypeVar("_F", WorkerFigures, BridgeFigures)
_Rows: TypeAlias = "list[tuple[tuple[str, ...], float]]"
"""Values by the labels' values."""
_PLACE = ("partition", "topic")


@dataclass(frozen=True, slots=True)
class Described:
    """A metric: what it is called, what it says, and how it is read. A counter's name ends in ``_total``."""

    name: str
    text: str
    rows: Callable[[Pulse], _Rows]
    labels: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """What Prometheus calls it."""
        return "counter" if self.name.endswith("_total") else "gauge"

    def family(self, rows: _Rows) -> Metric:
        """The metric with ``rows``."""
        made = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = made(PREFIX + self.name, self.text, labels=self.labels)
        for labels, value in rows:
            family.add_metric(labels, value)
        return family

    def now(self, pulse: Pulse) -> Metric:
        """The metric, as things are now."""
        return self.family(self.rows(pulse))

    def empty(self) -> Metric:
        """The metric, without values."""
        return self.family([])


@dataclass(frozen=True, slots=True)
class Distributed:
    """A metric of how long something took, each time."""

    name: str
    text: str
    durations: Callable[[Pulse], Durations | None]
    labels: tuple[str, ...] = ()
    kind: str = "histogram"

    def family(self, durations: Durations | None) -> Metric:
        """The metric with ``durations``."""
        family = HistogramMetricFamily(PREFIX + self.name, self.text)
        if durations is not None:
            # Prometheus counts in each bucket those of the ones before, too.
            counts = list(accumulate(durations.counts))
            bounds = (*map(str, BOUNDS_S), "+Inf")
            family.add_metric((), list(zip(bounds, counts, strict=True)), durations.sum_s)
        return family

    def now(self, pulse: Pulse) -> Metric:
        """The metric, as things are now."""
        return self.family(self.durations(pulse))

    def empty(self) -> Metric:
        """The metric, without values."""
        return self.family(None)


_Each: TypeAlias = "Described | Distributed"


class Metrics(Collector):
    """Those of ``described``, of what ``pulse`` tells."""

    def __init__(self, pulse: Pulse, described: tuple[_Each, ...]) -> None:
        self._pulse = pulse
        self._described = described

    def describe(self) -> Iterator[Metric]:
        """The metrics, without values."""
        return (one.empty() for one in self._described)

    def collect(self) -> Iterator[Metric]:
        """The metrics, as things are now."""
        return (one.now(self._pulse) for one in self._described)


def worker_registry(pulse: Pulse, *, store: Path) -> CollectorRegistry:
    """A worker's metrics; ``store``: where it keeps states."""
    size = Described("store_bytes", "What its copy of the states takes on disk.", lambda _: _size(store))
    return _registry(pulse, (*COMMON, *WORKER, size))


def bridge_registry(pulse: Pulse) -> CollectorRegistry:
    """A bridge's metrics."""
    return _registry(pulse, (*COMMON, *BRIDGE))


def _registry(pulse: Pulse, described: tuple[_Each, ...]) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    registry.register(Metrics(pulse, described))
    return registry


def _one(value: float | None) -> _Rows:
    return [] if value is None else [((), value)]


def _places(of: Callable[[Place], float | None]) -> Callable[[Pulse], _Rows]:
    def rows(pulse: Pulse) -> _Rows:
        vitals = pulse.vitals
        return [
            ((str(place.partition), vitals.topic), value)
            for place in vitals.places
            if (value := of(place)) is not None
        ]

    return rows


def _of(kind: type[_F], value: Callable[[_F], float]) -> Callable[[Pulse], _Rows]:
    """Of a worker's figures, or of a bridge's."""

    def rows(pulse: Pulse) -> _Rows:
        figures = pulse.vitals.figures
        return _one(value(figures)) if isinstance(figures, kind) else []

    return rows


def _done(value: Callable[[Counters], float]) -> Callable[[Pulse], _Rows]:
    return _of(WorkerFigures, lambda figures: value(figures.done))


def _checkpoints(pulse: Pulse) -> Durations | None:
    figures = pulse.vitals.figures
    return figures.done.took if isinstance(figures, WorkerFigures) else None


def _hand_overs(pulse: Pulse) -> Durations | None:
    figures = pulse.vitals.figures
    return figures.took if isinstance(figures, BridgeFigures) else None


def _phases(pulse: Pulse) -> _Rows:
    phase = pulse.phase
    return [((one.value,), one is phase) for one in Phase]


def _silence(pulse: Pulse) -> _Rows:
    silent_s = pulse.vitals.silent_s
    return [] if math.isinf(silent_s) else _one(silent_s)


def _configurations(pulse: Pulse) -> _Rows:
    figures = pulse.vitals.figures
    if not isinstance(figures, WorkerFigures):
        return []
    return [((name,), partitions) for name, partitions in sorted(figures.configurations.items())]


def _size(store: Path) -> _Rows:
    size = 0
    for path in store.rglob("*"):
        try:
            size += path.stat().st_size
        except FileNotFoundError:
            continue  # RocksDB has just removed it
    return _one(size)


COMMON = (
    Described("build_info", "Always 1.", lambda _: [((version("triggerstream"),), 1)], ("version",)),
    Described("ready", "1 where /readyz answers 200.", lambda pulse: _one(pulse.unready() is None)),
    Described("phase", "1 for the phase that the process is in, 0 for the others.", _phases, ("phase",)),
    Described("partitions", "Partitions that it has.", lambda pulse: _one(len(pulse.vitals.places))),
    Described(
        "partitions_ready",
        "Those of them that are taken over.",
        lambda pulse: _one(sum(place.ready for place in pulse.vitals.places)),
    ),
    Described(
        "lag_records",
        "Offsets of the topic that are not done: not folded and durable, or not handed over.",
        _places(lambda place: place.lag),
        _PLACE,
    ),
    Described(
        "lag_seconds",
        "For how long this process has seen the oldest of them wait.",
        lambda pulse: [
            ((str(partition), pulse.vitals.topic), waits_s) for partition, waits_s in pulse.waits_s.items()
        ],
        _PLACE,
    ),
    Described(
        "done_offset", "The offset below which all is done.", _places(lambda place: place.reached), _PLACE
    ),
    Described("stuck_partitions", "Partitions that the watchdog finds stuck.", lambda p: _one(len(p.stuck))),
    Described("watchdog_trips_total", "Partitions that it found stuck so far.", lambda p: _one(p.trips)),
    Described("broker_silence_seconds", "Since the last answer of a Kafka broker.", _silence),
    Described("loop_silence_seconds", "Since the event loop last told.", lambda p: _one(p.quiet_s())),
)
"""What a worker and a bridge both have."""

WORKER = (
    Described("events_total", "Events folded.", _done(lambda done: done.events)),
    Described("decisions_total", "Commands and revocations decided.", _done(lambda done: done.decided)),
    Described("dead_letters_total", "Records that could not be folded.", _done(lambda d: d.dead_letters)),
    Described(
        "rehomed_total", "Records moved to the partition of their session.", _done(lambda done: done.rehomed)
    ),
    Described("checkpoints_total", "Transactions committed.", _done(lambda done: done.checkpoints)),
    Distributed(
        "checkpoint_seconds",
        "What each took, from the batches that wait to their states being stored.",
        _checkpoints,
    ),
    Described("batches_total", "Batches made durable by them.", _done(lambda done: done.batches)),
    Described("timers_fired_total", "Timer events appended.", _done(lambda done: done.timers)),
    Described("touches_total", "Sessions touched after a configuration.", _done(lambda done: done.touches)),
    Described(
        "rebalances_total", "Times that partitions changed hands.", _of(WorkerFigures, lambda f: f.rebalances)
    ),
    Described(
        "recovery_seconds",
        "How long the last take-over took.",
        _of(WorkerFigures, lambda figures: figures.recovery_s),
    ),
    Described(
        "recovery_remaining_records",
        "Offsets of the changelog still to be read.",
        _places(lambda place: place.recovery_left),
        _PLACE,
    ),
    Described(
        "timers_pending",
        "Sessions that wait for a timer.",
        _of(WorkerFigures, lambda figures: figures.timers),
    ),
    Described(
        "config_info", "Partitions in which this configuration is in force.", _configurations, ("hash",)
    ),
)

BRIDGE = (
    Described(
        "commands_handed_over_total",
        "Commands and revocations that the Celery broker confirmed.",
        _of(BridgeFigures, lambda figures: figures.handed_over),
    ),
    Distributed(
        "hand_over_seconds",
        "What the Celery broker took to confirm each.",
        _hand_overs,
    ),
    Described(
        "commands_refused_total",
        "Commands that became dead letters: they never can be handed over.",
        _of(BridgeFigures, lambda figures: figures.refused),
    ),
    Described(
        "commands_unconfirmed",
        "Commands taken from the topic that the Celery broker has not confirmed.",
        _of(BridgeFigures, lambda figures: figures.unconfirmed),
    ),
    Described(
        "executor_away",
        "1 while the Celery broker confirms nothing and commands wait.",
        _of(BridgeFigures, lambda figures: figures.away),
    ),
)
