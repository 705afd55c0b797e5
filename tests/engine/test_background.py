"""Background tasks: however one ends before it is stopped, the process hears of it."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.waiting import eventually
from triggerstream.core.errors import LogError
from triggerstream.engine.background import Background, TaskEndedError


class Failures:
    def __init__(self) -> None:
        self.found: list[BaseException] = []
        self.background = Background(self.found.append)


@pytest.fixture
def failures() -> Failures:
    return Failures()


async def test_an_error_names_the_task(failures: Failures, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        raise ValueError("odd")

    failures.background.start("index", work())
    await eventually(lambda: failures.found)
    (found,) = failures.found
    assert isinstance(found, TaskEndedError)
    assert str(found) == "the background task `index` has ended: ValueError: odd"
    assert isinstance(found.__cause__, ValueError)
    assert [record.__dict__["task"] for record in caplog.records] == ["index"]


async def test_an_error_of_ours_stays_what_it_is(failures: Failures) -> None:
    error = LogError("away")

    async def work() -> None:
        raise error

    failures.background.start("timers", work())
    await eventually(lambda: failures.found == [error])


async def test_a_return_is_an_end(failures: Failures) -> None:
    async def work() -> None:
        pass

    failures.background.start("timers", work())
    await eventually(lambda: failures.found)
    assert str(failures.found[0]) == "the background task `timers` has ended: it returned"


async def test_a_cancellation_by_somebody_else_is_an_end(failures: Failures) -> None:
    failures.background.start("timers", asyncio.Event().wait()).cancel()
    await eventually(lambda: failures.found)
    assert str(failures.found[0]) == "the background task `timers` has ended: it was cancelled"


async def test_what_is_stopped_is_no_failure(failures: Failures) -> None:
    task = failures.background.start("timers", asyncio.Event().wait())
    await failures.background.close()
    assert (task.cancelled(), failures.found) == (True, [])


async def test_an_error_while_it_is_stopped_is_a_failure(failures: Failures) -> None:
    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise LogError("not committed")

    task = failures.background.start("checkpoints", work())
    await asyncio.sleep(0)
    await failures.background.close()
    assert task.done()
    assert [str(error) for error in failures.found] == ["not committed"]
