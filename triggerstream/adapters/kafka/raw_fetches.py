"""Fetches of record batches as they are stored, below aiokafka's consumers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import CorruptRecordException, LeaderNotAvailableError, for_code
from aiokafka.protocol.fetch import FetchRequest_v4

from triggerstream.adapters.kafka.batches import RecordBatches
from triggerstream.adapters.kafka.protocol import Call

READ_COMMITTED = 1
"""The isolation level with which a broker names the transactions that were aborted."""
_MOST_BYTES = 1024 * 1024
"""Bytes of a fetch; a broker returns one batch even if it is longer."""
_WAIT_MS = 100
_RETRY_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchAnswer:
    """The answer of a broker to a fetch of one partition."""

    data: bytes | None
    stable_end: int
    aborted: Sequence[tuple[int, int]]
    """Producer id and first offset of the transactions that were aborted within the batches or later."""


async def fetch_raw(
    client: AIOKafkaClient,
    place: TopicPartition,
    offset: int,
    *,
    isolation: int = 0,
    most_bytes: int = _MOST_BYTES,
) -> FetchAnswer:
    """The batches from ``offset`` on, up to some bytes; the first may begin before it.

    Raises:
        KafkaError: no answer, or an error; CorruptRecordException: the broker cannot read the batch.
    """
    request = Call(
        FetchRequest_v4,
        replica_id=-1,
        max_wait_time=_WAIT_MS,
        min_bytes=1,
        max_bytes=most_bytes,
        isolation_level=isolation,
        topics=[(place.topic, [(place.partition, offset, most_bytes)])],
    )
    await client.set_topics([place.topic])
    while True:
        leader = client.cluster.leader_for_partition(place)
        error: type[Any] = LeaderNotAvailableError
        if leader is not None and leader >= 0:
            answer = await client.send(leader, request)
            ((_, ((_, code, _, stable_end, aborted, data),)),) = answer.topics
            if not code:
                return FetchAnswer(data=data, stable_end=stable_end, aborted=aborted or ())
            error = for_code(code)
        if not error.retriable:
            raise error(f"{place.topic}, partition {place.partition}")
        await asyncio.sleep(_RETRY_S)
        await client.force_metadata_update()


async def next_readable(
    client: AIOKafkaClient, place: TopicPartition, offset: int, end: int, *, last: int | None
) -> int:
    """The first offset after a damaged batch at ``offset`` whose batch has a readable header.

    If there is none before ``end``, it is ``end``. ``last`` is the last offset of the damaged batch, or None
    if its header does not tell. Then the broker is asked. It finds a batch by its index, which has an entry
    for every 4 KiB or so, and from there on by the lengths in the headers. Readable batches between two
    damaged headers that are close together may be missed.

    Raises:
        KafkaError: no answer, or an error.
    """
    if last is not None and last < end:
        return last + 1
    return offset + await _nearest(lambda far: _has_header(client, place, offset + far, end), end - offset)


async def first_unreadable(client: AIOKafkaClient, place: TopicPartition, offset: int, begin: int) -> int:
    """The first offset, at least ``begin``, of the unreadable headers that end with the one at ``offset``.

    Raises:
        KafkaError: no answer, or an error.
    """
    limit = offset - begin + 1
    return offset - await _nearest(lambda far: _has_header(client, place, offset - far, offset), limit) + 1


async def _nearest(is_readable: Callable[[int], Awaitable[bool]], limit: int) -> int:
    """The least distance, at least 1, at which a header is readable; ``limit`` if there is none before it.

    The steps of the search double, then halve: it may miss readable headers that are near to damaged ones.
    """
    last, found = 0, 1
    while found < limit and not await is_readable(found):
        last, found = found, found * 2
    found = min(found, limit)
    while found - last > 1:
        middle = (last + found) // 2
        if await is_readable(middle):
            found = middle
        else:
            last = middle
    return found


async def _has_header(client: AIOKafkaClient, place: TopicPartition, offset: int, end: int) -> bool:
    """True if the broker finds a batch for ``offset`` whose header plausibly covers it."""
    try:
        data = (await fetch_raw(client, place, offset, most_bytes=1)).data
        batches = RecordBatches(data)
        if not batches.has_next():
            return False
        batch = batches.next_batch()
    except CorruptRecordException:
        return False
    last = -1 if batches.last is None else batches.last
    return bool(batch.base_offset < end and last >= offset and (last < end or batch.validate_crc()))
