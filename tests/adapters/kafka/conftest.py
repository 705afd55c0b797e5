"""An app with topics of its own, and how to read them back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition

from triggerstream.adapters.kafka import fencing
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.fetches import fetched
from triggerstream.adapters.kafka.stopping import stop
from triggerstream.adapters.kafka.topics import Topics, create
from triggerstream.core.ids import AppId
from triggerstream.wire.claims import OwnerId

PARTITIONS = 4


def owner_id() -> OwnerId:
    """A transactional id that nobody has."""
    return OwnerId(f"owner-{uuid4().hex}")


@pytest.fixture
def connection(kafka: str) -> Connection:
    return Connection(bootstrap=kafka)


@pytest.fixture
async def producer(connection: Connection) -> AsyncIterator[AIOKafkaProducer]:
    made = connection.producer()
    await connection.start(made)
    yield made
    await stop(made)


@pytest.fixture
async def topics(connection: Connection, kafka_app: AppId) -> Topics:
    """The topics of ``kafka_app``, which are there and empty."""
    await create(connection, kafka_app, partitions=PARTITIONS)
    return Topics.of(kafka_app)


def all_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a partition that does not exist look as if it was only away: nobody answers for it."""
    monkeypatch.setattr(fencing, "partition_exists", lambda _reader, _place: True)


async def read_all(connection: Connection, topic: str) -> list[ConsumerRecord]:
    """The committed records of ``topic`` up to its end of now; a partition's are in order."""
    reader = connection.reader()
    await reader.start()
    try:
        places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        reader.assign(places)
        await reader.seek_to_beginning(*places)
        ends = await reader.end_offsets(places)
        records: list[ConsumerRecord] = []
        while any([await reader.position(place) < ends[place] for place in places]):
            for found in (await fetched(reader, timeout_ms=20)).values():
                records += found
        return records
    finally:
        await reader.stop()
