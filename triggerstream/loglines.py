"""The beginning of a line in a log: time and level. It imports only what the small supervisor has."""

from __future__ import annotations

import time


def line_head(level: str = "INFO") -> str:
    """``2026-03-01 12:00:00,250 WARNING``: the local time, as the logging module writes it, and the level."""
    now = time.time()
    day = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    return f"{day},{int(now % 1 * 1000):03d} {level}"
