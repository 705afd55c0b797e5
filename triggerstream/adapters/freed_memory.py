"""Returns freed memory, which the C library keeps, to the operating system."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable

RETURN_EVERY_S = 30.0
"""Seconds between two returns. After a backlog or a compaction, glibc keeps freed memory in a heap for each
thread: 100 of 290 MiB after a backlog."""


def find_malloc_trim() -> Callable[[], object] | None:
    """The function of glibc that returns freed pages to the system; None with another C library.

    A call takes some milliseconds, and does not hold Python's lock.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # TypeError: on Windows
        return None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return lambda: trim(0)


async def return_freed_memory(trim: Callable[[], object], *, every_s: float = RETURN_EVERY_S) -> None:
    """Call ``trim`` at intervals, in a thread."""
    while True:
        await asyncio.sleep(every_s)
        await asyncio.to_thread(trim)
