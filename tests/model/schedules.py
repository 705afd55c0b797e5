"""Runs the engine's code for two owners of one partition, in every order of requests with few preemptions.

Each run begins anew. The scheduler lets an owner go on until it waits for something, except at a few places
where it turns to another. All choices of up to ``preemptions`` such places are tried: most faults of
concurrent programs need no more than two (Musuvathi and Qadeer, Iterative context bounding, 2007).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.model.cluster import Cluster, TurnFencing, TurnLedger, TurnOwnersTopic
from triggerstream.adapters.memory import ManualClock, MemoryAppender, MemoryStateStore
from triggerstream.core.ids import AppId
from triggerstream.engine.configure import configuration_record
from triggerstream.engine.partitioned.claims import Claimant, Claims, new_ids
from triggerstream.engine.partitioned.ownership import Assignment, Owner
from triggerstream.engine.partitioned.partition import Partition
from triggerstream.engine.partitioned.timing import PartitionTiming
from triggerstream.engine.partitioned.turns import TransactionTurns
from triggerstream.engine.processor import Processor
from triggerstream.wire import tasksfile
from triggerstream.wire.claims import OwnerId
from triggerstream.wire.json import dumps
from triggerstream.wire.marks import Identity
from triggerstream.wire.records import NewRecord

APP = AppId("test")
IDENTITY = Identity(cluster="c", topic="t", partitions=1)
TASKS = '{"t": {"after": ["a"], "run": "tasks.t"}}'
LAST = "last"
"""The third owner, alone: it decides what the others have left."""
_SLOW = PartitionTiming(group_offset_every_s=1e6, silence_s=1e6, longest_s=1e6)


@dataclass(slots=True)
class Run:
    """Result of one order of requests. ``choices``: at each step, who could be answered, and who was."""

    cluster: Cluster
    choices: list[tuple[list[str], str]] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """The code that a run tries: that of the engine, unless a test puts something broken in its place."""

    owner: type[Owner] = Owner
    claims: type[Claims] = Claims
    ledger: type[TurnLedger] = TurnLedger
    fencing: type[TurnFencing] = TurnFencing


ENGINE = Code()


class NoTurns(TransactionTurns):
    """Transactions begin at once: a turn begins by the clock, so no order could be repeated."""

    @asynccontextmanager
    async def turn(self, *, full: bool = False, at_once: bool = False) -> AsyncIterator[None]:  # noqa: ARG002
        yield

    def hurry(self, *, at_once: bool = False) -> None:
        """No turn waits."""


def filled() -> Cluster:
    """A cluster whose log has a tasks file and one event, which decides a command."""
    cluster = Cluster()
    record = configuration_record(tasksfile.read(TASKS, name="t"), replaces=None, number=0)
    assert record is not None
    cluster.log.append([record, NewRecord(key=b"s", value=dumps({"type": "a"}))], now_us=0)
    return cluster


def run(plan: Sequence[str], code: Code = ENGINE) -> Run:
    """Two owners take the partition over, fold and hand over, in the order of ``plan``; then a third one."""
    return asyncio.run(_run(plan, code))


async def _run(plan: Sequence[str], code: Code) -> Run:
    result = Run(filled())
    tasks = [asyncio.create_task(_own(result, who, code)) for who in ("a", "b")]
    await _schedule(result, plan)
    tasks.append(asyncio.create_task(_own(result, LAST, code)))
    await _schedule(result, plan)
    assert all(task.done() for task in tasks)
    await asyncio.gather(*tasks, return_exceptions=True)
    return result


async def _schedule(result: Run, plan: Sequence[str]) -> None:
    cluster, current = result.cluster, ""
    while True:
        await _until_idle()
        enabled = cluster.enabled()
        if not enabled:
            return
        step = len(result.choices)
        if step < len(plan):
            current = plan[step]
        elif current not in enabled:
            current = enabled[0]
        result.choices.append((enabled, current))
        cluster.answer(current)


async def _until_idle() -> None:
    """Return once nothing is left to do before a request is answered."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0)
    while loop._ready:  # type: ignore[attr-defined]  # noqa: ASYNC110, SLF001 - nothing public says it
        await asyncio.sleep(0)


async def _own(result: Run, who: str, code: Code) -> None:
    """A process that takes the partition over, folds the log, and hands the partition over."""
    cluster = result.cluster
    me = asyncio.current_task()
    assert me is not None

    def fail(error: BaseException) -> None:
        result.failures.append(error)
        me.cancel()

    def make(number: int, id_: OwnerId) -> Partition:
        return Partition(
            processor=Processor(app=APP, partition=number, partitions=1),
            ledger=code.ledger(cluster, who, id_),
            open_store=MemoryStateStore.open,
            appender=MemoryAppender([cluster.log]),
            clock=ManualClock(),
            identity=IDENTITY,
            fail=fail,
            timing=_SLOW,
            turns=NoTurns(),
        )

    def claims(ids: Sequence[OwnerId], numbers: Sequence[int], generation: int) -> Claims:
        return code.claims(
            ids=ids,
            partitions=frozenset(numbers),
            owners=TurnOwnersTopic(cluster, who),
            fencing=code.fencing(cluster, who),
            claimant=Claimant(host=who, pid=1),
            since_us=0,
            generation=generation,
            readable_s=0.0,
        )

    def assign(numbers: Sequence[int], generation: int) -> Assignment:
        ids = new_ids(APP)
        return Assignment(claims=claims(ids, numbers, generation), make=lambda number: make(number, ids[0]))

    owner = code.owner(assign)
    offset = (await owner.open([0]))[0]
    partition = owner.partitions[0]
    if records := cluster.log.log[offset:]:
        partition.take()
        partition.fold(records)
    await owner.close()  # which commits what is folded


def explore(preemptions: int, code: Code = ENGINE) -> tuple[int, Run | None]:
    """Try every order with up to ``preemptions``; how many were tried, and the first wrong one.

    An order is wrong if the event is not decided exactly once in the end.
    """
    tried = 0
    pending: list[tuple[list[str], int]] = [([], preemptions)]
    while pending:
        plan, left = pending.pop()
        result = run(plan, code)
        tried += 1
        if len(result.cluster.decided) != 1:
            return tried, result
        pending += _alternatives(result, len(plan), left)
    return tried, None


def _alternatives(result: Run, begin: int, left: int) -> Iterator[tuple[list[str], int]]:
    """The plans that differ from ``result`` at one step from ``begin`` on."""
    order = [chosen for _, chosen in result.choices]
    for step in range(begin, len(order)):
        enabled, chosen = result.choices[step]
        if LAST in enabled:
            return
        goes_on = step > 0 and order[step - 1] in enabled
        for other in enabled:
            if other != chosen and (left or not goes_on):
                yield [*order[:step], other], left - goes_on
