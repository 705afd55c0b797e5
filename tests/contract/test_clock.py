"""The promises of every Clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from triggerstream.adapters.clock import SystemClock
from triggerstream.adapters.memory import ManualClock
from triggerstream.engine.ports import Clock

_SECOND_US = 1_000_000


@dataclass(frozen=True)
class Subject:
    clock: Clock
    pass_time: Callable[[float], None]
    """Lets time pass; does nothing where it passes by itself."""


@pytest.fixture(params=["system", "manual"])
def subject(request: pytest.FixtureRequest) -> Subject:
    if request.param == "system":
        return Subject(SystemClock(), lambda _: None)
    clock = ManualClock(time.time_ns() // 1_000)
    return Subject(clock, clock.advance)


def test_it_counts_microseconds_since_the_epoch(subject: Subject) -> None:
    now_us = subject.clock.now_us()
    assert isinstance(now_us, int)
    assert abs(now_us - time.time_ns() // 1_000) < 60 * _SECOND_US


async def test_a_sleep_returns_after_its_time_and_not_before(subject: Subject) -> None:
    begun_us = subject.clock.now_us()
    sleeping = asyncio.create_task(subject.clock.sleep(0.05))
    await asyncio.sleep(0)
    assert not sleeping.done()
    subject.pass_time(0.05)
    async with asyncio.timeout(10):
        await sleeping
    # The system's clock and the event loop's are two.
    assert subject.clock.now_us() - begun_us >= 40_000


async def test_sleepers_wake_in_the_order_of_their_times(subject: Subject) -> None:
    woken: list[float] = []

    async def sleep(seconds: float) -> None:
        await subject.clock.sleep(seconds)
        woken.append(seconds)

    sleeping = [asyncio.create_task(sleep(seconds)) for seconds in (0.2, 0.1, 0.3)]
    await asyncio.sleep(0)
    for _ in range(3):
        subject.pass_time(0.1)
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await asyncio.gather(*sleeping)
    assert woken == [0.1, 0.2, 0.3]


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_a_sleep_of_no_time_returns_at_once(subject: Subject, seconds: float) -> None:
    async with asyncio.timeout(10):
        await subject.clock.sleep(seconds)


async def test_a_sleep_that_is_given_up_disturbs_no_other(subject: Subject) -> None:
    given_up = asyncio.create_task(subject.clock.sleep(0.01))
    other = asyncio.create_task(subject.clock.sleep(0.02))
    await asyncio.sleep(0)
    given_up.cancel()
    subject.pass_time(0.02)
    async with asyncio.timeout(10):
        await other
    assert given_up.cancelled()


async def test_a_step_back_of_a_clock_does_not_lengthen_a_sleep() -> None:
    clock = ManualClock()
    sleeping = asyncio.create_task(clock.sleep(5))
    await asyncio.sleep(0)
    clock.advance(-60)
    clock.advance(5)
    async with asyncio.timeout(10):
        await sleeping


def test_a_reading_has_the_wall_clock_and_the_time_since_the_machine_started(subject: Subject) -> None:
    first = subject.clock.reading()
    subject.pass_time(0.05)
    second = subject.clock.reading()
    assert first.boot == second.boot
    assert second.since_boot_us > first.since_boot_us
    assert abs(second.now_us - subject.clock.now_us()) < 60_000_000
    assert abs(second.started_us - first.started_us) < 1_000_000
