"""A storm: owners of a few partitions in one process, which are dealt anew all the time.

Half of the owners end in order, a quarter is killed, a quarter is left alone as zombies that go on until they
are fenced; all pause at any step of a take-over, a transaction or a hand-over.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer

from tests.adapters.faust.workers import Stage, read_all
from triggerstream.adapters.clock import SystemClock
from triggerstream.adapters.kafka import stopping
from triggerstream.adapters.kafka.fencing import KafkaFencing
from triggerstream.adapters.kafka.layout import layout_of
from triggerstream.adapters.kafka.ledger import KafkaAppender, KafkaLedger
from triggerstream.adapters.kafka.owners_topic import KafkaOwnersTopic
from triggerstream.adapters.kafka.records import record_of
from triggerstream.adapters.kafka.stopping import stop
from triggerstream.adapters.kafka.transaction_group import TransactionGroup
from triggerstream.adapters.kafka.transactional_ids import InitialisedId
from triggerstream.adapters.memory import MemoryStateStore
from triggerstream.engine.partitioned.claims import Claimant, Claims, new_ids
from triggerstream.engine.partitioned.ownership import Assignment, Owner
from triggerstream.engine.partitioned.partition import Partition, PartitionPhase
from triggerstream.engine.partitioned.ports import Commit, Extent, FencedError
from triggerstream.engine.processor import Processor
from triggerstream.wire.claims import Claim, OwnerId
from triggerstream.wire.marks import CHECKPOINT_KEY, Identity, decode_checkpoint
from triggerstream.wire.records import Record

_T = TypeVar("_T")

_PAUSED = 0.15
"""The part of all steps at which an owner pauses."""
_LONGEST_S = 0.8
IDS = 2
"""Transactional ids of an assignment."""
_DEALT_S = (0.05, 0.6)


class Pauses:
    """Pauses of an owner at a part ``paused`` of its steps. Once it is killed, it stays at the next one."""

    def __init__(self, chance: random.Random, *, paused: float) -> None:
        self._chance = chance
        self._paused = paused
        self.killed = asyncio.Event()

    async def step(self) -> None:
        """Return at once, after a pause, or never."""
        if self._chance.random() < self._paused:
            await asyncio.sleep(_LONGEST_S * self._chance.random() ** 2)
        if self.killed.is_set():
            await asyncio.Event().wait()

    async def around(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The result of ``work``, with a step before and after it."""
        try:
            await self.step()
        except BaseException:
            work.close()
            raise
        found = await work
        await self.step()
        return found


class _Topic(KafkaOwnersTopic):
    pauses: Pauses

    async def append(self, claims: Sequence[Claim]) -> int:
        return await self.pauses.around(super().append(claims))

    async def read(self, end: int) -> Mapping[OwnerId, Claim]:
        return await self.pauses.around(super().read(end))

    async def forget(self, ids: Collection[OwnerId]) -> None:
        await self.pauses.around(super().forget(ids))


class PausingFencing(KafkaFencing):
    """It fences, with pauses before and after."""

    pauses: Pauses

    async def fence(self, ids: Collection[OwnerId]) -> None:
        await self.pauses.around(super().fence(ids))


class NoFencing(PausingFencing):
    """The control: it fences nobody."""

    async def fence(self, ids: Collection[OwnerId]) -> None:
        pass


class _Group(TransactionGroup):
    pauses: Pauses

    async def _started(self, id_: InitialisedId) -> AIOKafkaProducer:
        producer = await super()._started(id_)
        commit = producer.commit_transaction

        async def after_a_pause() -> None:
            await self.pauses.around(commit())

        producer.commit_transaction = after_a_pause
        return producer


class _Ledger(KafkaLedger):
    pauses: Pauses

    async def start(self) -> None:
        await self.pauses.around(super().start())

    async def extent(self) -> Extent:
        return await self.pauses.around(super().extent())

    async def commit(self, commit: Commit) -> int:
        return await self.pauses.around(super().commit(commit))


@dataclass
class Counts:
    """The numbers of take-overs and of ends of owners in a storm."""

    take_overs: int = 0
    killed: int = 0
    zombies: int = 0
    fenced: int = 0
    other_ends: list[BaseException] = field(default_factory=list)


class Process:
    """One owner of some partitions, from its assignment to its end."""

    def __init__(self, storm: Storm, numbers: Sequence[int], *, paused: float) -> None:
        self.storm, self.numbers = storm, numbers
        self.pauses = Pauses(storm.chance, paused=paused)
        self.topic = _Topic(storm.stage.connection, storm.stage.app)
        self.fencing = storm.fencing(storm.stage.connection, storm.stage.app)
        self.topic.pauses = self.fencing.pauses = self.pauses
        self.groups: list[_Group] = []
        self.owner = Owner(self._assign)
        self.error: BaseException | None = None
        self.opening = asyncio.create_task(self._run())

    def _assign(self, numbers: Sequence[int], generation: int) -> Assignment:
        ids = new_ids(self.storm.stage.app, count=IDS)
        group = _Group(
            connection=self.storm.stage.connection,
            app=self.storm.stage.app,
            fencing=self.fencing,
            ids=ids,
            partitions=numbers,
        )
        group.pauses = self.pauses
        self.groups.append(group)
        claims = Claims(
            ids=ids,
            partitions=frozenset(numbers),
            owners=self.topic,
            fencing=self.fencing,
            claimant=Claimant(host="storm", pid=1),
            since_us=0,
            generation=generation,
        )
        return Assignment(claims=claims, make=lambda number: self._partition(number, group))

    def _partition(self, number: int, group: _Group) -> Partition:
        stage = self.storm.stage
        ledger = _Ledger(
            connection=stage.connection,
            app=stage.app,
            topics=stage.topics,
            partition=number,
            group=group,
            fencing=self.fencing,
        )
        ledger.pauses = self.pauses
        return Partition(
            processor=Processor(app=stage.app, partition=number, partitions=stage.partitions),
            ledger=ledger,
            open_store=MemoryStateStore.open,
            appender=self.storm.appender,
            clock=SystemClock(),
            identity=self.storm.identity,
            fail=self._fail,
        )

    def _fail(self, error: BaseException) -> None:
        """As a process that ends at once: nothing is released."""
        if not self.pauses.killed.is_set():
            self.pauses.killed.set()
            self.error = error
            if isinstance(error, FencedError):
                self.storm.counts.fenced += 1
            else:
                self.storm.counts.other_ends.append(error)

    async def _run(self) -> None:
        try:
            offsets = await self.owner.open(self.numbers)
        except Exception as exc:  # noqa: BLE001 - as the process ends of it
            self._fail(exc)
            return
        self.storm.counts.take_overs += 1
        await asyncio.gather(*(self._feed(number, offset) for number, offset in offsets.items()))

    async def _feed(self, number: int, offset: int) -> None:
        """Hand the records of a partition over, from ``offset`` on, for as long as it is owned."""
        partition = self.owner.get(number)
        events = self.storm.events[number]
        done = sum(record.offset < offset for record in events)
        while done < len(events) and partition is not None and partition.phase is PartitionPhase.READY:
            if self.pauses.killed.is_set():
                return
            batch = events[done : min(done + self.storm.batch, self.storm.arrived(number))]
            if not batch or not partition.has_room():
                await asyncio.sleep(0.005)
                continue
            done += len(batch)
            partition.take()
            partition.fold(batch)
            await asyncio.sleep(0)
        if partition is not None and done == len(events):
            await partition.reached(events[-1].offset + 1)

    async def end(self) -> None:
        """End in order; if that fails, at once."""
        self.opening.cancel()
        await asyncio.wait([self.opening])
        if self.pauses.killed.is_set():
            return
        try:
            await self.owner.close()
        except Exception as exc:  # noqa: BLE001 - as the process ends of it
            self._fail(exc)

    async def clean(self) -> None:
        """Close the connections of a process that was killed."""
        self.opening.cancel()
        await asyncio.wait([self.opening])
        await self.topic.close()
        await self.fencing.close()
        for group in self.groups:
            for shared in group._shared:  # noqa: SLF001 - a killed process finishes nothing
                await stop(shared.producer, timeout_s=0.2)
            await group.close()


class Storm:
    """Deals the partitions of ``stage`` to ``processes`` owners at a time."""

    def __init__(self, stage: Stage, *, seed: int, fencing: type[PausingFencing], batch: int = 2) -> None:
        self.stage = stage
        self.chance = random.Random(seed)
        self.fencing = fencing
        self.batch = batch
        self.counts = Counts()
        self.events: dict[int, list[Record]] = {}
        self.identity: Identity
        self.appender = KafkaAppender(connection=stage.connection, app=stage.app)
        self._all: list[Process] = []
        self._ending: set[asyncio.Task[None]] = set()
        self._begin_s = self._seconds = 0.0

    async def rage(self, *, seconds: float, processes: int = 3) -> None:
        """Deal the partitions anew for ``seconds``; then one calm owner folds the rest.

        The events arrive evenly over this time, so that former owners and zombies always have something to
        commit, on a fast machine and on a slow one.
        """
        await self.begin()
        loop = asyncio.get_running_loop()
        self._begin_s, self._seconds = loop.time(), seconds
        end, living = self._begin_s + seconds, list[Process]()
        while loop.time() < end:
            await self._end(living)
            dealt: dict[int, list[int]] = {}
            for number in range(self.stage.partitions):
                dealt.setdefault(self.chance.randrange(processes), []).append(number)
            living = [self.process(numbers) for numbers in dealt.values()]
            await asyncio.sleep(self.chance.uniform(*_DEALT_S) * self.chance.choice((1, 1, 1, 6)))
        await self._end(living)
        await asyncio.gather(*self._ending)
        await self.calm_down()

    def arrived(self, number: int) -> int:
        """The number of a partition's events that have arrived: evenly over a storm, and all without one."""
        passed_s = asyncio.get_running_loop().time() - self._begin_s
        whole = len(self.events[number])
        return whole if passed_s >= self._seconds else int(whole * passed_s / self._seconds)

    async def begin(self) -> None:
        """Read the log."""
        events = await read_all(self.stage.connection, self.stage.topics.events, self.stage.partitions)
        self.events = {p: [record_of(record) for record in found] for p, found in events.items()}
        self.identity = (await layout_of(self.stage.connection, self.stage.app)).identity

    async def calm_down(self) -> None:
        """Have one calm owner fold the rest, and close everything."""
        calm = self.process(range(self.stage.partitions), paused=0)
        await calm.opening
        while isinstance(calm.error, FencedError):  # by a zombie that paused, and has claimed only now
            calm = self.process(range(self.stage.partitions), paused=0)
            await calm.opening
        await calm.end()
        for process in self._all:
            process.pauses.killed.set()
        await asyncio.gather(*(process.clean() for process in self._all))
        await self.appender.close()
        await asyncio.gather(*stopping._stopping, return_exceptions=True)  # noqa: SLF001 - of those cancelled
        assert not calm.owner.partitions, calm.error

    def process(self, numbers: Sequence[int], *, paused: float = _PAUSED) -> Process:
        """A process that takes ``numbers`` over, and pauses at a part ``paused`` of its steps."""
        process = Process(self, numbers, paused=paused)
        self._all.append(process)
        return process

    async def _end(self, living: Sequence[Process]) -> None:
        """End each of ``living`` in one of the ways; who ends in order has ended before others begin."""
        in_order = []
        for process in living:
            way = self.chance.random()
            if way < 0.5:
                in_order.append(asyncio.create_task(process.end()))
            elif way < 0.75:
                self.counts.killed += 1
                process.pauses.killed.set()
            else:
                self.counts.zombies += 1
        self._ending.update(in_order)
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):  # then the group goes on without the rest
                await asyncio.gather(*(asyncio.shield(task) for task in in_order))

    async def marks_in_order(self) -> bool:
        """True if no checkpoint in the changelog is before an earlier one."""
        topic = self.stage.topics.changelog
        found = await read_all(self.stage.connection, topic, self.stage.partitions)
        for records in found.values():
            marks = [
                decode_checkpoint(record.value).offset for record in records if record.key == CHECKPOINT_KEY
            ]
            if marks != sorted(marks):
                return False
        return True
