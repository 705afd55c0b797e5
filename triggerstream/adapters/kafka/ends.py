"""Begin and end offsets of partitions, asked for many partitions with one request.

A worker takes hundreds of partitions over at once. Short-lived consumers for each took most of the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from aiokafka import TopicPartition

from triggerstream.adapters.kafka.connection import Connection, translate_errors
from triggerstream.adapters.kafka.records import extents, stable_ends
from triggerstream.engine.partitioned.ports import HighWatermark

_ENDS_S = 60.0
"""Several requests, which are each tried again after 10 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """The first offset of a partition, its high watermark, and its last stable offset, asked for later."""

    begin: int
    end: HighWatermark
    stable: int

    @property
    def readable(self) -> bool:
        """True if everything below ``end`` can be read: no transaction is open there."""
        return self.stable >= self.end


class PartitionEnds:
    """Asks for the ends of partitions. Questions that come during one are asked together after it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: list[
            tuple[frozenset[TopicPartition], asyncio.Future[Mapping[TopicPartition, Ends]]]
        ] = []
        self._asking: asyncio.Task[None] | None = None

    async def of(self, places: Collection[TopicPartition]) -> Mapping[TopicPartition, Ends]:
        """The ends of ``places`` now: brokers are asked after this call, never before.

        Raises:
            LogError: they do not answer, or refuse.
        """
        answer: asyncio.Future[Mapping[TopicPartition, Ends]] = asyncio.get_running_loop().create_future()
        self._waiting.append((frozenset(places), answer))
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_all())
        return await answer

    async def _ask_all(self) -> None:
        while True:
            await asyncio.sleep(0)  # partitions that ask in the same moment are asked for together
            asked, self._waiting = self._waiting, []
            if not asked:
                return
            try:
                found = await self._ask(frozenset().union(*(places for places, _ in asked)))
            except Exception as exc:  # noqa: BLE001 - each of those who wait has the error
                for _, answer in asked:
                    if not answer.done():
                        answer.set_exception(exc)
            else:
                for places, answer in asked:
                    if not answer.done():
                        answer.set_result({place: found[place] for place in places})

    async def close(self) -> None:
        """Give up a question that nobody waits for any more, and close its connections."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    async def _ask(self, places: Collection[TopicPartition]) -> Mapping[TopicPartition, Ends]:
        wanted = sorted(places)
        async with translate_errors("the log's end is not known", timeout_s=_ENDS_S):
            found = await extents(self._connection, wanted)
            stable = await stable_ends(self._connection, wanted)
        return {
            place: Ends(begin=begin, end=end, stable=stable[place]) for place, (begin, end) in found.items()
        }
