"""Turns: partitions of a process begin their transactions together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import pytest

from tests.support.virtual_time import VirtualTimeLoop
from tests.support.waiting import eventually
from triggerstream.engine.partitioned.turns import GATHER_S, WAIT_S, TransactionTurns


class Members:
    """Tasks that wait for a turn, and stay in it until they are let out."""

    def __init__(self, turns: TransactionTurns) -> None:
        self.turns = turns
        self.inside: list[str] = []
        self.out = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def join(self, *names: str, full: bool = False, at_once: bool = False) -> None:
        for name in names:
            self._tasks.append(asyncio.create_task(self._run(name, full=full, at_once=at_once)))

    async def _run(self, name: str, *, full: bool, at_once: bool) -> None:
        async with self.turns.turn(full=full, at_once=at_once):
            self.inside.append(name)
            await self.out.wait()
        self.inside.remove(name)

    async def are(self, *names: str) -> None:
        await eventually(
            lambda: sorted(self.inside) == sorted(names), within_s=30, what=lambda: str(self.inside)
        )

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


NEVER = 3600.0


async def test_partitions_that_wait_begin_together_and_the_next_ones_when_the_turn_has_ended() -> None:
    members = Members(TransactionTurns(wait_s=0.0))
    members.join("a", "b")
    await members.are("a", "b")
    members.join("c")
    await asyncio.sleep(members.turns.gather_s * 3)
    assert "c" not in members.inside, "a turn is open"
    members.join("d")
    members.out.set()
    await members.are()
    await members.close()


async def test_a_turn_waits_for_further_events_unless_a_partition_is_full() -> None:
    members = Members(TransactionTurns(wait_s=NEVER, pause_s=NEVER))
    members.out.set()
    members.join("a")
    await eventually(lambda: members.turns._last > 0, within_s=30, what="no turn")  # noqa: SLF001 - nothing else shows it
    await members.are()
    members.out.clear()
    members.join("b")
    await asyncio.sleep(members.turns.gather_s * 3)
    assert members.inside == []
    members.join("c", full=True)
    await members.are("b", "c")
    await members.close()


async def test_a_partition_that_becomes_full_while_it_waits_hurries_its_turn() -> None:
    members = Members(TransactionTurns(gather_s=NEVER))
    members.join("a")
    await settle()
    assert members.inside == []
    members.turns.hurry(at_once=True)
    await members.are("a")
    await members.close()


async def test_a_partition_that_is_closed_does_not_wait_for_others() -> None:
    members = Members(TransactionTurns(gather_s=NEVER))
    members.join("a", at_once=True)
    await members.are("a")
    await members.close()


async def test_a_turn_that_takes_long_holds_up_the_next_one_for_a_bounded_time() -> None:
    members = Members(TransactionTurns(wait_s=0.0, open_s=0.05))
    members.join("a")
    await members.are("a")
    members.join("b")
    await members.are("a", "b")
    await members.close()


async def test_several_turns_may_be_open() -> None:
    members = Members(TransactionTurns(most=2, wait_s=0.0, open_s=NEVER))
    members.join("a")
    await members.are("a")
    members.join("b")
    await members.are("a", "b")
    members.join("c")
    await asyncio.sleep(members.turns.gather_s * 3)
    assert sorted(members.inside) == ["a", "b"]
    await members.close()


@pytest.mark.parametrize("late", [False, True], ids=["waits", "was just let in"])
async def test_a_cancelled_member_holds_up_nobody(late: bool) -> None:  # noqa: FBT001
    turns = TransactionTurns(wait_s=0.0, gather_s=0.0 if late else NEVER, open_s=NEVER)
    entered: list[str] = []

    async def run() -> None:
        async with turns.turn():
            entered.append("a")

    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    if late:
        await eventually(lambda: not turns._waiting, within_s=30, what="no turn")  # noqa: SLF001 - the moment is meant
    task.cancel()
    await asyncio.wait([task])
    members = Members(turns)
    members.join("b", at_once=True)
    await members.are("b")
    await members.close()


async def test_a_member_is_let_in_after_one_was_cancelled_and_its_turn_hurried() -> None:
    turns = TransactionTurns(gather_s=NEVER)
    cancelled = asyncio.create_task(turns.turn().__aenter__())
    await settle()
    cancelled.cancel()
    await asyncio.wait([cancelled])
    turns.hurry()
    members = Members(turns)
    members.join("a", at_once=True)
    await members.are("a")
    await members.close()


async def test_nothing_that_comes_while_nobody_waits_begins_a_turn_too_early() -> None:
    members = Members(TransactionTurns(wait_s=NEVER, pause_s=NEVER))
    members.turns.add()
    members.out.set()
    members.join("a")
    await eventually(lambda: members.turns._last > 0, within_s=30, what="no turn")  # noqa: SLF001 - nothing else shows it
    await members.are()
    members.turns.add()
    members.join("b")
    await asyncio.sleep(members.turns.gather_s * 3)
    assert members.inside == []
    await members.close()


# ---- when turns begin, in virtual time --------------------------------------------------------------


@dataclass
class BegunTurn:
    """When a turn began, and when each event that it takes came, both in seconds."""

    at: float
    events: list[float]


def turns_of(events: Sequence[float], *, takes_s: float = 0.004) -> list[BegunTurn]:
    """The turns for events of one partition that come at these times, each turn open for ``takes_s``."""

    async def run() -> list[BegunTurn]:
        loop = asyncio.get_running_loop()
        turns, waiting, woken, begun = TransactionTurns(), list[float](), asyncio.Event(), list[BegunTurn]()

        async def commit() -> None:
            while sum(len(one.events) for one in begun) < len(events):
                await woken.wait()
                async with turns.turn():
                    woken.clear()
                    begun.append(BegunTurn(loop.time(), waiting.copy()))
                    waiting.clear()
                    await asyncio.sleep(takes_s)

        committing = asyncio.create_task(commit())
        for at in events:
            await asyncio.sleep(at - loop.time())
            waiting.append(loop.time())
            woken.set()
            turns.add()
        await committing
        return begun

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(run())


def rounded(begun: Sequence[BegunTurn]) -> list[tuple[float, int]]:
    """Times of the beginnings in ms, and how many events each turn takes."""
    return [(round(one.at * 1000, 3), len(one.events)) for one in begun]


def test_an_event_that_comes_alone_is_committed_at_once() -> None:
    assert rounded(turns_of([1.0, 1.04, 1.08])) == [(1001, 1), (1041, 1), (1081, 1)]


def test_an_event_soon_after_a_turn_waits_for_others_but_not_longer_with_each_of_them() -> None:
    assert rounded(turns_of([1.0, 1.003, 1.010, 1.015, 1.017])) == [(1001, 1), (1015.5, 3), (1029.5, 1)]


@pytest.mark.parametrize(
    ("hurry", "begins"),
    [
        (lambda turns: turns.hurry(), 3 + GATHER_S),
        (lambda turns: turns.hurry(at_once=False), 3 + GATHER_S),
        (lambda turns: turns.hurry(at_once=True), 3),
    ],
    ids=["by default", "with others", "at once"],
)
def test_a_hurried_turn_waits_only_for_other_partitions(
    hurry: Callable[[TransactionTurns], None], begins: float
) -> None:
    async def run() -> float:
        loop = asyncio.get_running_loop()
        turns = TransactionTurns(wait_s=NEVER, pause_s=NEVER)
        turns._last = loop.time()  # noqa: SLF001 - a turn has just begun, so the next one would wait
        loop.call_at(3, hurry, turns)
        async with turns.turn():
            return loop.time()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(run()) == pytest.approx(begins, abs=1e-6)


def test_a_turn_is_due_a_pause_after_the_last_one() -> None:
    assert rounded(turns_of([1.0, 1.025, 1.029])) == [(1001, 1), (1031, 2)]


def test_the_wait_of_an_event_during_a_turn_begins_when_it_comes() -> None:
    """It does not begin at the end of the turn."""
    assert rounded(turns_of([1.0, 1.005, 1.1], takes_s=0.010)) == [(1001, 1), (1017.5, 1), (1101, 1)]
    assert rounded(turns_of([1.0, 1.005], takes_s=0.040)) == [(1001, 1), (1041, 1)]


@pytest.mark.parametrize("even", [True, False], ids=["at equal distances", "at random"])
def test_at_100_events_a_second_there_are_at_most_50_turns_and_no_event_waits_long(even: bool) -> None:  # noqa: FBT001
    chance, at, events = Random(1), 1.0, list[float]()
    for _ in range(5_000):
        at += 0.01 if even else chance.expovariate(100)
        events.append(at)
    begun = turns_of(events)
    assert len(begun) / (events[-1] - events[0]) <= 50.05
    assert max(one.at - event for one in begun for event in one.events) <= WAIT_S + 1e-9
