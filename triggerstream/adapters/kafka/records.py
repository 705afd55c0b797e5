"""Reads the committed records of partitions up to an end; converts aiokafka's records."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from triggerstream.adapters.kafka import fetches
from triggerstream.adapters.kafka.cluster import open_transactions
from triggerstream.adapters.kafka.connection import Connection, translate_errors
from triggerstream.adapters.kafka.fetches import UnreadableError, fetched
from triggerstream.adapters.kafka.stopping import stop
from triggerstream.adapters.kafka.topics import TIMEOUT_S
from triggerstream.core import advice
from triggerstream.core.errors import LogError
from triggerstream.engine.partitioned.ports import HighWatermark
from triggerstream.wire.records import Record

POLL_MS = 20
"""Interval of the checks of the position: a fetch of control records alone wakes no reader."""
STUCK_READ_S = 30.0
"""Time without progress after which the log counts as away."""
_TICKS = 20
"""Each fetch counts for at most this part of ``STUCK_READ_S``, because the process may pause."""


def record_of(found: Any) -> Record:  # noqa: ANN401 - aiokafka's ConsumerRecord is not typed
    """Convert a record of aiokafka that a consumer returned."""
    return fetches.record_of(found, found.partition)


async def extents(
    connection: Connection, places: Sequence[TopicPartition]
) -> dict[TopicPartition, tuple[int, HighWatermark]]:
    """The first offset and the high watermark of each of ``places``.

    Raises:
        KafkaError: no answer, or an error.
    """
    # For a reader of committed records, the answer is the last stable offset.
    async with connection.running(connection.reader(committed=False)) as consumer:
        await learn_leaders(consumer, places)
        ends = await consumer.end_offsets(places)
        begins = await consumer.beginning_offsets(places)
    return {place: (begins[place], HighWatermark(ends[place])) for place in places}


async def learn_leaders(consumer: AIOKafkaConsumer, places: Sequence[TopicPartition]) -> None:
    """Have ``consumer`` look up the leaders of ``places`` in advance; a place may have none.

    aiokafka waits 0.1 s for each topic of which it knows nothing.
    """
    client = consumer._client  # noqa: SLF001 - nothing public
    for known in [client.add_topic(topic) for topic in {place.topic for place in places}]:
        await known


def partition_exists(consumer: AIOKafkaConsumer, place: TopicPartition) -> bool:
    """False if ``consumer`` has learned the leaders of the topic, and the topic has no such partition."""
    known = consumer._client.cluster.partitions_for_topic(place.topic)  # noqa: SLF001 - nothing public
    return not known or place.partition in known


async def stable_ends(connection: Connection, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """The last stable offset of each of ``places``: where its first open transaction begins, or its end.

    Raises:
        KafkaError: no answer, or an error.
    """
    async with connection.running(connection.reader()) as consumer:
        await learn_leaders(consumer, places)
        ends: dict[TopicPartition, int] = await consumer.end_offsets(places)
    return ends


@asynccontextmanager
async def reader_of(
    connection: Connection,
    topic: str,
    *,
    committed: bool = True,
    most_bytes: int | None = None,
    parsed: bool = False,
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer for :func:`read_range`, started; it belongs to no group. See ``Connection.reader``.

    Raises:
        LogError: the cluster cannot be reached; the message names ``topic``.
    """
    reader = connection.reader(wait_ms=POLL_MS, committed=committed, most_bytes=most_bytes, parsed=parsed)
    async with translate_errors(f"cannot read {topic}", timeout_s=TIMEOUT_S):
        await connection.start(reader)
    try:
        yield reader
    finally:
        await stop(reader)


async def readable_extents(
    reader: AIOKafkaConsumer, places: Sequence[TopicPartition]
) -> dict[TopicPartition, tuple[int, int]]:
    """The first offset of each of ``places``, and the end of what ``reader`` can read.

    To a reader of committed records this is the last stable offset, to any other the high watermark.

    Raises:
        LogError: no answer, or an error.
    """
    topics = ", ".join(sorted({place.topic for place in places}))
    async with translate_errors(f"cannot read {topics}", timeout_s=TIMEOUT_S):
        await learn_leaders(reader, places)
        begins = await reader.beginning_offsets(places)
        ends = await reader.end_offsets(places)
    return {place: (begins[place], ends[place]) for place in places}


async def read_range(
    reader: AIOKafkaConsumer,
    place: TopicPartition,
    begin: int,
    end: int,
    *,
    most: int | None = None,
    stuck_s: float = STUCK_READ_S,
    after_lost: Callable[[int], Awaitable[int | None]] | None = None,
    tries: int = fetches.TRIES,
) -> AsyncGenerator[tuple[list[Any], int]]:
    """The committed records from ``begin`` to before ``end``, in chunks with the position after each.

    ``reader`` is assigned to ``place`` and, at the end, to nothing. A chunk has up to ``most`` records, and
    may be empty. ``after_lost``, for the events topic only, returns the offset at which to continue after an
    unreadable record; None makes it an error. An unreadable batch is an error after ``tries`` fetches.

    Raises:
        LogError: the log cannot be read; or there is no progress for ``stuck_s``, and the message names the
            open transaction.
    """
    reading = read_chunks(
        reader,
        {place: (begin, end)},
        most=most,
        stuck_s=stuck_s,
        after_lost=after_lost,
        tries=tries,
    )
    async with aclosing(reading) as found:
        async for _, records, after in found:
            yield records, after


async def first_record(
    reader: AIOKafkaConsumer,
    place: TopicPartition,
    begin: int,
    end: int,
    *,
    after_lost: Callable[[int], Awaitable[int | None]] | None = None,
) -> Any:  # noqa: ANN401 - aiokafka is not typed
    """The first committed record from ``begin`` to before ``end``; None if there is none.

    Raises:
        LogError: as :func:`read_range`.
    """
    async with aclosing(read_range(reader, place, begin, end, most=1, after_lost=after_lost)) as found:
        async for records, _ in found:
            if records:
                return records[0]
    return None


async def read_ranges(
    reader: AIOKafkaConsumer,
    ranges: Mapping[TopicPartition, tuple[int, int]],
    *,
    enough: int,
    stuck_s: float = STUCK_READ_S,
) -> dict[TopicPartition, list[Any]]:
    """The first ``enough`` committed records, or some more, of each of ``ranges``.

    The partitions are fetched together: one after the other, 12 of them took more than a second.

    Raises:
        LogError: as :func:`read_range`.
    """
    read: dict[TopicPartition, list[Any]] = {place: [] for place in ranges}
    async with aclosing(read_chunks(reader, ranges, enough=enough, stuck_s=stuck_s)) as found:
        async for place, records, _ in found:
            read[place] += records
    return read


async def read_chunks(
    reader: AIOKafkaConsumer,
    ranges: Mapping[TopicPartition, tuple[int, int]],
    *,
    most: int | None = None,
    enough: int | None = None,
    stuck_s: float = STUCK_READ_S,
    after_lost: Callable[[int], Awaitable[int | None]] | None = None,
    tries: int = fetches.TRIES,
) -> AsyncGenerator[tuple[TopicPartition, list[Any], int]]:
    """Chunks of ``ranges``: records of a partition, and the position after them. A chunk may be empty.

    The partitions are fetched together, ``most`` records at once. ``after_lost`` may be given for one range
    only: a fetch that fails loses all. The end is detected by position, because the last record may be a
    control record, which is not delivered.
    """
    positions = {place: begin for place, (begin, end) in ranges.items() if begin < end}
    if not positions:
        return
    loop = asyncio.get_running_loop()
    counts = dict.fromkeys(positions, 0)
    stuck_for_s = 0.0
    reader.assign(list(positions))
    for place, begin in positions.items():
        reader.seek(place, begin)
    try:
        while positions:
            tried_at = loop.time()
            found, afters = await _fetch(reader, ranges, list(positions), most, after_lost, tries=tries)
            moved = any(afters[place] > position for place, position in positions.items())
            stuck_for_s = 0.0 if moved else stuck_for_s + min(loop.time() - tried_at, stuck_s / _TICKS)
            for place, after in afters.items():
                end = ranges[place][1]
                records = found.get(place, [])
                if records and records[-1].offset >= end:
                    records = [record for record in records if record.offset < end]
                counts[place] += len(records)
                positions[place] = max(after, positions[place])
                if after >= end or (enough is not None and counts[place] >= enough):
                    del positions[place]
                    # A fetch for it alone would wait for new records, and the next one for that fetch.
                    reader.pause(place)
                yield place, records, after
            if stuck_for_s > stuck_s:
                place, position = next(iter(positions.items()))
                raise LogError(
                    f"cannot read {place.topic}: partition {place.partition} stays at offset {position} of "
                    f"{ranges[place][1]}{await _open_transaction(reader, place)}"
                )
    finally:
        # Otherwise it would continue to fetch, which delays answers to other requests.
        reader.unsubscribe()


async def _fetch(
    reader: AIOKafkaConsumer,
    ranges: Mapping[TopicPartition, tuple[int, int]],
    places: Sequence[TopicPartition],
    most: int | None,
    after_lost: Callable[[int], Awaitable[int | None]] | None,
    *,
    tries: int,
) -> tuple[Mapping[TopicPartition, list[Any]], dict[TopicPartition, int]]:
    """The next records of ``places``, and the position of each after them."""
    try:
        async with translate_errors(f"cannot read {places[0].topic}", timeout_s=TIMEOUT_S):
            found = await fetched(reader, *places, timeout_ms=POLL_MS, max_records=most, tries=tries)
            return found, {place: await reader.position(place) for place in places}
    except UnreadableError as exc:
        unreadable = TopicPartition(exc.batch.topic, exc.batch.partition)
        if exc.batch.offset >= ranges[unreadable][1]:
            return {}, {place: await reader.position(place) for place in places}
        if after_lost is None:
            raise
        further = await after_lost(exc.batch.offset)
        if further is None:
            batch = exc.batch
            raise UnreadableError(batch, exc.others, repair=advice.skip_lost_events(batch.lost)) from exc
        (place,) = places
        after = min(further, ranges[place][1])
        reader.seek(place, after)
        return {}, {place: after}


async def _open_transaction(consumer: AIOKafkaConsumer, place: TopicPartition) -> str:
    """Part of a message that names the open transaction which blocks the records of ``place``, if any."""
    client = consumer._client  # noqa: SLF001 - nothing public
    async with translate_errors(f"cannot read {place.topic}", timeout_s=TIMEOUT_S):
        found = await open_transactions(client, place.topic, place.partition)
    if not found:
        return ""
    first = found[0]
    return (
        f": producer id {first.producer} (epoch {first.epoch}) has had a transaction open since offset "
        f"{first.begin}; later records are read once it ends; Kafka's kafka-transactions.sh can abort it"
    )
