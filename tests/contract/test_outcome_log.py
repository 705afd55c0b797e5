"""The promises of every OutcomeLog."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.contract.places import KAFKA, MANY, KafkaPlace, MemoryPlace, Place, SqlitePlace, place_of
from triggerstream.adapters.kafka.outcomes import KafkaOutcomeLog
from triggerstream.adapters.memory import ManualClock, MemoryLog
from triggerstream.adapters.sqlite import SqliteLog
from triggerstream.core.ids import SessionId
from triggerstream.engine.ports import OutcomeLog

S = SessionId("survey-1")


@dataclass(frozen=True)
class Subject:
    place: Place
    outcomes: OutcomeLog

    async def values(self) -> list[bytes | None]:
        """The values of all records, in order."""
        return [record.value for record in await self.place.reader().records(limit=MANY)]


@pytest.fixture(params=["memory", "sqlite", KAFKA])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    place = await place_of(request.param, request, tmp_path, ManualClock())
    if isinstance(place, KafkaPlace):
        outcomes = KafkaOutcomeLog(place.connection, place.app)
        yield Subject(place, outcomes)
        await asyncio.to_thread(outcomes.close)
    else:
        assert isinstance(place, MemoryPlace | SqlitePlace)
        log = place.log
        assert isinstance(log, MemoryLog | SqliteLog)
        yield Subject(place, log)
    await place.close()


async def test_a_reported_outcome_is_an_event_of_its_session(subject: Subject) -> None:
    subject.outcomes.report(SessionId("süß"), b"{}")
    (found,) = await subject.place.reader().records()
    assert (found.key, found.value, found.headers) == ("süß".encode(), b"{}", ())


async def test_outcomes_are_there_in_the_order_of_their_reports(subject: Subject) -> None:
    for number in range(20):
        subject.outcomes.report(S, b"%d" % number)
    assert await subject.values() == [b"%d" % number for number in range(20)]


async def test_a_report_is_durable_when_it_returns(subject: Subject) -> None:
    for number in range(3):
        subject.outcomes.report(S, b"%d" % number)
        assert len(await subject.values()) == number + 1


async def test_what_threads_report_is_in_the_log(subject: Subject) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: subject.outcomes.report(S, b"%d" % number), range(200)))
    found = await subject.values()
    assert sorted(found, key=lambda value: int(value or b"")) == [b"%d" % number for number in range(200)]


# Python 3.12 warns of the very thing that this is about: a fork of a process with threads.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("subject", ["sqlite", KAFKA], indirect=True)
async def test_children_and_their_parent_report_after_a_fork(subject: Subject) -> None:
    report = subject.outcomes.report
    report(S, b"before")
    children = [_forked(partial(report, S, name)) for name in (b"child 1", b"child 2")]
    report(S, b"meanwhile")
    assert [_status(child) for child in children] == [0, 0]
    grandchildren = _forked(lambda: _report_in_a_child_too(subject.outcomes))
    assert _status(grandchildren) == 0
    report(S, b"after")
    expected = {b"before", b"child 1", b"child 2", b"meanwhile", b"first", b"second", b"after"}
    found = await subject.values()
    assert set(found) == expected
    assert len(found) == len(expected)


def _report_in_a_child_too(outcomes: OutcomeLog) -> None:
    outcomes.report(S, b"first")
    if _status(_forked(lambda: outcomes.report(S, b"second"))):
        raise AssertionError


def _forked(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        # Nothing of the test run that the child inherited may come to an end in it.
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return pid


def _status(pid: int) -> int:
    deadline = time.monotonic() + 30
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, 9)
            raise AssertionError("a child hangs")
        time.sleep(0.02)
