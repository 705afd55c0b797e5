"""The configuration as events: the same one in every partition, or in none."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import ProducerFenced

from triggerstream.adapters.kafka.cluster import describe
from triggerstream.adapters.kafka.connection import Connection, gathered, translated
from triggerstream.adapters.kafka.layout import placing_partitions
from triggerstream.adapters.kafka.lost import LostRanges
from triggerstream.adapters.kafka.records import POLL_MS, pieces, record_of
from triggerstream.adapters.kafka.topics import Topics, no_topic
from triggerstream.core.errors import DecodeError, LogError, UsageError
from triggerstream.core.events import ConfigApplied
from triggerstream.core.ids import AppId, ConfigHash
from triggerstream.core.tasks import FOLD_VERSION, Configuration
from triggerstream.engine.ports import ConfigurationText
from triggerstream.wire.events import decode, encode
from triggerstream.wire.records import NewRecord, Record
from triggerstream.wire.signature import SIGNATURE_HEADER, ControlKeys

_TIMEOUT_S = 60.0
_FIRST_WINDOW = 2_048
_WIDER = 4
_WIDEST_WINDOW = 262_144


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """``hash`` took the place of ``replaced`` (None: there was none), from ``offsets`` by partition on."""

    hash: ConfigHash
    replaced: ConfigHash | None
    offsets: Mapping[int, int]


async def apply(
    connection: Connection,
    app: AppId,
    config: Configuration,
    *,
    known: ConfigurationText | None = None,
    folded: int = 0,
    timeout_s: float = _TIMEOUT_S,
) -> Change | None:
    """Bring ``config`` into force; None where it is already. ``known``, ``folded``: see :func:`in_force`.

    1. The transactional id is initialised. It is the app's own, so an apply that runs elsewhere can no longer
       commit; what it had not committed is undone, and what it had is seen below.
    2. The configuration in force is read: the one that is replaced.
    3. One transaction has the event in every partition.
    4. Readers can read it everywhere. A broker answers a commit before it has written the transaction's
       marks, and what stands after the open transaction of another program is not read before that one ends.

    A crash before the end of 3 changes nothing: the next apply, or the transaction's time-out after 10 s,
    undoes it. Until then readers wait where it stands. ``timeout_s`` is for each step.

    Raises:
        UsageError: there is no events topic; the app has a control key, and ``connection`` has it not; or
            another apply overtook this one. Nothing was changed.
        DecodeError: the file is too long for an event.
        LogError: not known to be in force: :func:`in_force` tells. Safe to call again.
    """
    topic = Topics.of(app).events
    doubt = "the configuration is not known to be in force"
    async with AsyncExitStack() as clients:
        async with translated(doubt, timeout_s=timeout_s):
            producer = connection.producer(transactional_id=f"{app}-config")
            await clients.enter_async_context(connection.running(producer))
            reader = await clients.enter_async_context(connection.running(connection.reader()))
            partitions = await placing_partitions(connection, app, producer.client)
            end = await _end(connection, TopicPartition(topic, 0))
        blocked = await _blocked(reader, topic, {0: end - 1}, timeout_s=timeout_s)
        if blocked:
            raise LogError(f"cannot tell which configuration is in force; nothing was applied: {blocked}")
        async with translated(doubt, timeout_s=timeout_s):
            current = await _newest(reader, connection, app, known, folded)
            replaced = None if current is None else current.hash
            if replaced == config.hash:
                return None
            body = ConfigApplied(text=config.text, hash=config.hash, replaces=replaced, fold=FOLD_VERSION)
            record = connection.signed(app, NewRecord(key=None, value=encode(body)))
            decode(Record(partition=0, offset=0, arrival_us=0, key=None, value=record.value))
            offsets = await _append_everywhere(producer, topic, partitions, record)
        blocked = await _blocked(reader, topic, offsets, timeout_s=timeout_s)
        if blocked:
            raise LogError(f"the configuration is in the log, and not in force yet: {blocked}")
    return Change(hash=config.hash, replaced=replaced, offsets=offsets)


async def in_force(
    connection: Connection,
    app: AppId,
    *,
    known: ConfigurationText | None = None,
    folded: int = 0,
    timeout_s: float = _TIMEOUT_S,
) -> ConfigurationText | None:
    """The configuration that was applied last, as partition 0 has it; None where none was.

    A checkpoint of partition 0 says that up to offset ``folded`` the last one was ``known``: then only what
    is beyond is read. Without, the log is read from its end backwards until one is found: 50,000 events a
    second.

    Raises:
        UsageError: there is no events topic; or the app has a control key, and ``connection`` has it not.
        LogError: the log cannot be read.
    """
    topic = Topics.of(app).events
    async with translated(f"cannot read {topic}", timeout_s=timeout_s):
        async with connection.client() as client:
            if topic not in (await describe(client, [topic])).topics:
                raise no_topic(topic, connection, app)
        async with connection.running(connection.reader()) as reader:
            return await _newest(reader, connection, app, known, folded)


async def _append_everywhere(
    producer: AIOKafkaProducer, topic: str, partitions: int, record: NewRecord
) -> dict[int, int]:
    try:
        await producer.begin_transaction()
        # A record that was not accepted shows here alone: commit_transaction does not raise for it.
        answers = await gathered(
            producer.send_and_wait(topic, record.value, partition=partition, headers=list(record.headers))
            for partition in range(partitions)
        )
        await producer.commit_transaction()
    except ProducerFenced as exc:
        raise UsageError(
            "another `config apply` overtook this one, which changed nothing: see `triggerstream config show`"
        ) from exc
    return {answer.partition: answer.offset for answer in answers}


async def _end(connection: Connection, place: TopicPartition) -> int:
    """The offset after the last record, committed or not."""
    async with connection.running(connection.reader(committed=False)) as reader:
        end: int = (await reader.end_offsets([place]))[place]
        return end


async def _blocked(
    reader: AIOKafkaConsumer, topic: str, offsets: Mapping[int, int], *, timeout_s: float
) -> str:
    """Wait until committed records can be read up to ``offsets``, by partition; else what is in the way."""
    loop = asyncio.get_running_loop()
    places = {TopicPartition(topic, partition): offset for partition, offset in offsets.items()}
    deadline = loop.time() + timeout_s
    while True:
        async with translated(f"cannot read {topic}", timeout_s=timeout_s):
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


async def _newest(
    reader: AIOKafkaConsumer,
    connection: Connection,
    app: AppId,
    known: ConfigurationText | None,
    folded: int,
) -> ConfigurationText | None:
    place = TopicPartition(Topics.of(app).events, 0)
    reader.assign([place])
    first = max(folded, (await reader.beginning_offsets([place]))[place])
    # Under read_committed, this is where the first open transaction begins.
    end = (await reader.end_offsets([place]))[place]
    window, lost = _FIRST_WINDOW, LostRanges(connection, app, place.partition)
    while end > first:
        begin = max(first, end - window)
        for record in reversed(await _without_key(reader, place, begin, end, lost)):
            if (found := _configuration(record, app, connection.security.control)) is not None:
                return found
        end, window = begin, min(window * _WIDER, _WIDEST_WINDOW)
    return known


async def _without_key(
    reader: AIOKafkaConsumer, place: TopicPartition, begin: int, end: int, lost: LostRanges
) -> list[Record]:
    found: list[Record] = []
    reader.seek(place, begin)
    async with aclosing(pieces(reader, place, begin, end, after_lost=lost.after)) as read:
        async for records, _ in read:
            found += [record_of(record) for record in records if record.key is None]
    return found


def _configuration(record: Record, app: AppId, control: ControlKeys | None) -> ConfigurationText | None:
    try:
        event = decode(record)
        if control is not None:
            control.check(app, record, event)
    except DecodeError:
        return None
    if not isinstance(event, ConfigApplied):
        return None
    if control is None and any(name == SIGNATURE_HEADER for name, _ in record.headers):
        raise UsageError(
            f"the configuration of {app} is signed: name the app's control key as control_key_file in the "
            "file of --kafka-config; what is not signed would not be taken"
        )
    return ConfigurationText(
        offset=record.offset, arrival_us=record.arrival_us, hash=event.hash, text=event.text
    )
