"""How a partition is read up to an end, and when that is given up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace

from aiokafka import TopicPartition

from triggerstream.adapters.kafka.records import pieces

PLACE = TopicPartition("t", 0)


class Consumer:
    """A consumer whose first fetches take some time and find nothing; then it finds a record."""

    def __init__(self, slow: Iterator[float]) -> None:
        self._slow = slow
        self._at = 0
        self._subscription = SimpleNamespace(subscription=None)

    async def getmany(
        self, *_places: TopicPartition, **_options: object
    ) -> dict[TopicPartition, list[object]]:
        if (takes_s := next(self._slow, None)) is not None:
            time.sleep(takes_s)  # noqa: ASYNC251 - as SIGSTOP would: nothing of the process runs
            return {}
        self._at = 1
        return {PLACE: [SimpleNamespace(offset=0)]}

    async def position(self, _place: TopicPartition) -> int:
        return self._at


async def test_a_process_that_was_stopped_does_not_take_its_pause_for_a_log_without_progress() -> None:
    consumer = Consumer(iter([0.5]))
    found = [after async for _, after in pieces(consumer, PLACE, 0, 1, stuck_s=0.2)]
    assert found == [0, 1]
