"""Applies a tasks file to an app in Kafka: the same event in every partition, or in none."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import ProducerFenced, TopicAuthorizationFailedError, UnknownTopicOrPartitionError

from triggerstream.adapters.kafka.cluster import describe, settings_of
from triggerstream.adapters.kafka.connection import Connection, gather_all, translate_errors
from triggerstream.adapters.kafka.layout import Layout, layout_of, placing_partitions
from triggerstream.adapters.kafka.partition_configurations import kept_configuration, standing_configurations
from triggerstream.adapters.kafka.records import POLL_MS
from triggerstream.adapters.kafka.topics import Topics, address_of
from triggerstream.core import advice
from triggerstream.core.errors import LogError, UsageError
from triggerstream.core.events import ConfigApplied
from triggerstream.core.ids import AppId
from triggerstream.core.tasks import Configuration
from triggerstream.engine.configure import configuration_record
from triggerstream.engine.operations.administration import Change
from triggerstream.engine.rows import ConfigurationText
from triggerstream.wire.events import decode
from triggerstream.wire.records import NewRecord, Record

_TIMEOUT_S = 60.0
_RECORD_BYTES = 1_024
"""Maximum size of a record without the text of the file."""


async def apply(
    connection: Connection, app: AppId, config: Configuration, *, timeout_s: float = _TIMEOUT_S
) -> Change | None:
    """Bring ``config`` into force; None if it is in force already.

    1. Initialise the transactional id. All applies of the app share it, so another running apply can no
       longer commit: its open transaction is aborted, and a committed one is found in step 2.
    2. Find the configuration in force in each partition, from its checkpoint and the records after it.
    3. Append the event, in one transaction, to every partition in which another configuration is in force.
       Each copy has the number and the hash that it expects in its partition.
    4. Wait until readers can read the event in all partitions. A broker answers a commit before it has
       written the transaction markers, and records after an open transaction of another program are not
       readable before that transaction ends.

    A crash before the end of 3 changes nothing: the next apply, or the transaction's time-out after 10 s,
    aborts the transaction. Until then readers wait at its first record. ``timeout_s`` is for each step.

    Raises:
        UsageError: there is no events topic; the changelog does not accept a record with the file's text; the
            app has a control key that ``connection`` does not have; or another apply overtook this one.
            Nothing was changed.
        DecodeError: the file is too long for an event.
        LogError: unknown whether it is in force; :func:`in_force` can find out. Safe to call again.
    """
    topics = Topics.of(app)
    doubt = "the configuration is not known to be in force"
    async with AsyncExitStack() as clients:
        async with translate_errors(doubt, timeout_s=timeout_s):
            producer = connection.producer(transactional_id=f"{app}-config")
            await clients.enter_async_context(connection.running(producer))
            reader = connection.reader(wait_ms=POLL_MS)
            await clients.enter_async_context(connection.running(reader))
            layout = await _layout(connection, app, timeout_s=timeout_s)
            partitions = range(layout.partitions)
            ends = await _ends(connection, topics.events, partitions)
        blocked = await _blocked(
            reader, topics.events, {number: end - 1 for number, end in ends.items()}, timeout_s=timeout_s
        )
        if blocked:
            raise LogError(f"cannot tell which configuration is in force; nothing was applied: {blocked}")
        standing = await standing_configurations(
            reader, connection, app, layout, partitions, timeout_s=timeout_s
        )
        records: dict[int, NewRecord] = {}
        for number, found in standing.items():
            record = configuration_record(config, replaces=found.hash, number=found.number)
            if record is not None:
                decode(Record(partition=0, offset=0, arrival_us=0, key=None, value=record.value))
                records[number] = connection.signed(app, record)
        if not records:
            return None
        async with translate_errors(doubt, timeout_s=timeout_s):
            await _refuse_unkept(producer, connection, app, config)
            offsets = await _append(producer, topics.events, records)
        blocked = await _blocked(reader, topics.events, offsets, timeout_s=timeout_s)
        if blocked:
            raise LogError(f"the configuration is in the log, and not in force yet: {blocked}")
    before = standing[min(records)]
    return Change(hash=config.hash, number=before.number + 1, replaced=before.hash, offsets=offsets)


async def in_force(
    connection: Connection, app: AppId, *, timeout_s: float = _TIMEOUT_S
) -> ConfigurationText | None:
    """The configuration in force in partition 0; None if there is none.

    It is the configuration of the partition's checkpoint, unless the log has a newer one after it. If no
    worker has made a checkpoint yet, the log is read from its beginning: 50,000 events a second.

    Raises:
        UsageError: there is no events topic; or the app has a control key that ``connection`` does not have.
        LogError: the log cannot be read.
    """
    topics = Topics.of(app)
    async with translate_errors(f"cannot read {topics.events}", timeout_s=timeout_s):
        layout = await _layout(connection, app, timeout_s=timeout_s)
        async with connection.running(connection.reader(wait_ms=POLL_MS)) as reader:
            standing = (
                await standing_configurations(reader, connection, app, layout, [0], timeout_s=timeout_s)
            )[0]
    if standing.hash is None:
        return None
    if standing.record is not None:
        event = decode(standing.record)
        assert isinstance(event, ConfigApplied)  # noqa: S101 - for the type checker: `standing` reads no other
        return ConfigurationText(
            offset=standing.offset,
            arrival_us=standing.record.arrival_us,
            hash=standing.hash,
            text=event.text,
            number=standing.number,
        )
    return await kept_configuration(connection, app, standing.hash)


async def _layout(connection: Connection, app: AppId, *, timeout_s: float) -> Layout:
    """The app's layout; from the log alone, if the account may not describe the other topics."""
    try:
        return await layout_of(connection, app, timeout_s=timeout_s)
    except LogError as exc:
        if not isinstance(exc.__cause__, TopicAuthorizationFailedError):
            raise
    events = Topics.of(app).events
    async with (
        translate_errors(f"cannot look at {events}", timeout_s=timeout_s),
        connection.client() as client,
    ):
        partitions = await placing_partitions(connection, app, client)
        cluster = await describe(client, [events])
    return Layout(
        cluster=cluster, events=cluster.topics[events], owners=None, partitions=partitions, marked=False
    )


async def _refuse_unkept(
    producer: AIOKafkaProducer, connection: Connection, app: AppId, config: Configuration
) -> None:
    """Raise if workers could not store ``config``: its text becomes a record of the changelog.

    Raises:
        UsageError: the text is longer than a record of the changelog may be.
    """
    changelog = Topics.of(app).changelog
    try:
        found = await settings_of(producer.client, [changelog])
    except (UnknownTopicOrPartitionError, TopicAuthorizationFailedError):
        return  # not readable with this account; a worker checks the setting when it starts
    longest = int(found[changelog].get("max.message.bytes") or 0)
    if longest < (length := len(config.text.encode()) + _RECORD_BYTES):
        raise UsageError(
            f"{changelog} takes records of {longest:,} bytes, workers keep the file in one of {length:,}; "
            f"{advice.repair_topics(address_of(connection, app))}"
        )


async def _append(producer: AIOKafkaProducer, topic: str, records: Mapping[int, NewRecord]) -> dict[int, int]:
    try:
        await producer.begin_transaction()
        # Only here does a record that was not accepted raise an error: commit_transaction does not.
        answers = await gather_all(
            producer.send_and_wait(topic, record.value, partition=partition, headers=list(record.headers))
            for partition, record in records.items()
        )
        await producer.commit_transaction()
    except ProducerFenced as exc:
        raise UsageError(
            f"another config apply overtook this one, which changed nothing: {advice.show_file()}"
        ) from exc
    return {answer.partition: answer.offset for answer in answers}


async def _ends(connection: Connection, topic: str, partitions: Collection[int]) -> dict[int, int]:
    """The offset after the last record of each partition, committed or not."""
    async with connection.running(connection.reader(committed=False)) as reader:
        ends = await reader.end_offsets([TopicPartition(topic, number) for number in partitions])
        return {place.partition: end for place, end in ends.items()}


async def _blocked(
    reader: AIOKafkaConsumer, topic: str, offsets: Mapping[int, int], *, timeout_s: float
) -> str:
    """Wait until committed records can be read up to ``offsets``, by partition.

    Returns what blocks them, if any.
    """
    loop = asyncio.get_running_loop()
    places = {TopicPartition(topic, partition): offset for partition, offset in offsets.items()}
    deadline = loop.time() + timeout_s
    while True:
        async with translate_errors(f"cannot read {topic}", timeout_s=timeout_s):
            # Under read_committed, this is where the first open transaction begins.
            ends = await reader.end_offsets(list(places))
        short = {place.partition: ends[place] for place, offset in places.items() if ends[place] <= offset}
        if not short:
            return ""
        if loop.time() > deadline:
            return (
                f"partitions {', '.join(map(str, sorted(short)))} of {topic} have an open transaction of "
                "another program; what follows is read once it ends"
            )
        await asyncio.sleep(POLL_MS / 1000)
