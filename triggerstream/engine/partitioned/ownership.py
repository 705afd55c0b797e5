"""The partitions that a process owns, from one assignment to the next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial, reduce
from operator import add, attrgetter
from typing import Any, TypeVar

from triggerstream.core.ids import SessionId
from triggerstream.engine.background import wait_to_end
from triggerstream.engine.counters import Counters
from triggerstream.engine.failpoints import failpoint
from triggerstream.engine.partitioned.claims import Claims
from triggerstream.engine.partitioned.partition import Partition, PartitionPhase

_T = TypeVar("_T")


async def _at_once() -> None:
    """Membership needs no confirmation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The claims of an assignment, and ``make``, which makes one of its partitions by its number."""

    claims: Claims
    make: Callable[[int], Partition]


class Owner:
    """The partitions that this process owns.

    ``assign`` makes the assignment of partitions in a generation of the group, and claims nothing yet.
    """

    def __init__(self, assign: Callable[[Sequence[int], int], Assignment]) -> None:
        self._assign = assign
        self._claims: Claims | None = None
        self.partitions: dict[int, Partition] = {}
        self.on_durable: Callable[[Partition, Iterable[SessionId]], None] | None = None
        """Called with the sessions that a checkpoint of a partition has changed, once they can be read."""
        self._past: list[Counters] = []

    def done(self) -> Counters:
        """Figures since the process started, including partitions that it has given back."""
        return _sum([*self._past, *(partition.counters for partition in self.partitions.values())])

    def get(self, number: int) -> Partition | None:
        """The partition, if it is owned and ready."""
        partition = self.partitions.get(number)
        return partition if partition is not None and partition.phase is PartitionPhase.READY else None

    async def open(
        self,
        numbers: Sequence[int],
        *,
        generation: int = -1,
        confirm_membership: Callable[[], Awaitable[None]] = _at_once,
    ) -> dict[int, int]:
        """Take partitions over; :mod:`triggerstream.engine.partitioned.claims` has the steps.

        ``generation`` is that of the group. ``confirm_membership`` returns once the process is known to be a
        member. Returns the offset from which to fetch each partition. If cancelled, it owns none, and its
        transactional ids are never used again.

        Raises:
            TriggerstreamError: one of them could not be taken over; see ``Partition.open``.
        """
        if self._claims is not None:
            await _to_end(self.close())  # half closed, they would hold the stores that are opened next
        if not numbers:
            return {}
        assignment = self._assign(numbers, generation)
        claims = self._claims = assignment.claims
        partitions = {number: self._watched(assignment.make(number)) for number in numbers}
        self.partitions = dict(partitions)
        all_taken_over = asyncio.Event()
        for partition in partitions.values():
            partition.all_taken_over = all_taken_over
        await _all({number: partition.start() for number, partition in partitions.items()})
        failpoint("takeover.started")
        await confirm_membership()
        former = await claims.take()
        offsets = await _all(
            {number: partition.open(former.get(number, ())) for number, partition in partitions.items()}
        )
        all_taken_over.set()
        return offsets

    def _watched(self, partition: Partition) -> Partition:
        if self.on_durable is not None:
            partition.on_durable = partial(self.on_durable, partition)
        return partition

    async def close(self) -> None:
        """Finish work in progress, close all partitions, and only then release their claims.

        Raises:
            LogError: it is unknown whether they are released. The process must end: others fence it.
        """
        partitions, self.partitions = self.partitions, {}
        claims, self._claims = self._claims, None
        self._past = [_sum(self._past), *(partition.counters for partition in partitions.values())]
        await asyncio.gather(*(partition.close() for partition in partitions.values()))
        if claims is not None and all(partition.ended_in_order for partition in partitions.values()):
            await claims.release()


async def _to_end(work: Coroutine[Any, Any, None]) -> None:
    """Await ``work`` to its end. Raises its error, else the cancellation that came meanwhile."""
    task = asyncio.create_task(work)
    cancelled = await wait_to_end(task)
    task.result()
    if cancelled is not None:
        raise cancelled


async def _all(works: Mapping[int, Coroutine[Any, Any, _T]]) -> dict[int, _T]:
    """The results of ``works``. If one fails or the caller is cancelled, the others are cancelled first."""
    tasks = {number: asyncio.create_task(work) for number, work in works.items()}
    try:
        await asyncio.gather(*tasks.values())
    except BaseException:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        raise
    return {number: task.result() for number, task in tasks.items()}


_COUNTERS = tuple((field.name, attrgetter(field.name)) for field in fields(Counters))


def _sum(counters: Sequence[Counters]) -> Counters:
    some = [Counters(), *counters]
    return Counters(**{name: reduce(add, map(of, some)) for name, of in _COUNTERS})
