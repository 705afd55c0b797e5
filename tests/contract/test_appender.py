"""The promises of every Appender."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.places import KAFKA, PartitionedPlace, event, place_of
from triggerstream.adapters.memory import ManualClock
from triggerstream.core.errors import LogError
from triggerstream.wire.bounds import EVENT_BYTES
from triggerstream.wire.records import NewRecord, Record


@pytest.fixture(params=["memory partition", KAFKA])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[PartitionedPlace]:
    place = await place_of(request.param, request, tmp_path, ManualClock())
    assert isinstance(place, PartitionedPlace)
    yield place
    await place.close()


async def test_it_returns_the_offset_after_the_last_record(place: PartitionedPlace) -> None:
    assert await place.appender.append(0, [event("s", "a"), event("s", "b")]) == 2
    assert await place.appender.append(0, [event("s", "c")]) == 3
    assert await place.appender.append(0, []) == 0


async def test_records_come_back_as_they_were_in_order(place: PartitionedPlace) -> None:
    records = [
        NewRecord(key=None, value=b"configuration"),
        NewRecord(key=b"s", value=b"", headers=(("h", b"\xff"), ("h", None))),
        NewRecord(key="süß".encode(), value=bytes(EVENT_BYTES)),
    ]
    await place.appender.append(0, records)
    found = await place.records(0)
    assert [(r.key, r.value, r.headers) for r in found] == [(r.key, r.value, r.headers) for r in records]
    assert [(r.partition, r.offset) for r in found] == [(0, 0), (0, 1), (0, 2)]


async def test_the_key_does_not_decide_the_partition(place: PartitionedPlace) -> None:
    await place.appender.append(0, [event(f"s{n}", "a") for n in range(20)])
    assert len(await place.records(0)) == 20


async def test_appends_at_the_same_time_keep_their_order_and_know_their_offsets(
    place: PartitionedPlace,
) -> None:
    groups = [[event(f"s{n}", "a"), event(f"s{n}", "b")] for n in range(8)]
    ends = await asyncio.gather(*(place.appender.append(0, group) for group in groups))
    found = await place.records(0)
    assert len(found) == 16
    for group, end in zip(groups, ends, strict=True):
        assert [r.value for r in found if r.key == group[0].key] == [r.value for r in group]
        assert (found[end - 1].key, found[end - 1].value) == (group[1].key, group[1].value)


async def test_it_appends_whoever_owns_the_partition(place: PartitionedPlace) -> None:
    for _ in range(2):
        owner = await place.owned()
        await place.appender.append(0, [event("s", "a")])
        await owner.close()
    found: list[Record] = [*await place.records(0)]
    assert len(found) == 2


async def test_a_partition_that_is_not_there_is_a_log_error_and_others_go_on(
    place: PartitionedPlace,
) -> None:
    with pytest.raises(LogError):
        await place.appender.append(7, [event("s", "a")])
    assert await place.appender.append(0, [event("s", "a")]) == 1
