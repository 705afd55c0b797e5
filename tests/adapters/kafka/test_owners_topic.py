"""The claims of an app on the real Kafka."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from tests.adapters.kafka.conftest import PARTITIONS
from tests.support.kafka.raw import RawRecord, batch, packed, produce
from tests.support.waiting import until
from triggerstream.adapters.kafka.cluster import describe
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.layout import layout_of
from triggerstream.adapters.kafka.owners_topic import KafkaOwnersTopic
from triggerstream.adapters.kafka.topics import Topics, address_of, create
from triggerstream.adapters.kafka.unpacking import UNPACKED_BYTES
from triggerstream.adapters.kafka.watch import TopicGoneError
from triggerstream.core import advice
from triggerstream.core.errors import LogError
from triggerstream.core.ids import AppId
from triggerstream.engine.partitioned.ports import TakeOverError
from triggerstream.wire.claims import Claim, OwnerId

pytestmark = pytest.mark.kafka


@pytest.fixture
async def owners(connection: Connection, kafka_app: AppId, topics: Topics) -> AsyncIterator[KafkaOwnersTopic]:
    layout = await layout_of(connection, kafka_app)
    known = layout.cluster.topics
    others = {name: known[name].id for name in (topics.events, topics.changelog)}
    made = KafkaOwnersTopic(connection, kafka_app, topic_id=layout.identity.owners, others=others)
    yield made
    await made.close()


def claim(app: AppId, name: str) -> Claim:
    return Claim(id=OwnerId(f"{app}-w-{name}"), partitions=frozenset({0}))


async def delete(connection: Connection, topic: str) -> None:
    admin = AIOKafkaAdminClient(**connection.options())
    await admin.start()
    try:
        await admin.delete_topics([topic])
    finally:
        await admin.close()
    async with connection.client() as client:

        async def gone() -> bool:
            return not (await describe(client, [topic])).topics

        await until(gone)


async def test_claims_are_found_until_they_are_forgotten(owners: KafkaOwnersTopic, kafka_app: AppId) -> None:
    first, second = claim(kafka_app, "first"), claim(kafka_app, "second")
    assert await owners.append([first]) == 1
    end = await owners.append([second])
    assert await owners.read(end) == {first.id: first, second.id: second}
    await owners.forget([first.id])
    assert await owners.read(end) == {first.id: first, second.id: second}, "it was forgotten after this"
    assert await owners.current() == {second.id: second}


async def test_a_topic_that_was_made_again_takes_no_claim_of_a_process_from_before(
    owners: KafkaOwnersTopic, connection: Connection, kafka_app: AppId
) -> None:
    await owners.append([claim(kafka_app, "zombie")])
    await delete(connection, Topics.of(kafka_app).owners)
    await create(connection, kafka_app, partitions=PARTITIONS)
    with pytest.raises(LogError, match="was deleted"):
        await owners.append([claim(kafka_app, "owner")])


@pytest.mark.parametrize("which", ["events", "changelog"])
async def test_nothing_is_claimed_once_a_topic_that_the_claims_protect_was_made_again(
    owners: KafkaOwnersTopic, connection: Connection, kafka_app: AppId, topics: Topics, which: str
) -> None:
    topic = getattr(topics, which)
    await delete(connection, topic)
    await create(connection, kafka_app, partitions=PARTITIONS)
    with pytest.raises(TopicGoneError, match=f"{topic} was deleted and made again: its id was") as refused:
        await owners.append([claim(kafka_app, "owner")])
    assert advice.rebuild(address_of(connection, kafka_app)) in str(refused.value)


async def test_claims_that_cannot_be_read_are_not_taken_for_none(
    owners: KafkaOwnersTopic, connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    """Their owners would not be fenced, and go on beside the next one."""
    bomb = [RawRecord(key=b"k", value=b""), RawRecord(key=b"k", value=bytes(2 * UNPACKED_BYTES))]
    await produce(connection, topics.owners, 0, packed(batch(bomb), 4))
    said = f"^{topics.owners}, partition 0: the record batch at offset 0 to 1 cannot be read: .*zstd"
    at = address_of(connection, kafka_app)
    again = advice.make_owners_again(at, bootstrap=connection.bootstrap, topic=topics.owners, lasting=True)
    message = f"{said}.*: the owner of a claim in it could not be fenced; {re.escape(again)}$"
    with pytest.raises(TakeOverError, match=message):
        await owners.read(await owners.append([claim(kafka_app, "first")]))
    with pytest.raises(LogError, match=message):
        await owners.current()
