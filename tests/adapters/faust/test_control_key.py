"""An app whose own events are signed: who has not the key decides nothing, whatever he may append."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from tests.adapters.faust.workers import Stage, read_all, stage
from tests.support.commands import triggerstream
from triggerstream.adapters.kafka import security
from triggerstream.adapters.kafka.config import in_force
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.log import KafkaLog
from triggerstream.adapters.kafka.reader import KafkaReader
from triggerstream.core.events import Body, Cancel, ConfigApplied, Erase, Failed, Finished
from triggerstream.core.ids import AppId, CommandId, InstanceId, SessionId
from triggerstream.wire import events, state, tasksfile
from triggerstream.wire.records import NewRecord

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

TASKS = '{"t": {"after": ["a"], "run": "tasks.t", "retry": {"max": 1, "backoff": "1s"}}}'
EVIL = '{"t": {"after": ["a"], "run": "tasks.evil"}}'
SESSION = SessionId("s")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """What workers, Celery workers and operators have, and applications have not."""
    (tmp_path / "control.key").write_text(f"2026-01-01T00:00:00Z {'5a' * 32}\n")
    file = tmp_path / "kafka.json"
    file.write_text('{"control_key_file": "control.key"}')
    return file


@pytest.fixture
async def app(kafka: str, kafka_app: AppId, tmp_path: Path, config: Path) -> AsyncIterator[Stage]:
    connection = Connection(bootstrap=kafka, security=security.read(config))
    with stage(connection, kafka_app, tmp_path / "stage") as app:
        await app.prepare(TASKS)
        worker = app.start(arguments=("--kafka-config", str(config)))
        await worker.ready()
        yield app


async def tell(connection: Connection, app: AppId, bodies: Iterable[Body]) -> None:
    """Append events of the session."""
    log = KafkaLog(connection, app)
    await log.append([NewRecord(key=SESSION.encode(), value=events.encode(body)) for body in bodies])
    await log.close()


async def instances(app: Stage) -> dict[str, str]:
    """The status of each instance of ``t``, by number."""
    reader = KafkaReader(app.connection, app.app)
    row = await reader.session(SESSION)
    await reader.close()
    known = state.decode(row.state) if row is not None else None
    records = known.tasks.values() if known is not None else ()
    return {str(one.number): str(one.status) for record in records for one in record.instances()}


async def commands(app: Stage) -> list[dict[str, str]]:
    """What was decided."""
    found = await read_all(app.connection, app.topics.commands, app.partitions)
    return [json.loads(record.value) for records in found.values() for record in records]


async def test_only_who_has_the_key_decides(app: Stage, config: Path) -> None:
    outsider = Connection(bootstrap=app.connection.bootstrap)
    # Whoever may fire can append this as well.
    forged = events.encode(configuration := _applied(EVIL))
    for partition in range(app.partitions):
        await app.append([NewRecord(key=None, value=forged)], partition=partition)
    await app.append([NewRecord(key=SESSION.encode(), value=b'{"type": "a"}')])
    await app.settled()
    [command] = await commands(app)
    assert (command["run"], await instances(app)) == ("tasks.t", {"0": "scheduled"})
    shown = await in_force(app.connection, app.app)
    assert shown is not None
    assert shown.hash != configuration.hash

    instance, sent = InstanceId("t#0"), CommandId(command["id"])
    finished = Finished(instance=instance, command=sent, result=None)
    await tell(outsider, app.app, [finished, Cancel(instance=instance), Erase()])
    await app.settled()
    assert await instances(app) == {"0": "scheduled"}
    letters = await read_all(app.connection, app.topics.dead_letters, app.partitions)
    assert sum(map(len, letters.values())) == app.partitions + 3

    # With the key: an outcome; and the timer of the retry, which the worker itself appends.
    await tell(app.connection, app.app, [Failed(instance=instance, command=sent, error="no")])
    async with asyncio.timeout(60):
        while len(await commands(app)) < 2:
            pass
    assert await instances(app) == {"0": "replayed", "1": "scheduled"}

    at = ("--at", f"kafka://{app.connection.bootstrap}/{app.app}")
    with_key = (*at, "--kafka-config", str(config))
    cancel = ("instances", "cancel", SESSION, "t#1", "--reason", "it is wrong")
    ran = await triggerstream(*cancel, *at)
    assert (ran.status, "t#1: not done: triggerstream-signature: is missing" in ran.err) == (1, True), ran
    ran = await triggerstream(*cancel, *with_key)
    assert (ran.status, ran.out) == (0, "s t#1: cancelled\n")
    assert (await triggerstream("replay", "--check", *with_key)).status == 0
    ran = await triggerstream("replay", "--check", *at)
    assert (ran.status, "session s/generation: kept is 0, the log gives 1" in ran.out) == (1, True), ran


def _applied(text: str) -> ConfigApplied:
    config = tasksfile.read(text, name="tasks")
    return ConfigApplied(text=config.text, hash=config.hash, replaces=None, fold=1)
