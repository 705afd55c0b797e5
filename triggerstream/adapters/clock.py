"""The system's clock."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """The wall clock of this machine: a :class:`triggerstream.engine.ports.Clock`."""

    def now_us(self) -> int:
        return time.time_ns() // 1_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
