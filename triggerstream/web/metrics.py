"""The metrics of a worker and of a bridge, in Prometheus' form, read from the process's published health.

Labels are partitions, topics, hashes of configurations and at most 20 queues: never a session or a command.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from triggerstream.engine.health.liveness import BridgeFigures, Phase, Place, Pulse, WorkerFigures
from triggerstream.engine.histogram import Durations
from triggerstream.engine.partitioned.partition import Counters
from triggerstream.web.families import Described, Distribution, Figure, Metrics, Rows

_F = TypeVar("_F", WorkerFigures, BridgeFigures)
_PLACE = ("partition", "topic")


def worker_registry(pulse: Pulse, *, store: Path) -> CollectorRegistry:
    """A worker's metrics. ``store``: the directory of its states."""
    size = Figure("store_bytes", "Size of its copy of the states on disk.", lambda _: _size(store))
    return _registry(pulse, (*COMMON, *WORKER, size))


def bridge_registry(pulse: Pulse) -> CollectorRegistry:
    """A bridge's metrics."""
    return _registry(pulse, (*COMMON, *BRIDGE))


def _registry(pulse: Pulse, described: tuple[Described, ...]) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    registry.register(Metrics(pulse, described))
    return registry


def _one(value: float | None) -> Rows:
    return [] if value is None else [((), value)]


def _places(of: Callable[[Place], float | None]) -> Callable[[Pulse], Rows]:
    def rows(pulse: Pulse) -> Rows:
        vitals = pulse.vitals
        return [
            ((str(place.partition), vitals.topic), value)
            for place in vitals.places
            if (value := of(place)) is not None
        ]

    return rows


def _of(kind: type[_F], value: Callable[[_F], float]) -> Callable[[Pulse], Rows]:
    """A figure of a worker, or of a bridge."""

    def rows(pulse: Pulse) -> Rows:
        figures = pulse.vitals.figures
        return _one(value(figures)) if isinstance(figures, kind) else []

    return rows


def _done(value: Callable[[Counters], float]) -> Callable[[Pulse], Rows]:
    return _of(WorkerFigures, lambda figures: value(figures.done))


def _checkpoints(pulse: Pulse) -> Durations | None:
    figures = pulse.vitals.figures
    return figures.done.took if isinstance(figures, WorkerFigures) else None


def _hand_overs(pulse: Pulse) -> Durations | None:
    figures = pulse.vitals.figures
    return figures.took if isinstance(figures, BridgeFigures) else None


def _phases(pulse: Pulse) -> Rows:
    phase = pulse.phase
    return [((one.value,), one is phase) for one in Phase]


def _silence(pulse: Pulse) -> Rows:
    silent_s = pulse.vitals.silent_s
    return [] if math.isinf(silent_s) else _one(silent_s)


def _configurations(pulse: Pulse) -> Rows:
    figures = pulse.vitals.figures
    if not isinstance(figures, WorkerFigures):
        return []
    return [((name,), partitions) for name, partitions in sorted(figures.configurations.items())]


def _destinations(pulse: Pulse) -> Rows:
    figures = pulse.vitals.figures
    if not isinstance(figures, BridgeFigures):
        return []
    return [((one.destination,), one.waiting) for one in figures.destinations]


def _size(store: Path) -> Rows:
    size = 0
    for path in store.rglob("*"):
        try:
            size += path.stat().st_size
        except FileNotFoundError:
            continue  # RocksDB has just removed it
    return _one(size)


COMMON = (
    Figure("build_info", "Always 1.", lambda _: [((version("triggerstream"),), 1)], ("version",)),
    Figure("ready", "1 where /readyz answers 200.", lambda pulse: _one(pulse.unready() is None)),
    Figure("phase", "1 for the phase that the process is in, 0 for the others.", _phases, ("phase",)),
    Figure("partitions", "Partitions that it has.", lambda pulse: _one(len(pulse.vitals.places))),
    Figure(
        "partitions_ready",
        "Those of them that are taken over.",
        lambda pulse: _one(sum(place.ready for place in pulse.vitals.places)),
    ),
    Figure(
        "lag_records",
        "Offsets of the topic that are not done: not folded and durable, or not handed over.",
        _places(lambda place: place.lag),
        _PLACE,
    ),
    Figure(
        "lag_seconds",
        "For how long this process has seen the oldest of them wait.",
        lambda pulse: [
            ((str(partition), pulse.vitals.topic), waits_s) for partition, waits_s in pulse.waits_s.items()
        ],
        _PLACE,
    ),
    Figure(
        "done_offset", "The offset below which all is done.", _places(lambda place: place.reached), _PLACE
    ),
    Figure("stuck_partitions", "Partitions that the watchdog finds stuck.", lambda p: _one(len(p.stuck))),
    Figure("watchdog_trips_total", "Partitions that it found stuck so far.", lambda p: _one(p.trips)),
    Figure("broker_silence_seconds", "Since the last answer of a Kafka broker.", _silence),
    Figure("loop_silence_seconds", "Since the event loop last ran.", lambda p: _one(p.quiet_s())),
)
"""Metrics that a worker and a bridge both have."""

WORKER = (
    Figure("events_total", "Events folded.", _done(lambda done: done.events)),
    Figure("decisions_total", "Commands and revocations decided.", _done(lambda done: done.decided)),
    Figure(
        "dead_letters_total",
        "Records that could not be folded, and triggers of tasks that were left out.",
        _done(lambda done: done.dead_letters),
    ),
    Figure(
        "triggers_left_out_total",
        "Triggers of tasks that a bound left out: dead letters that can be redriven.",
        _done(lambda done: done.left_out),
    ),
    Figure(
        "prevented_by_bounds_total",
        "Instances not created or not decided, and seeds not created, because of a bound.",
        _done(lambda done: done.prevented),
    ),
    Figure(
        "rehomed_total", "Records moved to the partition of their session.", _done(lambda done: done.rehomed)
    ),
    Figure("checkpoints_total", "Transactions committed.", _done(lambda done: done.checkpoints)),
    Distribution(
        "checkpoint_seconds",
        "Time of each checkpoint, from its turn (8 at a time) until its states are stored.",
        _checkpoints,
    ),
    Figure("batches_total", "Batches made durable by them.", _done(lambda done: done.batches)),
    Figure("timers_fired_total", "Timer events appended.", _done(lambda done: done.timers)),
    Figure("touches_total", "Sessions touched after a configuration.", _done(lambda done: done.touches)),
    Figure(
        "rebalances_total", "Times that partitions changed hands.", _of(WorkerFigures, lambda f: f.rebalances)
    ),
    Figure(
        "recovery_seconds",
        "How long the last take-over took.",
        _of(WorkerFigures, lambda figures: figures.recovery_s),
    ),
    Figure(
        "recovery_remaining_records",
        "Offsets of the changelog still to be read.",
        _places(lambda place: place.recovery_left),
        _PLACE,
    ),
    Figure(
        "timers_pending",
        "Sessions that wait for a timer.",
        _of(WorkerFigures, lambda figures: figures.timers),
    ),
    Figure("config_info", "Partitions in which this configuration is in force.", _configurations, ("hash",)),
)

BRIDGE = (
    Figure(
        "commands_handed_over_total",
        "Commands and revocations that the Celery broker confirmed.",
        _of(BridgeFigures, lambda figures: figures.handed_over),
    ),
    Distribution(
        "hand_over_seconds",
        "Time until the Celery broker confirmed each.",
        _hand_overs,
    ),
    Figure(
        "commands_refused_total",
        "Commands that became dead letters: they never can be handed over.",
        _of(BridgeFigures, lambda figures: figures.refused),
    ),
    Figure(
        "commands_unconfirmed",
        "Commands taken from the topic that the Celery broker has not confirmed.",
        _of(BridgeFigures, lambda figures: figures.unconfirmed),
    ),
    Figure(
        "executor_away",
        "1 while the Celery broker confirms nothing and commands wait.",
        _of(BridgeFigures, lambda figures: figures.away),
    ),
    Figure(
        "refused_destination_commands",
        "Commands that wait for a queue or exchange that the Celery broker refuses: the 20 with the most.",
        _destinations,
        ("destination",),
    ),
)
