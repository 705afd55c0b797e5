"""Partitions of the Kafka log, its producer, and its errors. What every log promises: `tests/contract`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.adapters.kafka.conftest import PARTITIONS, read_all
from tests.support.kafka.server import KafkaServer
from triggerstream.adapters.kafka.cluster import change_settings
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.log import KafkaLog
from triggerstream.adapters.kafka.topics import Topics, create
from triggerstream.core.errors import LogError, UsageError
from triggerstream.core.ids import AppId
from triggerstream.core.placement import partition_of
from triggerstream.wire.records import NewRecord

pytestmark = pytest.mark.kafka


async def test_each_session_is_in_its_partition_in_order(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    log = KafkaLog(connection, kafka_app)
    keys = [f"survey-{number}".encode() for number in range(50)]
    await log.append([NewRecord(key=key, value=b"%d" % turn) for turn in range(20) for key in keys])
    await log.close()
    records = await read_all(connection, topics.events)
    assert len(records) == 1000
    assert {r.partition for r in records} == set(range(PARTITIONS))
    for key in keys:
        its = [r for r in records if r.key == key]
        assert {r.partition for r in its} == {partition_of(key, PARTITIONS)}
        assert [r.value for r in its] == [b"%d" % turn for turn in range(20)]


async def test_the_broker_says_when_an_event_arrived(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    log = KafkaLog(connection, kafka_app)
    await log.append([NewRecord(key=b"s", value=b"{}", headers=(("traceparent", b"00-1"),))])
    await log.close()
    [record] = await read_all(connection, topics.events)
    assert record.headers == (("traceparent", b"00-1"),)
    assert record.timestamp_type == 1, "LogAppendTime"


async def test_a_refused_event_does_not_stop_later_ones(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    async with connection.client() as client:
        await change_settings(client, topics.events, {"max.message.bytes": "10000"})
    log = KafkaLog(connection, kafka_app)
    await log.append([NewRecord(key=b"s", value=b"before")])
    with pytest.raises(LogError, match=r"did not take an event: .*MessageSizeTooLarge"):
        await log.append([NewRecord(key=b"s", value=bytes(20_000))])
    await log.append([NewRecord(key=b"s", value=b"after")])
    await log.close()
    assert [r.value for r in await read_all(connection, topics.events)] == [b"before", b"after"]


async def test_appends_at_the_same_time_share_a_producer(
    connection: Connection, kafka_app: AppId, topics: Topics
) -> None:
    log = KafkaLog(connection, kafka_app)
    await asyncio.gather(*(log.append([NewRecord(key=b"%d" % number, value=b"{}")]) for number in range(200)))
    await log.close()
    assert len(await read_all(connection, topics.events)) == 200


async def test_a_missing_topic_is_told_and_not_made(connection: Connection, kafka_app: AppId) -> None:
    log = KafkaLog(connection, kafka_app)
    for _ in range(2):
        with pytest.raises(UsageError, match="triggerstream topics create"):
            await log.append([NewRecord(key=b"s", value=b"{}")])
    await create(connection, kafka_app, partitions=PARTITIONS)
    await log.append([NewRecord(key=b"s", value=b"{}")])
    await log.close()


async def test_a_configuration_is_not_appended_to_one_partition(
    connection: Connection, kafka_app: AppId
) -> None:
    with pytest.raises(UsageError, match="config apply"):
        await KafkaLog(connection, kafka_app).append([NewRecord(key=None, value=b"{}")])


async def test_a_log_that_is_away_is_a_log_error_and_closes() -> None:
    log = KafkaLog(Connection(bootstrap="127.0.0.1:1"), AppId("app"))
    with pytest.raises(LogError, match="cannot reach Kafka"):
        await log.append([NewRecord(key=b"s", value=b"{}")])
    await log.close()


@pytest.mark.slow
async def test_an_append_ends_in_time_while_the_broker_hangs_and_works_once_it_is_back(
    start_kafka: Callable[..., KafkaServer], kafka_app: AppId
) -> None:
    server = await asyncio.to_thread(start_kafka)
    connection = Connection(bootstrap=server.bootstrap)
    topics = Topics.of(kafka_app)
    await create(connection, kafka_app, partitions=PARTITIONS)
    log = KafkaLog(connection, kafka_app, timeout_s=2.0)
    await _accepted(log, NewRecord(key=b"s", value=b"1"))
    server.pause()
    async with asyncio.timeout(6):
        with pytest.raises(LogError, match="no answer within 2 s"):
            await log.append([NewRecord(key=b"s", value=b"2")])
    server.resume()
    await _accepted(log, NewRecord(key=b"s", value=b"3"))
    values = [r.value for r in await read_all(connection, topics.events)]
    assert values[0] == b"1"
    assert values[-1] == b"3"
    assert values.count(b"2") <= 1
    server.kill()
    with pytest.raises(LogError):
        await log.append([NewRecord(key=b"s", value=b"4")])
    await asyncio.to_thread(server.start)
    await _accepted(log, NewRecord(key=b"s", value=b"5"))
    server.pause()
    async with asyncio.timeout(10):
        await log.close()


async def _accepted(log: KafkaLog, record: NewRecord, *, within_s: float = 60.0) -> None:
    async with asyncio.timeout(within_s):
        while True:
            try:
                return await log.append([record])
            except LogError:
                continue
