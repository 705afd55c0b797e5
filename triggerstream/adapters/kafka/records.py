"""Records as aiokafka has them, and a partition's, read up to an end that is told by position."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from triggerstream.adapters.kafka.batches import fetched
from triggerstream.adapters.kafka.connection import translated
from triggerstream.adapters.kafka.topics import TIMEOUT_S
from triggerstream.core.errors import LogError
from triggerstream.wire.records import Record

POLL_MS = 20
"""A fetch of control records alone wakes no reader, so the position is looked at this often."""
STUCK_S = 30.0
"""After so long without any progress the log counts as away."""


def record_of(found: Any) -> Record:  # noqa: ANN401 - aiokafka's ConsumerRecord is not typed
    """What aiokafka calls a record, as ours."""
    return Record(
        partition=found.partition,
        offset=found.offset,
        arrival_us=found.timestamp * 1000,
        key=found.key,
        value=found.value,
        headers=tuple(found.headers),
    )


async def pieces(
    consumer: AIOKafkaConsumer, place: TopicPartition, begin: int, end: int, *, most: int | None = None
) -> AsyncGenerator[tuple[list[Any], int]]:
    """The committed records from ``begin`` to before ``end``, in pieces with the position after each.

    ``consumer`` has ``place`` assigned, at ``begin``. A piece has up to ``most`` records, and may have none.
    The end is told by position: control records have offsets too, and the last record may be one.

    Raises:
        LogError: the log cannot be read.
    """
    what = f"cannot read {place.topic}"
    loop = asyncio.get_running_loop()
    position, moved = begin, loop.time()
    while position < end:
        async with translated(what, timeout_s=TIMEOUT_S):
            found = await fetched(consumer, place, timeout_ms=POLL_MS, max_records=most)
            after = await consumer.position(place)
        yield [record for record in found.get(place, ()) if record.offset < end], after
        if after > position:
            position, moved = after, loop.time()
        elif loop.time() - moved > STUCK_S:
            raise LogError(f"{what}: partition {place.partition} stays at offset {position} of {end}")
