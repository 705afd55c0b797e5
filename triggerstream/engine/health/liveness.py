"""The published health of a process: its event loop writes it, and any other thread may read it.

This module decides whether a process is alive, started and ready, so that both mean the same in every
process:

- *alive*: its event loop runs, and no partition is stuck. It does not matter whether Kafka or an executor is
  available, because a restart does not help.
- *started*: it has joined its consumer group at least once.
- *ready*: it has taken over all assigned partitions, and the brokers answer.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from triggerstream.core.errors import LogError
from triggerstream.engine.background import TaskEndedError
from triggerstream.engine.counters import Counters
from triggerstream.engine.handover.destinations import RefusedDestination
from triggerstream.engine.health.lag import Wait
from triggerstream.engine.histogram import Durations

PUBLISH_EVERY_S = 1.0
"""Seconds between two updates of the health by an event loop."""
LOOP_S = 60.0
"""Time without a published health after which an event loop counts as hung. One batch, or one chunk of a
changelog, keeps it busy for some seconds at most."""
AWAY_S = 15.0
"""Time without an answer of any broker after which they count as away. Heartbeats bring one every 3 s."""
STUCK_PROGRESS_S = 300.0
SILENT_S = 60.0
"""Time without an answer of any broker after which a process ends and is restarted, so that it reads
certificates and passwords and resolves names again. A restarting broker is back earlier."""


class Phase(Enum):
    """The phase of a process between its start and its end."""

    STARTING = "starting"
    REBALANCING = "rebalancing"
    RECOVERING = "recovering"
    READY = "ready"
    STOPPING = "stopping"


_WHILE = {
    Phase.STARTING: "starting: not in its consumer group yet",
    Phase.REBALANCING: "partitions change hands",
    Phase.RECOVERING: "recovering: {left:,} changelog records left",
    Phase.STOPPING: "stopping: finishing what is in flight",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionHealth:
    """Health of a partition that the process has.

    All records below ``reached`` are done. ``lag`` is the number of records that are not; None: unknown. The
    last ``blocked`` of them cannot be read until a transaction ends that another program has open.
    ``recovery_left``: the changelog records still to be read.
    """

    partition: int
    ready: bool
    reached: int
    lag: int | None
    blocked: int = 0
    recovery_left: int = 0

    @property
    def readable(self) -> bool:
        """True if it has records that the process could work on."""
        return self.lag is not None and self.lag > self.blocked


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFigures:
    """Counters of a worker since it started, and what it holds. ``configurations``: partitions by hash."""

    done: Counters
    rebalances: int
    recovery_s: float
    timers: int
    configurations: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeFigures:
    """Counters of a bridge since it started; ``away``: the executor did not confirm the last command.

    ``destinations``: those that the executor's broker refuses. ``took``: times until the executor's
    confirmation.
    """

    handed_over: int
    refused: int
    unconfirmed: int
    away: bool
    destinations: tuple[RefusedDestination, ...] = ()
    took: Durations = field(default_factory=Durations)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSnapshot:
    """Snapshot of the health of a process.

    ``silent_s``: seconds since a broker's last answer. ``waits``: the remaining work waits neither for this
    process nor for the log. ``topic`` is the topic of the partitions.
    """

    phase: Phase = Phase.STARTING
    joined: bool = False
    silent_s: float = math.inf
    waits: bool = False
    topic: str = ""
    partitions: tuple[PartitionHealth, ...] = ()
    figures: WorkerFigures | BridgeFigures | None = None


@dataclass(slots=True, kw_only=True)
class PublishedHealth:
    """The newest health of a process. One event loop calls ``publish``; any thread may call the rest.

    A partition is stuck if it has made no progress for ``stuck_s`` although it has records, it is taken over,
    and the brokers answer.
    """

    stuck_s: float = STUCK_PROGRESS_S
    now: Callable[[], float] = time.monotonic
    snapshot: HealthSnapshot = field(default_factory=HealthSnapshot)
    stuck: tuple[int, ...] = ()
    trips: int = 0
    """The number of times that a partition was found stuck."""
    stopping: bool = False
    failed: str | None = None
    """Reason why the process is about to end: a part has ended that it needs."""
    waits_s: Mapping[int, float] = field(default_factory=dict)
    """By partition, for how long its oldest record that is not done has been seen waiting."""
    _at: float = field(init=False)
    _still: dict[int, tuple[int, float]] = field(default_factory=dict)
    """By partition with a lag: where it is, and since when."""
    _waits: dict[int, Wait] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._at = self.now()

    def publish(self, snapshot: HealthSnapshot) -> None:
        """Publish the current snapshot."""
        now = self.now()
        # The process or its machine was stopped, so no partition is stuck.
        paused = now - self._at > LOOP_S
        self._at = now
        self.snapshot = snapshot
        if paused or self.phase is not Phase.READY or snapshot.waits or snapshot.silent_s > AWAY_S:
            self._still = {}
        else:
            readable = [one for one in snapshot.partitions if one.readable]
            self._still = {one.partition: self._since(one, now) for one in readable}
        stuck = tuple(n for n, (_, since) in sorted(self._still.items()) if now - since >= self.stuck_s)
        self.trips += len(set(stuck) - set(self.stuck))
        self.stuck = stuck
        self._waits = {one.partition: self._waits.get(one.partition) or Wait() for one in snapshot.partitions}
        self.waits_s = {
            one.partition: self._waits[one.partition].look(
                done=one.reached, end=one.reached + one.lag, now=now
            )
            for one in snapshot.partitions
            if one.lag is not None
        }

    def _since(self, health: PartitionHealth, now: float) -> tuple[int, float]:
        before = self._still.get(health.partition)
        return (health.reached, now) if before is None or before[0] != health.reached else before

    def stop(self) -> None:
        """Note that the process was asked to end. From now on it is not ready."""
        self.stopping = True

    def fail(self, reason: str) -> None:
        """Report that a necessary part of the process has ended. Any thread may call this."""
        self.failed = self.failed or reason

    @property
    def phase(self) -> Phase:
        """The phase of the process."""
        return Phase.STOPPING if self.stopping else self.snapshot.phase

    def quiet_s(self) -> float:
        """Seconds since the event loop last published its snapshot."""
        return self.now() - self._at

    def dead(self) -> str | None:
        """Why the process should be restarted; None: it is alive.

        A failed process ends by itself and is restarted by its supervisor, so it counts as alive unless it
        does not end.
        """
        if (quiet_s := self.quiet_s()) > LOOP_S:
            if self.failed is not None:
                return f"has not ended for {quiet_s:.0f} s: {self.failed}"
            return f"the event loop has not run for {quiet_s:.0f} s"
        if self.stuck:
            partitions = ", ".join(map(str, self.stuck))
            return f"no progress for {self.stuck_s:g} s in partitions {partitions} with records to read"
        return None

    def unstarted(self) -> str | None:
        """Why it has not started yet; None: it has."""
        return None if self.snapshot.joined else _WHILE[Phase.STARTING]

    def unready(self) -> str | None:
        """Why nothing should depend on it now; None: it is ready."""
        if self.failed is not None:
            return f"ending: {self.failed}"
        snapshot, phase = self.snapshot, self.phase
        if phase is not Phase.READY:
            return _WHILE[phase].format(left=sum(one.recovery_left for one in snapshot.partitions))
        if snapshot.silent_s > AWAY_S:
            return f"no answer from Kafka for {snapshot.silent_s:.0f} s"
        return self.dead()


@dataclass(slots=True)
class BrokerTimeout:
    """Time since the last answer of a broker, with a limit; a pause of the process does not count."""

    limit_s: float = SILENT_S
    seconds: float = 0.0
    _answered_at: float = -math.inf
    _checked_at: float | None = None

    def check(self, answered_at: float, *, now: float) -> None:
        """Record that the newest answer came at ``answered_at``; call this every :data:`PUBLISH_EVERY_S`.

        Raises:
            LogError: no answer has come for too long.
        """
        elapsed_s = 0.0 if self._checked_at is None else now - self._checked_at
        self._checked_at = now
        if answered_at > self._answered_at:
            self._answered_at = answered_at
            self.seconds = 0.0
            return
        self.seconds += min(elapsed_s, 2 * PUBLISH_EVERY_S)
        if self.seconds > self.limit_s:
            raise LogError(f"no broker has answered for {self.limit_s:g} s")


async def publish_health(health: PublishedHealth, look: Callable[[], HealthSnapshot]) -> None:
    """Update ``health`` from ``look`` until cancelled; while the process stops, only its liveness.

    Raises:
        TaskEndedError: a thread has reported that its work has ended.
    """
    while True:
        if health.failed is not None:
            raise TaskEndedError(health.failed)
        health.publish(health.snapshot if health.stopping else look())
        await asyncio.sleep(PUBLISH_EVERY_S)
