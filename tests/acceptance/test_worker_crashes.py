"""Workers are killed at every point of a checkpoint and of a take-over: nothing is lost, nothing invented."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.faust.workers import Stage, stage
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.core.ids import AppId
from triggerstream.engine.failpoints import CHECKPOINT, RELEASE, TAKEOVER

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture
def app(kafka: str, kafka_app: AppId, tmp_path: Path) -> Iterator[Stage]:
    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "workers") as made:
        yield made


@pytest.mark.parametrize("point", CHECKPOINT)
async def test_death_within_a_checkpoint_loses_and_invents_nothing(app: Stage, point: str) -> None:
    await app.prepare()
    await app.fire(range(500))
    dying = app.start(failpoint=f"{point}:2")
    assert await dying.ended() == -signal.SIGKILL
    following = app.start()
    await following.ready()  # all may have been committed before the death
    await app.settled()
    await following.drained()
    assert (await app.exact()).command_count() == 500


TAKE_OVERS = [
    # Every point once, with a store and without one in turn; the long form has every pair.
    pytest.param(
        point,
        kept,
        id=f"{point}-store {'kept' if kept else 'wiped'}",
        marks=[] if kept == (number % 2 == 0) else pytest.mark.faults,
    )
    for number, point in enumerate(TAKEOVER)
    for kept in (True, False)
]


OF_FORMER_OWNERS = {"takeover.fenced", "takeover.forgotten"}
"""Points that are passed only where a former owner has not released its claim."""


@pytest.mark.parametrize("point", RELEASE)
async def test_death_within_a_release_loses_and_invents_nothing(app: Stage, point: str) -> None:
    await app.prepare()
    await app.fire(range(200))
    dying = app.start(failpoint=point)
    await app.settled()
    dying.signal(signal.SIGTERM)
    assert await dying.ended() == -signal.SIGKILL
    await app.fire(range(100, 300))
    following = app.start()
    await app.settled()
    await following.drained()
    assert (await app.exact()).command_count() == 300


@pytest.mark.parametrize(("point", "kept"), TAKE_OVERS)
async def test_death_within_a_take_over_loses_and_invents_nothing(
    app: Stage, point: str, *, kept: bool
) -> None:
    await app.prepare()
    await app.fire(range(200))
    first = app.start()
    await app.settled()
    if point in OF_FORMER_OWNERS:
        first.kill()
    else:
        await first.drained()
    await app.fire(range(100, 300))
    if not kept:
        shutil.rmtree(app.directory("w1"))
    dying = app.start(failpoint=point)
    # Even a store that is kept has something to recover: the marker of the last commit has an offset too.
    assert await dying.ended() == -signal.SIGKILL
    following = app.start()
    await app.settled()
    await following.drained()
    assert (await app.exact()).command_count() == 300


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
