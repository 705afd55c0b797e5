"""A session with a long past on a real worker: its state stays small, and nothing of the past is lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.adapters.faust.test_web import Web
from tests.adapters.faust.workers import Stage, stage
from tests.support.commands import triggerstream
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.core.events import Close, Finished
from triggerstream.core.ids import AppId, SessionId, TaskName, command_id, instance_id
from triggerstream.core.retired import KEPT_RESOLVED
from triggerstream.wire.events import encode
from triggerstream.wire.json import dumps
from triggerstream.wire.records import NewRecord
from triggerstream.wire.retired import RETIRED_PREFIX

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

NAMES = ("t_one", "t_two", "t_three")
TASKS = {name: {"after": [], "andEvery": "a", "run": "app.tasks.run"} for name in NAMES}
COUNT = 100
SESSION = SessionId("survey:1#7")


@pytest.fixture
async def app(kafka: str, kafka_app: AppId, tmp_path: Path) -> AsyncIterator[Stage]:
    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "stage") as app:
        await app.prepare(json.dumps(TASKS))
        yield app


def rounds(app: AppId, numbers: range) -> list[NewRecord]:
    """Triggers, each with the outcomes of the instances that it makes."""
    values = []
    for n in numbers:
        values.append(dumps({"type": "a", "data": {"n": n}}))
        for name in map(TaskName, NAMES):
            command = command_id(app, SESSION, generation=0, task=name, number=n)
            finished = Finished(instance=instance_id(name, n), command=command, result={"r": n})
            values.append(encode(finished))
    return [NewRecord(key=SESSION.encode(), value=value) for value in values]


async def assert_explained(app: Stage, web: Web, numbers: range) -> None:
    """The command line, which reads the changelog, and the worker's page, which asks its store, show all."""
    address = f"kafka://{app.connection.bootstrap}/{app.app}"
    ran = await triggerstream("sessions", "explain", SESSION, "--json", "--at", address)
    status, asked = await asyncio.to_thread(web.get, f"sessions/{quote(SESSION, safe='')}")
    assert status == 200, asked
    for found in (ran.row(), asked):
        shown = {
            one["instance"]: (one["status"], one["kwargs"], one["result"])
            for task in found["tasks"]
            for one in task["instances"]
        }
        assert shown == {
            instance_id(TaskName(name), n): ("finished", {"a": {"n": n}}, {"r": n})
            for name in NAMES
            for n in numbers
        }


async def test_three_hundred_finished_instances_outlive_a_worker_without_its_store(app: Stage) -> None:
    worker = app.start("w1", arguments=app.shown())
    await worker.ready()
    await app.append(rounds(app.app, range(COUNT)))
    await app.settled()
    outcome = await app.exact()
    (kept,) = (found for found in outcome.states.values() if found)
    assert len(kept[SESSION.encode()]) < 20_000
    entries = [key for key in kept if key.startswith(RETIRED_PREFIX)]
    assert len(entries) == len(NAMES) * (COUNT - KEPT_RESOLVED)
    await assert_explained(app, Web(worker), range(COUNT))
    await worker.drained()

    other = app.start("w2", arguments=app.shown())
    await other.ready()
    await assert_explained(app, Web(other), range(COUNT))
    await app.append(rounds(app.app, range(COUNT, COUNT + 5)))
    await app.settled()
    await app.exact()
    await assert_explained(app, Web(other), range(5, COUNT + 5))
    address = f"kafka://{app.connection.bootstrap}/{app.app}"
    checked = await triggerstream("replay", "--check", "--at", address)
    assert checked.status == 0, checked

    await app.append(
        [NewRecord(key=SESSION.encode(), value=value) for value in (encode(Close()), b'{"type": "other"}')]
    )
    await app.settled()
    outcome = await app.exact()
    assert [key for found in outcome.states.values() for key in found] == [SESSION.encode()]
    await other.drained()
