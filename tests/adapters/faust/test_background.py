"""A background task that ends when it should not ends the process, with a line that says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.adapters.faust.workers import Stage, stage
from tests.support.waiting import eventually
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.core.ids import AppId

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

SAYS = {
    "intake": "the background task `intake` has ended: Death: of this test",
    "intake-returns": "the background task `intake` has ended: it returned",
    "take-overs": "the background task `take-overs` has ended: Death: of this test",
    "checkpoints": "the background task `checkpoints of partition",
    "timers": "the background task `timers of partition",
    "scans": "the background task `scans of partition",
    "indexes": "the background task `indexes of sessions` has ended: Death: of this test",
    "freed-memory": "the background task `return freed memory` has ended: Death: of this test",
    "pages": "the background task `connections of http://127.0.0.1:",
    "probes": "the background task `probes` has ended: ",
    "fetches-of-the-client": "the consumer's background task `fetches` has ended",
    "group-of-the-client": "the consumer's background task `group` has ended",
    "metadata-of-the-client": "the consumer's background task `metadata` has ended",
    "fold": "the background task `fold` has ended: it returned",
}
SHORT = ("intake", "indexes", "freed-memory", "fetches-of-the-client")
"""Those that take different ways to the end; the others are in the long form."""


@pytest.fixture
async def app(kafka: str, kafka_app: AppId, tmp_path: Path) -> AsyncIterator[Stage]:
    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "stage") as app:
        await app.prepare()
        yield app


@pytest.mark.parametrize(
    "task", [pytest.param(task, marks=() if task in SHORT else pytest.mark.faults) for task in SAYS]
)
async def test_a_worker_ends_with_the_task_and_says_which(app: Stage, task: str, tmp_path: Path) -> None:
    file = tmp_path / "die"
    dying = "pages" if task == "probes" else task
    arguments = ("--without-web", "--probes-port", "0") if task == "probes" else ("--web-port", "0")
    worker = app.start(program=("-m", "tests.support.dying", dying, str(file)), arguments=arguments)
    await worker.ready()
    file.touch()
    if task == "fold":
        await app.fire(range(20))
    await eventually(lambda: SAYS[task] in worker.text(), within_s=60, what=worker.text)
    assert await worker.ended() == 70, worker.text()
