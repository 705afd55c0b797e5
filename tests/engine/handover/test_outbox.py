from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from tests.engine.samples import command, decided, revoke
from tests.support.waiting import eventually
from triggerstream.adapters.memory import (
    ManualClock,
    MemoryDatabase,
    MemoryDispatcher,
    MemoryReader,
    MemoryStore,
)
from triggerstream.core.answers import HandOver, HandOverState
from triggerstream.core.commands import Decision
from triggerstream.core.errors import DispatchError, LogError, UndispatchableError
from triggerstream.core.ids import AppId, CommandId, Instant
from triggerstream.core.projections import SilentCommand
from triggerstream.engine.checkpoint import Checkpoint
from triggerstream.engine.handover import outbox as outbox_module
from triggerstream.engine.handover.outbox import Outbox
from triggerstream.engine.handover.pacing import UNCONFIRMED

Answer = Callable[[Decision], Awaitable[None]]


@dataclass
class Running:
    database: MemoryDatabase
    store: MemoryStore
    dispatcher: MemoryDispatcher
    clock: ManualClock
    outbox: Outbox
    task: asyncio.Task[None]

    async def decide(self, *decisions: Decision, settled: Sequence[CommandId] = ()) -> None:
        """What the fold loop does with a checkpoint."""
        checkpoint = Checkpoint(partition=0, offset=1, decided=decided(*decisions), settled=tuple(settled))
        first = await self.store.commit(checkpoint, sent=self.outbox.take_sent())
        self.outbox.add(first, checkpoint.decided)

    def dispatched(self) -> list[str]:
        return [f"{type(one).__name__[0]}{one.id[1:]}" for one in self.dispatcher.dispatched]


@asynccontextmanager
async def running(
    answer: Answer | None = None, database: MemoryDatabase | None = None
) -> AsyncIterator[Running]:
    database = database or MemoryDatabase()
    clock = ManualClock()
    store = MemoryStore(database, app=AppId("app"), clock=clock)
    resumed = await store.open()
    dispatcher = MemoryDispatcher(answer)
    outbox = Outbox(store=store, dispatcher=dispatcher, clock=clock, last=resumed.outbox)
    task = asyncio.create_task(outbox.run())
    yield Running(database, store, dispatcher, clock, outbox, task)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_decisions_are_handed_over_in_their_order() -> None:
    async with running() as run:
        await run.decide(*(command(n) for n in range(250)))
        await run.decide(*(command(n) for n in range(250, 300)))
        await run.dispatcher.wait_for(300)
        assert run.dispatched() == [f"C{n}" for n in range(300)]


async def test_at_most_a_hundred_wait_for_confirmation() -> None:
    confirm = asyncio.Event()
    waiting = 0

    async def answer(_: Decision) -> None:
        nonlocal waiting
        waiting += 1
        await confirm.wait()

    async with running(answer) as run:
        await run.decide(*(command(n) for n in range(250)))
        await settle()
        assert waiting == UNCONFIRMED
        confirm.set()
        await run.dispatcher.wait_for(250)


async def test_what_the_queue_does_not_confirm_is_tried_again_and_nothing_passed_over() -> None:
    away = True

    async def answer(_: Decision) -> None:
        if away:
            raise DispatchError("connection refused")

    async with running(answer) as run:
        await run.decide(*(command(n) for n in range(150)))
        for _ in range(20):
            await settle()
            run.clock.advance(10)
        assert run.dispatched() == []
        away = False
        for _ in range(3):
            await settle()
            run.clock.advance(10)
        await run.dispatcher.wait_for(150)
        assert run.dispatched() == [f"C{n}" for n in range(150)]


async def test_pauses_grow_while_the_queue_is_away_and_one_at_a_time_is_tried() -> None:
    tried: list[str] = []

    async def answer(decision: Decision) -> None:
        tried.append(decision.id)
        raise DispatchError("connection refused")

    async with running(answer) as run:
        await run.decide(*(command(n) for n in range(5)))
        await settle()
        assert tried == ["c0", "c1", "c2", "c3", "c4"]
        tried.clear()
        for passed_s, tries in (
            (0.05, 0),
            (0.05, 1),
            (0.19, 1),
            (0.01, 2),
            (0.39, 2),
            (0.01, 3),
            (5, 4),
            (5, 5),
        ):
            run.clock.advance(passed_s)
            await settle()
            assert tried == ["c0"] * tries


async def test_backlog_beyond_memory_is_read_from_the_store_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox_module, "_QUEUED", 10)
    monkeypatch.setattr(outbox_module, "_PAGE", 7)
    confirm = asyncio.Event()

    async def answer(_: Decision) -> None:
        await confirm.wait()

    async with running(answer) as run:
        for start in range(0, 400, 8):
            await run.decide(*(command(n) for n in range(start, start + 8)))
            await settle()
        confirm.set()
        await run.dispatcher.wait_for(400)
        assert run.dispatched() == [f"C{n}" for n in range(400)]


async def test_open_rows_are_handed_over_again_after_a_restart() -> None:
    async with running() as run:
        await run.decide(command(1), command(2), command(3))
        await run.dispatcher.wait_for(3)
        await run.decide(settled=[command(2).id])
        database = run.database.restarted()
    async with running(database=database) as run:
        await run.dispatcher.wait_for(2)
        await settle()
        assert run.dispatched() == ["C1", "C3"]


async def test_hand_overs_are_noted_soon_without_a_checkpoint() -> None:
    async with running() as run:
        await run.decide(command(1))
        await run.dispatcher.wait_for(1)
        await settle()
        run.clock.advance(1)
        await settle()
        assert [row.sent_us for row in await run.store.outbox(after=0, limit=9)] == [
            run.clock.now_us() - 1_000_000
        ]


async def test_what_the_broker_has_not_confirmed_does_not_count_as_handed_over() -> None:
    away = True

    async def answer(_: Decision) -> None:
        if away:
            raise DispatchError("nobody answers")

    async def hand_over(run: Running) -> HandOver:
        one = command(1)
        silent = SilentCommand(instance=one.instance, command=one.id, attempt=0, decided_at=0)
        return (await MemoryReader(run.database).hand_overs([silent]))[one.id]

    async with running(answer) as run:
        await run.decide(command(1))
        assert await hand_over(run) == HandOver(state=HandOverState.DECIDED)
        tried_us = run.clock.now_us()
        await settle()
        for _ in range(3):
            run.clock.advance(0.3)
            await settle()
        tried = HandOver(state=HandOverState.UNCONFIRMED, at_us=Instant(tried_us))
        assert await hand_over(run) == tried  # later attempts change nothing
        away = False
        run.clock.advance(5)
        await run.dispatcher.wait_for(1)
        confirmed_us = run.clock.now_us()
        await settle()
        run.clock.advance(1)
        await settle()
        done = HandOver(state=HandOverState.HANDED_OVER, at_us=Instant(confirmed_us))
        assert await hand_over(run) == done


async def test_refused_command_fails_and_does_not_hold_up_the_next() -> None:
    async def answer(decision: Decision) -> None:
        if decision.id == "c1":
            raise UndispatchableError("`os.remove` is not on the list of tasks")

    async with running(answer) as run:
        await run.decide(command(0), command(1), command(2))
        await run.dispatcher.wait_for(2)
        await settle()
        assert run.dispatched() == ["C0", "C2"]
        (letter,) = run.database.dead_letters
        assert letter.reason == "`os.remove` is not on the list of tasks"
        (event,) = run.database.records
        assert event.key == b"s1"
        assert b"triggerstream.task.failed" in (event.value or b"")
        assert [row.command for row in await run.store.outbox(after=0, limit=9)] == ["c0", "c2"]
        assert run.outbox.refused == 1


async def test_hundreds_of_refused_commands_are_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def refuse(_: Decision) -> None:
        raise UndispatchableError("is not on the list of tasks")

    async with running(refuse) as run:
        await run.decide(*(command(number) for number in range(300)))
        await eventually(lambda: run.outbox.refused == 300)
    refused = [record for record in caplog.records if record.message == "command cannot be handed over"]
    assert len(refused) == 1


async def test_revocation_that_is_refused_is_let_go() -> None:
    async def answer(_: Decision) -> None:
        raise UndispatchableError("no")

    async with running(answer) as run:
        await run.decide(revoke(1))
        await settle()
        run.clock.advance(1)
        await settle()
        assert run.database.outbox == {}
        assert run.database.records == []


async def test_revocation_waits_for_its_command() -> None:
    confirm = asyncio.Event()

    async def answer(decision: Decision) -> None:
        if decision == command(1):
            await confirm.wait()

    async with running(answer) as run:
        await run.decide(command(1))
        await settle()
        await run.decide(revoke(1), command(2))
        await settle()
        assert run.dispatched() == []
        confirm.set()
        await run.dispatcher.wait_for(3)
        assert run.dispatched() == ["C1", "R1", "C2"]


async def test_command_cancelled_before_its_hand_over_is_only_revoked() -> None:
    away = True

    async def answer(_: Decision) -> None:
        if away:
            raise DispatchError("connection refused")

    async with running(answer) as run:
        await run.decide(*(command(n) for n in range(UNCONFIRMED + 5)))
        await settle()
        await run.decide(revoke(0), revoke(UNCONFIRMED + 1))
        away = False
        for _ in range(3):
            run.clock.advance(10)
            await settle()
        got = run.dispatched()
        assert got == [
            *(f"C{n}" for n in range(UNCONFIRMED + 5) if n not in {0, UNCONFIRMED + 1}),
            "R0",
            f"R{UNCONFIRMED + 1}",
        ]


async def test_command_cancelled_while_the_queue_refuses_it_is_not_tried_again() -> None:
    refuse = asyncio.Event()

    async def answer(decision: Decision) -> None:
        if decision == command(1):
            await refuse.wait()
            raise DispatchError("connection lost")

    async with running(answer) as run:
        await run.decide(command(1))
        await settle()
        await run.decide(revoke(1))
        refuse.set()
        for _ in range(3):
            await settle()
            run.clock.advance(10)
        assert run.dispatched() == ["R1"]


async def test_resend_that_is_still_queued_is_handed_over_once() -> None:
    away = True

    async def answer(_: Decision) -> None:
        if away:
            raise DispatchError("connection refused")

    async with running(answer) as run:
        await run.decide(command(1))
        await settle()
        await run.decide(command(1, attempt=1))
        away = False
        for _ in range(3):
            await settle()
            run.clock.advance(10)
        assert run.dispatcher.dispatched == [command(1, attempt=1)]


async def test_unexpected_error_of_the_dispatcher_ends_the_outbox() -> None:
    async def answer(_: Decision) -> None:
        raise RuntimeError("a bug")

    async with running(answer) as run:
        await run.decide(command(1))
        with pytest.raises(RuntimeError, match="a bug"):
            await run.task


async def test_failing_store_ends_the_outbox(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: object) -> None:
        raise LogError("disk full")

    async with running() as run:
        monkeypatch.setattr(run.store, "sent", fail)
        await run.decide(command(1))
        await run.dispatcher.wait_for(1)
        await settle()
        run.clock.advance(1)
        with pytest.raises(LogError, match="disk full"):
            await run.task


async def test_stop_waits_for_confirmations_that_are_under_way() -> None:
    confirm = asyncio.Event()

    async def answer(_: Decision) -> None:
        await confirm.wait()

    async with running(answer) as run:
        await run.decide(*(command(n) for n in range(150)))
        await settle()
        run.task.cancel()
        await settle()
        assert not run.task.done()
        confirm.set()
        await eventually(run.task.done)
        assert run.dispatched() == [f"C{n}" for n in range(100)]
        assert len(run.outbox.take_sent()) == 100
