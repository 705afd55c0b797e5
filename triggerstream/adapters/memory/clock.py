"""A clock that tests move by hand."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush


class ManualClock:
    """A clock that stands still until it is told what time it is."""

    def __init__(self, now_us: int = 1_750_000_000_000_000) -> None:
        self._now_us = now_us
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._slept = 0

    def now_us(self) -> int:
        """Microseconds since the Unix epoch."""
        return self._now_us

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake those whose sleep is over. Negative: the clock steps back."""
        self._now_us += round(seconds * 1_000_000)
        while self._sleepers and self._sleepers[0][0] <= self._now_us:
            _, _, sleeper = heappop(self._sleepers)
            if not sleeper.done():
                sleeper.set_result(None)

    async def sleep(self, seconds: float) -> None:
        """Return once the clock was advanced by ``seconds``."""
        sleeper = asyncio.get_running_loop().create_future()
        self._slept += 1
        heappush(self._sleepers, (self._now_us + round(seconds * 1_000_000), self._slept, sleeper))
        await sleeper
