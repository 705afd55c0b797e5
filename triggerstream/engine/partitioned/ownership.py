"""The partitions that a process owns, from one assignment to the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from functools import partial, reduce
from operator import add, attrgetter

from triggerstream.core.ids import SessionId
from triggerstream.engine.counters import Counters
from triggerstream.engine.partitioned.partition import Partition, PartitionPhase


class Owner:
    """The partitions that this process owns."""

    def __init__(self, make: Callable[[int], Partition]) -> None:
        self._make = make
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

    async def open(self, numbers: Sequence[int]) -> dict[int, int]:
        """Take partitions over. Returns the offset from which to fetch each. If cancelled, it owns none.

        Raises:
            TriggerstreamError: one of them could not be taken over; see ``Partition.open``.
        """
        await self.close()
        self.partitions = {number: self._made(number) for number in numbers}
        tasks = {n: asyncio.create_task(partition.open()) for n, partition in self.partitions.items()}
        try:
            await asyncio.gather(*tasks.values())
        except BaseException:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
            raise
        return {number: task.result() for number, task in tasks.items()}

    def _made(self, number: int) -> Partition:
        partition = self._make(number)
        if self.on_durable is not None:
            partition.on_durable = partial(self.on_durable, partition)
        return partition

    async def close(self) -> None:
        """Finish work in progress and close all partitions."""
        partitions, self.partitions = self.partitions, {}
        self._past = [_sum(self._past), *(partition.counters for partition in partitions.values())]
        await asyncio.gather(*(partition.close() for partition in partitions.values()))


_COUNTERS = tuple((field.name, attrgetter(field.name)) for field in fields(Counters))


def _sum(counters: Sequence[Counters]) -> Counters:
    some = [Counters(), *counters]
    return Counters(**{name: reduce(add, map(of, some)) for name, of in _COUNTERS})
