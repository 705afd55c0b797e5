"""The partitions of a process, from one assignment to the next."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import pytest

from tests.engine.partitioned.bench import Bench, BenchLedger, BenchStore, Durable, claims_of
from tests.support.waiting import eventually
from triggerstream.adapters.memory import MemoryOwnersTopic
from triggerstream.core.errors import LogError
from triggerstream.core.ids import SessionId
from triggerstream.engine.counters import Counters
from triggerstream.engine.partitioned.claims import FormerOwner
from triggerstream.engine.partitioned.ownership import Assignment, Owner
from triggerstream.engine.partitioned.partition import Partition, PartitionPhase
from triggerstream.engine.partitioned.ports import Commit, Extent, TakeOverError
from triggerstream.engine.partitioned.session_scans import SessionScans
from triggerstream.wire.claims import Claim, OwnerId


class Benches:
    """A bench for each partition, and the partition objects made on them."""

    def __init__(self) -> None:
        self.benches: dict[int, Bench] = {}
        self.made: list[Partition] = []
        self.topic = MemoryOwnersTopic()
        self.owner = Owner(self.assign)

    def assign(self, numbers: Sequence[int], generation: int) -> Assignment:
        durables = {n: self.benches.setdefault(n, Bench()).durable for n in numbers}
        return Assignment(claims=claims_of(durables, self.topic)(numbers, generation), make=self.make)

    def make(self, number: int) -> Partition:
        bench = self.benches.setdefault(number, Bench())
        partition = bench.partition(store=BenchStore())
        partition.processor.partition = number
        self.made.append(partition)
        return partition


@pytest.fixture
def benches() -> Benches:
    return Benches()


async def test_an_owner_says_where_to_fetch_each_partition(benches: Benches) -> None:
    assert await benches.owner.open([3, 5]) == {3: 0, 5: 0}
    benches.benches[5].configure()
    partition = benches.owner.get(5)
    assert partition is benches.made[1]
    await benches.benches[5].fold(partition)
    assert await benches.owner.open([5]) == {5: 1}
    assert benches.owner.get(5) is benches.made[2]
    assert benches.owner.get(3) is None
    await benches.owner.close()


async def test_a_partition_is_given_out_only_while_it_is_ready(benches: Benches) -> None:
    bench = benches.benches[0] = Bench()
    opening = asyncio.create_task(benches.owner.open([0]))
    await asyncio.sleep(0)
    assert [made.phase for made in benches.made] == [PartitionPhase.OPENING]
    assert benches.owner.get(0) is None
    await opening
    partition = benches.owner.get(0)
    assert partition is benches.made[0]
    await partition.close()
    assert benches.owner.get(0) is None
    await benches.owner.close()
    assert bench.durable.calls.count("close") == 1


async def test_partitions_are_closed_before_others_are_taken_over(benches: Benches) -> None:
    await benches.owner.open([0, 1])
    former = list(benches.made)
    phases: list[PartitionPhase] = []
    make = benches.make

    def made(number: int) -> Partition:
        phases.extend(partition.phase for partition in former)
        return make(number)

    benches.make = made  # type: ignore[method-assign] # looks at what was made before
    await benches.owner.open([0])
    assert phases == [PartitionPhase.CLOSED, PartitionPhase.CLOSED]
    await benches.owner.close()


async def test_a_take_over_that_is_cancelled_first_closes_what_was_owned_before(
    benches: Benches, monkeypatch: pytest.MonkeyPatch
) -> None:
    await benches.owner.open([0])
    (former,) = benches.made
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: BenchLedger) -> None:
        begun.set()
        await go_on.wait()

    monkeypatch.setattr(BenchLedger, "close", slow)
    opening = asyncio.create_task(benches.owner.open([0]))
    await begun.wait()
    for _ in range(2):
        opening.cancel()
        await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert former.phase is PartitionPhase.CLOSED
    assert benches.made == [former]


async def test_sessions_are_scanned_once_all_partitions_are_taken_over(
    benches: Benches, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans: list[SessionScans] = []

    async def note(self: SessionScans) -> None:
        scans.append(self)

    monkeypatch.setattr(SessionScans, "run", note)
    slow, make = asyncio.Event(), benches.make

    def made(number: int) -> Partition:
        partition = make(number)
        if number == 1:
            assert isinstance(partition.ledger, BenchLedger)
            partition.ledger.extent_gate = slow
        return partition

    benches.make = made  # type: ignore[method-assign] # one of them is slow
    opening = asyncio.create_task(benches.owner.open([0, 1]))
    await eventually(lambda: benches.owner.get(0) is not None)
    for _ in range(10):
        await asyncio.sleep(0)
    assert scans == []
    slow.set()
    await opening
    await eventually(lambda: len(scans) == 2)
    await benches.owner.close()


async def test_where_one_partition_cannot_be_had_the_take_over_of_the_others_ends(benches: Benches) -> None:
    refused, slow = benches.benches[0], benches.benches[1] = Bench(), Bench()
    refused.durable.group_offset = 5
    make = benches.make

    def made(number: int) -> Partition:
        partition = make(number)
        if number == 1:
            ledger = partition.ledger
            assert isinstance(ledger, BenchLedger)
            ledger.extent_gate.clear()
        return partition

    benches.make = made  # type: ignore[method-assign] # one of them is slow
    owner = benches.owner
    async with asyncio.timeout(30):
        with pytest.raises(TakeOverError, match="has read up to offset 5"):
            await owner.open([0, 1])
    assert benches.made[1].phase is PartitionPhase.OPENING
    assert "extent" not in slow.durable.calls
    await owner.close()
    assert [made.phase for made in benches.made] == [PartitionPhase.CLOSED, PartitionPhase.CLOSED]


class SlowEndLedger(BenchLedger):
    """A ledger that, once asked for its extent and cancelled, ends only at its gate."""

    def __init__(self, durable: Durable) -> None:
        super().__init__(durable)
        self.cancelled = asyncio.Event()

    async def extent(self) -> Extent:
        try:
            return await asyncio.Future()
        finally:
            self.cancelled.set()
            await self.extent_gate.wait()


async def test_a_failed_take_over_returns_once_those_of_the_other_partitions_have_ended(
    benches: Benches,
) -> None:
    refused, slow = benches.benches[0], benches.benches[1] = Bench(), Bench()
    refused.durable.group_offset = 5
    ledger = SlowEndLedger(slow.durable)
    ledger.extent_gate.clear()
    make = benches.make

    def made(number: int) -> Partition:
        partition = make(number)
        if number == 1:
            partition.ledger = ledger
        return partition

    async with asyncio.timeout(30):
        benches.make = made  # type: ignore[method-assign] # one of them is slow
        opening = asyncio.create_task(benches.owner.open([0, 1]))
        await ledger.cancelled.wait()
        done, _ = await asyncio.wait([opening], timeout=0.1)
        assert not done
        ledger.extent_gate.set()
        with pytest.raises(TakeOverError, match="has read up to offset 5"):
            await opening


async def test_counters_go_on_over_assignments(benches: Benches) -> None:
    owner = benches.owner
    assert owner.done() == Counters()
    for number, events in ((0, 1), (1, 2), (0, 3)):
        await owner.open([number])
        bench = benches.benches[number]
        bench.fire("s", *"a" * events)
        partition = owner.get(number)
        assert partition is not None
        await bench.fold(partition)
    done = owner.done()
    assert (done.events, done.batches, done.checkpoints) == (6, 3, 3)
    assert sum(done.took.counts) == 3
    await owner.close()
    assert owner.done() == done
    assert not owner.partitions


async def test_an_owner_hears_which_partition_changed_which_sessions(benches: Benches) -> None:
    heard: list[tuple[Partition, set[SessionId]]] = []

    def note(partition: Partition, sessions: Iterable[SessionId]) -> None:
        heard.append((partition, set(sessions)))

    benches.owner.on_durable = note
    await benches.owner.open([0, 1])
    for number, session in ((1, "s"), (0, "t")):
        bench, partition = benches.benches[number], benches.made[number]
        bench.configure()
        bench.fire(session, "a")
        await bench.fold(partition)
    assert heard == [(benches.made[1], {"s"}), (benches.made[0], {"t"})]
    await benches.owner.close()


async def test_an_owner_releases_its_claim_once_all_partitions_have_ended_in_order(benches: Benches) -> None:
    await benches.owner.open([0, 1])
    assert len(await benches.topic.read(benches.topic.end)) == 1
    await benches.owner.close()
    assert await benches.topic.read(benches.topic.end) == {}


async def test_a_claim_has_the_generation_of_the_group(benches: Benches) -> None:
    await benches.owner.open([0], generation=7)
    (claim,) = (await benches.topic.read(benches.topic.end)).values()
    assert claim.generation == 7
    await benches.owner.close()


async def test_each_partition_hears_of_its_former_owners(
    benches: Benches, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: dict[int, list[OwnerId]] = {}
    open_ = Partition.open

    async def note(self: Partition, former: Sequence[FormerOwner] = ()) -> int:
        heard[self.processor.partition] = [one.id for one in former]
        return await open_(self, former)

    monkeypatch.setattr(Partition, "open", note)
    first, second = OwnerId("test-w-1"), OwnerId("test-w-2")
    await benches.topic.append(
        [Claim(id=first, partitions=frozenset({0})), Claim(id=second, partitions=frozenset({0, 1}))]
    )
    await benches.owner.open([0, 1, 2])
    assert heard == {0: [first, second], 1: [second], 2: []}
    await benches.owner.close()


async def test_an_owner_of_which_a_partition_ends_in_doubt_releases_nothing(benches: Benches) -> None:
    await benches.owner.open([0, 1])
    bench, partition = benches.benches[1], benches.made[1]
    bench.configure()

    async def refuse(commit: Commit) -> int:  # noqa: ARG001 - by the port
        raise LogError("no answer")

    partition.ledger.commit = refuse  # type: ignore[method-assign] # a broker that is away
    partition.take()
    partition.fold(bench.durable.log)
    await eventually(lambda: bool(bench.failures), within_s=10, what="it has not failed")
    await benches.owner.close()
    (claim,) = (await benches.topic.read(benches.topic.end)).values()
    assert claim.partitions == frozenset({0, 1})


async def test_an_owner_that_leaves_a_transaction_open_ends_in_order_and_releases_nothing(
    benches: Benches,
) -> None:
    await benches.owner.open([0, 1])

    async def close() -> None:
        raise LogError("not aborted yet")

    benches.made[1].ledger.close = close  # type: ignore[method-assign] # a partition that is away
    await benches.owner.close()
    assert [made.phase for made in benches.made] == [PartitionPhase.CLOSED, PartitionPhase.CLOSED]
    assert len(await benches.topic.read(benches.topic.end)) == 1
