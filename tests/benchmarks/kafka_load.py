"""Topics of an app with the events of a measurement in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from tests.benchmarks.loads import Pair
from triggerstream.adapters.kafka.config import apply
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.topics import Topics, create
from triggerstream.core.ids import AppId
from triggerstream.core.placement import partition_of
from triggerstream.wire import tasksfile

TASKS = '{"t_report": {"after": ["t1", "t2", "t3", "t4"], "run": "bench.tasks.report"}}'
_BATCH_BYTES = 16 * 1024
"""The default of most producers."""


async def prepare(bootstrap: str, app: AppId, *, partitions: int, configured: bool) -> None:
    """Make the topics; ``configured``: with the rule in force, which is an event for ours alone."""
    connection = Connection(bootstrap=bootstrap)
    await create(connection, app, partitions=partitions)
    if configured:
        await apply(connection, app, tasksfile.read(TASKS, name="tasks.json"))


async def append(
    bootstrap: str,
    app: AppId,
    records: Iterable[Pair],
    *,
    partitions: int,
    before_sending: Callable[[], None] | None = None,
) -> None:
    """Append ``records`` where their keys belong. They are durable when this returns.

    With ``before_sending``, all are made ready before it is called, and sent after it.
    """
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, enable_idempotence=True, max_batch_size=_BATCH_BYTES
    )
    topic = Topics.of(app).events
    await producer.start()
    try:
        batches = _batches(producer, records, partitions)
        if before_sending is not None:
            batches = iter(list(batches))
            before_sending()
        for place, batch in batches:
            await producer.send_batch(batch, topic, partition=place)
        await producer.flush()
    finally:
        await producer.stop()


def _batches(
    producer: AIOKafkaProducer, records: Iterable[Pair], partitions: int
) -> Iterator[tuple[int, Any]]:
    """Partitions and full batches of aiokafka's; what is left at the end as well."""
    filling = [producer.create_batch() for _ in range(partitions)]
    for key, value in records:
        place = partition_of(key, partitions)
        if filling[place].append(key=key, value=value, timestamp=None) is None:
            yield place, filling[place]
            filling[place] = producer.create_batch()
            filling[place].append(key=key, value=value, timestamp=None)
    for place, batch in enumerate(filling):
        if batch.record_count():
            yield place, batch


async def remove(bootstrap: str, app: AppId) -> None:
    """Delete the topics of an app, those that a peer made included: hundreds of runs would fill the disk."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        names = [name for name in await admin.list_topics() if app in name]
        if names:
            await admin.delete_topics(names)
    finally:
        await admin.close()
