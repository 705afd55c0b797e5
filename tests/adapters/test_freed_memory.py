"""Memory that was freed goes back to the system."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from triggerstream.adapters.freed_memory import find_malloc_trim, return_freed_memory

MIB = 1024 * 1024
_FREE_MOST = """
import sys
from pathlib import Path
from triggerstream.adapters.freed_memory import find_malloc_trim

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

trim = find_malloc_trim()
blocks = [bytes(1_000) for _ in range(100_000)]  # longer than Python's own allocator takes
full = resident()
del blocks[1::2], blocks[1::2], blocks[1::2], blocks[1::2], blocks[1::2], blocks[1::2]
kept = resident()
trim()
print(full - kept, full - resident())
"""


@pytest.mark.skipif(find_malloc_trim() is None, reason="the C library is not glibc")
def test_what_lies_between_blocks_in_use_is_returned() -> None:
    done = subprocess.run([sys.executable, "-c", _FREE_MOST], capture_output=True, text=True, check=True)
    by_itself, returned = map(int, done.stdout.split())
    assert by_itself < 10 * MIB, "the C library returns it by itself: this module is not needed"
    assert returned > 60 * MIB


async def test_it_is_returned_again_and_again_until_the_task_is_cancelled() -> None:
    loop, calls = asyncio.get_running_loop(), 0
    third = asyncio.Event()

    def trim() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            loop.call_soon_threadsafe(third.set)

    returning = asyncio.create_task(return_freed_memory(trim, every_s=0.001))
    async with asyncio.timeout(30):
        await third.wait()
    returning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await returning
