"""The promises of every Log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.places import KAFKA, MANY, Place, place_of
from triggerstream.adapters.memory import ManualClock
from triggerstream.wire.bounds import EVENT_BYTES
from triggerstream.wire.records import NewRecord, Record

BYTES = pytest.mark.parametrize("place", ["memory", "sqlite", KAFKA], indirect=True)
"""Logs that keep a record byte for byte; over HTTP, headers do not travel and an event names its session."""
ONE_PIECE = pytest.mark.parametrize("place", ["memory", "sqlite"], indirect=True)
"""Logs that are one piece: they take an append as a whole, and have a clock of their own."""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "sqlite", "http", KAFKA])
async def place(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Place]:
    place = await place_of(request.param, request, tmp_path, clock)
    yield place
    await place.close()


def record(number: int, *, session: int | None = None) -> NewRecord:
    return NewRecord(key=b"s%d" % (number if session is None else session), value=b'{"type":"t%d"}' % number)


def kind(found: Record | NewRecord) -> str:
    return str(json.loads(found.value or b"")["type"])


async def test_appended_records_take_the_next_offsets_in_order(place: Place) -> None:
    await place.log.append([record(0), record(1)])
    await place.log.append([record(2)])
    found = await place.reader().records()
    assert [(r.offset, r.key, kind(r)) for r in found] == [
        (0, b"s0", "t0"),
        (1, b"s1", "t1"),
        (2, b"s2", "t2"),
    ]


async def test_nothing_appended_takes_no_offset(place: Place) -> None:
    await place.log.append([])
    await place.log.append([record(0)])
    assert (await place.reader().progress()).end == 1


@BYTES
async def test_values_and_headers_come_back_as_they_were(place: Place) -> None:
    headers = (("ce_id", b"7"), ("ce_id", b"\xff\x00"), ("ünï", b""), ("none", None))
    await place.log.append([NewRecord(key=b"s", value=b"", headers=headers), record(1)])
    first, second = await place.reader().records()
    assert (first.key, first.value, first.headers) == (b"s", b"", headers)
    assert (second.key, second.value, second.headers) == (b"s1", b'{"type":"t1"}', ())


@ONE_PIECE
async def test_a_missing_key_comes_back_missing(place: Place) -> None:
    await place.log.append([NewRecord(key=None, value=b"{}"), NewRecord(key=b"", value=b"{}")])
    assert [r.key for r in await place.reader().records()] == [None, b""]


@BYTES
async def test_the_longest_events_fit(place: Place) -> None:
    longest = NewRecord(key=b"k" * 1024, value=bytes(EVENT_BYTES))
    await place.log.append([longest] * 5)
    assert [r.value for r in await place.reader().records()] == [longest.value] * 5


async def test_records_arrive_in_the_order_of_their_offsets(place: Place) -> None:
    for number in range(3):
        await place.log.append([record(number)])
    arrivals = [r.arrival_us for r in await place.reader().records()]
    assert arrivals == sorted(arrivals)
    assert arrivals[0] > 1_700_000_000_000_000, "microseconds since the epoch"


@ONE_PIECE
async def test_records_arrive_by_the_clock_as_it_is(place: Place, clock: ManualClock) -> None:
    await place.log.append([record(0)])
    clock.advance(5)
    await place.log.append([record(1)])
    clock.advance(-60)
    await place.log.append([record(2)])
    clock.advance(120)
    await place.log.append([record(3)])
    arrivals = [r.arrival_us - (clock.now_us() - 65_000_000) for r in await place.reader().records()]
    assert arrivals == [0, 5_000_000, -55_000_000, 65_000_000]


async def test_a_session_s_records_of_each_append_stay_in_order(place: Place) -> None:
    groups = [[record(10 * n + m, session=m % 2) for m in range(4)] for n in range(50)]
    await asyncio.gather(*(place.log.append(group) for group in groups))
    found = await place.reader().records(limit=MANY)
    assert len(found) == 200
    events = [(r.key, kind(r)) for r in found]
    for group in groups:
        for session in (b"s0", b"s1"):
            its = [events.index((r.key, kind(r))) for r in group if r.key == session]
            assert its == sorted(its)


@ONE_PIECE
async def test_appends_at_the_same_time_stay_whole(place: Place) -> None:
    groups = [[record(10 * n + m) for m in range(3)] for n in range(50)]
    await asyncio.gather(*(place.log.append(group) for group in groups))
    keys = [r.key for r in await place.reader().records(limit=MANY)]
    assert len(keys) == 150
    for group in groups:
        start = keys.index(group[0].key)
        assert keys[start : start + 3] == [r.key for r in group]


async def test_what_was_appended_is_there_for_others_at_once(place: Place) -> None:
    for number in range(3):
        await place.log.append([record(number)])
        found = await place.reader().records(after=number - 1)
        assert [r.key for r in found] == [b"s%d" % number]
