"""Records that were just appended, followed until they are folded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from triggerstream.engine.ports import Reader
from triggerstream.wire.records import Record

_T = TypeVar("_T")

PAGE = 500
"""Records that are appended, or looked through, at once."""
_POLL_S = 0.02


async def offsets(
    reader: Reader, wanted: set[_T], of: Callable[[Record], _T | None], *, after: int, partition: int = 0
) -> dict[_T, int]:
    """Where the records are, beyond ``after``, for which ``of`` gives one of ``wanted``.

    They are durable, so the log holds them, beside what others appended at the same time.
    """
    found: dict[_T, int] = {}
    while len(found) < len(wanted):
        records = await reader.records(after=after, limit=PAGE, partition=partition)
        for record in records:
            one = of(record)
            if one is not None and one in wanted:
                found[one] = record.offset
        if not records:
            break
        after = records[-1].offset
    return found


async def folded(reader: Reader, last: int, *, partition: int, deadline: float) -> int:
    """The offset that the engine has reached, once it is beyond ``last`` or the time is over."""
    loop = asyncio.get_running_loop()
    while (reached := (await reader.progress(partition=partition)).offset) <= last:
        if loop.time() >= deadline:
            break
        await asyncio.sleep(_POLL_S)
    return reached
