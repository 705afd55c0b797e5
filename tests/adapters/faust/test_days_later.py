"""What days do to a partition: brokers forget who was idle, and compact the changelog under a store."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka.client import CoordinationType
from aiokafka.errors import GroupCoordinatorNotAvailableError

from tests.adapters.kafka.conftest import PARTITIONS, owner_id, read_all
from tests.support.kafka.server import KafkaServer
from triggerstream.adapters.clock import SystemClock
from triggerstream.adapters.kafka import transactional_ids
from triggerstream.adapters.kafka.cluster import change_settings
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.fencing import KafkaFencing
from triggerstream.adapters.kafka.layout import layout_of
from triggerstream.adapters.kafka.ledger import KafkaAppender, KafkaLedger
from triggerstream.adapters.kafka.owners_topic import KafkaOwnersTopic, new_claims
from triggerstream.adapters.kafka.topics import Topics, create
from triggerstream.adapters.rocksdb import RocksStore, SharedRocksMemory
from triggerstream.core.errors import LogError
from triggerstream.core.ids import AppId
from triggerstream.core.placement import partition_of
from triggerstream.engine.partitioned.claims import new_ids
from triggerstream.engine.partitioned.partition import Partition
from triggerstream.engine.partitioned.ports import Commit
from triggerstream.engine.partitioned.timing import PartitionTiming
from triggerstream.engine.processor import Processor
from triggerstream.wire.records import Record

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

_FORGETFUL = {
    "transactional.id.expiration.ms": "5000",
    "transaction.remove.expired.transaction.cleanup.interval.ms": "500",
}
_IDLE_S = 12
_EAGER = {"log.cleaner.backoff.ms": "200"}
_COMPACTED = {
    "segment.bytes": str(1024 * 1024),
    "min.cleanable.dirty.ratio": "0.01",
    "delete.retention.ms": "0",
}
"""At once, and of all but the segment that is written."""
_SESSIONS = 20
_BEFORE = 5
_AFTER = 60
"""How often each session changes, before and after the store was left alone."""


class Stage:
    """An app in a Kafka of its own, and partitions of it in this process."""

    def __init__(self, connection: Connection, app: AppId, folder: Path) -> None:
        self.connection = connection
        self.app = app
        self.topics = Topics.of(app)
        self.folder = folder
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._appender = KafkaAppender(connection=connection, app=app)

    @asynccontextmanager
    async def partition(
        self, number: int, *, timing: PartitionTiming | None = None, store: str = "store"
    ) -> AsyncGenerator[Partition]:
        """One partition, taken over, with its store in a folder of that name."""
        path, memory = self.folder / store, SharedRocksMemory()
        ledger = KafkaLedger(
            connection=self.connection, app=self.app, topics=self.topics, partition=number, id_=owner_id()
        )
        partition = Partition(
            processor=Processor(app=self.app, partition=number, partitions=PARTITIONS),
            ledger=ledger,
            open_store=lambda: RocksStore.open(path, changelog="changelog", memory=memory),
            appender=self._appender,
            clock=SystemClock(),
            identity=(await layout_of(self.connection, self.app)).identity,
            fail=self.failed.set_result,
            timing=timing or PartitionTiming(),
        )
        await partition.start()
        await partition.open()
        yield partition
        if not self.failed.done():
            await partition.close()
        await ledger.close()


@pytest.fixture
async def stage(start_kafka: Callable[..., KafkaServer], kafka_app: AppId, tmp_path: Path) -> Stage:
    """An app in a Kafka that forgets within seconds what others forget within days."""
    server = await asyncio.to_thread(start_kafka, _FORGETFUL | _EAGER)
    connection = Connection(bootstrap=server.bootstrap)
    await create(connection, kafka_app, partitions=PARTITIONS)
    async with connection.client() as client:
        await change_settings(client, Topics.of(kafka_app).changelog, _COMPACTED)
    await _coordinated(connection, kafka_app)
    return Stage(connection, kafka_app, tmp_path)


def record(offset: int, session: str, value: bytes) -> Record:
    """One as intake hands it over."""
    return Record(partition=0, offset=offset, arrival_us=1, key=session.encode(), value=value)


async def fold(partition: Partition, records: list[Record]) -> None:
    """One batch, durable when this returns."""
    partition.take()
    partition.fold(records)
    await partition.reached(records[-1].offset + 1)


async def test_an_owner_that_was_idle_for_long_still_commits(stage: Stage) -> None:
    async with asyncio.timeout(90), stage.partition(0, timing=PartitionTiming(keep_alive_s=1)) as kept:
        await asyncio.sleep(_IDLE_S)
        await fold(kept, [record(0, "s", b"no event")])
    assert [letter.key for letter in await read_all(stage.connection, stage.topics.dead_letters)] == [b"s"]
    assert not stage.failed.done()


async def test_an_owner_that_kept_silent_would_fail(stage: Stage) -> None:
    async with (
        asyncio.timeout(90),
        stage.partition(0, timing=PartitionTiming(keep_alive_s=3_600)) as forgotten,
    ):
        await asyncio.sleep(_IDLE_S)
        forgotten.take()
        forgotten.fold([record(0, "s", b"no event")])
        assert isinstance(await stage.failed, LogError)


async def test_an_owner_that_brokers_have_forgotten_is_fenced_by_the_next_one(stage: Stage) -> None:
    """As a worker that is stopped for more than 7 days, and then wakes."""
    fencing = KafkaFencing(stage.connection, stage.app)
    owners = KafkaOwnersTopic(stage.connection, stage.app)

    async def owner() -> KafkaLedger:
        ids = new_ids(stage.app)
        ledger = KafkaLedger(
            connection=stage.connection,
            app=stage.app,
            topics=stage.topics,
            partition=0,
            id_=ids[0],
            fencing=fencing,
        )
        await ledger.start()
        await new_claims(ids, [0], owners=owners, fencing=fencing).take()
        return ledger

    def change(text: bytes) -> Commit:
        return Commit(decided=(), states={b"s": text}, dead_letters=(), marks={}, offset=None)

    async with asyncio.timeout(90):
        zombie = await owner()
        await zombie.commit(change(b"before"))
        (claim,) = (await owners.current()).values()
        async with stage.connection.client() as client:
            while await transactional_ids._describe(client, claim.id) is not None:  # noqa: ASYNC110, SLF001 - a broker
                await asyncio.sleep(0.2)
        present = await owner()
        assert claim.id not in await owners.current()
        await present.commit(change(b"present"))
        with pytest.raises(LogError):
            await zombie.commit(change(b"zombie"))
        await present.commit(change(b"present again"))
    for ledger in (zombie, present):
        await ledger.close()
    await owners.close()
    values = [one.value for one in await read_all(stage.connection, stage.topics.changelog)]
    assert values == [b"before", b"present", b"present again"]


async def test_a_store_from_before_a_compaction_is_brought_up_to_date(stage: Stage) -> None:
    """Of what is beyond its position, only the latest of each session is left."""
    names = (f"s{number}" for number in range(1_000))
    sessions = [name for name in names if partition_of(name.encode(), PARTITIONS) == 0][:_SESSIONS]
    offset = 0

    async def rounds(partition: Partition, count: int) -> None:
        nonlocal offset
        for _ in range(count):
            batch = [
                record(offset + n, session, b'{"type": "a", "data": {"text": "%s"}}' % (b"x" * 4_000))
                for n, session in enumerate(sessions)
            ]
            offset += len(batch)
            await fold(partition, batch)

    async with asyncio.timeout(180):
        await _append(stage, (_BEFORE + _AFTER) * _SESSIONS)
        async with stage.partition(0) as first:
            await rounds(first, _BEFORE)
        shutil.copytree(stage.folder / "store", stage.folder / "old")
        async with stage.partition(0) as second:
            await rounds(second, _AFTER)
            newest = dict(second.sessions(prefix="", after=None, limit=100))
        await _compacted(stage, below=_AFTER // 2 * _SESSIONS)
        async with stage.partition(0, store="old") as third:
            assert third.recovery.total > 0
            assert dict(third.sessions(prefix="", after=None, limit=100)) == newest
            assert third.next == offset
    assert sorted(newest) == sorted(sessions)


async def _append(stage: Stage, count: int) -> None:
    """A log that is at least as long as what is folded: a checkpoint beyond its end is refused."""
    producer = stage.connection.producer()
    await producer.start()
    for _ in range(count - 1):
        await producer.send(stage.topics.events, b"{}", partition=0)
    await producer.send_and_wait(stage.topics.events, b"{}", partition=0)
    await producer.stop()


async def _compacted(stage: Stage, *, below: int) -> None:
    """Return once fewer than ``below`` records are left in the changelog."""
    while True:
        if len(await read_all(stage.connection, stage.topics.changelog)) < below:
            return
        await asyncio.sleep(0.5)


async def _coordinated(connection: Connection, app: AppId) -> None:
    """Return once the group has a coordinator: a worker has joined it before it is given a partition."""
    async with asyncio.timeout(60), connection.client() as client:
        while True:
            try:
                await client.coordinator_lookup(CoordinationType.GROUP, app)
            except GroupCoordinatorNotAvailableError:
                await asyncio.sleep(0.2)
            else:
                return
