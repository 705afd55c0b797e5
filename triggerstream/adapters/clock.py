"""The system's clock."""

from __future__ import annotations

import asyncio
import time
from functools import cache
from pathlib import Path

from triggerstream.engine.clock_step import ClockReading

_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux' monotonic clock stands still while the machine sleeps; that of macOS goes on."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class SystemClock:
    """The wall clock of this machine: a :class:`triggerstream.engine.ports.Clock`."""

    def now_us(self) -> int:
        return time.time_ns() // 1_000

    def reading(self) -> ClockReading:
        since_boot_us = time.clock_gettime_ns(_SINCE_BOOT) // 1_000
        return ClockReading(boot=_boot(), since_boot_us=since_boot_us, now_us=self.now_us())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@cache
def _boot() -> str:
    """The name of the machine's start; empty where the system has none."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
