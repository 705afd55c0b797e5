"""Commands of a shared log are handed over in order, none is passed over, and what is done is known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.support.waiting import eventually
from triggerstream.adapters.memory import ManualClock, MemoryDispatcher
from triggerstream.core.commands import Cause, Command, Decision, Revoke
from triggerstream.core.errors import DispatchError, LogError, UndispatchableError
from triggerstream.core.ids import CommandId, ConfigHash, InstanceId, SessionId, TaskName, TriggerName
from triggerstream.engine.handover.pacing import UNCONFIRMED
from triggerstream.engine.handover.shared_log import HandOverProgress, PartitionHandOver, PartitionProgress
from triggerstream.wire.commands import encode
from triggerstream.wire.records import Record


def command(name: str) -> Command:
    return Command(
        id=CommandId(name),
        session=SessionId("s"),
        task=TaskName("t"),
        instance=InstanceId("t#0"),
        run="tasks.t",
        kwargs={},
        config=ConfigHash("c0ffee"),
        causes=[Cause(trigger=TriggerName("a"), offset=0)],
        decided_us=1,
    )


def revoke(name: str) -> Revoke:
    return Revoke(id=CommandId(name), session=SessionId("s"), task=TaskName("t"), instance=InstanceId("t#0"))


def record(offset: int, decision: Decision | bytes) -> Record:
    value = decision if isinstance(decision, bytes) else encode(decision)
    return Record(partition=0, offset=offset, arrival_us=0, key=b"s", value=value)


class Stage:
    """A partition, an executor that answers as the test says, and the refusals."""

    def __init__(self, answer: Callable[[Decision], Awaitable[None]] | None = None) -> None:
        self.clock = ManualClock()
        self.asked: list[Decision] = []
        self.refused: list[tuple[int, str]] = []
        self.log_is_away = False
        self._answer = answer
        self.progress = PartitionProgress(0, 0)
        self.handover = PartitionHandOver(
            dispatcher=MemoryDispatcher(self._ask), clock=self.clock, refuse=self._refuse
        )

    async def _ask(self, decision: Decision) -> None:
        self.asked.append(decision)
        if self._answer is not None:
            await self._answer(decision)

    async def _refuse(self, record: Record, decision: Decision | None, reason: str) -> None:
        del decision
        if self.log_is_away:
            raise LogError("away")
        self.refused.append((record.offset, reason))

    def names(self) -> list[str]:
        return [decision.id for decision in self.asked]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        running = asyncio.create_task(self.handover.run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_the_position_is_below_the_first_that_is_not_done() -> None:
    gates = {name: asyncio.Event() for name in "abc"}

    async def answer(decision: Decision) -> None:
        await gates[decision.id].wait()

    stage = Stage(answer)
    for offset, name in ((3, "a"), (5, "b"), (6, "c")):
        stage.handover.take(stage.progress, record(offset, command(name)))
    async with stage.running():
        gates["b"].set()
        gates["c"].set()
        await eventually(lambda: stage.handover.waiting == 1)
        assert stage.progress.position == 3
        gates["a"].set()
        await eventually(lambda: stage.progress.position == 7)
    assert stage.progress.uncommitted == 3
    stage.progress.commit(HandOverProgress(position=7, upto=7))
    assert stage.progress.uncommitted == 0


async def test_no_more_wait_for_confirmation_than_may() -> None:
    gate = asyncio.Event()

    async def answer(decision: Decision) -> None:
        del decision
        await gate.wait()

    stage = Stage(answer)
    for offset in range(3 * UNCONFIRMED):
        stage.handover.take(stage.progress, record(offset, command(f"c{offset}")))
    async with stage.running():
        await eventually(lambda: len(stage.asked) >= UNCONFIRMED)
        assert len(stage.asked) == UNCONFIRMED
        gate.set()
        await eventually(lambda: stage.progress.position == 3 * UNCONFIRMED)
    assert stage.names() == [f"c{offset}" for offset in range(3 * UNCONFIRMED)]


async def test_while_the_executor_is_away_the_oldest_alone_is_tried_and_none_is_passed_over() -> None:
    away = True

    async def answer(decision: Decision) -> None:
        del decision
        if away:
            raise DispatchError("away")

    stage = Stage(answer)
    for offset in range(5):
        stage.handover.take(stage.progress, record(offset, command(f"c{offset}")))
    async with stage.running():
        await eventually(lambda: len(stage.asked) == 5)
        for tries in range(6, 9):
            stage.clock.advance(10)
            await eventually(lambda tries=tries: len(stage.asked) == tries)  # type: ignore[misc] # a bound default
        assert stage.names()[5:] == ["c0", "c0", "c0"]
        assert stage.progress.position == 0
        away = False
        stage.clock.advance(10)
        await eventually(lambda: stage.progress.position == 5)
    assert stage.names()[8:] == [f"c{offset}" for offset in range(5)]


async def test_a_revocation_waits_for_its_command() -> None:
    gate = asyncio.Event()

    async def answer(decision: Decision) -> None:
        if isinstance(decision, Command):
            await gate.wait()

    stage = Stage(answer)
    stage.handover.take(stage.progress, record(0, command("a")))
    stage.handover.take(stage.progress, record(1, revoke("a")))
    async with stage.running():
        await eventually(lambda: len(stage.asked) == 1)
        gate.set()
        await eventually(lambda: stage.progress.position == 2)
    assert [type(decision) for decision in stage.asked] == [Command, Revoke]


async def test_what_is_refused_counts_as_done_once_that_is_durable() -> None:
    async def answer(decision: Decision) -> None:
        if decision.id == "b":
            raise UndispatchableError("never")

    stage = Stage(answer)
    stage.log_is_away = True
    values: list[Decision | bytes] = [command("a"), command("b"), b"junk"]
    for offset, value in enumerate(values):
        stage.handover.take(stage.progress, record(offset, value))
    async with stage.running():
        await eventually(lambda: stage.progress.position == 1)
        stage.log_is_away = False
        stage.clock.advance(10)
        await eventually(lambda: stage.progress.position == 3)
    assert [offset for offset, _ in stage.refused] == [1, 2]
    assert stage.refused[0][1] == "never"
    assert stage.refused[1][1].startswith("no command: ")


async def test_of_partitions_that_are_left_nothing_more_is_started() -> None:
    gate = asyncio.Event()

    async def answer(decision: Decision) -> None:
        del decision
        await gate.wait()

    stage = Stage(answer)
    for offset in range(UNCONFIRMED + 50):
        stage.handover.take(stage.progress, record(offset, command(f"c{offset}")))
    async with stage.running():
        await eventually(lambda: len(stage.asked) == UNCONFIRMED)
        stage.handover.leave([stage.progress])
        gate.set()
        await stage.handover.settled([stage.progress], within_s=20)
        # What was being handed over is done, and may be committed.
        assert stage.progress.position == UNCONFIRMED
    assert len(stage.asked) == UNCONFIRMED


async def test_an_error_that_nobody_knows_ends_it_and_is_not_done() -> None:
    async def answer(decision: Decision) -> None:
        del decision
        raise ZeroDivisionError

    stage = Stage(answer)
    stage.handover.take(stage.progress, record(0, command("a")))
    with pytest.raises(ZeroDivisionError):
        await stage.handover.run()
    assert stage.progress.position == 0
