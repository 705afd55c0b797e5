"""Appends records of partitions that were added to the events topic to the app's own partitions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import ProducerFenced

from triggerstream.adapters.kafka.connection import Connection, gather_all, translate_errors
from triggerstream.adapters.kafka.layout import Layout, layout_of
from triggerstream.adapters.kafka.records import read_range, readable_extents, reader_of, record_of
from triggerstream.adapters.kafka.stopping import retrieve_error, stop
from triggerstream.adapters.kafka.topics import TIMEOUT_S, Topics, address_of
from triggerstream.core import advice
from triggerstream.core.errors import LogError, UsageError
from triggerstream.core.ids import AppId
from triggerstream.engine.operations.administration import Rehomed
from triggerstream.engine.operations.rehome import MisplacedRecord, MisplacedRecords, Origin, copy_misplaced
from triggerstream.wire import events

_PIECE = 1_000
_SKEW_MS = 300_000
"""Tolerance for clocks: a copy has a later time than its original, but another broker's clock may be
behind."""


async def rehome(
    connection: Connection, app: AppId, *, partitions: int | None = None, dry_run: bool = False
) -> Rehomed:
    """Append every record of an added partition that has no copy yet. Workers may run meanwhile.

    ``partitions``: the app's number of partitions, if no checkpoint has it.
    After a crash, some records are appended, and the next call appends the others. A call fences an earlier
    one that still runs: the fold remembers the identity of a trigger's latest events only, so second copies
    of many records would count.

    Raises:
        UsageError: there is no events topic; or the app's number of partitions is unknown.
        LogError: unknown whether all records are appended, or another call fenced this one. Safe to call
            again.
    """
    layout = await layout_of(connection, app, partitions=partitions)
    if layout.added and partitions is None and not layout.marked:
        address = address_of(connection, app)
        raise UsageError(
            f"{layout.events.name} has {layout.events.partitions} partitions, and no checkpoint says how "
            f"many the app has; {advice.name_partitions_to_rehome(address)}"
        )
    if dry_run:
        found = await count_misplaced(connection, app, layout)
    else:
        async with translate_errors("records are not known to be appended", timeout_s=TIMEOUT_S):
            producer = connection.producer(transactional_id=f"{app}-rehome")
            await connection.start(producer)
        try:
            found = await _walk(connection, app, layout, producer)
        finally:
            await stop(producer)
    return Rehomed(
        partitions=layout.partitions,
        added=tuple(layout.added),
        records=found.records,
        sessions=len(found.sessions),
    )


async def count_misplaced(connection: Connection, app: AppId, layout: Layout) -> MisplacedRecords:
    """Count the records of added partitions that have no copy.

    Raises:
        LogError: the log cannot be read.
    """
    return await _walk(connection, app, layout, None)


async def _walk(
    connection: Connection, app: AppId, layout: Layout, producer: AIOKafkaProducer | None
) -> MisplacedRecords:
    """Count records without a copy; with a ``producer``, append them."""
    counted = MisplacedRecords()
    if not layout.added:
        return counted
    topic = Topics.of(app).events
    async with reader_of(connection, topic) as reader:
        copied = await _find_copied(reader, topic, layout)
        for partition in layout.added:
            async with aclosing(_records(reader, TopicPartition(topic, partition))) as found:
                async for records in found:
                    made = (
                        copy_misplaced(
                            record_of(one),
                            app=app,
                            control=connection.security.control,
                            partitions=layout.partitions,
                        )
                        for one in records
                    )
                    missing = [one for one in made if one is not None and one.origin not in copied]
                    if producer is not None and missing:
                        await _append(connection, app, producer, topic, missing)
                    for misplaced in missing:
                        counted.count(misplaced)
                        copied.add(misplaced.origin)
    return counted


async def _find_copied(reader: AIOKafkaConsumer, topic: str, layout: Layout) -> set[Origin]:
    """The positions in added partitions whose records have a copy."""
    oldest_ms: int | None = None
    for partition in layout.added:
        async with aclosing(_records(reader, TopicPartition(topic, partition))) as found:
            async for records in found:
                if records:
                    first = int(records[0].timestamp)
                    oldest_ms = first if oldest_ms is None else min(oldest_ms, first)
                    break
    copied: set[Origin] = set()
    if oldest_ms is None:
        return copied
    places = [TopicPartition(topic, partition) for partition in range(layout.partitions)]
    async with translate_errors(f"cannot read {topic}", timeout_s=TIMEOUT_S):
        since = await reader.offsets_for_times({place: max(oldest_ms - _SKEW_MS, 0) for place in places})
    for place, at in since.items():
        if at is None:
            continue
        async with aclosing(_records(reader, place, begin=at.offset)) as found:
            async for records in found:
                origins = (events.origin_of(record.headers) for record in records if record.headers)
                copied.update(origin for origin in origins if origin and origin[0] >= layout.partitions)
    return copied


async def _records(
    reader: AIOKafkaConsumer, place: TopicPartition, *, begin: int = 0
) -> AsyncGenerator[list[Any]]:
    """The committed records of ``place`` from ``begin`` to its current end, in chunks."""
    first, end = (await readable_extents(reader, [place]))[place]
    async with aclosing(read_range(reader, place, max(begin, first), end, most=_PIECE)) as found:
        async for records, _ in found:
            yield records


async def _append(
    connection: Connection,
    app: AppId,
    producer: AIOKafkaProducer,
    topic: str,
    missing: Sequence[MisplacedRecord],
) -> None:
    """Append ``missing`` in order; they are durable when this returns."""
    async with translate_errors("records are not known to be appended", timeout_s=TIMEOUT_S):
        try:
            await producer.begin_transaction()
            await gather_all(await _sent(connection, app, producer, topic, missing))
            await producer.commit_transaction()
        except ProducerFenced as exc:
            raise LogError("another rehome of this app has begun since then, and does the rest") from exc


async def _sent(
    connection: Connection,
    app: AppId,
    producer: AIOKafkaProducer,
    topic: str,
    missing: Sequence[MisplacedRecord],
) -> list[Any]:
    sent = []
    for misplaced in missing:
        # A record without a valid signature is not signed: its owner must refuse the copy.
        record = connection.signed(app, misplaced.record) if misplaced.trusted else misplaced.record
        answer = await producer.send(
            topic,
            record.value,
            key=record.key,
            partition=misplaced.partition,
            headers=list(record.headers),
        )
        answer.add_done_callback(retrieve_error)
        sent.append(answer)
    return sent
