"""Events that arrive later than now: the sign of a clock that was wrong, or is."""

from __future__ import annotations

import time

from triggerstream.core import advice
from triggerstream.core.durations import describe_duration
from triggerstream.engine.ports import Reader
from triggerstream.engine.rows import Progress
from triggerstream.wire.instants import format_instant

_AHEAD_US = 1_000_000
"""The most by which an event's arrival may be later than now if the clocks are right."""
_TAIL = 50
"""Offsets to search back for the newest event: the last ones may be transaction markers."""


async def newest_arrival_us(reader: Reader, progress: Progress, *, partition: int = 0) -> int:
    """The latest arrival among the last events of a partition; 0 if it has none."""
    begin = max(progress.end - progress.blocked - _TAIL, 0)
    last = await reader.records(after=begin - 1, limit=_TAIL, partition=partition)
    return max((record.arrival_us for record in last), default=0)


def describe_future(newest_us: int) -> str | None:
    """What a latest arrival later than now means; None if it is not later."""
    ahead_us = newest_us - time.time_ns() // 1_000
    if ahead_us <= _AHEAD_US:
        return None
    return (
        f"the log ends in the future, {describe_duration(ahead_us)} from now ({format_instant(newest_us)}): "
        "this machine's clock is wrong now, or the log's was wrong then. Timers of their sessions "
        f"wait until then; {advice.release_instance()}"
    )


async def future_of_log(reader: Reader) -> str | None:
    """The sentence of :func:`describe_future` for a log with one partition."""
    return describe_future(await newest_arrival_us(reader, await reader.progress()))
