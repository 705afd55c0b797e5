"""`triggerstream replay` as a process, and how what it needs gets lost in Kafka."""

from __future__ import annotations

import asyncio

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient

from tests.adapters.faust.workers import Stage, outcome_of
from tests.support.commands import END_S, Ran, triggerstream
from tests.support.waiting import eventually
from triggerstream import variables
from triggerstream.adapters.kafka.cluster import change_settings, describe
from triggerstream.adapters.rocksdb import RocksStore, SharedRocksMemory


async def replay(app: Stage, *arguments: str, failpoint: str | None = None) -> Ran:
    """Run `triggerstream replay` to its end."""
    address = f"kafka://{app.connection.bootstrap}/{app.app}"
    armed = {variables.FAILPOINT: failpoint} if failpoint else {}
    return await triggerstream("replay", *arguments, "--at", address, **armed)


async def rebuild(app: Stage) -> Ran:
    """Rebuild, once the last worker that ended without a word is no member any more."""
    async with asyncio.timeout(END_S):
        while (
            "stays a member until its session times out"
            in (ran := await replay(app, "--rebuild", "--json")).err
        ):
            pass
    return ran


async def lose_changelog(app: Stage) -> None:
    """Delete every record of the changelog; the topic stays, and its offsets go on."""
    topic = app.topics.changelog
    async with app.connection.client() as client:
        await change_settings(client, topic, {"cleanup.policy": "delete"})
    admin = AIOKafkaAdminClient(**app.connection.options())
    await admin.start()
    try:
        places = [TopicPartition(topic, partition) for partition in range(app.partitions)]
        await admin.delete_records({place: RecordsToDelete(before_offset=-1) for place in places})
    finally:
        await admin.close()
    async with app.connection.client() as client:
        await change_settings(client, topic, {"cleanup.policy": "compact"})
    assert not any((await outcome_of(app.connection, app.app, app.partitions)).states.values())


async def lose_group(app: Stage) -> None:
    """Delete the group, once Kafka has noticed that it has no members."""
    admin = AdminClient({"bootstrap.servers": app.connection.bootstrap})

    def deleted() -> bool:
        (future,) = admin.delete_consumer_groups([app.app]).values()
        return future.exception(END_S) is None

    await eventually(deleted, within_s=END_S, what=lambda: "the group has members")


async def set_group_back(app: Stage, by: int) -> None:
    """Have the group's offsets lag, as those of a worker that was killed may."""
    admin = AIOKafkaAdminClient(**app.connection.options())
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(app.app)
    finally:
        await admin.close()
    back = [Place(app.topics.events, at.partition, found.offset - by) for at, found in offsets.items()]
    assert len(back) == app.partitions
    changed = AdminClient({"bootstrap.servers": app.connection.bootstrap})

    def is_back() -> bool:
        (future,) = changed.alter_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(app.app, back)]
        ).values()
        return future.exception(END_S) is None

    await eventually(is_back, within_s=END_S, what=lambda: "the group has members")


async def stores(app: Stage, name: str) -> list[RocksStore]:
    """The local stores of the worker ``name``, which must not run."""
    async with app.connection.client() as client:
        cluster = await describe(client, [app.topics.changelog])
    changelog = f"{cluster.id}/{cluster.topics[app.topics.changelog].id}"
    folder = app.directory(name) / f"{app.app}-sessions"
    memory = SharedRocksMemory()
    return [
        RocksStore(folder / str(partition), changelog=changelog, memory=memory)
        for partition in range(app.partitions)
    ]


async def make_again(app: Stage, topic: str, tasks: str) -> None:
    """Delete a topic, make it again under its name, and bring ``tasks`` into force."""
    await app.delete(topic)
    await app.prepare(tasks)
