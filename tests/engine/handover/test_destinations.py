"""A destination that the broker refuses holds up its own commands, and no others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from tests.engine.samples import command, decided, revoke
from tests.support.waiting import eventually
from triggerstream.adapters.memory import ManualClock, MemoryDatabase, MemoryDispatcher, MemoryStore
from triggerstream.core.commands import Command, Decision
from triggerstream.core.errors import DestinationError, DispatchError, LogError
from triggerstream.core.ids import AppId
from triggerstream.engine.checkpoint import Checkpoint
from triggerstream.engine.handover import destinations
from triggerstream.engine.handover.destinations import GIVE_UP_AFTER_S, WAITING, RefusedDestination
from triggerstream.engine.handover.outbox import Outbox
from triggerstream.engine.handover.shared_log import HandOverProgress, PartitionHandOver, PartitionProgress
from triggerstream.wire.commands import encode
from triggerstream.wire.records import Record


def at(number: int, queue: str) -> Command:
    """The command ``number``, which goes to ``queue``."""
    return replace(command(number), queue=queue)


class Broker:
    """An executor whose queues refuse what the test says."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        self.away = False
        self.asked: list[str] = []
        self.dispatcher = MemoryDispatcher(self._answer, destination=self._destination)

    def taken(self) -> list[str]:
        return [f"{type(one).__name__[0]}{one.id[1:]}" for one in self.dispatcher.dispatched]

    async def _answer(self, decision: Decision) -> None:
        self.asked.append(decision.id)
        if self.away:
            raise DispatchError("away")
        name = self._destination(decision)
        if name in self.refused:
            raise DestinationError(destination=name, reason=self.refused[name])

    @staticmethod
    def _destination(decision: Decision) -> str:
        return f"queue {decision.queue}" if isinstance(decision, Command) else "exchange control"


class Bridge:
    """A hand-over with one partition, whose position is committed as a bridge does it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.broker = Broker()
        self.progress = PartitionProgress(0, 0)
        self.refused: list[tuple[int, str]] = []
        self.log_is_away = False
        self.handover = PartitionHandOver(
            dispatcher=self.broker.dispatcher, clock=self.clock, refuse=self._refuse
        )

    async def _refuse(self, record: Record, decision: Decision | None, reason: str) -> None:
        del record
        if self.log_is_away:
            raise LogError("away")
        assert decision is not None
        self.refused.append((int(decision.id[1:]), reason))

    async def decide(self, *decisions: Decision) -> None:
        for decision in decisions:
            record = Record(
                partition=0, offset=self.progress.next, arrival_us=0, key=b"s", value=encode(decision)
            )
            self.handover.take(self.progress, record)
        await settle()

    def report(self) -> Sequence[RefusedDestination]:
        return self.handover.refused_destinations()

    def given_up(self) -> list[int]:
        return [number for number, _ in self.refused]

    def run(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.handover.run())


class Embedded:
    """An outbox with its store."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.broker = Broker()
        self.database = MemoryDatabase()
        self.store = MemoryStore(self.database, app=AppId("app"), clock=self.clock)
        self.outbox = Outbox(store=self.store, dispatcher=self.broker.dispatcher, clock=self.clock, last=0)

    async def decide(self, *decisions: Decision) -> None:
        checkpoint = Checkpoint(partition=0, offset=1, decided=decided(*decisions))
        first = await self.store.commit(checkpoint, sent=self.outbox.take_sent())
        self.outbox.add(first, checkpoint.decided)
        await settle()

    def report(self) -> Sequence[RefusedDestination]:
        return self.outbox.refused_destinations()

    def given_up(self) -> list[int]:
        return [int((letter.key or b"")[1:]) for letter in self.database.dead_letters]

    async def open(self) -> None:
        await self.store.open()

    def run(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.outbox.run())


@pytest.fixture(params=[Bridge, Embedded])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Bridge | Embedded]:
    made: Bridge | Embedded = request.param()
    if isinstance(made, Embedded):
        await made.open()
    async with running(made):
        yield made


@asynccontextmanager
async def running(engine: Bridge | Embedded) -> AsyncIterator[None]:
    task = engine.run()
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(100):
        await asyncio.sleep(0)


async def pass_time(engine: Bridge | Embedded, seconds: float) -> None:
    """Let time pass in steps that no pause is longer than."""
    for _ in range(round(seconds / 0.5)):
        engine.clock.advance(0.5)
        await asyncio.sleep(0)
    await settle()


async def test_commands_for_other_destinations_go_on(engine: Bridge | Embedded) -> None:
    engine.broker.refused["queue bad"] = "no such queue (404)"
    await engine.decide(*(at(n, "bad" if n % 3 == 0 else "good") for n in range(30)))
    await engine.decide(*(at(n, "good") for n in range(30, 200)))
    assert engine.broker.taken() == [f"C{n}" for n in range(200) if n >= 30 or n % 3]
    assert engine.report() == (
        RefusedDestination(destination="queue bad", reason="no such queue (404)", waiting=10),
    )
    # Those that are known to be refused are not tried.
    await engine.decide(at(200, "bad"))
    assert "c200" not in engine.broker.asked


async def test_what_waits_is_handed_over_once_and_in_order_when_it_is_mended(
    engine: Bridge | Embedded,
) -> None:
    engine.broker.refused["queue bad"] = "no such queue (404)"
    await engine.decide(*(at(n, "bad") for n in range(250)))
    await pass_time(engine, 600)
    assert engine.broker.taken() == []
    engine.broker.refused.clear()
    await pass_time(engine, 60)
    assert engine.broker.taken() == [f"C{n}" for n in range(250)]
    assert engine.report() == ()
    await engine.decide(at(250, "bad"))
    assert engine.broker.taken()[-1] == "C250"


async def test_pauses_grow_to_a_minute_and_one_at_a_time_is_tried(engine: Bridge | Embedded) -> None:
    engine.broker.refused["queue bad"] = "refused"
    await engine.decide(at(0, "bad"), at(1, "bad"))
    engine.broker.asked.clear()
    for pause_s in (1, 2, 4, 8, 16, 32, 60, 60):
        engine.clock.advance(pause_s - 0.1)
        await settle()
        assert engine.broker.asked == []
        engine.clock.advance(0.1)
        await settle()
        assert engine.broker.asked == ["c0"]
        engine.broker.asked.clear()


async def test_each_destination_has_a_pause_of_its_own(engine: Bridge | Embedded) -> None:
    engine.broker.refused |= {"queue one": "refused", "queue two": "full"}
    await engine.decide(*(at(n, ("one", "two", "good")[n % 3]) for n in range(30)))
    del engine.broker.refused["queue two"]
    await pass_time(engine, 60)
    assert engine.broker.taken() == [f"C{n}" for n in (*range(2, 30, 3), *range(1, 30, 3))]
    assert [one.destination for one in engine.report()] == ["queue one"]


async def test_a_broker_that_goes_away_meanwhile_is_waited_for(engine: Bridge | Embedded) -> None:
    engine.broker.refused["queue bad"] = "refused"
    await engine.decide(*(at(n, "bad" if n < 10 else "good") for n in range(20)))
    engine.broker.away = True
    await engine.decide(*(at(n, "good") for n in range(20, 40)))
    await pass_time(engine, 200)
    engine.broker.away = False
    engine.broker.refused.clear()
    await pass_time(engine, 70)
    assert sorted(engine.broker.taken()) == sorted(f"C{n}" for n in range(40))


async def test_a_cancelled_command_does_not_wait_any_longer(engine: Bridge | Embedded) -> None:
    engine.broker.refused["queue bad"] = "refused"
    await engine.decide(at(1, "bad"), at(2, "bad"))
    await engine.decide(revoke(1))
    engine.broker.refused.clear()
    await pass_time(engine, 60)
    assert engine.broker.taken() == ["R1", "C2"]


async def test_the_only_command_that_waits_may_be_cancelled(engine: Bridge | Embedded) -> None:
    engine.broker.refused["queue bad"] = "refused"
    await engine.decide(at(1, "bad"))
    await engine.decide(revoke(1))
    await pass_time(engine, 60)
    assert engine.report() == ()
    engine.broker.refused.clear()
    await engine.decide(at(2, "bad"))
    assert engine.broker.taken() == ["R1", "C2"]


async def test_five_hundred_wait_for_as_long_as_it_takes(engine: Bridge | Embedded) -> None:
    engine.broker.refused["queue bad"] = "refused"
    await engine.decide(*(at(n, "bad") for n in range(WAITING)))
    await pass_time(engine, 4 * GIVE_UP_AFTER_S)
    assert engine.given_up() == []
    assert engine.report()[0].waiting == WAITING


async def test_beyond_that_the_oldest_are_given_up_with_the_reason_after_five_minutes(
    engine: Bridge | Embedded,
) -> None:
    engine.broker.refused["queue bad"] = "no access (403)"
    await engine.decide(*(at(n, "bad") for n in range(WAITING + 20)))
    await pass_time(engine, GIVE_UP_AFTER_S - 100)
    assert engine.given_up() == []
    await pass_time(engine, 200)
    # One of the 500 is tried at any moment of these.
    assert 18 <= len(engine.given_up()) <= 20
    given_up = len(engine.given_up())
    await engine.decide(*(at(n, "bad") for n in range(600, 700)), *(at(n, "good") for n in range(700, 800)))
    assert engine.broker.taken() == [f"C{n}" for n in range(700, 800)]
    assert 99 <= len(engine.given_up()) - given_up <= 101
    assert sorted(engine.given_up())[:given_up] == list(range(given_up))
    engine.broker.refused.clear()
    await pass_time(engine, 60)
    assert len(engine.broker.taken()) + len(engine.given_up()) == WAITING + 220


async def test_lines_in_the_log_are_few_and_name_the_destination(
    engine: Bridge | Embedded, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=destinations.logger.name)
    engine.broker.refused |= {f"queue q{n}": "refused" for n in range(100)}
    await engine.decide(*(at(n, f"q{n}") for n in range(100)))
    await pass_time(engine, 300)
    assert len(caplog.records) == destinations.NAMED + 1
    first = vars(caplog.records[0])
    assert (first["destination"], first["error"]) == ("queue q0", "refused")
    await pass_time(engine, 700)
    assert len(caplog.records) <= 2 * (destinations.NAMED + 1)


# ---- the offset that is committed -------------------------------------------------------------


def reached_after(progress: PartitionProgress) -> HandOverProgress:
    reached = progress.reached()
    progress.commit(reached)
    return reached


async def test_what_is_done_beyond_a_waiting_command_does_not_count_and_is_not_done_again() -> None:
    bridge = Bridge()
    bridge.broker.refused["queue bad"] = "refused"
    async with running(bridge):
        await bridge.decide(*(at(n, "bad" if n in {3, 7} else "good") for n in range(2_000)))
        await eventually(lambda: bridge.handover.waiting == 2)
        reached = reached_after(bridge.progress)
    assert reached == HandOverProgress(position=3, upto=2_000, open=(3, 7))
    assert bridge.progress.uncommitted == 2

    again = Bridge()
    again.progress = PartitionProgress(0, reached.position, reached)
    async with running(again):
        for offset in range(3, 2_010):
            if not (again.progress.resuming and again.progress.skip_known(offset)):
                value = encode(at(offset, "good"))
                again.handover.take(
                    again.progress, Record(partition=0, offset=offset, arrival_us=0, key=b"s", value=value)
                )
            if offset == 5:
                # Committed in the middle of it, nothing is forgotten.
                assert again.progress.reached() == HandOverProgress(position=3, upto=2_000, open=(3, 7))
        await eventually(lambda: again.handover.waiting == 0)
    assert again.broker.taken() == ["C3", "C7", *(f"C{n}" for n in range(2_000, 2_010))]
    assert again.progress.reached() == HandOverProgress(position=2_010, upto=2_010)


async def test_commands_of_a_partition_that_is_left_are_not_tried_any_more() -> None:
    bridge = Bridge()
    bridge.broker.refused["queue bad"] = "refused"
    async with running(bridge):
        await bridge.decide(*(at(n, "bad") for n in range(10)))
        bridge.handover.leave([bridge.progress])
        bridge.broker.refused.clear()
        await pass_time(bridge, 100)
        assert bridge.broker.taken() == []
        assert bridge.handover.waiting == 0
        assert bridge.progress.position == 0
        bridge.progress = PartitionProgress(1, 0)
        await bridge.decide(at(20, "bad"))
        assert bridge.broker.taken() == ["C20"]


async def test_giving_up_is_tried_again_while_the_log_is_away() -> None:
    bridge = Bridge()
    bridge.broker.refused["queue bad"] = "refused"
    bridge.log_is_away = True
    async with running(bridge):
        await bridge.decide(*(at(n, "bad") for n in range(WAITING + 5)))
        await pass_time(bridge, 2 * GIVE_UP_AFTER_S)
        assert bridge.progress.position == 0
        bridge.log_is_away = False
        await pass_time(bridge, 70)
        assert sorted(bridge.given_up()) == list(range(5))
        assert bridge.progress.position == 5
        assert f"more than {WAITING} commands wait: refused" in bridge.refused[0][1]
