"""What every log does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from triggerstream.adapters.memory import ManualClock, MemoryDatabase, MemoryLog, MemoryReader
from triggerstream.adapters.sqlite import SqliteLog, SqliteReader
from triggerstream.core.ids import SessionId
from triggerstream.engine.ports import Log, OutcomeLog, Reader
from triggerstream.wire.records import NewRecord


@dataclass(frozen=True)
class Subject:
    log: Log
    outcomes: OutcomeLog
    reader: Reader
    clock: ManualClock


@pytest.fixture(params=["memory", "sqlite"])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    clock = ManualClock()
    if request.param == "memory":
        database = MemoryDatabase()
        memory = MemoryLog(database, clock=clock)
        yield Subject(memory, memory, MemoryReader(database), clock)
        return
    log = SqliteLog(tmp_path, create=True, clock=clock)
    reader = SqliteReader(tmp_path)
    yield Subject(log, log, reader, clock)
    await reader.close()
    await log.close()


def record(number: int) -> NewRecord:
    return NewRecord(key=b"s%d" % number, value=b'{"type":"t%d"}' % number)


async def test_appended_records_take_the_next_offsets_in_order(subject: Subject) -> None:
    await subject.log.append([record(0), record(1)])
    await subject.log.append([record(2)])
    found = await subject.reader.records()
    assert [(r.offset, r.key, r.value) for r in found] == [
        (0, b"s0", b'{"type":"t0"}'),
        (1, b"s1", b'{"type":"t1"}'),
        (2, b"s2", b'{"type":"t2"}'),
    ]


async def test_nothing_appended_takes_no_offset(subject: Subject) -> None:
    await subject.log.append([])
    await subject.log.append([record(0)])
    assert (await subject.reader.progress()).end == 1


async def test_headers_and_missing_keys_come_back_as_they_were(subject: Subject) -> None:
    headers = (("ce_id", b"7"), ("ce_id", b"\xff\x00"), ("ünï", b""))
    await subject.log.append([NewRecord(key=None, value=b"", headers=headers), record(1)])
    first, second = await subject.reader.records()
    assert (first.key, first.value, first.headers) == (None, b"", headers)
    assert second.headers == ()


async def test_arrival_never_steps_back_with_the_clock(subject: Subject) -> None:
    await subject.log.append([record(0)])
    subject.clock.advance(5)
    await subject.log.append([record(1)])
    subject.clock.advance(-60)
    await subject.log.append([record(2)])
    subject.clock.advance(120)
    await subject.log.append([record(3)])
    arrivals = [r.arrival_us - (subject.clock.now_us() - 65_000_000) for r in await subject.reader.records()]
    assert arrivals == [0, 5_000_000, 5_000_000, 65_000_000]


async def test_appends_at_the_same_time_stay_whole(subject: Subject) -> None:
    groups = [[record(10 * n + m) for m in range(3)] for n in range(50)]
    await asyncio.gather(*(subject.log.append(group) for group in groups))
    keys = [r.key for r in await subject.reader.records(limit=1_000)]
    assert len(keys) == 150
    for group in groups:
        start = keys.index(group[0].key)
        assert keys[start : start + 3] == [r.key for r in group]


async def test_reported_outcome_is_an_event_of_its_session(subject: Subject) -> None:
    subject.outcomes.report(SessionId("süß"), b"{}")
    (found,) = await subject.reader.records()
    assert (found.key, found.value) == ("süß".encode(), b"{}")
