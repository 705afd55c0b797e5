"""Workers claim their partitions in the owners topic, and release them in order."""

from __future__ import annotations

import asyncio
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


async def test_planned_rebalances_under_load_fence_nobody(app: Stage) -> None:
    await app.prepare()
    first = app.start("w1")
    await first.ready()
    loading = asyncio.create_task(_load(app, 20))
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


async def _load(app: Stage, turns: int) -> None:
    for turn in range(turns):
        await app.fire(range(turn * 100, turn * 100 + 100))
