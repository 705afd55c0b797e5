"""When a take-over begins, by Faust's calls at a rebalance."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from tests.support.waiting import eventually
from triggerstream.adapters.faust.recovery import TakeOver
from triggerstream.engine.partitioned.ownership import Assignment, Owner

EVENTS = "events"
ITERATIONS = 50
"""Turns of the event loop: more than a task takes to notice an event that was set."""


class NotedOwner(Owner):
    """An owner that notes what it is asked to open, and takes over nothing until it is cancelled."""

    def __init__(self) -> None:
        super().__init__(self._nothing)
        self.opened: list[tuple[list[int], int]] = []

    def _nothing(self, _numbers: Sequence[int], _generation: int) -> Assignment:
        raise AssertionError

    async def open(
        self,
        numbers: Sequence[int],
        *,
        generation: int = -1,
        confirm_membership: Callable[[], Awaitable[None]] | None = None,  # noqa: ARG002 - as the original
    ) -> dict[int, int]:
        self.opened.append((list(numbers), generation))
        await asyncio.Event().wait()
        raise AssertionError


@dataclass
class Worker:
    """The parts of an application that a recovery asks before it opens anything."""

    owner: NotedOwner = field(default_factory=NotedOwner)
    events_topic: str = EVENTS
    partitions: int = 4
    assigned: set[TP] = field(default_factory=set)
    failures: list[BaseException] = field(default_factory=list)

    @property
    def consumer(self) -> Any:  # noqa: ANN401 - what Faust's consumer has
        thread = SimpleNamespace(confirm_membership=None)
        return SimpleNamespace(assignment=lambda: self.assigned, thread=thread)

    def fail(self, exc: BaseException) -> None:
        self.failures.append(exc)

    def recovering(self, left: dict[int, tuple[int, int]]) -> None:
        pass


@pytest.fixture
async def worker() -> Worker:
    return Worker()


@pytest.fixture
async def recovery(worker: Worker) -> AsyncIterator[TakeOver]:
    made = TakeOver(worker, None, loop=asyncio.get_running_loop())
    await made.start()
    yield made
    made.on_partitions_revoked(set())
    await made.stop()
    assert worker.failures == []


async def assign(recovery: TakeOver, worker: Worker, generation: int, *numbers: int) -> None:
    worker.assigned = {TP(EVENTS, number) for number in numbers}
    await recovery.on_rebalance(worker.assigned, set(), worker.assigned, generation)


@pytest.mark.parametrize("turns", range(10))
async def test_nothing_is_taken_over_between_a_revocation_and_the_next_assignment(
    worker: Worker, recovery: TakeOver, turns: int
) -> None:
    """A second rebalance may follow at once: stores that it closes would be opened at the same time."""
    await assign(recovery, worker, 1, 0, 1)
    for _ in range(turns):
        await asyncio.sleep(0)
    for generation in (2, 3):
        recovery.on_partitions_revoked(worker.assigned)
        await recovery.settled()
        before = len(worker.owner.opened)
        for _ in range(ITERATIONS):
            await asyncio.sleep(0)
        assert len(worker.owner.opened) == before
        await assign(recovery, worker, generation, 1, 2)
        opens = [([1, 2], generation)]
        await eventually(lambda: worker.owner.opened[before:] == opens)  # noqa: B023 - it is called here
