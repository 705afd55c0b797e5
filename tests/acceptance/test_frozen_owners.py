"""A worker is frozen at each step, another one takes over, and the first wakes: it decides nothing more."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.replaying import replay
from tests.adapters.faust.workers import Stage, WorkerProcess, stage
from tests.support.commands import END_S
from tests.support.supervised import state
from triggerstream import variables
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.owners_topic import read_owners
from triggerstream.core.ids import AppId
from triggerstream.engine.failpoints import CHECKPOINT, RELEASE, TAKEOVER

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

SHORT = {"takeover.claimed"}
"""The rest is in the long form, and the points of a transaction are in `test_worker_group`."""
STOPS = 200
"""Orderly stops after each of which the stored data are checked, in the long form."""


@pytest.fixture
def app(kafka: str, kafka_app: AppId, tmp_path: Path) -> Iterator[Stage]:
    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "workers") as made:
        yield made


def points(names: tuple[str, ...]) -> list[object]:
    return [pytest.param(one, marks=[] if one in SHORT else pytest.mark.faults) for one in names]


ENDS = {0, 75, -signal.SIGTERM}
"""Exit statuses of a worker that got SIGTERM: it ended in order, was fenced, or had not started again."""


async def taken_over_and_woken(app: Stage, sleeping: WorkerProcess, *, sessions: int) -> None:
    """Have another worker take over and work, and then wake ``sleeping``, which was frozen."""
    awake = app.start("w2")
    await awake.ready()
    await app.fire(range(sessions - 100, sessions))
    await app.settled()
    sleeping.signal(signal.SIGCONT)
    # It joins the group again, or ends as one that was fenced, and is started again.
    await app.fire(range(sessions, sessions + 100))
    await app.settled()
    sleeping.signal(signal.SIGTERM)
    assert await sleeping.ended() in ENDS, sleeping.text()
    await awake.drained()
    await calm_end(app, sessions=sessions + 100)


async def calm_end(app: Stage, *, sessions: int) -> None:
    """All commands of ``sessions`` are there once, and the next worker leaves no claim behind."""
    last = app.start("w4")
    await last.ready()
    await app.settled()
    await last.drained()
    assert (await app.exact()).command_count() == sessions
    assert await read_owners(app.connection, app.app) == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", points(TAKEOVER))
async def test_a_worker_that_is_frozen_within_a_take_over_decides_nothing_when_it_wakes(
    app: Stage, point: str
) -> None:
    await app.prepare()
    await app.fire(range(200))
    first = app.start()
    await app.settled()
    first.kill()  # its claim is there, and its store is not: so each point is passed
    await app.fire(range(200, 300))
    sleeping = app.start("w3", failpoint=f"{point}:1:STOP")
    await sleeping.stopped()
    await taken_over_and_woken(app, sleeping, sessions=400)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", points(CHECKPOINT))
async def test_a_worker_that_is_frozen_within_a_checkpoint_decides_nothing_when_it_wakes(
    app: Stage, point: str
) -> None:
    await app.prepare()
    await app.fire(range(300))
    sleeping = app.start("w3", failpoint=f"{point}:1:STOP")
    await sleeping.stopped()
    await taken_over_and_woken(app, sleeping, sessions=400)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", points(RELEASE))
async def test_a_worker_that_is_frozen_within_a_release_decides_nothing_when_it_wakes(
    app: Stage, point: str
) -> None:
    await app.prepare()
    await app.fire(range(200))
    sleeping = app.start("w3", failpoint=f"{point}:1:STOP")
    await app.settled()
    await app.fire(range(200, 300))
    await app.settled()
    sleeping.signal(signal.SIGTERM)
    await sleeping.stopped()
    awake = app.start("w2")
    await awake.ready()
    await app.fire(range(300, 400))
    await app.settled()
    sleeping.signal(signal.SIGCONT)
    assert await sleeping.ended() in ENDS, sleeping.text()
    await app.fire(range(400, 500))
    await app.settled()
    await awake.drained()
    await calm_end(app, sessions=500)


async def frozen_rebuild(app: Stage) -> asyncio.subprocess.Process:
    """A rebuild that has fenced every worker, and is frozen then.

    It is refused until the session of the last member has timed out, and is tried until then.
    """
    address = f"kafka://{app.connection.bootstrap}/{app.app}"
    async with asyncio.timeout(END_S):
        while True:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "triggerstream", "replay", "--rebuild", "--yes", "--at", address),
                env={**os.environ, variables.FAILPOINT: "rebuild.fenced:1:STOP"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            ended = asyncio.create_task(process.wait())
            while not ended.done():
                if state(process.pid) == "T":
                    return process
                await asyncio.wait([ended], timeout=0.05)


@pytest.mark.faults
@pytest.mark.timeout(300)
async def test_a_worker_that_wakes_within_a_rebuild_is_fenced_by_it(app: Stage) -> None:
    await app.prepare()
    await app.fire(range(100))
    first = app.start()
    await app.settled()
    await first.drained()
    await app.fire(range(100, 200))
    sleeping = app.start("w3", failpoint="checkpoint.sent:1:STOP")
    await sleeping.stopped()
    rebuilding = await frozen_rebuild(app)
    sleeping.signal(signal.SIGCONT)
    await sleeping.failed(75)
    sleeping.kill()  # before the worker that its supervisor starts again takes anything over
    rebuilding.send_signal(signal.SIGCONT)
    async with asyncio.timeout(END_S):
        out, _ = await rebuilding.communicate()
    assert rebuilding.returncode == 0, out.decode()
    last = app.start("w2")
    await last.ready()
    await app.settled()
    await last.drained()
    assert (await app.exact()).command_count() == 200
    assert (await replay(app, "--check")).status == 0


async def stopped_and_checked(app: Stage, *, rounds: int) -> None:
    await app.prepare()
    for turn in range(rounds):
        await app.fire(range(20 * turn, 20 * turn + 20))
        worker = app.start()
        await app.settled()
        await worker.drained()
        ran = await replay(app, "--check", "--json")
        assert (ran.status, ran.err) == (0, "")
        assert sum(row["sessions"] for row in ran.rows()) == 20 * turn + 20, "the newest checkpoint"
        assert await read_owners(app.connection, app.app) == []


async def test_a_check_right_after_an_orderly_stop_finds_the_last_checkpoint(app: Stage) -> None:
    await stopped_and_checked(app, rounds=2)


@pytest.mark.faults
@pytest.mark.timeout(3600)
async def test_a_check_right_after_each_of_many_orderly_stops_finds_the_last_checkpoint(app: Stage) -> None:
    await stopped_and_checked(app, rounds=STOPS)
