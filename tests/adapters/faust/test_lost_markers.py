"""Brokers come back without the end of a worker's transaction: nobody could read beyond it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient

from tests.adapters.faust.workers import Stage, folded, outcome_of, read_all, stage
from tests.support.kafka.lost_markers import ALLOWED, leave_open
from tests.support.kafka.server import KafkaServer, missing
from triggerstream.adapters.kafka import transactional_ids
from triggerstream.adapters.kafka.cluster import describe
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.fencing import KafkaFencing
from triggerstream.adapters.kafka.layout import layout_of, newest_marks
from triggerstream.adapters.kafka.ledger import KafkaLedger
from triggerstream.adapters.kafka.owners_topic import KafkaOwnersTopic
from triggerstream.adapters.kafka.records import extents, record_of, stable_ends
from triggerstream.adapters.kafka.replay import KafkaRecords
from triggerstream.adapters.kafka.topics import Topics, create
from triggerstream.adapters.kafka.transactional_ids import InitialisedId
from triggerstream.adapters.rocksdb import RocksStore, SharedRocksMemory
from triggerstream.core.ids import AppId
from triggerstream.engine.partitioned.claims import Claimant, Claims, FormerOwner, new_ids
from triggerstream.engine.partitioned.ports import Commit
from triggerstream.engine.partitioned.takeover import is_committed
from triggerstream.engine.replay.changelog import ChangelogArchive
from triggerstream.wire.claims import Claim, OwnerId
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


async def claimed(app: Stage, partition: int) -> OwnerId:
    """The transactional id of an owner of ``partition`` that never released its claim."""
    topic = KafkaOwnersTopic(app.connection, app.app)
    id_ = OwnerId(f"{app.app}-w-{uuid4().hex}-{partition}")
    await topic.append([Claim(id=id_, partitions=frozenset({partition}))])
    await topic.close()
    return id_


async def of_older_release(app: Stage, partition: int) -> OwnerId:
    """The transactional id of an owner of ``partition`` that knows no claims."""
    return OwnerId(f"{app.app}-{partition}")


@pytest.mark.parametrize("former", [claimed, of_older_release])
async def test_a_worker_ends_the_transactions_of_former_owners_whose_end_brokers_have_lost(
    app: Stage, former: Callable[[Stage, int], Awaitable[OwnerId]]
) -> None:
    first = app.start("w1")
    await first.ready()
    await app.fire(range(100))
    await app.settled()
    first.kill()
    torn = [(b"s1", b"torn"), (CHECKPOINT_KEY, b"torn")]
    sent = 100
    for name in ("w1", "w2"):  # with a copy of the states, and without one
        await leave_open(app.connection, await former(app, 0), 0, {app.topics.changelog: torn})
        both = {app.topics.changelog: torn, app.topics.commands: torn[:1]}
        await leave_open(app.connection, await former(app, 1), 1, both)
        worker = app.start(name)
        await worker.ready()
        await app.fire(range(sent, sent + 20))
        sent += 20
        await app.settled()
        await worker.drained()
        assert worker.text().count("brokers have lost the end of a former owner's transaction") == 2
    assert (await app.exact()).command_count() == sent


def claims_of(
    connection: Connection, app: AppId, ids: Sequence[OwnerId], partition: int, owners: KafkaOwnersTopic
) -> Claims:
    return Claims(
        ids=ids,
        partitions=frozenset({partition}),
        owners=owners,
        fencing=KafkaFencing(connection, app),
        claimant=Claimant(host="here", pid=1),
        since_us=0,
    )


Entries = dict[str, list[tuple[bytes | None, bytes | None]]]

CASES: list[tuple[str | None, str | None, bool]] = [
    (None, "commands", True),
    (None, "commands", False),
    (None, "changelog", True),
    (None, "changelog", False),
    ("commands", None, False),
    ("changelog", None, False),
]
"""The topic that alone has records of the transaction, the one that alone has its marker, and the marker."""


FOLLOWED = CASES.index((None, "changelog", True))
"""The case after which a second outage loses the end of a further transaction, in the changelog alone."""


@asynccontextmanager
async def folded_once(
    server: KafkaServer, app: AppId, folder: Path, *, partitions: int
) -> AsyncIterator[Stage]:
    """An app in which the worker w1 has folded some sessions; it was killed."""
    connection = Connection(bootstrap=server.bootstrap)
    with stage(connection, app, folder / "workers", partitions=partitions) as made:
        await made.prepare()
        worker = made.start("w1")
        await worker.ready()
        await made.fire(range(10 * partitions))
        await made.settled()
        worker.kill()
        yield made


async def torn(app: Stage, sessions: range) -> list[Entries]:
    """Fire ``sessions``; what workers write in the transactions that have them, by partition."""
    done = await outcome_of(app.connection, app.app, app.partitions)
    await app.fire(sessions)
    events = await read_all(app.connection, app.topics.events, app.partitions)
    wanted = folded(app.app, {p: [record_of(record) for record in found] for p, found in events.items()})
    marks = await newest_marks(app.connection, app.app)
    written: list[Entries] = []
    for partition, mark in sorted(marks.items()):
        assert isinstance(mark, CheckpointMark)
        states, commands = wanted.states[partition], wanted.commands[partition]
        further = commands[len(done.commands[partition]) :]
        assert further, "each partition has some of the sessions"
        after = replace(mark, offset=events[partition][-1].offset + 1)
        written.append(
            {
                app.topics.changelog: [
                    *((key, value) for key, value in states.items() if key not in done.states[partition]),
                    (CHECKPOINT_KEY, encode_checkpoint(after)),
                ],
                app.topics.commands: [(b"s", value) for value in further],
            }
        )
    return written


async def end_of(app: Stage, topic: str) -> int:
    place = TopicPartition(topic, 0)
    return (await extents(app.connection, [place]))[place][1]


async def keep(app: Stage, entries: Entries, *, position: int) -> None:
    """Write a transaction to the store of the worker w1, whose coordinator told it that it is committed."""
    topic = app.topics.changelog
    async with app.connection.client() as client:
        cluster = await describe(client, [topic])
    name = f"{cluster.id}/{cluster.topics[topic].id}"
    store = RocksStore(
        app.directory("w1") / f"{app.app}-sessions" / "0", changelog=name, memory=SharedRocksMemory()
    )
    try:
        assert store.position() is not None, "it is a copy of another changelog"
        store.write({key: value for key, value in entries[topic] if key is not None}, position=position)
    finally:
        await store.close()


async def test_a_committed_transaction_that_is_aborted_with_the_next_one_is_folded_again(
    own_server: KafkaServer, kafka_app: AppId, tmp_path: Path
) -> None:
    async with folded_once(own_server, kafka_app, tmp_path, partitions=1) as app:
        (entries,) = await torn(app, range(10, 15))
        following = {topic: [(b"s5", b"torn")] for topic in entries}
        await leave_open(app.connection, await claimed(app, 0), 0, entries, begun=following)
        # The worker outlived the outage and had the first transaction in its store.
        await keep(app, entries, position=await end_of(app, app.topics.changelog) - 1)
        worker = app.start("w1")
        await worker.ready()
        await app.fire(range(15, 20))
        await app.settled()
        await worker.drained()
        assert "store has a transaction that was undone" in worker.text()
        assert (await app.exact()).command_count() == 20


async def test_a_transaction_that_has_ended_in_one_topic_ends_likewise_in_the_others(
    own_server: KafkaServer, kafka_app: AppId, tmp_path: Path
) -> None:
    cases = [*CASES, CASES[FOLLOWED]]
    async with folded_once(own_server, kafka_app, tmp_path, partitions=len(cases)) as app:
        ids = [await claimed(app, partition) for partition in range(len(cases))]
        names = {"commands": app.topics.commands, "changelog": app.topics.changelog}
        written = await torn(app, range(100, 200))
        for partition, (alone, ended, commit) in enumerate(cases):
            entries = written[partition]
            if alone is not None:
                entries = {names[alone]: entries[names[alone]]}
            ends = None if ended is None else {names[ended]: commit}
            await leave_open(app.connection, ids[partition], partition, entries, ended=ends)
        last = len(CASES)
        following = {names["changelog"]: [(b"s", b"torn"), (CHECKPOINT_KEY, b"torn")]}
        await leave_open(app.connection, ids[last], last, following)
        worker = app.start("w2")
        await worker.ready()
        await app.settled()
        await worker.drained()
        lost = worker.text().count("brokers have lost the end of a former owner's transaction")
        assert lost == len(cases)
        assert (await app.exact()).command_count() == 10 * len(cases) + 100


def ledger_of(app: Stage, id_: OwnerId) -> KafkaLedger:
    return KafkaLedger(
        connection=app.connection, app=app.app, topics=app.topics, partition=0, id_=id_, stuck_s=5
    )


@asynccontextmanager
async def fenced(app: Stage) -> AsyncIterator[KafkaLedger]:
    """A ledger of partition 0."""
    ledger = ledger_of(app, new_ids(app.app)[0])
    await ledger.start()
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
    await leave_open(app.connection, await of_older_release(app, 0), 0, commands)
    async with fenced(app) as ledger:
        extent = await ledger.extent()
        assert extent.unfinished == extent.end == 0
        assert await stable(app, app.topics.commands) == 0
        await ledger.finish([FormerOwner(id=await ledger.fence_old_release())], commit=True)
        position = await ledger.commit(checkpoint(log, 0))
        extent = await ledger.extent()
        found = [one async for one, _ in ledger.changelog(extent.begin, extent.end)]
        assert (await ledger.extent()).unfinished is None
        assert position <= extent.end
        assert [key for chunk in found for key in chunk] == [CHECKPOINT_KEY]
    found_commands = await read_all(app.connection, app.topics.commands, app.partitions)
    assert [record.value for record in found_commands[0]] == [b"first", b"second"]


async def test_a_rebuild_ends_them_as_well(app: Stage) -> None:
    log = (await layout_of(app.connection, app.app)).identity
    async with fenced(app) as ledger:
        await ledger.commit(checkpoint(log, 0))
    torn = [(CHECKPOINT_KEY, b"torn")]
    both = {app.topics.changelog: torn, app.topics.commands: torn}
    await leave_open(app.connection, await claimed(app, 0), 0, both)
    ids = new_ids(app.app, role="rebuild")
    owners = KafkaOwnersTopic(app.connection, app.app)
    archive = ChangelogArchive(
        app=app.app,
        number=0,
        identity=log,
        ledger=ledger_of(app, ids[0]),
        claims=claims_of(app.connection, app.app, ids, 0, owners),
        closed=owners.close,
        log=KafkaRecords(app.connection, topic=app.topics.events, partition=0),
        commands=KafkaRecords(app.connection, topic=app.topics.commands, partition=0),
    )
    await archive.fence()
    assert (await archive.kept()).offset == 0
    assert [one async for found in archive.commands.records(0, 1) for one in found] == []
    await archive.close()


class Taker:
    """A process that takes one partition over."""

    def __init__(self, app: Stage, partition: int) -> None:
        self.partition = partition
        self.fencing = KafkaFencing(app.connection, app.app)
        self.owners = KafkaOwnersTopic(app.connection, app.app)
        ids = new_ids(app.app)
        self.claims = claims_of(app.connection, app.app, ids, partition, self.owners)
        self.claims.fencing = self.fencing
        self.ledger = KafkaLedger(
            connection=app.connection,
            app=app.app,
            topics=app.topics,
            partition=partition,
            id_=ids[0],
            fencing=self.fencing,
        )

    async def fence(self) -> None:
        self.former = (await self.claims.take())[self.partition]

    async def end(self, *, commit: bool) -> None:
        assert (await self.ledger.extent()).unfinished is not None
        await self.ledger.finish(self.former, commit=commit)
        # Kafka answers before it writes the markers.
        while (await self.ledger.extent()).unfinished is not None:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.02)

    async def close(self) -> None:
        await self.ledger.close()
        await self.owners.close()


@pytest.fixture
async def takers(app: Stage) -> AsyncIterator[tuple[Taker, Taker]]:
    """Two that take a partition each over from one owner, whose transactions in both have lost their ends."""
    topic, former = KafkaOwnersTopic(app.connection, app.app), new_ids(app.app)[0]
    await topic.append([Claim(id=former, partitions=frozenset({0, 1}))])
    await topic.close()
    for partition in (0, 1):
        entries = {one: [(b"s", b"%d" % partition)] for one in (app.topics.changelog, app.topics.commands)}
        await leave_open(app.connection, former, partition, entries)
    made = Taker(app, 0), Taker(app, 1)
    for taker in made:
        await taker.ledger.start()
    yield made
    for taker in made:
        await taker.close()


async def in_log(app: Stage) -> dict[str, list[bytes | None]]:
    """The committed values of both topics, in the order of partitions."""
    found = {}
    for name in (app.topics.changelog, app.topics.commands):
        records = await read_all(app.connection, name, app.partitions)
        found[name] = [record.value for number in sorted(records) for record in records[number]]
    return found


async def test_two_owners_may_end_the_transactions_of_one_former_owner_at_once(
    app: Stage, takers: tuple[Taker, Taker]
) -> None:
    first, second = takers
    await asyncio.gather(first.fence(), second.fence())
    earlier = [one.former[0].earlier for one in takers]
    assert sorted(map(len, earlier)) == [0, 1], "one has claimed before the other"
    await asyncio.gather(first.end(commit=True), second.end(commit=False))
    assert await in_log(app) == {app.topics.changelog: [b"0"], app.topics.commands: [b"0"]}


async def test_the_later_claimant_ends_nothing_before_the_earlier_one(
    app: Stage, takers: tuple[Taker, Taker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would have asked whether anything is under way before the other one begins, and undo it then."""
    first, second = takers
    end, initialise, begun = transactional_ids._end_transaction, transactional_ids.initialise, asyncio.Event()  # noqa: SLF001

    async def late(client: AIOKafkaClient, owner: InitialisedId, *, commit: bool) -> None:
        begun.set()
        await asyncio.sleep(0.3)
        await end(client, owner, commit=commit)

    async def held(client: AIOKafkaClient, id_: OwnerId, *, transaction_s: float) -> InitialisedId:
        task = asyncio.current_task()
        if task is not None and task.get_name() == "second":
            await begun.wait()
        return await initialise(client, id_, transaction_s=transaction_s)

    for taker in takers:
        await taker.fence()
    monkeypatch.setattr(transactional_ids, "_end_transaction", late)
    monkeypatch.setattr(transactional_ids, "initialise", held)
    ending = asyncio.create_task(second.end(commit=False), name="second")
    await asyncio.gather(first.end(commit=True), ending)
    assert await in_log(app) == {app.topics.changelog: [b"0"], app.topics.commands: [b"0"]}


async def test_a_fence_undoes_nothing_that_another_owner_is_about_to_commit(
    app: Stage, takers: tuple[Taker, Taker], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = takers
    end, begun, gate = transactional_ids._end_transaction, asyncio.Event(), asyncio.Event()  # noqa: SLF001 - between two requests

    async def late(client: AIOKafkaClient, owner: InitialisedId, *, commit: bool) -> None:
        begun.set()
        await gate.wait()
        await end(client, owner, commit=commit)

    monkeypatch.setattr(transactional_ids, "_end_transaction", late)
    await first.fence()
    ending = asyncio.create_task(first.end(commit=True))
    await begun.wait()
    fencing = asyncio.create_task(second.fence())
    await asyncio.wait([fencing], timeout=0.5)
    gate.set()
    await asyncio.gather(ending, fencing)
    await second.end(commit=False)
    assert await in_log(app) == {app.topics.changelog: [b"0"], app.topics.commands: [b"0"]}


@pytest.mark.faults
@pytest.mark.timeout(1800)
async def test_every_changelog_can_be_read_after_kills_of_kafka_under_load(
    own_server: KafkaServer, kafka_app: AppId
) -> None:
    connection = Connection(bootstrap=own_server.bootstrap)
    await create(connection, kafka_app, partitions=MANY)
    log = (await layout_of(connection, kafka_app)).identity
    topics, lost = Topics.of(kafka_app), 0
    owners = KafkaOwnersTopic(connection, kafka_app)

    async def taken_over(partition: int) -> KafkaLedger:
        nonlocal lost
        ids = new_ids(kafka_app)
        ledger = KafkaLedger(
            connection=connection,
            app=kafka_app,
            topics=topics,
            partition=partition,
            id_=ids[0],
            stuck_s=20,
        )
        await ledger.start()
        former = (await claims_of(connection, kafka_app, ids, partition, owners).take()).get(partition, ())
        extent = await ledger.extent()
        if extent.unfinished is not None:
            lost += 1
            await ledger.finish(former, commit=is_committed(extent, position=None))
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
    await owners.close()
    print(f"{lost} transactions had lost their end")  # noqa: T201 - for `pytest -s`
