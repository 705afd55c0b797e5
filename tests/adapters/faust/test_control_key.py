"""An app whose own events are signed: who has not the key decides nothing, whatever he may append."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from tests.adapters.faust.workers import Stage, read_all, stage
from tests.support.commands import triggerstream
from tests.support.secrets import write_secret
from tests.support.waiting import until
from triggerstream.adapters.kafka import security
from triggerstream.adapters.kafka.config import in_force
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.log import KafkaLog
from triggerstream.adapters.kafka.reader import KafkaReader
from triggerstream.core.events import Body, Cancel, ConfigApplied, Erase, Failed, Finished
from triggerstream.core.ids import AppId, CommandId, InstanceId, SessionId
from triggerstream.core.placement import partition_of
from triggerstream.engine.queries.view import View
from triggerstream.wire import events, state, tasksfile
from triggerstream.wire.answers import to_json
from triggerstream.wire.records import NewRecord

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

TASKS = '{"t": {"after": ["a"], "run": "tasks.t", "retry": {"max": 1, "backoff": "1s"}}}'
EVIL = '{"t": {"after": ["a"], "run": "tasks.evil"}}'
SESSION = SessionId("s")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """What workers, Celery workers and operators have, and applications have not."""
    write_secret(tmp_path / "control.key", f"2026-01-01T00:00:00Z {'5a' * 32}\n")
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
    orders: list[Body] = [Cancel(instance=instance, generation=0), Erase(generation=0)]
    await tell(outsider, app.app, [finished, *orders])
    await app.settled()
    assert await instances(app) == {"0": "scheduled"}
    letters = await read_all(app.connection, app.topics.dead_letters, app.partitions)
    assert sum(map(len, letters.values())) == app.partitions + 3

    # With the key: an outcome; and the timer of the retry, which the worker itself appends.
    await tell(app.connection, app.app, [Failed(instance=instance, command=sent, error="no")])

    async def is_replayed() -> bool:
        return len(await commands(app)) >= 2

    await until(is_replayed)
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


async def test_what_was_captured_has_no_effect_once_more(app: Stage, config: Path) -> None:
    """Whoever reads and writes the topic has every event that was ever signed, and the worker's answer."""
    at = ("--at", f"kafka://{app.connection.bootstrap}/{app.app}", "--kafka-config", str(config))
    home = partition_of(SESSION.encode(), app.partitions)
    before = len((await read_all(app.connection, app.topics.events, app.partitions))[home])
    (config.parent / "two.json").write_text(TASKS.replace("tasks.t", "tasks.two"))
    orders = (
        ("config", "apply", str(config.parent / "two.json")),
        ("fire", SESSION, "a"),
        ("instances", "resend", SESSION, "t#0", "--reason", "again"),
        ("sessions", "close", SESSION),
        ("fire", SESSION, "a"),
        ("sessions", "erase", SESSION),
        ("fire", SESSION, "a"),
        ("sessions", "close", SESSION),
        ("fire", SESSION, "a"),
    )
    for order in orders:
        ran = await triggerstream(*order, *at)
        assert ran.status == 0, ran
    await app.settled()
    log = (await read_all(app.connection, app.topics.events, app.partitions))[home]
    captured = {json.loads(record.value)["type"]: record for record in log[before:]}
    first = next(record for record in log if record.key is None)
    known, sent = await explained(app), len(await commands(app))
    assert (known["generation"], sent) == (3, 5)

    def again(record: ConsumerRecord, *headers: tuple[str, bytes]) -> NewRecord:
        return NewRecord(key=record.key, value=record.value, headers=(*record.headers, *headers))

    forged = [
        again(
            captured["triggerstream.config"],
            ("ce_type", b"triggerstream.session.erase"),
            ("ce_session", b"s"),
        ),
        again(first),
        again(captured["triggerstream.config"]),
        again(captured["triggerstream.session.close"]),
        again(captured["triggerstream.session.erase"]),
        again(captured["triggerstream.instance.resend"]),
    ]
    for record in forged:
        await app.append([record], partition=home)
    await app.settled()
    log = (await read_all(app.connection, app.topics.events, app.partitions))[home]
    places = [record.offset for record in log[-len(forged) :]]
    after = await explained(app)
    assert len(await commands(app)) == sent
    for name in ("generation", "closed", "tasks", "seen", "config"):
        assert after[name] == known[name], name
    assert {row["offset"]: (row["what"], row.get("note")) for row in after["timeline"][-3:]} == {
        places[3]: ("refused", "the session is in generation 3, the order was given for 2"),
        places[4]: ("refused", "the session is in generation 3, the order was given for 1"),
        places[5]: ("refused", "the session is in generation 3, the order was given for 0"),
    }
    ran = await triggerstream("deadletters", "list", "--json", *at)
    letters = {line["offset"]: line["reason"] for line in map(json.loads, ran.out.splitlines())}
    assert [letters[place].partition(":")[0] for place in places[:3]] == [
        "header ce_type",
        "/data/number",
        "/data/number",
    ]
    ran = await triggerstream("deadletters", "redrive", "--all", *at)
    assert (ran.status, "it would be refused again: header ce_type" in ran.err) == (1, True), ran
    shown = await in_force(app.connection, app.app)
    assert shown is not None
    assert (shown.number, "tasks.two" in shown.text) == (2, True)
    assert (await triggerstream("replay", "--check", *at)).status == 0


async def explained(app: Stage) -> dict[str, Any]:
    """The session, as an operator sees it."""
    reader = KafkaReader(app.connection, app.app)
    try:
        found = await View(reader, app=app.app).explain(SESSION)
    finally:
        await reader.close()
    assert found is not None
    return to_json(found)


def _applied(text: str) -> ConfigApplied:
    config = tasksfile.read(text, name="tasks")
    return ConfigApplied(text=config.text, hash=config.hash, replaces=None, fold=1)
