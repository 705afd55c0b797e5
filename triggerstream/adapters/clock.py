"""The system's clock."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """The wall clock of this machine."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch, UTC. May step back."""
        return time.time_ns() // 1_000

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``."""
        await asyncio.sleep(seconds)
