"""When the transactions of a process begin: partitions that have something to commit go in turns, together.

Each transaction costs requests, markers and wake-ups of its own, however few events it takes. So a turn is
held back some milliseconds, for further events, and also until the one before it ends.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

GATHER_S = 0.001
"""Time for which any turn waits for other partitions: a small fetch is handed over within it."""
WAIT_S = 0.0125
"""The longest time that a turn waits for further events, counted from the first one that it takes. At 100
events a second, 47 turns a second begin if the events come at random, 50 if they come evenly. A turn every
20 ms would make as many, but an event that comes right after a turn would wait for 20 ms."""
PAUSE_S = 0.03
"""A turn does not wait if the last one began so long ago: an event that comes alone is committed at once."""
OPEN_S = 1.0
"""A turn holds up the next one for this time at most. One that takes longer waits for a broker that is away,
which may have nothing to do with the other partitions."""


@dataclass(slots=True, eq=False)
class _Turn:
    """A turn that has begun; ``overdue`` ends it after ``OPEN_S``."""

    overdue: asyncio.TimerHandle | None = None


@dataclass(slots=True, eq=False, kw_only=True)
class TransactionTurns:
    """Turns of the partitions of a process. ``most`` turns may be open at the same time.

    A turn ends when the first of its partitions leaves it: the others of the same transaction follow at once.
    Not thread-safe: all calls come from one event loop.
    """

    most: int = 1
    gather_s: float = GATHER_S
    wait_s: float = WAIT_S
    pause_s: float = PAUSE_S
    open_s: float = OPEN_S
    _waiting: list[asyncio.Future[_Turn]] = field(default_factory=list)
    _open: set[_Turn] = field(default_factory=set)
    _due: float = math.inf
    """Time of the loop's clock at which the next turn begins, if fewer than ``most`` are open then."""
    _last: float = -math.inf
    """Time at which the last turn began."""
    _timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def turn(self, *, full: bool = False, at_once: bool = False) -> AsyncIterator[None]:
        """Wait for the next turn, and hold it while the block runs.

        ``full``: the partition can take no more events before it has committed. ``at_once``: it is closed.
        """
        joined = asyncio.get_running_loop().create_future()
        self._waiting.append(joined)
        if full or at_once:
            self.hurry(at_once=at_once)
        else:
            self.add()
            self._schedule()
        try:
            turn = await joined
        except asyncio.CancelledError:
            if joined in self._waiting:
                self._waiting.remove(joined)
            elif not joined.cancelled():
                self._end(joined.result())
            raise
        if not self._waiting:
            self._due = math.inf  # what has come since the turn began is taken with it
        try:
            yield
        finally:
            self._end(turn)

    def add(self) -> None:
        """Note that a partition that waits for its turn, or soon will, has something more to commit."""
        if self._due < math.inf:
            return  # it is due because of something that came earlier
        now = self._now()
        self._set_due(max(now + self.gather_s, min(now + self.wait_s, self._last + self.pause_s)))

    def hurry(self, *, at_once: bool = False) -> None:
        """Begin the next turn without waiting for events and, if ``at_once``, for other partitions."""
        self._set_due(self._now() + (0 if at_once else self.gather_s))

    def _set_due(self, due: float) -> None:
        self._due = min(self._due, due)
        self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting and len(self._open) < self.most:
            self._timer = asyncio.get_running_loop().call_at(self._due, self._begin)

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        members = [joined for joined in self._waiting if not joined.done()]
        self._waiting.clear()
        self._due = math.inf
        if not members:
            return
        self._last = self._now()
        turn = _Turn()
        turn.overdue = loop.call_later(self.open_s, self._end, turn)
        self._open.add(turn)
        for joined in members:
            joined.set_result(turn)

    def _end(self, turn: _Turn) -> None:
        if turn in self._open:
            self._open.remove(turn)
            if turn.overdue is not None:
                turn.overdue.cancel()
            self._schedule()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
