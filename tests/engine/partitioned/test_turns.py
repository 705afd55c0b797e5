"""Turns: partitions of a process begin their transactions together."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from tests.support.waiting import eventually
from triggerstream.engine.partitioned.turns import SPACING_S, TransactionTurns


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
    members = Members(TransactionTurns(spacing_s=0.0))
    members.join("a", "b")
    await members.are("a", "b")
    members.join("c")
    await asyncio.sleep(members.turns.gather_s * 3)
    assert "c" not in members.inside, "a turn is open"
    members.join("d")
    members.out.set()
    await members.are()
    await members.close()


async def test_a_turn_waits_for_the_spacing_unless_a_partition_is_full() -> None:
    members = Members(TransactionTurns(spacing_s=NEVER))
    members.out.set()
    members.join("a")
    await eventually(lambda: members.turns._next > 0, within_s=30, what="no turn")  # noqa: SLF001 - nothing else shows it
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


async def test_who_closes_does_not_wait_for_others() -> None:
    members = Members(TransactionTurns(gather_s=NEVER, spacing_s=NEVER))
    members.join("a", at_once=True)
    await members.are("a")
    await members.close()


async def test_a_turn_that_takes_long_holds_up_the_next_one_for_a_bounded_time() -> None:
    members = Members(TransactionTurns(spacing_s=0.0, open_s=0.05))
    members.join("a")
    await members.are("a")
    members.join("b")
    await members.are("a", "b")
    await members.close()


async def test_several_turns_may_be_open() -> None:
    members = Members(TransactionTurns(most=2, spacing_s=0.0, open_s=NEVER))
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
    turns = TransactionTurns(spacing_s=0.0, gather_s=0.0 if late else NEVER, open_s=NEVER)
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


async def test_turns_that_nobody_hurries_keep_their_distance() -> None:
    """So at most 50 transactions a second: a busy machine can only make them fewer."""
    turns, begun = TransactionTurns(), list[float]()
    for _ in range(10):
        async with turns.turn():
            begun.append(turns._next)  # noqa: SLF001 - entering may be late, the beginning is not
    assert min(after - before for before, after in pairwise(begun)) > 0.99 * SPACING_S


async def test_a_checkpoint_shortly_before_a_turn_is_due_begins_it_and_the_next_is_due_no_sooner() -> None:
    """At 100 events a second, the second of two events need not wait, and there are no more turns."""
    members = Members(TransactionTurns(spacing_s=NEVER))
    members.out.set()
    members.join("a")
    await eventually(lambda: members.turns._next > 0, within_s=30, what="no turn")  # noqa: SLF001 - nothing else shows it
    await members.are()
    turns, members.out = members.turns, asyncio.Event()
    members.join("b")
    await asyncio.sleep(turns.gather_s * 3)
    turns.add()
    await asyncio.sleep(turns.gather_s * 3)
    assert members.inside == [], "it is too early"
    due = turns._next = asyncio.get_running_loop().time() + 0.4 * NEVER  # noqa: SLF001 - time passes
    await asyncio.sleep(turns.gather_s * 3)
    assert members.inside == [], "nothing has come"
    turns.add()
    await members.are("b")
    assert turns._next == due + NEVER  # noqa: SLF001 - nothing else shows it
    await members.close()


async def test_nothing_that_comes_while_nobody_waits_begins_a_turn_too_early() -> None:
    members = Members(TransactionTurns(spacing_s=NEVER))
    members.turns.add()
    members.out.set()
    members.join("a")
    await eventually(lambda: members.turns._next > 0, within_s=30, what="no turn")  # noqa: SLF001 - nothing else shows it
    await members.are()
    members.turns.add()
    members.join("b")
    await asyncio.sleep(members.turns.gather_s * 3)
    assert members.inside == []
    await members.close()
