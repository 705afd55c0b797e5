"""Two owners of one partition, driven step by step, in every order that matters.

An owner stops where a test wants it: before or after a call of a port. Exactly one of two may commit, and the
next one continues from what was committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from triggerstream.adapters.memory import (
    MemoryFencing,
    MemoryLedger,
    MemoryOwnersTopic,
    MemoryPartition,
)
from triggerstream.adapters.memory.partition import MemoryTransactions
from triggerstream.core.errors import LogError
from triggerstream.core.ids import AppId
from triggerstream.engine.partitioned.claims import FORGET_S, Claimant, Claims, FormerOwner, new_ids
from triggerstream.engine.partitioned.ports import Commit, FencedError
from triggerstream.wire.claims import Claim, OwnerId

APP = AppId("test")
MARK = b"mark"


class Gates:
    """Points at which an owner waits until a test lets it go on, and all points that it has passed."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self._closed: dict[str, asyncio.Event] = {}
        self._reached: dict[str, asyncio.Event] = {}

    def close(self, name: str) -> None:
        self._closed[name], self._reached[name] = asyncio.Event(), asyncio.Event()

    def open(self, name: str) -> None:
        self._closed[name].set()

    async def reached(self, name: str) -> None:
        async with asyncio.timeout(10):
            await self._reached[name].wait()

    async def at(self, name: str) -> None:
        self.passed.append(name)
        if name in self._closed:
            self._reached[name].set()
            await self._closed[name].wait()


class GatedTopic(MemoryOwnersTopic):
    """An owners topic of one process: the records are those of all."""

    def __init__(self, shared: MemoryOwnersTopic, gates: Gates) -> None:
        self.shared, self.gates = shared, gates

    async def append(self, claims: Sequence[Claim]) -> int:
        await self.gates.at("claim")
        end = await self.shared.append(claims)
        await self.gates.at("claimed")
        return end

    async def read(self, end: int) -> Mapping[OwnerId, Claim]:
        found = await self.shared.read(end)
        await self.gates.at("read")
        return found

    async def forget(self, ids: Collection[OwnerId]) -> None:
        await self.gates.at("forget")
        await self.shared.forget(ids)
        await self.gates.at("forgotten")


class GatedFencing(MemoryFencing):
    def __init__(self, partitions: Mapping[int, MemoryPartition], gates: Gates) -> None:
        super().__init__(partitions)
        self.gates = gates
        self.waited_s: list[float] = []
        """The ``within_s`` of each call of ``readable``."""

    async def fence(self, ids: Collection[OwnerId]) -> None:
        await super().fence(ids)
        await self.gates.at("fenced")

    async def readable(self, partitions: Collection[int], *, within_s: float) -> Collection[int]:
        self.waited_s.append(within_s)
        return await super().readable(partitions, within_s=within_s)


class GatedLedger(MemoryLedger):
    def __init__(self, partition: MemoryPartition, id_: OwnerId, gates: Gates) -> None:
        super().__init__(partition, id_)
        self.gates = gates

    async def start(self) -> None:
        await super().start()
        await self.gates.at("started")

    async def sent(self) -> None:
        await self.gates.at("sent")


@dataclass
class Cluster:
    """Everything that outlasts a process."""

    topic: MemoryOwnersTopic = field(default_factory=MemoryOwnersTopic)
    transactions: MemoryTransactions = field(default_factory=MemoryTransactions)
    partitions: dict[int, MemoryPartition] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number in (0, 1):
            self.partitions[number] = MemoryPartition(number=number, transactions=self.transactions)

    def process(self) -> Process:
        return Process(self)

    def unreleased(self) -> set[OwnerId]:
        newest = {id_: claim for _, (id_, claim) in sorted(self.topic.records.items())}
        return {id_ for id_, claim in newest.items() if claim is not None}

    def values(self, number: int = 0) -> list[int]:
        """The marks in a partition, in their order."""
        return [int(value or b"") for _, value in self.partitions[number].changelog]


class Process:
    """A process that takes partitions over, counts up in each, and gives them back."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.gates = Gates()
        self.ids: Sequence[OwnerId] = ()
        self.claims: Claims | None = None
        self.ledgers: dict[int, GatedLedger] = {}
        self.marks: dict[int, int] = {}
        self.former: Mapping[int, Sequence[FormerOwner]] = {}

    def assign(self, *numbers: int) -> OwnerId:
        """An assignment of ``numbers``, with its claims; the id under which all of them commit."""
        self.ids = new_ids(APP)
        self.claims = Claims(
            ids=self.ids,
            partitions=frozenset(numbers),
            owners=GatedTopic(self.cluster.topic, self.gates),
            fencing=GatedFencing(self.cluster.partitions, self.gates),
            claimant=Claimant(host="here", pid=7),
            since_us=5,
            generation=2,
            readable_s=0.01,
        )
        return self.ids[0]

    async def take(self, *numbers: int) -> None:
        """Take ``numbers`` over, up to the marks from which to continue."""
        id_ = self.assign(*numbers)
        assert self.claims is not None
        self.ledgers = {
            number: GatedLedger(self.cluster.partitions[number], id_, self.gates) for number in numbers
        }
        first, *others = self.ledgers.values()
        await first.start()
        for ledger in others:
            ledger._epoch = first._epoch  # noqa: SLF001 - one producer for several partitions
        self.former = await self.claims.take()
        for number, ledger in self.ledgers.items():
            await self.gates.at("measure")
            extent = await ledger.extent()
            await self.gates.at("measured")
            self.marks[number] = 0
            async for entries, _ in ledger.changelog(extent.begin, extent.end):
                self.marks[number] = int(entries[MARK] or b"")

    async def commit(self, number: int = 0) -> None:
        """Continue from the own mark."""
        after = self.marks[number] + 1
        marks: dict[bytes, bytes | None] = {MARK: b"%d" % after}
        commit = Commit(decided=(), states={}, dead_letters=(), marks=marks, offset=None)
        await self.ledgers[number].commit(commit)
        self.marks[number] = after

    async def release(self) -> None:
        """Give everything back after the last commit."""
        assert self.claims is not None
        await self.claims.release()


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def paused(process: Process, gate: str, *numbers: int) -> asyncio.Task[None]:
    """A take-over that waits at ``gate``."""
    process.gates.close(gate)
    return asyncio.create_task(process.take(*(numbers or (0,))))


STEPS = ("started", "claim", "claimed", "read", "fenced", "forget", "forgotten", "measure", "measured")
"""Points at which a take-over with a former owner may stop, in the order of its steps."""


async def test_the_steps_of_a_take_over_have_their_order(cluster: Cluster) -> None:
    dead, process = cluster.process(), cluster.process()
    await dead.take(0)
    await process.take(0)
    assert tuple(process.gates.passed) == STEPS
    assert process.marks == {0: 0}


async def test_a_claim_names_the_process_and_its_partitions(cluster: Cluster) -> None:
    process = cluster.process()
    await process.take(0, 1)
    (id_,) = process.ids
    assert id_.startswith(f"{APP}-w-")
    assert await cluster.topic.read(cluster.topic.end) == {
        id_: Claim(id=id_, partitions=frozenset({0, 1}), host="here", pid=7, since_us=5, generation=2)
    }


async def test_a_take_over_waits_less_for_what_can_be_read_than_a_release(cluster: Cluster) -> None:
    former, owner = cluster.process(), cluster.process()
    await former.take(0)
    await owner.take(0)
    await owner.release()
    assert owner.claims is not None
    assert isinstance(owner.claims.fencing, GatedFencing)
    assert owner.claims.fencing.waited_s == [FORGET_S, owner.claims.readable_s]


async def test_an_owner_continues_from_the_commits_of_the_one_before_it(cluster: Cluster) -> None:
    for turn in range(4):
        process = cluster.process()
        await process.take(0, 1)
        assert process.marks == {0: turn, 1: turn}
        await process.commit(0)
        await process.commit(1)
        await process.release()
    assert cluster.values(0) == cluster.values(1) == [1, 2, 3, 4]
    assert cluster.unreleased() == set()


async def test_of_two_that_claim_and_then_fence_one_is_left(cluster: Cluster) -> None:
    first, second = cluster.process(), cluster.process()
    slow = paused(first, "claimed")
    await first.gates.reached("claimed")
    later = paused(second, "claimed")
    await second.gates.reached("claimed")
    first.gates.open("claimed")
    await slow
    second.gates.open("claimed")
    await later
    with pytest.raises(FencedError):
        await first.commit()
    await second.commit()
    assert cluster.values() == [1]


@pytest.mark.parametrize("gate", STEPS)
async def test_one_that_pauses_anywhere_and_one_that_takes_over_meanwhile_never_both_commit(
    cluster: Cluster, gate: str
) -> None:
    dead = cluster.process()
    await dead.take(0)
    await dead.commit()
    zombie, owner = cluster.process(), cluster.process()
    waking = paused(zombie, gate)
    await zombie.gates.reached(gate)
    await owner.take(0)
    await owner.commit()
    zombie.gates.open(gate)
    await waking
    committed = []
    for process in (zombie, owner):
        try:
            await process.commit()
            committed.append(process)
        except FencedError:
            continue
    # One that had not claimed yet claims later, and is the owner: what the other had committed it has read.
    assert committed == ([zombie] if gate in {"started", "claim"} else [owner])
    assert cluster.values() == [1, 2, 3]


async def test_an_open_transaction_of_a_former_owner_is_undone_and_the_owner_ends(cluster: Cluster) -> None:
    former, owner = cluster.process(), cluster.process()
    await former.take(0)
    former.gates.close("sent")
    committing = asyncio.create_task(former.commit())
    await former.gates.reached("sent")
    await owner.take(0)
    former.gates.open("sent")
    with pytest.raises(FencedError):
        await committing
    await owner.commit()
    assert cluster.values() == [1]


async def test_one_that_pauses_before_its_release_is_fenced_and_goes_on_with_another_id(
    cluster: Cluster,
) -> None:
    former, owner = cluster.process(), cluster.process()
    await former.take(0)
    await former.commit()
    former.gates.close("forget")
    releasing = asyncio.create_task(former.release())
    await former.gates.reached("forget")
    await owner.take(0)
    await owner.commit()
    await owner.release()
    former.gates.open("forget")
    await releasing
    await former.take(0)
    await former.commit()
    assert cluster.values() == [1, 2, 3]


@pytest.mark.parametrize("gate", ["claimed", "read", "fenced", "forget"])
async def test_one_that_dies_before_it_forgets_leaves_the_former_owner_to_be_fenced(
    cluster: Cluster, gate: str
) -> None:
    zombie, dying, owner = (cluster.process() for _ in range(3))
    await zombie.take(0)
    await zombie.commit()
    death = paused(dying, gate)
    await dying.gates.reached(gate)
    death.cancel()
    await asyncio.gather(death, return_exceptions=True)
    assert cluster.unreleased() == {*zombie.ids, *dying.ids}, "each claim is under its own key"
    await owner.take(0)
    with pytest.raises(FencedError):
        await zombie.commit()
    await owner.commit()
    assert cluster.values() == [1, 2]
    assert cluster.unreleased() == set(owner.ids)


async def test_two_may_fence_one_owner_whose_partitions_they_share(cluster: Cluster) -> None:
    former, first, second = (cluster.process() for _ in range(3))
    await former.take(0, 1)
    await former.commit(0)
    ways = [paused(first, "read", 0), paused(second, "read", 1)]
    for process in (first, second):
        await process.gates.reached("read")
    for process in (first, second):
        process.gates.open("read")
    await asyncio.gather(*ways)
    for number in (0, 1):
        with pytest.raises(FencedError):
            await former.commit(number)
    await first.commit(0)
    await second.commit(1)
    assert (cluster.values(0), cluster.values(1)) == ([1, 2], [1])
    assert cluster.unreleased() == {*first.ids, *second.ids}


async def test_the_later_of_two_that_share_a_former_owners_partitions_knows_the_earlier_one(
    cluster: Cluster,
) -> None:
    former, first, second = (cluster.process() for _ in range(3))
    await former.take(0, 1)
    cluster.partitions[0].unmarked = 1  # so its claim is not forgotten
    await first.take(0)
    await second.take(1)
    assert first.former == {0: [FormerOwner(id=former.ids[0])]}
    assert second.former == {1: [FormerOwner(id=former.ids[0], earlier=frozenset({0}))]}


class OneByOneTopic(MemoryOwnersTopic):
    """An owners topic to which claims are appended one by one: those of others may come between them."""

    async def append(self, claims: Sequence[Claim]) -> int:
        end = 0
        for claim in claims:
            end = await super().append([claim])
            await asyncio.sleep(0)
        return end


async def test_of_two_with_claims_between_each_other_only_one_waits(cluster: Cluster) -> None:
    """Else each would wait 10 s for the other to end the transactions of a former owner of both."""
    former = cluster.process()
    await former.take(0, 1)
    cluster.partitions[0].unmarked = 1  # so its claim is not forgotten
    topic = OneByOneTopic(records=cluster.topic.records, end=cluster.topic.end)

    def claims(number: int) -> Claims:
        return Claims(
            ids=new_ids(APP, count=2),
            partitions=frozenset({number}),
            owners=topic,
            fencing=MemoryFencing(cluster.partitions),
            claimant=Claimant(host="here", pid=1),
            since_us=0,
        )

    for one in (two := [claims(0), claims(1)]):
        for id_ in one.ids:
            cluster.transactions.initialise(id_)
    first, second = await asyncio.gather(*(one.take() for one in two))
    order = [id_ for id_, _ in topic.records.values()][1:5]
    assert order == [two[0].ids[0], two[1].ids[0], two[0].ids[1], two[1].ids[1]]
    assert first == {0: [FormerOwner(id=former.ids[0])]}
    assert second == {1: [FormerOwner(id=former.ids[0], earlier=frozenset({0}))]}


async def test_who_is_fenced_for_one_partition_is_shut_out_of_all_and_forgotten(cluster: Cluster) -> None:
    former, first, second = (cluster.process() for _ in range(3))
    await former.take(0, 1)
    await first.take(0)
    assert cluster.unreleased() == set(first.ids)
    with pytest.raises(FencedError):
        await former.commit(1)
    await second.take(1)
    assert "fenced" not in second.gates.passed, "there is nobody left to fence"
    await second.commit(1)
    assert cluster.values(1) == [1]


async def test_owners_of_other_partitions_are_left_alone(cluster: Cluster) -> None:
    first, second = cluster.process(), cluster.process()
    await first.take(0)
    await second.take(1)
    assert "fenced" not in second.gates.passed
    await first.commit(0)
    await second.commit(1)


async def test_a_release_leaves_nothing_to_fence(cluster: Cluster) -> None:
    former, owner = cluster.process(), cluster.process()
    await former.take(0)
    await former.commit()
    await former.release()
    assert cluster.unreleased() == set()
    await owner.take(0)
    assert "fenced" not in owner.gates.passed
    assert owner.marks == {0: 1}


async def test_what_cannot_be_read_yet_is_below_the_end_and_its_claim_is_not_released(
    cluster: Cluster,
) -> None:
    former, owner, next_ = (cluster.process() for _ in range(3))
    await former.take(0)
    await former.commit()
    cluster.partitions[0].unmarked = 1  # brokers have answered, and have not marked the transaction
    await former.release()
    assert cluster.unreleased() == set(former.ids)
    await owner.take(0)
    assert owner.marks == {0: 1}, "the end is the high watermark"
    assert cluster.unreleased() == {*former.ids, *owner.ids}, "only its id could end what it has left open"
    cluster.partitions[0].unmarked = 0
    await next_.take(0)
    assert cluster.unreleased() == set(next_.ids)


async def test_claims_stay_if_brokers_do_not_say_what_can_be_read_at_a_release(cluster: Cluster) -> None:
    former, owner = cluster.process(), cluster.process()
    await former.take(0, 1)
    away = cluster.partitions.pop(1)
    await former.release()
    assert cluster.unreleased() == set(former.ids)
    cluster.partitions[1] = away
    await owner.take(0, 1)
    assert cluster.unreleased() == set(owner.ids)


async def test_a_former_owner_with_a_partition_that_is_away_does_not_hold_up_the_others(
    cluster: Cluster,
) -> None:
    former, owner, next_ = (cluster.process() for _ in range(3))
    await former.take(0, 1)
    await former.commit(0)
    away = cluster.partitions.pop(1)
    await owner.take(0)
    with pytest.raises(FencedError):
        await former.commit(0)
    await owner.commit(0)
    assert cluster.unreleased() == {*former.ids, *owner.ids}, "what cannot be asked for may be open"
    cluster.partitions[1] = away
    await next_.take(1)
    assert cluster.unreleased() == {*owner.ids, *next_.ids}
    assert (cluster.values(0), next_.marks) == ([1, 2], {1: 0})


async def test_a_take_over_that_is_given_up_is_released_and_its_id_is_never_used_again(
    cluster: Cluster,
) -> None:
    process = cluster.process()
    opening = paused(process, "measure")
    await process.gates.reached("measure")
    given_up = set(process.ids)
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    await process.release()
    assert cluster.unreleased() == set()
    process.gates.open("measure")
    await process.take(0)
    assert given_up.isdisjoint(process.ids)
    await process.commit()


@pytest.mark.parametrize("gate", ["claim", "claimed"])
async def test_a_claim_that_may_be_there_is_released_with_a_take_over_that_is_given_up(
    cluster: Cluster, gate: str
) -> None:
    process = cluster.process()
    opening = paused(process, gate)
    await process.gates.reached(gate)
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    await process.release()
    assert cluster.unreleased() == set()


async def test_a_claim_that_arrives_after_its_release_is_fenced_by_the_next_owner(cluster: Cluster) -> None:
    process, owner = cluster.process(), cluster.process()
    await process.take(0)
    await process.release()
    await cluster.topic.append([Claim(id=id_, partitions=frozenset({0})) for id_ in process.ids])
    await owner.take(0)
    assert "fenced" in owner.gates.passed
    assert cluster.unreleased() == set(owner.ids)


async def test_compaction_hides_no_owner_that_must_be_fenced(cluster: Cluster) -> None:
    zombie, released, owner = (cluster.process() for _ in range(3))
    await zombie.take(0)
    await released.take(1)
    await released.release()
    cluster.topic.compact()
    await owner.take(0, 1)
    with pytest.raises(FencedError):
        await zombie.commit()
    assert cluster.unreleased() == set(owner.ids)


async def test_a_claim_that_compaction_takes_before_it_is_read_is_that_of_a_released_owner(
    cluster: Cluster,
) -> None:
    former, owner = cluster.process(), cluster.process()
    await former.take(0)
    await former.commit()
    opening = paused(owner, "claimed")
    await owner.gates.reached("claimed")
    await former.commit()
    await former.release()  # behind the claim of the owner
    cluster.topic.compact()
    owner.gates.open("claimed")
    await opening
    assert "fenced" not in owner.gates.passed
    assert owner.marks == {0: 2}, "the end is asked for after the claims are read"


async def test_a_claim_of_unknown_partitions_is_fenced_and_stays(cluster: Cluster) -> None:
    unknown = Claim(id=OwnerId(f"{APP}-w-newer"), partitions=None)
    await cluster.topic.append([unknown])
    process = cluster.process()
    await process.take(0)
    assert unknown.id in cluster.transactions.epochs
    assert cluster.unreleased() == {unknown.id, *process.ids}


# ---- controls: other orders are not safe ---------------------------------------------------------


class FenceFirst(Claims):
    """Claims that read and fence before they claim, which suggests itself."""

    async def take(self) -> Mapping[int, Sequence[FormerOwner]]:
        found = await self.owners.read(1_000)
        await self.fencing.fence([id_ for id_ in found if id_ not in self.ids])
        await self.owners.append([self._claim(id_) for id_ in self.ids])
        return {}


class NewestOnly(Claims):
    """Claims that fence only the newest former owner."""

    async def take(self) -> Mapping[int, Sequence[FormerOwner]]:
        end = await self.owners.append([self._claim(id_) for id_ in self.ids])
        found = [id_ for id_ in await self.owners.read(end) if id_ not in self.ids]
        await self.fencing.fence(found[-1:])
        return {}


async def _both_commit(cluster: Cluster, broken: Callable[..., Claims]) -> bool:
    """True if two owners commit after one of them has lost its partition, with claims as ``broken``."""

    def of(process: Process) -> Claims:
        good = process.claims
        assert good is not None
        return broken(
            ids=good.ids,
            partitions=good.partitions,
            owners=good.owners,
            fencing=good.fencing,
            claimant=good.claimant,
            since_us=0,
        )

    zombie, second, owner = (cluster.process() for _ in range(3))
    for process in (zombie, second, owner):
        id_ = process.assign(0)
        process.claims = of(process)
        process.ledgers = {0: GatedLedger(cluster.partitions[0], id_, process.gates)}
        await process.ledgers[0].start()
        process.marks[0] = 0
    assert zombie.claims is not None
    assert second.claims is not None
    assert owner.claims is not None
    await zombie.claims.take()
    second.gates.close("read")
    slow = asyncio.create_task(second.claims.take())
    await second.gates.reached("read")
    await owner.claims.take()
    await owner.commit()
    if broken is FenceFirst:
        second.gates.open("read")
        await slow
        survivor = second
    else:
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        survivor = zombie
    try:
        await survivor.commit()
    except FencedError:
        return False
    await owner.commit()
    return True


@pytest.mark.parametrize("broken", [FenceFirst, NewestOnly])
async def test_other_orders_let_two_owners_commit(cluster: Cluster, broken: Callable[..., Claims]) -> None:
    assert await _both_commit(cluster, broken)
    assert cluster.values() == [1, 1, 2], "decided twice"


async def test_the_order_of_now_does_not(cluster: Cluster) -> None:
    assert not await _both_commit(cluster, Claims)


async def test_a_release_whose_result_is_unknown_is_an_error(cluster: Cluster) -> None:
    process = cluster.process()
    await process.take(0)

    async def refuse(_ids: Collection[OwnerId]) -> None:
        raise LogError("no answer")

    assert process.claims is not None
    process.claims.owners.forget = refuse  # type: ignore[assignment, method-assign] # a broker that is away
    with pytest.raises(LogError):
        await process.release()
