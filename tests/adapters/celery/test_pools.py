"""Other ways to run a worker, and a result store that is away."""

from __future__ import annotations

import json

import pytest

from tests.adapters.celery.conftest import Farm, command
from tests.support.waiting import eventually

pytestmark = [pytest.mark.celery, pytest.mark.slow]


@pytest.mark.parametrize("pool", ["threads", "solo"])
async def test_outcomes_are_reported_from_every_pool(farm: Farm, pool: str) -> None:
    farm.env["TEST_GUARD"] = f"sqlite:///{farm.home}/guard.db"
    farm.worker("-P", pool, "-c", "2")
    sent = command("echo", score=3)
    events = await farm.run(sent)
    assert farm.log.kinds(sent.session) == ["started", "finished"]
    assert events[1]["data"]["result"]["kwargs"] == {"go": {"score": 3}}
    failing = command("fail")
    await farm.run(failing)
    assert farm.log.kinds(failing.session) == ["started", "failed"]
    away = command("no_such_task")
    await farm.run(away)
    assert farm.log.kinds(away.session) == ["failed"]


async def test_outcomes_are_reported_from_processes_that_were_not_forked(farm: Farm) -> None:
    farm.worker("-c", "1", TEST_CONF=json.dumps({"worker_pool_start_method": "spawn"}))
    sent = command("called", score=3)
    events = await farm.run(sent)
    assert farm.log.kinds(sent.session) == ["started", "finished"]
    assert events[1]["data"]["result"] == {"called": {"go": {"score": 3}}}


async def test_a_result_store_that_is_away_makes_no_failure_of_a_finished_task(farm: Farm) -> None:
    farm.worker(
        "-c",
        "1",
        TEST_BACKEND="redis://127.0.0.1:1/0",
        TEST_CONF=json.dumps({"result_backend_transport_options": {"retry_policy": {"max_retries": 0}}}),
    )
    sent = command("echo")
    await farm.run(sent, within_s=60)
    await eventually(lambda: "refused" in farm.said(), within_s=60, what=farm.said)
    assert farm.log.kinds(sent.session)[:2] == ["started", "finished"]
    after = command("echo")
    await farm.run(after, within_s=60)
