"""One transaction for the checkpoints of many partitions, on a real Kafka."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.transaction import AddPartitionsToTxnRequest, EndTxnRequest
from aiokafka.structs import OffsetAndMetadata

from tests.adapters.kafka.conftest import PARTITIONS, all_there, read_all
from tests.support.waiting import eventually
from triggerstream.adapters.kafka import transaction_group
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.fencing import KafkaFencing
from triggerstream.adapters.kafka.group import group_offsets
from triggerstream.adapters.kafka.sending import Entry
from triggerstream.adapters.kafka.topics import Topics, worker_group
from triggerstream.adapters.kafka.transaction_group import TransactionGroup
from triggerstream.adapters.kafka.transactional_ids import InitialisedId
from triggerstream.core.errors import LogError
from triggerstream.core.ids import AppId
from triggerstream.engine.partitioned.ports import FencedError
from triggerstream.wire.claims import OwnerId
from triggerstream.wire.records import NewRecord

pytestmark = pytest.mark.kafka

IDS = 4
TOO_LARGE = b"x" * (20 * 1024 * 1024)


class Assignment:
    """A group over all partitions, and what its producers ask for."""

    def __init__(self, connection: Connection, app: AppId) -> None:
        self.connection, self.app, self.topics = connection, app, Topics.of(app)
        self.fencing = KafkaFencing(connection, app)
        self.ended: Counter[bool] = Counter()
        """EndTxn requests that were answered without an error, commits and aborts."""
        self.ids = [OwnerId(f"{app}-w-{n}") for n in range(IDS)]
        self.group: TransactionGroup

    async def start(self, *, producers: int = 1, slow_s: float = 3.0, most_bytes: int = 1 << 24) -> None:
        self.group = TransactionGroup(
            connection=self.connection,
            app=self.app,
            fencing=self.fencing,
            ids=self.ids,
            partitions=range(PARTITIONS),
            producers=producers,
            most_bytes=most_bytes,
            slow_s=slow_s,
        )
        await self.group.open()
        for shared in self.group._shared:  # noqa: SLF001 - the requests are counted
            self.watch(shared.producer)

    def watch(self, producer: Any) -> None:  # noqa: ANN401 - aiokafka is not typed
        send = producer.client.send

        async def watched(node: int, request: Any, **how: Any) -> Any:  # noqa: ANN401 - aiokafka is not typed
            answer = await send(node, request, **how)
            if isinstance(request, EndTxnRequest) and not answer.error_code:
                self.ended[request._transaction_result] += 1  # noqa: SLF001 - nothing public tells
            return answer

        producer.client.send = watched

    def places(self, partition: int) -> list[TopicPartition]:
        topics = self.topics
        return [TopicPartition(one, partition) for one in (topics.changelog, topics.commands)]

    async def fence(self) -> None:
        """Fence the group, as the next owner does."""
        await KafkaFencing(self.connection, self.app).fence(self.ids)

    async def commit(
        self, partition: int, name: str, *, state: bytes = b"s", offset: int | None = None
    ) -> int:
        """One state and one command of a partition."""
        place = TopicPartition(self.topics.events, partition)
        return await self.group.commit(
            partition,
            [
                (self.topics.changelog, [Entry(name.encode(), state)]),
                (self.topics.commands, [NewRecord(key=None, value=name.encode())]),
            ],
            offset={} if offset is None else {place: OffsetAndMetadata(offset, "")},
        )

    async def committed(self) -> list[str]:
        """The committed commands, which are the same as the committed states."""
        commands = [record.value.decode() for record in await read_all(self.connection, self.topics.commands)]
        states = [record.key.decode() for record in await read_all(self.connection, self.topics.changelog)]
        assert sorted(commands) == sorted(states)
        return sorted(commands)

    def under(self) -> OwnerId:
        """The transactional id under which it commits now."""
        (shared,) = self.group._shared  # noqa: SLF001 - nothing public tells
        return shared.id.id

    async def spare_again(self) -> None:
        """Wait until every id but one is spare."""
        spare = self.group._spare.ids  # noqa: SLF001 - nothing public tells
        await eventually(lambda: len(spare) == IDS - 1, within_s=30, what=lambda: len(spare))

    def hold(self, partition: int) -> asyncio.Event:
        """Have the producer send nothing of ``partition``, as if its leader was away, until it is back."""
        (shared,) = self.group._shared  # noqa: SLF001 - a broker that does not answer for one partition
        accumulator = shared.producer._message_accumulator  # noqa: SLF001 - nothing public chooses what is sent
        drain, back = accumulator.drain_by_nodes, asyncio.Event()

        def held(ignore_nodes: Any, muted_partitions: Any = frozenset()) -> Any:  # noqa: ANN401 - aiokafka is not typed
            more = frozenset() if back.is_set() else frozenset(self.places(partition))
            return drain(ignore_nodes=ignore_nodes, muted_partitions=muted_partitions | more)

        accumulator.drain_by_nodes = held
        return back


@pytest.fixture
async def assignment(connection: Connection, kafka_app: AppId, topics: Topics) -> AsyncIterator[Assignment]:
    del topics
    made = Assignment(connection, kafka_app)
    yield made
    await made.group.close()


async def test_checkpoints_that_wait_go_in_one_transaction_with_their_offsets(assignment: Assignment) -> None:
    await assignment.start()
    names = [f"p{n}" for n in range(PARTITIONS)]
    positions = await asyncio.gather(
        *(assignment.commit(n, name, offset=n + 5) for n, name in enumerate(names))
    )
    assert positions == [1] * PARTITIONS
    assert assignment.ended == {True: 1}
    await asyncio.gather(*(assignment.commit(n, f"{name} again") for n, name in enumerate(names)))
    assert assignment.ended == {True: 2}
    assert await assignment.committed() == sorted([*names, *(f"{name} again" for name in names)])
    places = [TopicPartition(assignment.topics.events, n) for n in range(PARTITIONS)]
    found = await group_offsets(assignment.connection, worker_group(assignment.app), places)
    assert [found[place] for place in places] == [n + 5 for n in range(PARTITIONS)]


async def test_what_comes_while_a_transaction_is_open_goes_in_the_next(assignment: Assignment) -> None:
    await assignment.start()
    first = asyncio.create_task(assignment.commit(0, "first"))
    await eventually(lambda: bool(assignment.group._shared[0].working), within_s=30, what="not begun")  # noqa: SLF001
    await asyncio.sleep(0)
    await asyncio.gather(first, *(assignment.commit(n, f"p{n}") for n in range(1, PARTITIONS)))
    assert assignment.ended[True] <= 2
    assert await assignment.committed() == sorted(["first", *(f"p{n}" for n in range(1, PARTITIONS))])


async def test_a_transaction_takes_checkpoints_up_to_a_bound_in_bytes_the_oldest_first(
    assignment: Assignment,
) -> None:
    await assignment.start(most_bytes=2_500)
    ended: list[int] = []

    async def commit(partition: int) -> None:
        await assignment.commit(partition, f"p{partition}", state=b"s" * 1_000)
        ended.append(partition)

    await asyncio.gather(*(commit(n) for n in range(PARTITIONS)))
    assert assignment.ended == {True: 2}
    assert ended == list(range(PARTITIONS))


async def test_several_producers_share_the_partitions(assignment: Assignment) -> None:
    await assignment.start(producers=2)
    await asyncio.gather(*(assignment.commit(n, f"p{n}") for n in range(PARTITIONS)))
    assert assignment.ended == {True: 2}
    assert len(await assignment.committed()) == PARTITIONS


@pytest.mark.parametrize("most_bytes", [1, 1 << 30], ids=["alone", "with others"])
async def test_a_record_that_is_too_large_is_the_error_of_its_partition_alone(
    assignment: Assignment, most_bytes: int
) -> None:
    await assignment.start(most_bytes=most_bytes)
    results = await asyncio.gather(
        *(
            assignment.commit(n, f"p{n}", state=TOO_LARGE if n == 1 else b"s", offset=7)
            for n in range(PARTITIONS)
        ),
        return_exceptions=True,
    )
    refused = results.pop(1)
    assert isinstance(refused, LogError)
    assert "partition 1" in str(refused)
    assert [one for one in results if isinstance(one, BaseException)] == []
    await assignment.commit(0, "p0 again")
    assert await assignment.committed() == ["p0", "p0 again", "p2", "p3"]


async def test_a_partition_that_is_not_acknowledged_does_not_hold_up_the_others(
    assignment: Assignment,
) -> None:
    await assignment.start(slow_s=0.5)
    assignment.hold(2)
    tasks = {n: asyncio.create_task(assignment.commit(n, f"p{n}")) for n in range(PARTITIONS)}
    async with asyncio.timeout(60):
        await asyncio.gather(*tasks.values())  # the new producer is not held
    assert await assignment.committed() == [f"p{n}" for n in range(PARTITIONS)]
    assert assignment.under() != assignment.ids[0]
    await assignment.spare_again()


async def test_an_id_is_spare_again_once_the_transaction_that_was_given_up_is_aborted(
    assignment: Assignment,
) -> None:
    await assignment.start(slow_s=0.3)
    under = []
    for turn in range(IDS + 1):
        assignment.hold(turn % PARTITIONS)
        async with asyncio.timeout(60):
            await asyncio.gather(*(assignment.commit(n, f"{turn}-{n}") for n in range(PARTITIONS)))
        under.append(assignment.under())
        await assignment.spare_again()
    assert under == [*assignment.ids[1:], *assignment.ids[:2]]
    wanted = sorted(f"{turn}-{n}" for turn in range(IDS + 1) for n in range(PARTITIONS))
    assert await assignment.committed() == wanted


async def test_checkpoints_that_wait_without_a_spare_id_go_on_once_an_id_is_spare_again(
    assignment: Assignment,
) -> None:
    await assignment.start(slow_s=0.3)
    (*others, last), assignment.group._spare.ids = assignment.group._spare.ids, deque()  # noqa: SLF001 - all are used
    assignment.hold(1)
    tasks = [asyncio.create_task(assignment.commit(n, f"p{n}")) for n in range(PARTITIONS)]
    done, _ = await asyncio.wait(tasks, timeout=1.5)
    assert not done
    assignment.group._spare.ids.append(last)  # noqa: SLF001 - as when its transaction is aborted
    async with asyncio.timeout(60):
        await asyncio.gather(*tasks)
    assert assignment.under() == last.id
    assert others
    assert await assignment.committed() == [f"p{n}" for n in range(PARTITIONS)]


async def test_an_id_that_another_owner_has_fenced_is_not_used_again(assignment: Assignment) -> None:
    await assignment.start(slow_s=0.3)
    renew = assignment.fencing.renew

    async def after_a_fence(own: InitialisedId, *, transaction_s: float) -> InitialisedId | None:
        await KafkaFencing(assignment.connection, assignment.app).fence([own.id])
        return await renew(own, transaction_s=transaction_s)

    assignment.fencing.renew = after_a_fence  # type: ignore[method-assign] # another owner is faster
    assignment.hold(1)
    async with asyncio.timeout(60):
        await asyncio.gather(*(assignment.commit(n, f"p{n}") for n in range(PARTITIONS)))
    await eventually(lambda: not assignment.group._spare.aborting, within_s=30, what="still aborting")  # noqa: SLF001
    assert len(assignment.group._spare.ids) == IDS - 2  # noqa: SLF001 - nothing public tells


@pytest.mark.parametrize("aborted", [True, False], ids=["aborted", "not aborted"])
async def test_a_group_is_closed_once_what_was_given_up_is_aborted_or_says_that_it_is_not(
    assignment: Assignment, monkeypatch: pytest.MonkeyPatch, *, aborted: bool
) -> None:
    await assignment.start(slow_s=0.3)
    renew, gate, asked = assignment.fencing.renew, asyncio.Event(), asyncio.Event()

    async def late(own: InitialisedId, *, transaction_s: float) -> InitialisedId | None:
        asked.set()
        await gate.wait()
        return await renew(own, transaction_s=transaction_s)

    assignment.fencing.renew = late  # type: ignore[method-assign] # a coordinator that is away
    assignment.hold(1)
    tasks = [asyncio.create_task(assignment.commit(n, f"p{n}")) for n in range(PARTITIONS)]
    async with asyncio.timeout(60):
        await asked.wait()
    for task in tasks:  # else what the others commit again would be open when the group is closed
        task.cancel()
    await asyncio.wait(tasks)
    for n in range(PARTITIONS - 1):
        await assignment.group.leave(n)
    if aborted:
        asyncio.get_running_loop().call_later(0.5, gate.set)
        await assignment.group.leave(PARTITIONS - 1)
        assert await assignment.fencing.readable([0], within_s=30.0) == {0}
    else:
        monkeypatch.setattr(transaction_group, "_ABORTED_S", 0.2)
        with pytest.raises(LogError, match="not aborted"):
            await assignment.group.leave(PARTITIONS - 1)
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_group_that_is_closed_while_it_connects_a_spare_producer_leaves_no_connection(
    assignment: Assignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    await assignment.start(slow_s=0.3)
    send, asked, made = AIOKafkaConnection.send, asyncio.Event(), list[AIOKafkaConnection]()

    async def late(own: AIOKafkaConnection, request: Any, **how: Any) -> Any:  # noqa: ANN401 - aiokafka is not typed
        made.append(own)
        if isinstance(request, MetadataRequest):
            asked.set()
            await asyncio.sleep(0.2)
        return await send(own, request, **how)

    starts = assignment.group._started  # noqa: SLF001 - a moment is meant

    async def slowly(id_: InitialisedId) -> Any:  # noqa: ANN401 - aiokafka is not typed
        monkeypatch.setattr(AIOKafkaConnection, "send", late)
        return await starts(id_)

    assignment.group._started = slowly  # type: ignore[method-assign] # noqa: SLF001 - a moment is meant
    assignment.hold(1)
    tasks = [asyncio.create_task(assignment.commit(n, f"p{n}")) for n in range(PARTITIONS)]
    async with asyncio.timeout(60):
        await asked.wait()
    await assignment.group.close()
    assert made
    assert [one for one in made if one.connected()] == []
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(one) for one in results} == {LogError}


async def test_a_transaction_to_which_no_partition_is_added_is_given_up(assignment: Assignment) -> None:
    """As if a partition of the last transaction had no leader: its marker is not written."""
    await assignment.start(slow_s=0.2)
    client = assignment.group._shared[0].producer.client  # noqa: SLF001 - the coordinator adds nothing
    send = client.send

    async def held(node: int, request: Any, **how: Any) -> Any:  # noqa: ANN401 - aiokafka is not typed
        if isinstance(request, AddPartitionsToTxnRequest):
            await asyncio.Event().wait()
        return await send(node, request, **how)

    client.send = held
    async with asyncio.timeout(60):
        await asyncio.gather(*(assignment.commit(n, f"p{n}") for n in range(PARTITIONS)))
    assert await assignment.committed() == [f"p{n}" for n in range(PARTITIONS)]
    assert assignment.under() != assignment.ids[0]
    await assignment.spare_again()


async def test_a_group_offset_alone_is_no_answer_of_a_broker(assignment: Assignment) -> None:
    slow_s = 0.5
    await assignment.start(slow_s=slow_s)
    client = assignment.group._shared[0].producer.client  # noqa: SLF001 - a slow coordinator
    send = client.send

    async def slow(node: int, request: Any, **how: Any) -> Any:  # noqa: ANN401 - aiokafka is not typed
        if isinstance(request, AddPartitionsToTxnRequest):
            await asyncio.sleep(2 * slow_s)
        return await send(node, request, **how)

    client.send = slow
    place = TopicPartition(assignment.topics.events, 1)
    offset = {place: OffsetAndMetadata(7, "")}
    await asyncio.gather(assignment.commit(0, "p0"), assignment.group.commit(1, [], offset=offset))
    assert assignment.ended == {True: 1}
    assert len(assignment.group._spare.ids) == IDS - 1  # noqa: SLF001 - none was used
    assert await assignment.committed() == ["p0"]
    assert await group_offsets(assignment.connection, worker_group(assignment.app), [place]) == {place: 7}


async def test_a_question_about_a_partition_that_is_away_ends_with_its_caller(
    assignment: Assignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    await assignment.start()
    all_there(monkeypatch)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await assignment.group._settled([PARTITIONS])  # noqa: SLF001 - there is no such partition
    assert [task for task in asyncio.all_tasks() if "RequestBatcher" in repr(task)] == []


async def test_without_a_spare_id_a_refused_record_is_the_error_of_all(assignment: Assignment) -> None:
    await assignment.start()
    assignment.group._spare.ids.clear()  # noqa: SLF001 - all were used
    results = await asyncio.gather(
        *(assignment.commit(n, f"p{n}", state=TOO_LARGE if n == 0 else b"s") for n in range(PARTITIONS)),
        return_exceptions=True,
    )
    assert all(isinstance(one, LogError) for one in results)
    assert await assignment.committed() == []


async def test_a_late_answer_needs_no_other_id(assignment: Assignment) -> None:
    await assignment.start(slow_s=60.0)
    back = assignment.hold(2)
    tasks = {n: asyncio.create_task(assignment.commit(n, f"p{n}")) for n in range(PARTITIONS)}
    shared = assignment.group._shared[0]  # noqa: SLF001 - a moment is meant
    await eventually(
        lambda: bool(shared.producer._txn_manager.txn_partitions),  # noqa: SLF001 - nothing public tells
        within_s=30,
        what="no transaction",
    )
    back.set()
    shared.producer._message_accumulator._waiter_future.set_result(None)  # noqa: SLF001 - as new metadata do
    await asyncio.gather(*tasks.values())
    assert assignment.ended == {True: 1}
    assert len(assignment.group._spare.ids) == IDS - 1  # noqa: SLF001 - none was used


async def test_a_group_that_was_fenced_commits_nothing_and_says_so(assignment: Assignment) -> None:
    await assignment.start()
    await assignment.commit(0, "before")
    await assignment.fence()
    results = await asyncio.gather(
        *(assignment.commit(n, f"p{n}") for n in range(PARTITIONS)), return_exceptions=True
    )
    assert {type(one) for one in results} == {FencedError}
    with pytest.raises(LogError):
        await assignment.commit(0, "after")
    assert await assignment.committed() == ["before"]


async def test_a_group_that_was_fenced_does_not_go_on_with_a_spare_id(assignment: Assignment) -> None:
    await assignment.start()
    await assignment.fence()
    results = await asyncio.gather(
        *(assignment.commit(n, f"p{n}", state=TOO_LARGE if n == 1 else b"s") for n in range(PARTITIONS)),
        return_exceptions=True,
    )
    assert all(isinstance(one, LogError) for one in results)
    assert await assignment.committed() == []


async def test_the_producers_are_closed_when_the_last_partition_has_left(assignment: Assignment) -> None:
    await assignment.start()
    await assignment.commit(0, "p0")
    producer = assignment.group._shared[0].producer  # noqa: SLF001 - its end is meant
    for n in range(PARTITIONS - 1):
        await assignment.group.leave(n)
    await assignment.commit(PARTITIONS - 1, "last")
    await assignment.group.leave(PARTITIONS - 1)
    assert producer._closed  # noqa: SLF001 - nothing public tells
