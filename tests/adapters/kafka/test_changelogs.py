"""One consumer reads the changelogs of many partitions: each has all of its own, and an error names one."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.adapters.kafka.conftest import PARTITIONS
from tests.support.waiting import eventually
from triggerstream.adapters.kafka import batches, changelogs, fetches
from triggerstream.adapters.kafka.changelogs import ChangelogReader
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.sending import Entry, send_all
from triggerstream.adapters.kafka.topics import Topics
from triggerstream.core.errors import LogError

pytestmark = pytest.mark.kafka

ENTRIES = 500


@pytest.fixture
def consumers(monkeypatch: pytest.MonkeyPatch) -> list[AIOKafkaConsumer]:
    """The consumers that are made from now on."""
    made, make = list[AIOKafkaConsumer](), Connection.reader

    def counted(self: Connection, **options: Any) -> AIOKafkaConsumer:  # noqa: ANN401 - several types
        made.append(make(self, **options))
        return made[-1]

    monkeypatch.setattr(Connection, "reader", counted)
    return made


def entries(partition: int) -> list[Entry]:
    return [Entry(b"s%d" % number, b"%d" % partition) for number in range(ENTRIES)]


async def fill(producer: AIOKafkaProducer, topics: Topics) -> None:
    for partition in range(PARTITIONS):
        await send_all(producer, partition, [(topics.changelog, entries(partition))])


async def read(reader: ChangelogReader, partition: int, begin: int, end: int) -> list[tuple[bytes, bytes]]:
    found = []
    async with aclosing(reader.read(partition, begin, end)) as chunks:
        async for records, _ in chunks:
            found += [(record.key, record.value) for record in records]
            await asyncio.sleep(0)
    return found


async def test_partitions_of_one_moment_share_a_consumer_and_each_has_its_own_records_in_order(
    connection: Connection, topics: Topics, producer: AIOKafkaProducer, consumers: list[AIOKafkaConsumer]
) -> None:
    await fill(producer, topics)
    reader = ChangelogReader(connection, topics.changelog)
    wanted = [(0, 0, ENTRIES), (1, 10, ENTRIES), (2, 0, 7), (3, 5, 5)]
    results = await asyncio.gather(*(read(reader, *one) for one in wanted))
    for (partition, begin, end), found in zip(wanted, results, strict=True):
        assert found == [(entry.key, entry.value) for entry in entries(partition)[begin:end]]
    assert len(consumers) == 1


async def test_a_partition_that_is_read_again_does_not_wait_for_a_caller_that_has_left(
    connection: Connection, topics: Topics, producer: AIOKafkaProducer, consumers: list[AIOKafkaConsumer]
) -> None:
    await fill(producer, topics)
    reader = ChangelogReader(connection, topics.changelog)

    async def leave_and_come_back() -> list[tuple[bytes, bytes]]:
        async with aclosing(reader.read(0, 100, ENTRIES)) as chunks:
            await anext(chunks)
        return await read(reader, 0, 0, ENTRIES)

    again, other = await asyncio.gather(leave_and_come_back(), read(reader, 1, 0, ENTRIES))
    assert len(again) == len(other) == ENTRIES
    assert len(consumers) == 2


async def test_a_partition_that_stands_still_is_named_and_the_others_are_read_first(
    connection: Connection, topics: Topics, producer: AIOKafkaProducer
) -> None:
    await fill(producer, topics)
    reader = ChangelogReader(connection, topics.changelog, stuck_s=0.5)
    stuck, *others = await asyncio.gather(
        read(reader, 2, 0, ENTRIES + 1),
        *(read(reader, partition, 0, ENTRIES) for partition in (0, 1, 3)),
        return_exceptions=True,
    )
    assert [len(found) for found in others if not isinstance(found, BaseException)] == [ENTRIES] * 3
    assert isinstance(stuck, LogError)
    said = f"cannot read {topics.changelog}: partition 2 stays at offset {ENTRIES} of {ENTRIES + 1}"
    assert str(stuck) == said


def spoil(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have batches with the word ``spoilt`` a wrong checksum, and be fetched again at once."""
    monkeypatch.setattr(fetches, "RETRY_S", 0.05)
    whole = batches._Batch.__getattr__  # noqa: SLF001 - what a disk would do to a server of one's own

    def checked(self: Any, name: str) -> Any:  # noqa: ANN401 - as the original
        return (lambda: False) if name == "validate_crc" and b"spoilt" in self._data else whole(self, name)

    monkeypatch.setattr(batches._Batch, "__getattr__", checked)  # noqa: SLF001


async def test_batches_of_many_partitions_that_cannot_be_read_are_tried_at_the_same_time(
    connection: Connection,
    topics: Topics,
    producer: AIOKafkaProducer,
    consumers: list[AIOKafkaConsumer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A damaged disk has several: a take-over after a rebuild would need five seconds for each."""
    spoil(monkeypatch)
    for partition in range(PARTITIONS):
        await send_all(producer, partition, [(topics.changelog, [Entry(b"s", b"spoilt")])])
    reader = ChangelogReader(connection, topics.changelog)
    found = await asyncio.gather(
        *(read(reader, partition, 0, 1) for partition in range(PARTITIONS)), return_exceptions=True
    )
    for partition, error in enumerate(found):
        assert isinstance(error, fetches.UnreadableError)
        assert (error.batch.partition, error.batch.tries) == (partition, fetches.TRIES)
        assert str(error) == str(error.batch)
    assert len(consumers) < PARTITIONS


async def test_a_batch_that_cannot_be_read_is_the_error_of_its_partition_alone(
    connection: Connection, topics: Topics, producer: AIOKafkaProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch)
    await send_all(producer, 2, [(topics.changelog, [Entry(b"s", b"spoilt")])])
    await fill(producer, topics)
    reader = ChangelogReader(connection, topics.changelog)
    wanted = {0: 0, 1: 0, 2: 0, 3: 1}
    results = await asyncio.gather(
        *(read(reader, partition, begin, ENTRIES) for partition, begin in wanted.items()),
        return_exceptions=True,
    )
    error = results.pop(2)
    assert isinstance(error, fetches.UnreadableError)
    assert (error.batch.partition, error.batch.offset, error.batch.last) == (2, 0, 0)
    for (partition, begin), found in zip(((0, 0), (1, 0), (3, 1)), results, strict=True):
        assert found == [(entry.key, entry.value) for entry in entries(partition)[begin:]]
    # The records after the unreadable batch can be read.
    assert len(await read(reader, 2, 1, ENTRIES + 1)) == ENTRIES


async def test_a_reader_that_is_slow_holds_up_little_more_than_a_fetch(
    connection: Connection, topics: Topics, producer: AIOKafkaProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory is bounded: nothing is fetched for others while a chunk waits to be taken."""
    monkeypatch.setattr(changelogs, "_MOST", 50)
    await fill(producer, topics)
    reader = ChangelogReader(connection, topics.changelog)
    async with aclosing(reader.read(0, 0, ENTRIES)) as chunks:
        first, _ = await anext(chunks)
        await asyncio.sleep(0.2)
        assert len(first) <= 50
        rest = [len(records) async for records, _ in chunks]
    assert max(rest) <= 50
    assert len(first) + sum(rest) == ENTRIES


async def test_a_partition_that_is_read_is_not_fetched_any_more(
    connection: Connection, topics: Topics, producer: AIOKafkaProducer, consumers: list[AIOKafkaConsumer]
) -> None:
    """A fetch that finds nothing makes the next one wait for it."""
    await fill(producer, topics)
    reader = ChangelogReader(connection, topics.changelog)
    other = asyncio.create_task(read(reader, 1, 0, ENTRIES + 1))
    assert len(await read(reader, 0, 0, ENTRIES)) == ENTRIES
    (consumer,) = consumers
    await eventually(lambda: consumer.paused() == {TopicPartition(topics.changelog, 0)})
    other.cancel()
    await reader.close()


async def test_chunks_of_all_partitions_together_are_bounded(
    connection: Connection, topics: Topics, producer: AIOKafkaProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changelogs, "_MOST", 50)
    monkeypatch.setattr(changelogs, "_CHUNKS", 2)
    await fill(producer, topics)
    reader = ChangelogReader(connection, topics.changelog)
    held = 0
    most: list[int] = []

    async def read_slowly(partition: int) -> int:
        nonlocal held
        count = 0
        async with aclosing(reader.read(partition, 0, ENTRIES)) as chunks:
            async for records, _ in chunks:
                held += 1
                most.append(held)
                await asyncio.sleep(0.01)
                held -= 1
                count += len(records)
                if partition == 0:
                    break  # a chunk that a caller leaves behind takes no room for ever
        return count

    counts = await asyncio.gather(*(read_slowly(partition) for partition in range(PARTITIONS)))
    assert counts[1:] == [ENTRIES] * (PARTITIONS - 1)
    assert max(most) == 2


async def test_a_caller_that_gives_up_leaves_no_consumer_behind(
    connection: Connection, topics: Topics, producer: AIOKafkaProducer
) -> None:
    await fill(producer, topics)
    reader = ChangelogReader(connection, topics.changelog)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await read(reader, 0, ENTRIES, ENTRIES + 1)
    await reader.close()
    assert [task for task in asyncio.all_tasks() if "ChangelogReader" in repr(task)] == []
