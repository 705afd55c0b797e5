"""Appends records and finds out where they are in the log, and when they are folded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from triggerstream.core.errors import LogError
from triggerstream.engine.ports import Log, Reader
from triggerstream.wire.records import NewRecord, Record

_T = TypeVar("_T")

PAGE = 500
"""Records that are appended, or looked through, at once."""
_FIRST_POLL_S = 0.02
_LONGEST_POLL_S = 0.25
_GROWTH = 1.5
"""Polls become rarer: each of them may be a request to Kafka or to another worker."""


class LogPosition(NamedTuple):
    """Position of a record in the log."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended(Generic[_T]):
    """A record for ``partition``; ``identity`` distinguishes it from records that others append."""

    partition: int
    record: NewRecord
    identity: _T


async def append(
    log: Log, reader: Reader, records: Sequence[Appended[_T]], identity_of: Callable[[Record], _T | None]
) -> list[LogPosition]:
    """Append ``records``; their positions, in their order. ``identity_of`` gives the identity of any record.

    Raises:
        LogError: not known to be durable, or the log cannot be read.
    """
    partitions = {one.partition for one in records}
    ends = {number: (await reader.progress(partition=number)).end for number in partitions}
    for at in range(0, len(records), PAGE):
        await log.append([one.record for one in records[at : at + PAGE]])
    found: dict[int, dict[_T, int]] = {}
    for number, end in ends.items():
        wanted = {one.identity for one in records if one.partition == number}
        found[number] = await _offsets(reader, wanted, identity_of, after=end - 1, partition=number)
    return [LogPosition(one.partition, found[one.partition][one.identity]) for one in records]


async def _offsets(
    reader: Reader, wanted: set[_T], identity_of: Callable[[Record], _T | None], *, after: int, partition: int
) -> dict[_T, int]:
    """Offset of each record beyond ``after`` whose identity is wanted.

    They are durable, so the log holds them, beside records that others appended at the same time.
    """
    found: dict[_T, int] = {}
    while len(found) < len(wanted):
        records = await reader.records(after=after, limit=PAGE, partition=partition)
        for record in records:
            identity = identity_of(record)
            if identity is not None and identity in wanted:
                found[identity] = record.offset
        if not records:
            raise LogError(f"partition {partition} does not show all records that were just appended to it")
        after = records[-1].offset
    return found


def last_positions(positions: Iterable[LogPosition]) -> Mapping[int, LogPosition]:
    """The last of ``positions`` in each partition."""
    return {position.partition: position for position in sorted(positions)}


async def wait_until_folded(
    progress: Callable[[int], Awaitable[int]], position: LogPosition, *, deadline: float
) -> int:
    """The next offset that the engine will fold, as soon as it is beyond ``position`` or the time is over.

    ``progress`` gives that offset for a partition.
    """
    loop = asyncio.get_running_loop()
    pause_s = _FIRST_POLL_S
    while (reached := await progress(position.partition)) <= position.offset:
        left_s = deadline - loop.time()
        if left_s <= 0:
            break
        await asyncio.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * _GROWTH, _LONGEST_POLL_S)
    return reached
