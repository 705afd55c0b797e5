"""Sends records to a partition in batches, which is cheaper than one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer

from triggerstream.adapters.kafka.stopping import retrieve_error
from triggerstream.wire.records import Headers, NewRecord


class Entry(NamedTuple):
    """An entry of a changelog. An entry without a value deletes its key."""

    key: bytes
    value: bytes | None
    headers: Headers = ()


async def send_all(
    producer: AIOKafkaProducer, partition: int, batches: Sequence[tuple[str, Iterable[NewRecord | Entry]]]
) -> int:
    """Send the records of several topics; the offset after the first topic's once all are acknowledged.

    The offset is 0 if that topic has none. A batch is sent at a time: 2 µs a record, where ``producer.send``
    takes 25. The first batch of each topic is sent before the second of any, so that one request adds all
    topics to a transaction.
    """
    rest = {topic: _batches(producer, records) for topic, records in batches}
    sent: list[tuple[str, Any, int]] = []
    try:
        while rest:
            for topic, left in list(rest.items()):
                batch = next(left, None)
                if batch is None:
                    del rest[topic]
                    continue
                future = await producer.send_batch(batch, topic, partition=partition)
                sent.append((topic, future, batch.record_count()))
        position = 0
        for topic, future, count in sent:
            after = (await future).offset + count
            if topic == batches[0][0]:
                position = after
    except BaseException:
        for _, future, _ in sent:
            future.add_done_callback(retrieve_error)
        raise
    return position


def _batches(producer: AIOKafkaProducer, records: Iterable[NewRecord | Entry]) -> Iterator[Any]:
    batch = None
    for record in records:
        key, value, headers = record.key, record.value, list(record.headers)
        if batch is None or batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
            if batch is not None:
                yield batch
            batch = producer.create_batch()
            batch.append(timestamp=None, key=key, value=value, headers=headers)
    if batch is not None:
        yield batch
