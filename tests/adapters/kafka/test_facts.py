"""What Apache Kafka and aiokafka do together, where the engine relies on it or has to work around it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
)
from aiokafka.structs import OffsetAndMetadata

from tests.adapters.kafka.conftest import PARTITIONS, read_all
from tests.support.kafka.server import KafkaServer
from tests.support.waiting import until
from triggerstream.adapters.kafka.cluster import change_settings
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.layout import layout_of
from triggerstream.adapters.kafka.log import KafkaLog
from triggerstream.adapters.kafka.stopping import stop
from triggerstream.adapters.kafka.topics import Topics, create
from triggerstream.core.errors import UsageError
from triggerstream.core.ids import AppId
from triggerstream.wire.records import NewRecord

pytestmark = pytest.mark.kafka


async def _begun(connection: Connection, app: AppId) -> AIOKafkaProducer:
    """A producer in a transaction; whoever had the app's transactional id before is fenced."""
    producer = connection.producer(transactional_id=f"{app}-0")
    await producer.start()
    await producer.begin_transaction()
    return producer


async def test_a_fenced_owner_cannot_commit_what_it_sent(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    zombie = await _begun(connection, kafka_app)
    await zombie.send_and_wait(topics.commands, b"of the zombie", partition=0)
    owner = await _begun(connection, kafka_app)
    with pytest.raises(ProducerFenced):
        await zombie.commit_transaction()
    await owner.send_and_wait(topics.commands, b"of the owner", partition=0)
    await owner.commit_transaction()
    await stop(zombie)
    await stop(owner)
    assert [r.value for r in await read_all(connection, topics.commands)] == [b"of the owner"]


async def test_a_fenced_owner_cannot_send(connection: Connection, kafka_app: AppId, topics: Topics) -> None:
    zombie = await _begun(connection, kafka_app)
    await zombie.send_and_wait(topics.commands, b"of the zombie", partition=0)
    owner = await _begun(connection, kafka_app)
    for partition in (0, 1):  # 0 is part of its transaction already, 1 is not
        with pytest.raises(ProducerFenced):
            await zombie.send_and_wait(topics.commands, b"of the zombie", partition=partition)
    await owner.abort_transaction()
    await stop(zombie)
    await stop(owner)
    assert await read_all(connection, topics.commands) == []


async def test_a_fenced_owner_cannot_move_the_group_offset(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    place = TopicPartition(topics.events, 0)
    first = await _begun(connection, kafka_app)
    await first.send_offsets_to_transaction({place: OffsetAndMetadata(5, "")}, kafka_app)
    await first.commit_transaction()
    await first.begin_transaction()
    owner = await _begun(connection, kafka_app)
    with pytest.raises(ProducerFenced):
        await first.send_offsets_to_transaction({place: OffsetAndMetadata(9, "")}, kafka_app)
    await owner.abort_transaction()
    await stop(first)
    await stop(owner)
    admin = AIOKafkaAdminClient(**connection.options())
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(kafka_app, partitions=[place])
    finally:
        await admin.close()
    assert offsets[place].offset == 5


async def test_once_fenced_everything_of_the_former_owner_is_decided(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    """The order of a take-over: after the fence, the end of a topic is no longer held back."""
    dead = await _begun(connection, kafka_app)
    await dead.send_and_wait(topics.changelog, b"torn", partition=0, key=b"s")
    place = TopicPartition(topics.changelog, 0)
    reader = connection.reader()
    await reader.start()
    assert (await reader.end_offsets([place]))[place] == 0, "an open transaction holds the end back"
    owner = await _begun(connection, kafka_app)
    assert (await reader.end_offsets([place]))[place] == 2, "the record and the mark that undoes it"
    await owner.abort_transaction()
    await reader.stop()
    await stop(dead)
    await stop(owner)
    assert await read_all(connection, topics.changelog) == []


@pytest.mark.slow
async def test_a_transaction_beyond_its_time_is_undone_and_its_owner_fenced(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    late = AIOKafkaProducer(
        **connection.options(), transactional_id=f"{kafka_app}-late", transaction_timeout_ms=1000
    )
    await late.start()
    await late.begin_transaction()
    await late.send_and_wait(topics.commands, b"late", partition=0)
    place = TopicPartition(topics.commands, 0)
    reader = connection.reader()
    await reader.start()

    async def is_aborted() -> bool:
        return bool((await reader.end_offsets([place]))[place] > 0)

    await until(is_aborted, within_s=30)
    await reader.stop()
    with pytest.raises(ProducerFenced):
        await late.commit_transaction()
    await stop(late)
    assert await read_all(connection, topics.commands) == []


async def test_a_stock_producer_never_recovers_from_a_refused_batch(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    """Why KafkaLog leaves a producer with which something failed."""
    assert kafka_app
    async with connection.client() as client:
        await change_settings(client, topics.events, {"max.message.bytes": "10000"})
    producer = connection.producer()
    await producer.start()
    await producer.send_and_wait(topics.events, b"small", partition=0)
    with pytest.raises(MessageSizeTooLargeError):
        await producer.send_and_wait(topics.events, bytes(20_000), partition=0)
    for _ in range(2):
        with pytest.raises(OutOfOrderSequenceNumber):
            await producer.send_and_wait(topics.events, b"small", partition=0)
    await producer.send_and_wait(topics.events, b"small", partition=1)
    await stop(producer)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_what_other_clients_compress_can_be_read(
    connection: Connection, topics: Topics, codec: str
) -> None:
    from confluent_kafka import Producer  # noqa: PLC0415 - the client is not ours

    producer = Producer({"bootstrap.servers": connection.bootstrap, "compression.type": codec})
    producer.produce(topics.events, key=b"s", value=b"{}" * 1000)
    await asyncio.to_thread(producer.flush, 20)
    [record] = await read_all(connection, topics.events)
    assert record.value == b"{}" * 1000


_HASTY = {
    "transactional.id.expiration.ms": "5000",
    "transaction.remove.expired.transaction.cleanup.interval.ms": "500",
    "producer.id.expiration.ms": "1000",
    "producer.id.expiration.check.interval.ms": "500",
    "auto.create.topics.enable": "true",
}


@pytest.mark.slow
async def test_what_a_broker_forgets_and_makes_by_itself(
    start_kafka: Callable[..., KafkaServer], kafka_app: AppId
) -> None:
    server = await asyncio.to_thread(start_kafka, _HASTY)
    connection = Connection(bootstrap=server.bootstrap)
    # Asking does not make a topic, even where the broker would.
    log = KafkaLog(connection, kafka_app)
    for _ in range(2):
        with pytest.raises(UsageError, match="has no topic"):
            await log.append([NewRecord(key=b"s", value=b"{}")])
        with pytest.raises(UsageError, match="has no topic"):
            await layout_of(connection, kafka_app)
    await create(connection, kafka_app, partitions=PARTITIONS)
    topics = Topics.of(kafka_app)

    # A transactional id that was idle for 7 days, as brokers are set up, is gone; a new start makes it anew.
    idle = await _begun(connection, kafka_app)
    await idle.send_and_wait(topics.commands, b"1", partition=0)
    await idle.commit_transaction()
    await log.append([NewRecord(key=b"s", value=b"{}")])
    await _forgotten(connection, f"{kafka_app}-0")
    await idle.begin_transaction()
    # InvalidProducerIdMapping, of which aiokafka says only this:
    with pytest.raises(KafkaError, match="Unexpected error during batch delivery"):
        await idle.send_and_wait(topics.commands, b"2", partition=0)
    await stop(idle)
    again = await _begun(connection, kafka_app)
    await again.send_and_wait(topics.commands, b"3", partition=0)
    await again.commit_transaction()
    await stop(again)
    assert [r.value for r in await read_all(connection, topics.commands)] == [b"1", b"3"]

    # A plain producer that was idle for a day goes on: its number, unknown now, is taken as it is.
    await log.append([NewRecord(key=b"s", value=b"{}")])
    await log.close()
    assert len(await read_all(connection, topics.events)) == 2


@pytest.mark.slow
async def test_a_transaction_after_an_idle_day_goes_on(
    start_kafka: Callable[..., KafkaServer], kafka_app: AppId
) -> None:
    lasting = {**_HASTY, "transactional.id.expiration.ms": "3600000"}
    server = await asyncio.to_thread(start_kafka, lasting)
    connection = Connection(bootstrap=server.bootstrap)
    await create(connection, kafka_app, partitions=PARTITIONS)
    topics = Topics.of(kafka_app)
    producer = await _begun(connection, kafka_app)
    for value in (b"1", b"2", b"3"):
        await producer.send_and_wait(topics.commands, value, partition=0)
        await producer.commit_transaction()
        await asyncio.sleep(4)  # the partition's leader has forgotten the producer meanwhile
        await producer.begin_transaction()
    await stop(producer)
    assert [r.value for r in await read_all(connection, topics.commands)] == [b"1", b"2", b"3"]


async def _forgotten(connection: Connection, transactional_id: str) -> None:
    """Return once the coordinator has written that it dropped ``transactional_id``."""
    consumer = AIOKafkaConsumer(**connection.options(), auto_offset_reset="earliest")
    await consumer.start()
    try:
        topic = "__transaction_state"
        consumer.assign([TopicPartition(topic, partition) for partition in range(8)])
        async with asyncio.timeout(120):
            async for record in consumer:
                if record.value is None and transactional_id.encode() in record.key:
                    return
    finally:
        await consumer.stop()
