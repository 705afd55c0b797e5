"""Begin and end offsets of partitions, asked for many partitions with one request."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from aiokafka import TopicPartition

from triggerstream.adapters.kafka.connection import Connection, translate_errors
from triggerstream.adapters.kafka.records import extents, stable_ends
from triggerstream.adapters.kafka.request_batcher import RequestBatcher
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
        self._batcher = RequestBatcher(self._ask)

    async def of(self, places: Collection[TopicPartition]) -> Mapping[TopicPartition, Ends]:
        """The ends of ``places`` now: brokers are asked after this call, never before.

        Raises:
            LogError: they do not answer, or refuse.
        """
        return await self._batcher.answers(places)

    async def close(self) -> None:
        """Give up what is being asked, and close its connections. Who waits for an answer has an error."""
        await self._batcher.close()

    async def _ask(self, places: Collection[TopicPartition]) -> Mapping[TopicPartition, Ends]:
        wanted = sorted(places)
        async with translate_errors("the log's end is not known", timeout_s=_ENDS_S):
            found = await extents(self._connection, wanted)
            stable = await stable_ends(self._connection, wanted)
        return {
            place: Ends(begin=begin, end=end, stable=stable[place]) for place, (begin, end) in found.items()
        }
