"""Brokers come back without the end of a worker's transaction: nobody could read beyond it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from tests.adapters.faust.workers import Stage, read_all, stage
from tests.support.kafka.lost_markers import ALLOWED, leave_open
from tests.support.kafka.server import KafkaServer, missing
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.layout import layout_of
from triggerstream.adapters.kafka.ledger import KafkaLedger
from triggerstream.adapters.kafka.records import stable_ends
from triggerstream.adapters.kafka.replay import KafkaRecords
from triggerstream.adapters.kafka.topics import Topics, create
from triggerstream.core.ids import AppId
from triggerstream.engine.partitioned.ports import Commit
from triggerstream.engine.replay.changelog import ChangelogArchive
from triggerstream.wire.marks import CHECKPOINT_KEY, CheckpointMark, Identity, encode_checkpoint

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

MANY = 40
"""Partitions with transactions under way: a kill of Kafka loses the end of one or two of them."""
ROUNDS = 6


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A Kafka that takes records of transactions which their coordinator does not know."""
    if (lacking := missing()) is not None:
        pytest.skip(f"waits for {lacking}")
    made = KafkaServer(tmp_path_factory.mktemp("lost-markers"), settings=ALLOWED)
    made.start()
    yield made
    made.kill()


@pytest.fixture
async def app(own_server: KafkaServer, kafka_app: AppId, tmp_path: Path) -> AsyncIterator[Stage]:
    with stage(Connection(bootstrap=own_server.bootstrap), kafka_app, tmp_path / "workers") as made:
        await made.prepare()
        yield made


async def test_a_worker_ends_the_transactions_of_former_owners_whose_end_brokers_have_lost(
    app: Stage,
) -> None:
    first = app.start("w1")
    await first.ready()
    await app.fire(range(100))
    await app.settled()
    first.kill()
    torn = [(b"s1", b"torn"), (CHECKPOINT_KEY, b"torn")]
    sent = 100
    for name in ("w1", "w2"):  # with a copy of the states, and without one
        await leave_open(app.connection, f"{app.app}-0", 0, {app.topics.changelog: torn})
        both = {app.topics.changelog: torn, app.topics.commands: torn[:1]}
        await leave_open(app.connection, f"{app.app}-1", 1, both)
        worker = app.start(name)
        await worker.ready()
        await app.fire(range(sent, sent + 20))
        sent += 20
        await app.settled()
        await worker.drained()
        assert worker.text().count("brokers have lost the end of a former owner's transaction") == 2
    assert (await app.exact()).command_count() == sent


@asynccontextmanager
async def fenced(app: Stage) -> AsyncIterator[KafkaLedger]:
    """A ledger of partition 0."""
    ledger = KafkaLedger(connection=app.connection, app=app.app, topics=app.topics, partition=0, stuck_s=5)
    await ledger.fence()
    try:
        yield ledger
    finally:
        await ledger.close()


async def stable(app: Stage, topic: str) -> int:
    place = TopicPartition(topic, 0)
    return (await stable_ends(app.connection, [place]))[place]


def checkpoint(log: Identity, offset: int) -> Commit:
    mark = encode_checkpoint(CheckpointMark(offset=offset, identity=log))
    return Commit(decided=(), states={}, dead_letters=(), marks={CHECKPOINT_KEY: mark}, offset=None)


async def test_what_is_committed_late_can_be_read_and_the_ledger_goes_on(app: Stage) -> None:
    log = (await layout_of(app.connection, app.app)).identity
    commands = {app.topics.commands: [(b"s", b"first"), (b"s", b"second")]}
    await leave_open(app.connection, f"{app.app}-0", 0, commands)
    async with fenced(app) as ledger:
        extent = await ledger.extent()
        assert extent.unfinished == extent.end == 0
        assert await stable(app, app.topics.commands) == 0
        await ledger.finish(commit=True)
        position = await ledger.commit(checkpoint(log, 0))
        extent = await ledger.extent()
        assert extent.unfinished is None
        found = [one async for one, _ in ledger.changelog(extent.begin, extent.end)]
        assert position <= extent.end
        assert [key for chunk in found for key in chunk] == [CHECKPOINT_KEY]
    found_commands = await read_all(app.connection, app.topics.commands, app.partitions)
    assert [record.value for record in found_commands[0]] == [b"first", b"second"]


async def test_a_rebuild_ends_them_as_well(app: Stage) -> None:
    log = (await layout_of(app.connection, app.app)).identity
    async with fenced(app) as ledger:
        await ledger.commit(checkpoint(log, 0))
    torn = [(CHECKPOINT_KEY, b"torn")]
    await leave_open(
        app.connection, f"{app.app}-0", 0, {app.topics.changelog: torn, app.topics.commands: torn}
    )
    ledger = KafkaLedger(connection=app.connection, app=app.app, topics=app.topics, partition=0, stuck_s=5)
    archive = ChangelogArchive(
        app=app.app,
        number=0,
        identity=log,
        ledger=ledger,
        log=KafkaRecords(app.connection, topic=app.topics.events, partition=0),
        commands=KafkaRecords(app.connection, topic=app.topics.commands, partition=0),
    )
    await archive.fence()
    assert (await archive.kept()).offset == 0
    assert [one async for found in archive.commands.records(0, 1) for one in found] == []
    await archive.close()


@pytest.mark.faults
@pytest.mark.timeout(1800)
async def test_every_changelog_can_be_read_after_kills_of_kafka_under_load(
    own_server: KafkaServer, kafka_app: AppId
) -> None:
    connection = Connection(bootstrap=own_server.bootstrap)
    await create(connection, kafka_app, partitions=MANY)
    log = (await layout_of(connection, kafka_app)).identity
    topics, lost = Topics.of(kafka_app), 0

    async def taken_over(partition: int) -> KafkaLedger:
        nonlocal lost
        ledger = KafkaLedger(
            connection=connection, app=kafka_app, topics=topics, partition=partition, stuck_s=20
        )
        await ledger.fence()
        extent = await ledger.extent()
        if extent.unfinished is not None:
            lost += 1
            await ledger.finish(commit=extent.unfinished == extent.end)
        async for _ in ledger.changelog(extent.begin, (await ledger.extent()).end):
            pass  # it fails where it does not get on
        return ledger

    async def commit_on(ledger: KafkaLedger, made: asyncio.Semaphore) -> None:
        while True:
            await ledger.commit(checkpoint(log, 0))
            made.release()

    for _ in range(ROUNDS):
        ledgers = await asyncio.gather(*map(taken_over, range(MANY)))
        made = asyncio.Semaphore(0)
        committing = [asyncio.create_task(commit_on(ledger, made)) for ledger in ledgers]
        async with asyncio.timeout(120):
            for _ in range(5 * MANY):
                await made.acquire()
        own_server.kill()
        for task in committing:
            task.cancel()
        await asyncio.gather(*committing, return_exceptions=True)
        own_server.launch()  # the kernel ends it with the thread that starts it
        await asyncio.gather(*(ledger.close() for ledger in ledgers))
        await asyncio.to_thread(own_server.await_answer)
    for ledger in await asyncio.gather(*map(taken_over, range(MANY))):
        await ledger.close()
    print(f"{lost} transactions had lost their end")  # noqa: T201 - for `pytest -s`
