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

from triggerstream.engine.counters import Counters
from triggerstream.engine.health.liveness import (
    BridgeFigures,
    PartitionHealth,
    Phase,
    PublishedHealth,
    WorkerFigures,
)
from triggerstream.engine.histogram import Durations
from triggerstream.web.families import Described, Distribution, Figure, Metrics, Rows

_F = TypeVar("_F", WorkerFigures, BridgeFigures)
_PARTITION = ("partition", "topic")


def worker_registry(health: PublishedHealth, *, store: Path) -> CollectorRegistry:
    """A worker's metrics. ``store``: the directory of its states."""
    size = Figure("store_bytes", "Size of its copy of the states on disk.", lambda _: _size(store))
    return _registry(health, (*COMMON, *WORKER, size))


def bridge_registry(health: PublishedHealth) -> CollectorRegistry:
    """A bridge's metrics."""
    return _registry(health, (*COMMON, *BRIDGE))


def _registry(health: PublishedHealth, described: tuple[Described, ...]) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    registry.register(Metrics(health, described))
    return registry


def _one(value: float | None) -> Rows:
    return [] if value is None else [((), value)]


def _by_partition(of: Callable[[PartitionHealth], float | None]) -> Callable[[PublishedHealth], Rows]:
    def rows(health: PublishedHealth) -> Rows:
        snapshot = health.snapshot
        return [
            ((str(one.partition), snapshot.topic), value)
            for one in snapshot.partitions
            if (value := of(one)) is not None
        ]

    return rows


def _of(kind: type[_F], value: Callable[[_F], float]) -> Callable[[PublishedHealth], Rows]:
    """A figure of a worker, or of a bridge."""

    def rows(health: PublishedHealth) -> Rows:
        figures = health.snapshot.figures
        return _one(value(figures)) if isinstance(figures, kind) else []

    return rows


def _done(value: Callable[[Counters], float]) -> Callable[[PublishedHealth], Rows]:
    return _of(WorkerFigures, lambda figures: value(figures.done))


def _checkpoints(health: PublishedHealth) -> Durations | None:
    figures = health.snapshot.figures
    return figures.done.took if isinstance(figures, WorkerFigures) else None


def _hand_overs(health: PublishedHealth) -> Durations | None:
    figures = health.snapshot.figures
    return figures.took if isinstance(figures, BridgeFigures) else None


def _phases(health: PublishedHealth) -> Rows:
    phase = health.phase
    return [((one.value,), one is phase) for one in Phase]


def _silence(health: PublishedHealth) -> Rows:
    silent_s = health.snapshot.silent_s
    return [] if math.isinf(silent_s) else _one(silent_s)


def _configurations(health: PublishedHealth) -> Rows:
    figures = health.snapshot.figures
    if not isinstance(figures, WorkerFigures):
        return []
    return [((name,), partitions) for name, partitions in sorted(figures.configurations.items())]


def _destinations(health: PublishedHealth) -> Rows:
    figures = health.snapshot.figures
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
    Figure("ready", "1 where /readyz answers 200.", lambda health: _one(health.unready() is None)),
    Figure("phase", "1 for the phase that the process is in, 0 for the others.", _phases, ("phase",)),
    Figure("partitions", "Partitions that it has.", lambda health: _one(len(health.snapshot.partitions))),
    Figure(
        "partitions_ready",
        "Those of them that are taken over.",
        lambda health: _one(sum(one.ready for one in health.snapshot.partitions)),
    ),
    Figure(
        "lag_records",
        "Offsets of the topic that are not done: not folded and durable, or not handed over.",
        _by_partition(lambda one: one.lag),
        _PARTITION,
    ),
    Figure(
        "blocked_records",
        "Those of them that cannot be read until a transaction of another program ends.",
        _by_partition(lambda one: one.blocked),
        _PARTITION,
    ),
    Figure(
        "lag_seconds",
        "For how long this process has seen the oldest of them wait.",
        lambda health: [
            ((str(partition), health.snapshot.topic), waits_s)
            for partition, waits_s in health.waits_s.items()
        ],
        _PARTITION,
    ),
    Figure(
        "done_offset",
        "The offset below which all is done.",
        _by_partition(lambda one: one.reached),
        _PARTITION,
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
        "unused_triggers_total",
        "Triggers that no task of the configuration in force used: perhaps misspelt, or fired too early.",
        _done(lambda done: done.unused),
    ),
    Figure(
        "event_ids_forgotten_total",
        "Events whose repetition would count, because $bounds.digests later events of their trigger came.",
        _done(lambda done: done.forgotten_ids),
    ),
    Figure(
        "unknown_session_events_total",
        "Outcomes, orders and timers for sessions of which nothing is known.",
        _done(lambda done: done.unknown),
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
        _by_partition(lambda one: one.recovery_left),
        _PARTITION,
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
