"""A reader that goes on after batches that cannot be read: each has its attempts, all at the same time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from tests.adapters.kafka.conftest import PARTITIONS
from tests.support.kafka import raw
from tests.support.kafka.server import KafkaServer
from triggerstream.adapters.kafka import batches, fetches
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.layout import UnreadableMarkError, newest_marks
from triggerstream.adapters.kafka.ledger import KafkaLedger
from triggerstream.adapters.kafka.records import read_range, reader_of
from triggerstream.adapters.kafka.replay import KafkaRecords
from triggerstream.adapters.kafka.sending import Entry, send_all
from triggerstream.adapters.kafka.stopping import stop
from triggerstream.adapters.kafka.topics import Topics, create
from triggerstream.adapters.kafka.transaction_ends import EndedTransaction, first_event, last_ended
from triggerstream.core.ids import AppId
from triggerstream.engine.partitioned.ports import UnreadableEntriesError
from triggerstream.wire.marks import CHECKPOINT_KEY, CheckpointMark, Identity, encode_checkpoint

pytestmark = pytest.mark.kafka

RETRY_S = 0.3
BATCHES = 20
IDENTITY = Identity(cluster="c", topic="t", partitions=4)


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> Counter[bytes]:
    """Attempts to read each spoilt batch, by its word. That of ``later-N`` is undamaged from attempt N on."""
    tried = Counter[bytes]()
    monkeypatch.setattr(fetches, "RETRY_S", RETRY_S)
    whole = batches._Batch.__getattr__  # noqa: SLF001 - what a disk would do to a server of one's own

    def checked(self: Any, name: str) -> Any:  # noqa: ANN401 - as the original
        words = (word for word in self._data.split(b"'") if word.startswith((b"never-", b"later-")))
        word = next(words, None)
        if name != "validate_crc" or word is None:
            return whole(self, name)
        tried[word] += 1
        if word.startswith(b"later-") and tried[word] >= int(word.split(b"-")[1]):
            return whole(self, name)
        return lambda: False

    monkeypatch.setattr(batches._Batch, "__getattr__", checked)  # noqa: SLF001
    return tried


@pytest.fixture
def ledger(connection: Connection, kafka_app: AppId, topics: Topics) -> KafkaLedger:
    """A ledger that is only read."""
    return KafkaLedger(connection=connection, app=kafka_app, topics=topics, partition=0)


async def append(producer: AIOKafkaProducer, topics: Topics, *entries: tuple[bytes, bytes]) -> None:
    """Append ``entries``, each in a batch of its own."""
    for key, value in entries:
        await send_all(producer, 0, [(topics.changelog, [Entry(key, value)])])


async def read(ledger: KafkaLedger) -> tuple[dict[bytes, bytes | None], list[UnreadableEntriesError]]:
    """The readable and the unreadable parts of the changelog, as `salvaged_entries` returns them."""
    parts = await ledger.salvage(0, (await ledger.extent()).end)
    entries: dict[bytes, bytes | None] = {}
    for part in parts:
        if not isinstance(part, UnreadableEntriesError):
            entries.update(part)
    return entries, [part for part in parts if isinstance(part, UnreadableEntriesError)]


async def test_many_batches_that_cannot_be_read_share_the_pauses_between_their_attempts(
    ledger: KafkaLedger, topics: Topics, producer: AIOKafkaProducer, attempts: Counter[bytes]
) -> None:
    for number in range(BATCHES):
        await append(producer, topics, (b"k%d" % number, b"'never-%d'" % number), (b"r%d" % number, b"x"))
    began = time.monotonic()
    entries, lost = await read(ledger)
    took_s = time.monotonic() - began
    pauses_s = (fetches.TRIES - 1) * RETRY_S
    assert took_s < pauses_s * BATCHES / 3, "one after another, they take the pauses for each of them"
    assert entries == {b"r%d" % number: b"x" for number in range(BATCHES)}
    assert [error.offset for error in lost] == list(range(0, 2 * BATCHES, 2))
    assert all(f"(tried {fetches.TRIES} times)" in error.fault for error in lost)
    assert set(attempts.values()) == {fetches.TRIES}

    # Each had its attempts: a second look has one for each, and no pause.
    began = time.monotonic()
    assert [str(error) for error in (await read(ledger))[1]] == [str(error) for error in lost]
    assert time.monotonic() - began < max(took_s - pauses_s / 2, pauses_s)
    assert set(attempts.values()) == {fetches.TRIES + 1}


async def test_a_batch_that_a_later_attempt_reads_is_not_given_up_and_keeps_its_place(
    ledger: KafkaLedger, topics: Topics, producer: AIOKafkaProducer, attempts: Counter[bytes]
) -> None:
    """Another replica, which has it undamaged, is the leader by then."""
    await append(
        producer,
        topics,
        (b"a", b"old"),
        (b"b", b"old"),
        (b"a", b"'never-1'"),
        (b"a", b"'later-5-a'"),
        (b"b", b"'later-3-b'"),
        (b"c", b"x"),
        (b"a", b"new"),
    )
    entries, lost = await read(ledger)
    assert entries == {b"a": b"new", b"b": b"'later-3-b'", b"c": b"x"}
    assert [(error.offset, error.last) for error in lost] == [(2, 2)]
    assert attempts[b"never-1"] == attempts[b"later-5-a"] == fetches.TRIES


async def test_a_search_for_the_newest_checkpoint_retries_the_newest_batch_alone(
    connection: Connection,
    kafka_app: AppId,
    topics: Topics,
    producer: AIOKafkaProducer,
    attempts: Counter[bytes],
) -> None:
    mark = encode_checkpoint(CheckpointMark(offset=7, identity=IDENTITY))
    await append(producer, topics, (CHECKPOINT_KEY, mark))
    for number in range(BATCHES):
        await append(producer, topics, (b"k", b"'never-%d'" % number))
    found = (await newest_marks(connection, kafka_app))[0]
    assert isinstance(found, UnreadableMarkError)
    assert (found.batch.offset, found.batch.tries) == (BATCHES, fetches.TRIES)
    assert attempts[b"never-%d" % (BATCHES - 1)] == fetches.TRIES + 1
    assert max(attempts[b"never-%d" % number] for number in range(BATCHES - 1)) <= 1
    # One that a later attempt reads hides nothing; the checkpoint before it counts.
    await append(producer, topics, (CHECKPOINT_KEY, mark), (b"k", b"'later-3-k'"))
    assert (await newest_marks(connection, kafka_app))[0] == CheckpointMark(offset=7, identity=IDENTITY)
    assert attempts[b"later-3-k"] >= 3


async def test_a_damaged_batch_hides_how_a_transaction_before_it_ended_and_none_after_it(
    connection: Connection, topics: Topics, attempts: Counter[bytes]
) -> None:
    place = TopicPartition(topics.commands, 0)
    producer = connection.producer(transactional_id=f"owner-{topics.commands}")
    await connection.start(producer)
    position = 0

    async def transaction(*words: bytes) -> EndedTransaction | None:
        nonlocal position
        await producer.begin_transaction()
        for word in words:
            position = await send_all(producer, 0, [(topics.commands, [Entry(b"k", word)])])
        await producer.commit_transaction()
        position += 1
        return await last_ended(producer.client, place, 0, position, lambda record: int(record.offset))

    assert await transaction(b"x") == EndedTransaction(event=0, committed=True)
    assert await transaction(b"'never-1'", b"x") == EndedTransaction(event=3, committed=True)
    assert attempts[b"never-1"] == 1
    with pytest.raises(fetches.UnreadableError, match=r"offset 6 .*Invalid CRC \(tried 5 times\)"):
        await transaction(b"x", b"'never-2'")
    assert await transaction(b"x", b"'later-3-x'") == EndedTransaction(event=9, committed=True)
    assert await first_event(producer.client, place, 5, lambda record: int(record.offset)) == 5
    with pytest.raises(fetches.UnreadableError, match=r"offset 6 .*Invalid CRC \(tried 5 times\)"):
        await first_event(producer.client, place, 6, lambda record: int(record.offset))
    await stop(producer)


async def test_a_damaged_batch_at_the_end_of_a_range_is_no_part_of_it(
    connection: Connection, topics: Topics, ledger: KafkaLedger, attempts: Counter[bytes]
) -> None:
    """A reader that passes over a transaction that was aborted is at that batch at once."""
    producer = connection.producer(transactional_id=f"owner-{topics.changelog}")
    await connection.start(producer)
    await producer.begin_transaction()
    await append(producer, topics, (b"k", b"x"))
    await producer.abort_transaction()
    await producer.begin_transaction()
    await append(producer, topics, (b"k", b"'never-1'"))
    await producer.commit_transaction()
    await stop(producer)
    assert await ledger.salvage(0, 2) == []
    async with asyncio.timeout(20):
        assert await ledger.rebuilt(2) == -1, "there is no checkpoint"
    assert attempts, "the reader was there"


@pytest.mark.slow
async def test_batches_after_one_without_a_header_are_read_from_where_the_broker_finds_them(
    start_kafka: Callable[..., KafkaServer], kafka_app: AppId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker finds a batch by its index of every 4 KiB, and from there on by the lengths in the headers."""
    monkeypatch.setattr(fetches, "RETRY_S", RETRY_S)
    server = start_kafka()
    connection, topics = Connection(bootstrap=server.bootstrap), Topics.of(kafka_app)
    await create(connection, kafka_app, partitions=PARTITIONS)
    wide = b"x" * 500
    for partition in range(PARTITIONS):
        for number in range(30):
            records = [raw.RawRecord(key=b"%d-%d" % (number, one), value=wide) for one in range(3)]
            await raw.produce(connection, topics.changelog, partition, raw.batch(records))
    ends = {}
    for partition, how in enumerate(("checksum", "format", "header", "last")):
        first, last = raw.damage(server.folder, topics.changelog, partition, b"10-0", how)
        assert (first, last) == (30, 32)
        ledger = KafkaLedger(connection=connection, app=kafka_app, topics=topics, partition=partition)
        before, lost, after = await ledger.salvage(0, 90)
        assert isinstance(before, dict)
        assert isinstance(lost, UnreadableEntriesError)
        assert isinstance(after, dict)
        assert list(before) == [b"%d-%d" % (number, one) for number in range(10) for one in range(3)]
        keys = [b"%d-%d" % (number, one) for number in range(11, 30) for one in range(3)]
        assert list(after) == keys[-len(after) :]
        assert (lost.offset, f"(tried {fetches.TRIES} times)" in lost.fault) == (30, True)
        ends[how] = 90 - len(after)
        reader = KafkaRecords(connection, topic=topics.changelog, partition=partition, shows_unreadable=True)
        read = [record async for piece in reader.records(0, 90) for record in piece]
        assert read[-1].unreadable is not None
        assert (read[-1].unreadable.first, read[-1].offset) == (30, ends[how] - 1)
        assert len(read) == 30 + len(after) + 1
        # It may have records of the last transaction, so nothing shows how that ended.
        place = TopicPartition(topics.changelog, partition)
        async with connection.client() as client:
            with pytest.raises(fetches.UnreadableError, match=r"offsets? 30.* \(tried 5 times\)"):
                await last_ended(client, place, 0, 90, lambda _: None)
        # A store that ends there cannot be compared, if the broker cannot read it.
        if how == "header":
            with pytest.raises(UnreadableEntriesError, match=r"offset 31 .*the broker cannot read it"):
                await ledger.is_undone(31)
    assert ends.pop("header") in range(33, 33 + 3 * 4), "less than 4 KiB later"
    assert set(ends.values()) == {33}
    # Any other reader names the batch that the broker cannot read, too, where it would wait for ever.
    async with reader_of(connection, topics.changelog) as consumer:
        place = TopicPartition(topics.changelog, 2)
        with pytest.raises(fetches.UnreadableError, match=r"offset 30 .*the broker cannot read it"):
            _ = [records async for records, _ in read_range(consumer, place, 0, 90)]
