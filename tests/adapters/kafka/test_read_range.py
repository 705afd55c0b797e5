"""How partitions are read up to an end, and when a read is given up."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition

from triggerstream.adapters.kafka import records
from triggerstream.adapters.kafka.records import read_range, read_ranges
from triggerstream.core.errors import LogError

PLACE, OTHER = TopicPartition("t", 0), TopicPartition("t", 1)


class Consumer:
    """A consumer of partitions with these record offsets. ``slow``: how long its first fetches take.

    Slow fetches find nothing. A position ends behind the last record, as far as the records go.
    """

    def __init__(self, logs: Mapping[TopicPartition, list[int]], slow: Collection[float] = ()) -> None:
        self._logs = logs
        self._slow = iter(slow)
        self._at: dict[TopicPartition, int] = {}
        self._subscription = SimpleNamespace(subscription=None)
        self._client = SimpleNamespace()
        self.assigned: Collection[TopicPartition] = ()
        self.asked: list[Collection[TopicPartition]] = []
        self.paused: set[TopicPartition] = set()

    def assign(self, places: Collection[TopicPartition]) -> None:
        self.assigned = places

    def unsubscribe(self) -> None:
        self.assigned = ()

    def pause(self, place: TopicPartition) -> None:
        self.paused.add(place)

    def seek(self, place: TopicPartition, offset: int) -> None:
        self._at[place] = offset

    async def getmany(
        self, *places: TopicPartition, **_options: object
    ) -> dict[TopicPartition, list[SimpleNamespace]]:
        assert set(places) <= set(self.assigned) - self.paused
        self.asked.append(places)
        if (takes_s := next(self._slow, None)) is not None:
            time.sleep(takes_s)  # noqa: ASYNC251 - as SIGSTOP would: nothing of the process runs
            return {}
        found = {}
        for place in places:
            following = [offset for offset in self._logs[place] if offset >= self._at[place]][:1]
            if following:
                self._at[place] = following[0] + 1
                found[place] = [SimpleNamespace(offset=following[0])]
        return found

    async def position(self, place: TopicPartition) -> int:
        return self._at[place]


async def test_a_process_that_was_stopped_does_not_take_its_pause_for_a_log_without_progress() -> None:
    consumer = Consumer({PLACE: [0]}, slow=[0.5])
    found = [after async for _, after in read_range(consumer, PLACE, 0, 1, stuck_s=0.2)]
    assert found == [0, 1]


async def test_the_position_ends_a_range_and_the_reader_then_asks_for_nothing() -> None:
    consumer = Consumer({PLACE: [3, 9]})
    found = [([one.offset for one in read], after) async for read, after in read_range(consumer, PLACE, 2, 9)]
    assert found == [([3], 4), ([], 10)]
    assert consumer.assigned == ()
    assert [piece async for piece in read_range(consumer, PLACE, 9, 9)] == []


async def test_ranges_are_read_together_and_each_until_its_end_or_until_enough() -> None:
    consumer = Consumer({PLACE: [0, 1, 2, 3], OTHER: [5]})
    read = await read_ranges(consumer, {PLACE: (0, 4), OTHER: (5, 6)}, enough=2)
    assert {place: [one.offset for one in found] for place, found in read.items()} == {
        PLACE: [0, 1],
        OTHER: [5],
    }
    assert consumer.asked == [(PLACE, OTHER), (PLACE,)]
    assert consumer.assigned == ()


async def test_a_range_of_several_that_does_not_end_is_given_up_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def none_open(*_arguments: object) -> list[object]:
        return []

    monkeypatch.setattr(records, "open_transactions", none_open)
    consumer = Consumer({PLACE: [0], OTHER: [5]})
    with pytest.raises(LogError, match=r"^cannot read t: partition 1 stays at offset 6 of 7$"):
        await read_ranges(consumer, {PLACE: (0, 1), OTHER: (5, 7)}, enough=9, stuck_s=0.01)
    assert consumer.assigned == ()
