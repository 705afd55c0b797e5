"""Workers come, go, stop and wake up: partitions change hands, and the result is that of one calm worker."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.faust.workers import Stage, stage
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.owners_topic import read_owners
from triggerstream.core.ids import AppId

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture
def app(kafka: str, kafka_app: AppId, tmp_path: Path) -> Iterator[Stage]:
    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "workers") as made:
        yield made


async def test_partitions_change_hands_under_load(app: Stage) -> None:
    await app.prepare()
    first = app.start("w1")
    await first.ready()
    loading = asyncio.create_task(_load(app, 20))
    second = app.start("w2")
    await second.ready()
    third = app.start("w3")
    await third.ready()
    await second.drained()
    first.kill()
    again = app.start("w2")
    await again.ready()
    await loading
    await app.settled()
    for worker in (third, again):
        await worker.drained()
    assert (await app.exact()).command_count() == 4_000


async def test_planned_rebalances_under_load_fence_nobody(app: Stage) -> None:
    await app.prepare()
    first = app.start("w1")
    await first.ready()
    loading = asyncio.create_task(_load(app, 20, sessions=100))
    second = app.start("w2")
    await second.ready()
    await first.drained()
    others = [app.start(name) for name in ("w3", "w4")]
    for worker in others:
        await worker.ready()
    await loading
    await app.settled()
    for worker in (second, *others):
        await worker.drained()
    assert (await app.exact()).command_count() == 20 * 100
    for worker in app.workers:
        assert "ending with status" not in worker.text(), "each has ended in order, and was ended by nobody"
    assert await read_owners(app.connection, app.app) == [], "each claim is released"


async def _load(app: Stage, turns: int, *, sessions: int = 200) -> None:
    """Fire the triggers of ``sessions`` more sessions in each of ``turns``."""
    for turn in range(turns):
        await app.fire(range(turn * sessions, (turn + 1) * sessions))


@pytest.mark.parametrize("point", ["checkpoint.opened", "checkpoint.sent", "checkpoint.acknowledged"])
async def test_a_worker_that_wakes_up_within_a_checkpoint_cannot_commit_it(app: Stage, point: str) -> None:
    await app.prepare()
    await app.fire(range(1_000))
    sleeping = app.start("w1", failpoint=f"{point}:1:STOP")
    await sleeping.stopped()
    awake = app.start("w2")
    # It gets all partitions only once the session of the one that sleeps has timed out.
    await awake.ready()
    await app.settled()
    sleeping.signal(signal.SIGCONT)
    await sleeping.failed(75)
    await sleeping.ready()
    await app.fire(range(1_000, 1_100))
    await app.settled()
    await awake.drained()
    assert (await app.exact()).command_count() == 1_100


async def test_an_idle_worker_that_wakes_up_joins_again(app: Stage) -> None:
    await app.prepare()
    sleeping = app.start("w1")
    await sleeping.ready()
    await app.settled()
    sleeping.signal(signal.SIGSTOP)
    awake = app.start("w2")
    await awake.ready()
    sleeping.signal(signal.SIGCONT)
    await sleeping.ready(times=2)
    await app.fire(range(400))
    await app.settled()
    for worker in (sleeping, awake):
        await worker.drained()
    assert (await app.exact()).command_count() == 400


async def test_a_session_may_last_longer_than_faust_waits_for_an_answer(app: Stage) -> None:
    await app.prepare()
    worker = app.start("w1", arguments=["--session-timeout", "2m"])
    await worker.ready()
    await worker.drained()


async def test_a_worker_with_a_name_of_its_own_takes_over_from_its_dead_self_at_once(app: Stage) -> None:
    # Longer than any wait of this test: without a name, it would wait for its former self to time out.
    named = ["--instance-id", "w1", "--session-timeout", "85s"]
    await app.prepare()
    dying = app.start("w1", arguments=named)
    await dying.ready()
    await app.fire(range(200))
    await app.settled()
    dying.kill_at_work()
    back = app.start("w1", arguments=named)
    await back.ready()
    await app.fire(range(200, 400))
    await app.settled()
    await back.drained()
    assert (await app.exact()).command_count() == 400
