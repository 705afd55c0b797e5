"""The topics are made as they must be, and what differs is found and repaired."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.adapters.kafka.conftest import PARTITIONS
from tests.support.waiting import until
from triggerstream.adapters.kafka.check import check, repair
from triggerstream.adapters.kafka.cluster import change_settings, describe, settings_of
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.layout import layout_of
from triggerstream.adapters.kafka.topics import Topics, create
from triggerstream.core.errors import LogError, UsageError
from triggerstream.core.ids import AppId
from triggerstream.engine.operations.administration import Severity

pytestmark = pytest.mark.kafka


async def test_topics_that_were_made_pass_the_check(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    assert await check(connection, kafka_app) == []
    async with connection.client() as client:
        cluster = await describe(client, topics.all())
    assert {cluster.topics[name].partitions for name in topics.partitioned()} == {PARTITIONS}
    assert cluster.topics[topics.owners].partitions == 1


async def test_making_topics_again_makes_none(connection: Connection, kafka_app: AppId) -> None:
    made = await create(connection, kafka_app, partitions=PARTITIONS)
    assert sorted(made) == sorted(Topics.of(kafka_app).all())
    assert await create(connection, kafka_app, partitions=PARTITIONS) == []


async def test_a_missing_topic_is_found_with_the_command_that_makes_it(
    connection: Connection, kafka_app: AppId
) -> None:
    findings = await check(connection, kafka_app)
    assert len(findings) == 5
    assert str(findings[0]) == (
        f"{kafka_app}.events: is missing: make it with "
        f"`triggerstream topics create --at kafka://{connection.bootstrap}/{kafka_app}`"
    )


async def test_a_wrong_setting_is_found_and_repaired_and_the_others_stay(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    async with connection.client() as client:
        await change_settings(
            client, topics.events, {"message.timestamp.type": "CreateTime", "retention.ms": "86400000"}
        )
        await change_settings(client, topics.changelog, {"max.message.bytes": "1000000"})
    findings = await check(connection, kafka_app)
    assert [(f.severity, f.topic, f.message) for f in findings] == [
        (
            Severity.ERROR,
            topics.events,
            "message.timestamp.type is CreateTime, must be LogAppendTime",
        ),
        (Severity.ERROR, topics.changelog, "max.message.bytes is 1000000, must be at least 11195904"),
    ]
    assert "topics create --repair" in findings[0].repair
    assert await repair(connection, kafka_app) == [topics.events, topics.changelog]
    assert await check(connection, kafka_app) == []
    async with connection.client() as client:
        settings = (await settings_of(client, [topics.events]))[topics.events]
    assert settings["retention.ms"] == "86400000", "how long events are kept is the installation's choice"


async def test_a_topic_with_another_number_of_partitions_is_found(
    connection: Connection, kafka_app: AppId
) -> None:
    admin = AIOKafkaAdminClient(**connection.options())
    name = Topics.of(kafka_app).dead_letters
    await admin.start()
    await admin.create_topics([NewTopic(name, PARTITIONS - 1, 1)])
    await admin.close()
    async with connection.client() as client:

        async def is_described() -> bool:
            return name in (await describe(client, [name])).topics

        await until(is_described)  # a busy broker answers for the controller before it knows of the topic
    with pytest.raises(UsageError, match="has 3 partitions, not 4"):
        await create(connection, kafka_app, partitions=PARTITIONS)
    await create(connection, kafka_app, partitions=PARTITIONS - 1)
    assert not [f for f in await check(connection, kafka_app) if "partitions" in f.message]


async def test_missing_partitions_are_added_and_further_ones_are_nobodys_concern(
    connection: Connection, kafka_app: AppId
) -> None:
    topics, admin = Topics.of(kafka_app), AIOKafkaAdminClient(**connection.options())
    await admin.start()
    await admin.create_topics(
        [NewTopic(topics.dead_letters, PARTITIONS - 1, 1), NewTopic(topics.commands, PARTITIONS + 1, 1)]
    )
    await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in (topics.events, topics.changelog)])
    await admin.create_topics([NewTopic(topics.owners, 1, 1)])
    await admin.close()
    # A broker may not describe a topic that was just made; a repair leaves that one as it is.
    async with asyncio.timeout(30):
        while await check(connection, kafka_app):
            await repair(connection, kafka_app)
    async with connection.client() as client:
        found = (await describe(client, topics.all())).topics
    assert {name: found[name].partitions for name in topics.all()} == {
        topics.events: PARTITIONS,
        topics.commands: PARTITIONS + 1,
        topics.dead_letters: PARTITIONS,
        topics.changelog: PARTITIONS,
        topics.owners: 1,
    }


async def test_too_many_in_sync_replicas_are_an_error(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    async with connection.client() as client:
        await change_settings(client, topics.events, {"min.insync.replicas": "2"})
    [finding] = await check(connection, kafka_app)
    assert finding.severity is Severity.ERROR
    assert finding.message == "min.insync.replicas is 2, with 1 replicas: nothing can be appended"
    await repair(connection, kafka_app)
    assert await check(connection, kafka_app) == []


async def test_a_topic_made_again_has_another_identity(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    before = (await layout_of(connection, kafka_app)).identity
    assert before == (await layout_of(connection, kafka_app)).identity
    assert before.partitions == PARTITIONS
    admin = AIOKafkaAdminClient(**connection.options())
    await admin.start()
    try:
        await admin.delete_topics([topics.events])
    finally:
        await admin.close()
    async with connection.client() as client:

        async def gone() -> bool:
            return not (await describe(client, [topics.events])).topics

        await until(gone)
    await create(connection, kafka_app, partitions=PARTITIONS)
    after = (await layout_of(connection, kafka_app)).identity
    assert (after.cluster, after.partitions) == (before.cluster, before.partitions)
    assert after.topic != before.topic


async def test_looking_at_a_topic_does_not_make_it(connection: Connection, kafka_app: AppId) -> None:
    for _ in range(2):
        with pytest.raises(UsageError, match=r"has no topic .*\.events: make it with `triggerstream topics"):
            await layout_of(connection, kafka_app)


async def test_a_cluster_that_is_away_is_a_log_error(kafka_app: AppId) -> None:
    with pytest.raises(LogError, match=r"cannot look at topics: .*127.0.0.1"):
        await check(Connection(bootstrap="127.0.0.1:1"), kafka_app)


def test_an_app_whose_name_kafka_cannot_take_is_refused() -> None:
    with pytest.raises(UsageError, match="app 'my app'"):
        Topics.of(AppId("my app"))
