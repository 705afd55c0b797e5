"""Workers are killed at every point of a checkpoint and of a take-over: nothing is lost, nothing invented.

`make test` kills them at one point after the other of one app; `make faults` at each point by itself.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.faust.workers import Stage, WorkerProcess, stage
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.rocksdb import UNLOGGED_FROM
from triggerstream.core.ids import AppId
from triggerstream.engine.failpoints import CHECKPOINT, RELEASE, TAKEOVER

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture
def app(kafka: str, kafka_app: AppId, tmp_path: Path) -> Iterator[Stage]:
    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "workers") as made:
        yield made


OF_FORMER_OWNERS = {"takeover.fenced", "takeover.forgotten"}
"""Points that are passed only where a former owner has not released its claim."""


async def dead(app: Stage, failpoint: str) -> None:
    """Start a worker, and wait until it has died at its point."""
    assert await app.start(failpoint=failpoint).ended() == -signal.SIGKILL


async def leave_to_the_next(owner: WorkerProcess, point: str) -> None:
    """End an owner, so that the next one passes ``point`` of a take-over."""
    if point in OF_FORMER_OWNERS:
        owner.kill()
    else:
        await owner.drained()


async def dead_in_a_checkpoint(app: Stage, point: str, *, first: int) -> int:
    """The same at the second time at a point, with events of sessions from ``first`` on; the next session.

    All that waits may be one checkpoint, so more is fired until it is dead.
    """
    await app.fire(range(first, first + 50))
    dying = app.start(failpoint=f"{point}:2")
    next_ = first + 50
    while dying.running():
        await app.fire(range(next_, next_ + 5))
        next_ += 5
        await asyncio.sleep(0.2)
    assert await dying.ended() == -signal.SIGKILL
    return next_


async def exact(app: Stage, *, sessions: int) -> None:
    """Have a worker fold what is left: each of the sessions has its command."""
    worker = app.start()
    await worker.ready()  # all may have been committed before a death
    await app.settled()
    await worker.drained()
    assert (await app.exact()).command_count() == sessions


@pytest.mark.timeout(900)
async def test_deaths_within_checkpoints_lose_and_invent_nothing(app: Stage) -> None:
    await app.prepare()
    sessions = 0
    for point in CHECKPOINT:
        sessions = await dead_in_a_checkpoint(app, point, first=sessions)
    await exact(app, sessions=sessions)


async def test_deaths_within_releases_lose_and_invent_nothing(app: Stage) -> None:
    await app.prepare()
    for number, point in enumerate(RELEASE):
        await app.fire(range(100 * number, 100 * number + 200))
        dying = app.start(failpoint=point)
        await app.settled()
        dying.signal(signal.SIGTERM)
        assert await dying.ended() == -signal.SIGKILL
    await exact(app, sessions=100 * len(RELEASE) + 100)


@pytest.mark.timeout(900)
async def test_deaths_within_take_overs_lose_and_invent_nothing(app: Stage) -> None:
    await app.prepare()
    sessions = 0
    for point, following in zip(TAKEOVER[::2], TAKEOVER[1::2], strict=True):
        await app.fire(range(sessions, sessions + 50))
        first = app.start()
        await app.settled()
        await leave_to_the_next(first, point)
        await app.fire(range(sessions + 25, sessions + 75))
        # Even a store that is kept has something to recover: the marker of the last commit has an offset too.
        await dead(app, point)
        shutil.rmtree(app.directory("w1"))
        await dead(app, following)
        sessions += 75
    await exact(app, sessions=sessions)


LONG = 8_000
"""Half of the sessions of one partition, so many that the restore of its store is not logged to its end."""


@pytest.mark.timeout(900)
async def test_death_within_a_long_restore_of_a_store_loses_and_invents_nothing(
    kafka: str, kafka_app: AppId, tmp_path: Path
) -> None:
    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "workers", partitions=1) as app:
        await app.prepare()
        for begin in range(0, 2 * LONG, LONG):
            await app.fire(range(begin, begin + LONG))
        first = app.start()
        await app.settled()
        await first.drained()
        shutil.rmtree(app.directory("w1"))
        reads = UNLOGGED_FROM // 1_000
        await dead(app, f"takeover.recovering:{reads}")
        await dead(app, f"takeover.recovering:{reads // 2}")
        await dead(app, "takeover.recovered")
        await app.fire(range(LONG, 3 * LONG // 2))
        await exact(app, sessions=2 * LONG)


@pytest.mark.faults
@pytest.mark.parametrize("point", CHECKPOINT)
async def test_death_within_a_checkpoint_loses_and_invents_nothing(app: Stage, point: str) -> None:
    await app.prepare()
    sessions = await dead_in_a_checkpoint(app, point, first=0)
    await exact(app, sessions=sessions)


@pytest.mark.faults
@pytest.mark.parametrize("kept", [True, False], ids=["store kept", "store wiped"])
@pytest.mark.parametrize("point", TAKEOVER)
async def test_death_within_a_take_over_loses_and_invents_nothing(
    app: Stage, point: str, *, kept: bool
) -> None:
    await app.prepare()
    await app.fire(range(200))
    first = app.start()
    await app.settled()
    await leave_to_the_next(first, point)
    await app.fire(range(100, 300))
    if not kept:
        shutil.rmtree(app.directory("w1"))
    await dead(app, point)
    await exact(app, sessions=300)


@pytest.mark.timeout(900)
async def test_death_at_random_moments_loses_and_invents_nothing(app: Stage) -> None:
    chance = random.Random(20)
    await app.prepare()
    worker = app.start()
    await worker.ready()
    for turn in range(5):
        await app.fire(range(turn * 400, turn * 400 + 400 + chance.randrange(400)))
        worker.kill()
        if turn % 2:
            shutil.rmtree(app.directory("w1"))
        worker = app.start(failpoint=f"{chance.choice(CHECKPOINT)}:{chance.randrange(2, 9)}")
        await worker.ready()
    worker.kill()
    last = app.start()
    await last.ready()  # all may have been committed before the death
    await app.settled()
    await last.drained()
    await app.exact()


async def test_sigterm_finishes_what_is_in_flight_and_gives_partitions_back(app: Stage) -> None:
    await app.prepare()
    first = app.start()
    await first.ready()
    await app.fire(range(1_000))
    await first.drained()
    second = app.start("w2")
    # It does not wait for a session to time out: the first one has left.
    await second.ready()
    await app.settled()
    await second.drained()
    assert (await app.exact()).command_count() == 1_000
