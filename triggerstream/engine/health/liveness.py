"""The published health of a process: its event loop writes it, and any other thread may read it.

Whether it lives, has started and is ready is judged here, so that every process means the same by it:

- *alive*: its event loop runs, and no partition stands still that should move. Whether Kafka or an executor
  is there does not matter: a restart brings neither back.
- *started*: it has been in its consumer group once.
- *ready*: it has taken over what it was assigned, if anything, and the brokers answer.
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
from triggerstream.engine.handover.destinations import RefusedDestination
from triggerstream.engine.health.lag import Wait
from triggerstream.engine.histogram import Durations
from triggerstream.engine.partitioned.partition import Counters

BEAT_S = 1.0
"""Seconds between two updates of the health by an event loop."""
LOOP_S = 60.0
"""An event loop that has not told for so long hangs. The longest that it may be busy, with one batch or one
piece of a changelog, is some seconds."""
AWAY_S = 15.0
"""Without an answer of any broker for so long, they are away: heartbeats alone bring one every 3 s."""
STUCK_S = 300.0
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
class Place:
    """A partition that the process has.

    All below ``reached`` is done; ``lag`` records are not, None: unknown. ``recovery_left``: what is still to
    be read of its changelog.
    """

    partition: int
    ready: bool
    reached: int
    lag: int | None
    recovery_left: int = 0


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

    ``destinations``: those that the executor's broker refuses. ``took``: the executor's confirmations.
    """

    handed_over: int
    refused: int
    unconfirmed: int
    away: bool
    destinations: tuple[RefusedDestination, ...] = ()
    took: Durations = field(default_factory=Durations)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """A process at one moment.

    ``silent_s``: since an answer of a broker. ``waits``: what is left waits for something that is neither
    this process nor the log. ``topic`` is that of the places.
    """

    phase: Phase = Phase.STARTING
    joined: bool = False
    silent_s: float = math.inf
    waits: bool = False
    topic: str = ""
    places: tuple[Place, ...] = ()
    figures: WorkerFigures | BridgeFigures | None = None


@dataclass(slots=True, kw_only=True)
class Pulse:
    """The newest vitals of a process. ``beat`` is for one event loop, the rest for any thread.

    A partition is stuck that has not moved for ``stuck_s`` although there are records for it, it is taken
    over, and the brokers answer.
    """

    stuck_s: float = STUCK_S
    now: Callable[[], float] = time.monotonic
    vitals: Vitals = field(default_factory=Vitals)
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

    def beat(self, vitals: Vitals) -> None:
        """Tell how things are now."""
        now = self.now()
        # A process that was stopped, or its machine, stood still for no fault of a partition.
        paused = now - self._at > LOOP_S
        self._at = now
        self.vitals = vitals
        if paused or self.phase is not Phase.READY or vitals.waits or vitals.silent_s > AWAY_S:
            self._still = {}
        else:
            self._still = {place.partition: self._since(place, now) for place in vitals.places if place.lag}
        stuck = tuple(n for n, (_, since) in sorted(self._still.items()) if now - since >= self.stuck_s)
        self.trips += len(set(stuck) - set(self.stuck))
        self.stuck = stuck
        self._waits = {place.partition: self._waits.get(place.partition) or Wait() for place in vitals.places}
        self.waits_s = {
            place.partition: self._waits[place.partition].look(
                done=place.reached, end=place.reached + place.lag, now=now
            )
            for place in vitals.places
            if place.lag is not None
        }

    def _since(self, place: Place, now: float) -> tuple[int, float]:
        before = self._still.get(place.partition)
        return (place.reached, now) if before is None or before[0] != place.reached else before

    def stop(self) -> None:
        """Tell that the process was asked to end: from now on it is not ready."""
        self.stopping = True

    def fail(self, reason: str) -> None:
        """Report that a necessary part of the process has ended. Any thread may call this."""
        self.failed = self.failed or reason

    @property
    def phase(self) -> Phase:
        """Where the process stands."""
        return Phase.STOPPING if self.stopping else self.vitals.phase

    def quiet_s(self) -> float:
        """How long the event loop has not told."""
        return self.now() - self._at

    def dead(self) -> str | None:
        """Why the process should be started anew; None: it is alive.

        A failed process ends and is started again: nobody else needs to do that, unless it does not end.
        """
        if (quiet_s := self.quiet_s()) > LOOP_S:
            if self.failed is not None:
                return f"has not ended for {quiet_s:.0f} s: {self.failed}"
            return f"the event loop has not run for {quiet_s:.0f} s"
        if self.stuck:
            places = ", ".join(map(str, self.stuck))
            return f"no progress for {self.stuck_s:g} s in partitions {places}, which have records to read"
        return None

    def unstarted(self) -> str | None:
        """Why it has not started yet; None: it has."""
        return None if self.vitals.joined else _WHILE[Phase.STARTING]

    def unready(self) -> str | None:
        """Why nothing should depend on it now; None: it is ready."""
        if self.failed is not None:
            return f"ending: {self.failed}"
        vitals, phase = self.vitals, self.phase
        if phase is not Phase.READY:
            return _WHILE[phase].format(left=sum(place.recovery_left for place in vitals.places))
        if vitals.silent_s > AWAY_S:
            return f"no answer from Kafka for {vitals.silent_s:.0f} s"
        return self.dead()


@dataclass(slots=True)
class Silence:
    """Measures how long no broker has answered; time during which the process was stopped does not count."""

    limit_s: float = SILENT_S
    seconds: float = 0.0
    _answered_at: float = -math.inf
    _looked_at: float | None = None

    def look(self, answered_at: float, *, now: float) -> None:
        """Record that the newest answer came at ``answered_at``; call this every :data:`BEAT_S`.

        Raises:
            LogError: no answer has come for too long.
        """
        elapsed_s = 0.0 if self._looked_at is None else now - self._looked_at
        self._looked_at = now
        if answered_at > self._answered_at:
            self._answered_at = answered_at
            self.seconds = 0.0
            return
        self.seconds += min(elapsed_s, 2 * BEAT_S)
        if self.seconds > self.limit_s:
            raise LogError(f"no broker has answered for {self.limit_s:g} s")


async def keep_beating(pulse: Pulse, look: Callable[[], Vitals]) -> None:
    """Update ``pulse`` from ``look`` until cancelled; while the process stops, only its liveness.

    Raises:
        TaskEndedError: a thread has reported that its work has ended.
    """
    while True:
        if pulse.failed is not None:
            raise TaskEndedError(pulse.failed)
        pulse.beat(pulse.vitals if pulse.stopping else look())
        await asyncio.sleep(BEAT_S)
