"""A clock that tests move by hand."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush

from triggerstream.engine.clock_step import ClockReading


class ManualClock:
    """A :class:`triggerstream.engine.ports.Clock` that stands still until :meth:`advance` is called.

    A step back of the clock does not lengthen a sleep, as with the clock of a machine.
    """

    def __init__(self, now_us: int = 1_750_000_000_000_000) -> None:
        self._now_us = now_us
        self._passed_us = 0
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._slept = 0

    def now_us(self) -> int:
        return self._now_us

    def advance(self, seconds: float) -> None:
        """Advance the clock, and wake callers whose sleep is over. Negative: the clock steps back."""
        step_us = round(seconds * 1_000_000)
        self._now_us += step_us
        self._passed_us += max(step_us, 0)
        while self._sleepers and self._sleepers[0][0] <= self._passed_us:
            _, _, sleeper = heappop(self._sleepers)
            if not sleeper.done():
                sleeper.set_result(None)

    def reading(self) -> ClockReading:
        return ClockReading(boot="manual", since_boot_us=self._passed_us, now_us=self._now_us)

    def set_forward(self, seconds: float) -> None:
        """Set the clock, forward or (negative) back, while no time passes."""
        self._now_us += round(seconds * 1_000_000)

    async def sleep(self, seconds: float) -> None:
        """Return once the clock was advanced by ``seconds``."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        sleeper = asyncio.get_running_loop().create_future()
        self._slept += 1
        heappush(self._sleepers, (self._passed_us + round(seconds * 1_000_000), self._slept, sleeper))
        await sleeper
