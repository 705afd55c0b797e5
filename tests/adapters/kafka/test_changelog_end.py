"""Where a changelog ends, and what happens where a transaction in it does not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import pytest
from aiokafka import AIOKafkaProducer

from tests.adapters.kafka.conftest import owner_id
from tests.support.kafka.server import KafkaServer
from triggerstream.adapters.kafka import records
from triggerstream.adapters.kafka.cluster import open_transactions
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.fencing import KafkaFencing
from triggerstream.adapters.kafka.layout import layout_of
from triggerstream.adapters.kafka.ledger import KafkaLedger
from triggerstream.adapters.kafka.owners_topic import KafkaOwnersTopic, new_claims
from triggerstream.adapters.kafka.replay import KafkaRecords
from triggerstream.adapters.kafka.stopping import stop
from triggerstream.adapters.kafka.topics import Topics, create
from triggerstream.core.errors import LogError
from triggerstream.core.ids import AppId
from triggerstream.engine.partitioned.claims import new_ids
from triggerstream.engine.partitioned.ports import Commit
from triggerstream.engine.replay.changelog import ChangelogArchive
from triggerstream.wire.marks import (
    CHECKPOINT_KEY,
    CheckpointMark,
    Identity,
    decode_checkpoint,
    encode_checkpoint,
)

pytestmark = pytest.mark.kafka

HAND_OVERS = 60
FREEZES = 6


def checkpoint(log: Identity, offset: int) -> Commit:
    mark = encode_checkpoint(CheckpointMark(offset=offset, identity=log))
    return Commit(decided=(), states={}, dead_letters=(), marks={CHECKPOINT_KEY: mark}, offset=None)


@pytest.fixture
async def log(connection: Connection, kafka_app: AppId, topics: Topics) -> Identity:
    assert topics.all(), "they are there"
    return (await layout_of(connection, kafka_app)).identity


@pytest.fixture
async def ledger(connection: Connection, kafka_app: AppId, topics: Topics) -> AsyncIterator[KafkaLedger]:
    """The ledger of partition 0, fenced."""
    made = KafkaLedger(
        connection=connection, app=kafka_app, topics=topics, partition=0, id_=owner_id(), stuck_s=0.5
    )
    await made.start()
    yield made
    await made.close()


@pytest.fixture
def archive(
    connection: Connection, kafka_app: AppId, topics: Topics, log: Identity, ledger: KafkaLedger
) -> ChangelogArchive:
    """Partition 0 as `replay` reads it."""
    return ChangelogArchive(
        app=kafka_app,
        number=0,
        identity=log,
        ledger=ledger,
        log=KafkaRecords(connection, topic=topics.events, partition=0),
        commands=KafkaRecords(connection, topic=topics.commands, partition=0),
    )


@pytest.fixture
async def hanging(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> AsyncIterator[AIOKafkaProducer]:
    """A producer with a transaction in partition 0 of changelog and commands that nobody ends."""
    producer = connection.producer(transactional_id=f"{kafka_app}-hanging", transaction_s=600)
    await producer.start()
    await producer.begin_transaction()
    for topic in (topics.changelog, topics.commands):
        await producer.send_and_wait(topic, b"torn", partition=0, key=b"s")
    yield producer
    await stop(producer)


async def test_an_orderly_hand_over_finds_the_last_checkpoint_each_time(
    log: Identity, ledger: KafkaLedger, archive: ChangelogArchive
) -> None:
    """Kafka answers a commit before it writes the markers: the last stable offset is before them."""
    for offset in range(HAND_OVERS):
        await ledger.commit(checkpoint(log, offset))
        assert (await archive.kept()).offset == offset


async def test_a_hand_over_to_a_broker_that_is_frozen_finds_the_last_checkpoint(
    start_kafka: Callable[..., KafkaServer], kafka_app: AppId
) -> None:
    """It is frozen between the answer to a commit and the next request, with markers to be written."""
    server = await asyncio.to_thread(start_kafka)
    connection, topics = Connection(bootstrap=server.bootstrap), Topics.of(kafka_app)
    await create(connection, kafka_app, partitions=1)
    log = (await layout_of(connection, kafka_app)).identity
    fencing, owners = KafkaFencing(connection, kafka_app), KafkaOwnersTopic(connection, kafka_app)
    for offset in range(FREEZES):
        ids = new_ids(kafka_app)
        ledger = KafkaLedger(
            connection=connection, app=kafka_app, topics=topics, partition=0, id_=ids[0], fencing=fencing
        )
        await ledger.start()
        claims = new_claims(ids, [0], owners=owners, fencing=fencing)
        assert await claims.take() == {}, "the claim of the one before is released"
        extent = await ledger.extent()
        marks = [one async for one, _ in ledger.changelog(extent.begin, extent.end)]
        found = [decode_checkpoint(value).offset for one in marks for value in one.values() if value]
        assert found == ([] if not offset else [offset - 1])
        await ledger.commit(checkpoint(log, offset))
        server.pause()
        releasing = asyncio.create_task(claims.release())
        await asyncio.wait([releasing], timeout=0.3)
        server.resume()
        await releasing
        await ledger.close()
    await owners.close()


async def test_a_transaction_that_hangs_stops_who_reads_the_changelog_and_is_named(
    connection: Connection, log: Identity, archive: ChangelogArchive, hanging: AIOKafkaProducer
) -> None:
    ledger, changelog = archive.ledger, Topics.of(archive.app).changelog
    await ledger.commit(checkpoint(log, 7))
    with pytest.raises(LogError) as stopped:
        await archive.kept()
    owner = hanging._txn_manager  # noqa: SLF001 - the id that the broker knows it by
    assert re.fullmatch(
        rf"cannot read {changelog}: partition 0 stays at offset 0 of [34]: "
        rf"producer id {owner.producer_id} \(epoch {owner.producer_epoch}\) has had a transaction open since "
        r"offset 0; later records are read once it ends; Kafka's kafka-transactions\.sh can abort it",
        str(stopped.value),
    )
    await hanging.abort_transaction()
    assert (await archive.kept()).offset == 7
    async with connection.client() as client:
        assert list(await open_transactions(client, changelog, 0)) == []


async def test_commands_of_a_transaction_that_is_open_are_waited_for(
    connection: Connection, topics: Topics, hanging: AIOKafkaProducer
) -> None:
    commands = KafkaRecords(connection, topic=topics.commands, partition=0)
    begin, end = await commands.since(0)
    assert (begin, end) == (0, 1)
    await hanging.commit_transaction()
    found = [record.value async for records in commands.records(begin, end) for record in records]
    assert found == [b"torn"]


async def test_a_frozen_broker_ends_the_read_of_a_changelog(
    start_kafka: Callable[..., KafkaServer], kafka_app: AppId, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_kafka()
    connection = Connection(bootstrap=server.bootstrap)
    await create(connection, kafka_app, partitions=1)
    ledger = KafkaLedger(
        connection=connection,
        app=kafka_app,
        topics=Topics.of(kafka_app),
        partition=0,
        id_=owner_id(),
        stuck_s=0.5,
    )
    await ledger.start()
    await ledger.commit(checkpoint((await layout_of(connection, kafka_app)).identity, 7))
    async with asyncio.timeout(10):
        while (await ledger.extent()).unfinished is not None:
            pass  # the marker is written a moment after the commit is answered
    extent = await ledger.extent()  # the marker is below this end
    monkeypatch.setattr(records, "TIMEOUT_S", 1.0)
    reading = ledger.changelog(extent.begin, extent.end + 1)
    async with aclosing(reading):
        await anext(reading)
        server.pause()
        with pytest.raises(LogError, match=rf"^cannot read {kafka_app}-sessions-changelog: "):
            async for _ in reading:
                pass
    with pytest.raises(LogError, match=rf"^cannot read {kafka_app}-sessions-changelog: no answer within 1 s"):
        await anext(ledger.changelog(extent.begin, extent.end))
    server.kill()
    await ledger.close()
