"""When the transactions of a process begin: partitions that have something to commit go in turns, together.

Each transaction costs requests, markers and wake-ups of its own, however few events it takes. So a turn is
held back a little while, for the events of some milliseconds, and the next one until the last one ends.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

GATHER_S = 0.001
"""Time for which a turn waits for other partitions. The few records of a fetch are handed over within it."""
SPACING_S = 0.02
"""The time that each turn counts for: in the long run, at most ``1 / SPACING_S`` turns a second begin. With
less, each of 100 events a second has a transaction of its own, which takes 5 to 15 ms; twice the time only
makes events wait."""
EARLY = 0.5
"""The part of the spacing by which a turn may begin earlier, because something has just come: of two events
in one spacing, the second need not wait. The next turn is due as if it had not begun earlier."""
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
    spacing_s: float = SPACING_S
    open_s: float = OPEN_S
    _waiting: list[asyncio.Future[_Turn]] = field(default_factory=list)
    _open: set[_Turn] = field(default_factory=set)
    _due: float = math.inf
    """Time of the loop's clock at which the next turn begins, if fewer than ``most`` are open then."""
    _next: float = -math.inf
    """Time at which the next turn is due if something waits; it may begin a part of the spacing earlier."""
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
            self._set_due(self._soonest())
        try:
            turn = await joined
        except asyncio.CancelledError:
            if joined in self._waiting:
                self._waiting.remove(joined)
            elif not joined.cancelled():
                self._end(joined.result())
            raise
        try:
            yield
        finally:
            self._end(turn)

    def add(self) -> None:
        """Note that a partition that waits for its turn, or will, has something more to commit."""
        if self._waiting:
            self._set_due(self._soonest())

    def _soonest(self) -> float:
        """Time of the loop's clock at which a turn may begin for a checkpoint that has just come."""
        soon = self._now() + self.gather_s
        return soon if soon >= self._next - EARLY * self.spacing_s else self._next

    def hurry(self, *, at_once: bool = False) -> None:
        """Begin the next turn without the spacing; ``at_once``: without waiting for other partitions, too."""
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
        now = self._now()
        is_early = self._next - EARLY * self.spacing_s <= now < self._next
        self._next = (self._next if is_early else now) + self.spacing_s
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
