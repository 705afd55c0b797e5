"""Two releases of the client library in one group, as while a deployment rolls."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.adapters.faust.workers import WorkerProcess, stage
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.core.ids import AppId

pytestmark = [pytest.mark.kafka, pytest.mark.faults]

OLDER = "0.13.0"
"""The release of aiokafka before the one that is locked."""
SESSIONS = 2_000


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A folder with the older release."""
    folder = tmp_path / "older"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    done = subprocess.run([*install, f"aiokafka=={OLDER}"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"lacking aiokafka {OLDER}: {done.stderr.strip()}")
    return folder


async def test_workers_of_two_releases_share_a_group(
    kafka: str, kafka_app: AppId, tmp_path: Path, older: Path
) -> None:
    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "workers") as app:
        await app.prepare()

        async def started(name: str, library: Path | None) -> WorkerProcess:
            worker = app.start(name, arguments=("--without-web",), library=library)
            await worker.ready()
            return worker

        first, second = await started("w1", older), await started("w2", older)
        fired = 0

        async def load() -> None:
            nonlocal fired
            await app.fire(range(fired, fired + SESSIONS))
            fired += SESSIONS

        await load()
        await first.drained()
        first = await started("w1", None)
        await load()
        await app.settled()
        await app.exact()
        for killed, library in ((first, None), (second, older)):
            name = "w1" if killed is first else "w2"
            killed.kill()
            await load()
            worker = await started(name, library)
            await app.settled()
            await app.exact()
            if killed is second:
                await worker.drained()
        await started("w2", None)
        await load()
        await app.settled()
        outcome = await app.exact()
        assert outcome.command_count() == fired
