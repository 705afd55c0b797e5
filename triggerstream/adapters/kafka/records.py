"""Records as aiokafka has them, and a partition's, read up to an end that is told by position."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from triggerstream.adapters.kafka.batches import UnfitBatch, UnreadableError, fetched
from triggerstream.adapters.kafka.cluster import open_transactions
from triggerstream.adapters.kafka.connection import Connection, translated
from triggerstream.adapters.kafka.topics import TIMEOUT_S
from triggerstream.core.errors import LogError
from triggerstream.engine.partitioned.ports import HighWatermark
from triggerstream.wire.records import Record

POLL_MS = 20
"""A fetch of control records alone wakes no reader, so the position is looked at this often."""
STUCK_S = 30.0
"""After so long without any progress the log counts as away."""
_TICKS = 20
"""No single try counts for more than this part of it: a process that was stopped has not waited."""


def record_of(found: Any) -> Record:  # noqa: ANN401 - aiokafka's ConsumerRecord is not typed
    """What aiokafka calls a record, as ours."""
    if type(found.value) is UnfitBatch:
        return Record(
            partition=found.partition,
            offset=found.offset,
            arrival_us=found.timestamp * 1000,
            key=None,
            value=None,
            unfit=found.value.unfit,
        )
    return Record(
        partition=found.partition,
        offset=found.offset,
        arrival_us=found.timestamp * 1000,
        key=found.key,
        value=found.value,
        headers=tuple(found.headers),
    )


async def extents(
    connection: Connection, places: Sequence[TopicPartition]
) -> dict[TopicPartition, tuple[int, HighWatermark]]:
    """The first offset and the high watermark of each of ``places``.

    Raises:
        KafkaError: no answer, or an error.
    """
    # A reader of committed records is answered with the last stable offset.
    async with connection.running(connection.reader(committed=False)) as consumer:
        ends = await consumer.end_offsets(places)
        begins = await consumer.beginning_offsets(places)
    return {place: (begins[place], HighWatermark(ends[place])) for place in places}


async def pieces(
    consumer: AIOKafkaConsumer,
    place: TopicPartition,
    begin: int,
    end: int,
    *,
    most: int | None = None,
    stuck_s: float = STUCK_S,
    after_lost: Callable[[int], Awaitable[int | None]] | None = None,
) -> AsyncGenerator[tuple[list[Any], int]]:
    """The committed records from ``begin`` to before ``end``, in chunks with the position after each.

    ``consumer`` has ``place`` assigned, at ``begin``. A chunk has up to ``most`` records, and may be empty.
    The position decides where the end is: control records have offsets too, and the last record may be one.
    ``after_lost`` returns the offset at which to continue after an unreadable one; None makes it an error.

    Raises:
        LogError: the log cannot be read; or there is no progress for ``stuck_s``, and the message names the
            open transaction.
    """
    what = f"cannot read {place.topic}"
    loop = asyncio.get_running_loop()
    position, stuck_for_s = begin, 0.0
    while position < end:
        tried_at = loop.time()
        try:
            async with translated(what, timeout_s=TIMEOUT_S):
                found = await fetched(consumer, place, timeout_ms=POLL_MS, max_records=most)
                after = await consumer.position(place)
        except UnreadableError as exc:
            further = None if after_lost is None else await after_lost(exc.batch.offset)
            if further is None:
                raise
            found, after = {}, min(further, end)
            consumer.seek(place, after)
        stuck_for_s = 0.0 if after > position else stuck_for_s + min(loop.time() - tried_at, stuck_s / _TICKS)
        position = max(after, position)
        yield [record for record in found.get(place, ()) if record.offset < end], after
        if stuck_for_s > stuck_s:
            raise LogError(
                f"{what}: partition {place.partition} stays at offset {position} of {end}"
                f"{await _open_transaction(consumer, place)}"
            )


async def _open_transaction(consumer: AIOKafkaConsumer, place: TopicPartition) -> str:
    """Part of a message that names the open transaction which blocks the records of ``place``, if any."""
    client = consumer._client  # noqa: SLF001 - nothing public
    async with translated(f"cannot read {place.topic}", timeout_s=TIMEOUT_S):
        found = await open_transactions(client, place.topic, place.partition)
    if not found:
        return ""
    first = found[0]
    return (
        f": producer id {first.producer} (epoch {first.epoch}) has had a transaction open since offset "
        f"{first.begin}; later records are read once it ends; Kafka's kafka-transactions.sh can abort it"
    )
