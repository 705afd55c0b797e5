"""The same random log through the Kafka engine, through a fold in memory, and through `simulate`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.faust.workers import Outcome, Stage, read_all, stage
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.deadletters import read_dead_letter
from triggerstream.core.commands import Command
from triggerstream.core.events import (
    Body,
    Cancel,
    Close,
    Erase,
    Failed,
    Finished,
    Replay,
    Resend,
    Skip,
    Skipped,
    Started,
    Touch,
)
from triggerstream.core.ids import AppId, Json, JsonObject
from triggerstream.engine.replay.simulate import Simulation, instances_of
from triggerstream.wire import commands, events, state, tasksfile
from triggerstream.wire.instants import format_instant
from triggerstream.wire.json import as_object, dumps, loads
from triggerstream.wire.records import NewRecord

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

SESSIONS = 60
TRIGGERS = ("a", "b", "c", "d")


@pytest.fixture
def app(kafka: str, kafka_app: AppId, tmp_path: Path) -> Iterator[Stage]:
    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "workers") as made:
        yield made


BOUNDS: JsonObject = {
    "unresolvedInstances": 3,
    "triggerNames": 1,
    "resolvedInstances": 2,
    "resolvedBytes": 500,
    "stateBytes": 4_000,
    "commandBytes": 560,
}
"""So low that the logs meet each of them."""


def tasks_file(chance: random.Random, *, bounds: JsonObject | None = None) -> str:
    """Three tasks that wait for triggers and for one another."""
    tasks: JsonObject = {} if bounds is None else {"$bounds": bounds}
    for number, name in enumerate(("t", "u", "v")):
        pool = [*TRIGGERS, *("t", "u")[:number]]
        task: JsonObject = {
            "run": f"tasks.{name}",
            "after": list(chance.sample(pool, chance.randint(1, 2))),
        }
        if chance.random() < 0.3:
            task["unless"] = [chance.choice(pool)]
        if chance.random() < 0.4:
            task["andEvery"] = chance.choice(TRIGGERS)
        if chance.random() < 0.4:
            task["retry"] = {"max": 1}
        if chance.random() < 0.5:
            task["withParams"] = {"a": {"k": {"l": 1}}, "extra": {"n": 2}}
        tasks[name] = task
    return dumps(tasks).decode()


def random_triggers(chance: random.Random, count: int) -> Iterator[NewRecord]:
    for _ in range(count):
        fields: JsonObject = {
            "type": chance.choice(TRIGGERS),
            "data": {"k": {"m": chance.randrange(5)}, "n": chance.randrange(3)},
        }
        if chance.random() < 0.3:
            fields["id"] = f"id-{chance.randrange(200)}"
        yield NewRecord(key=f"s{chance.randrange(SESSIONS)}".encode(), value=dumps(fields))


def random_answers(chance: random.Random, decided: list[Command]) -> Iterator[NewRecord]:
    """Outcomes and orders for some of what was decided, and a few for nothing."""
    results: list[Json] = [None, {"k": 3}, "x"]
    for command in decided:
        instance, about = command.instance, command.id
        bodies: list[Body] = [
            Started(instance=instance, command=about),
            Finished(instance=instance, command=about, result=chance.choice(results)),
            Failed(instance=instance, command=about, error="no luck"),
            Skipped(instance=instance, command=about),
            Skip(instance=instance, cascade=True, result={"z": 1}),
            Replay(instance=instance, force=True),
            Cancel(instance=instance),
            Resend(instance=instance),
            Close(),
            Erase(),
            Touch(),
        ]
        for body in chance.choices(
            bodies, weights=[3, 6, 4, 1, 1, 1, 1, 1, 0.3, 0.3, 0.3], k=chance.randint(0, 3)
        ):
            yield NewRecord(key=command.session.encode(), value=events.encode(body))


@pytest.mark.parametrize(("seed", "bounds"), [(1, None), (2, None), (3, BOUNDS)])
async def test_random_logs_mean_the_same_to_every_engine(
    app: Stage, seed: int, bounds: JsonObject | None
) -> None:
    chance = random.Random(seed)
    text = tasks_file(chance, bounds=bounds)
    await app.prepare(text)
    workers = [app.start("w1"), app.start("w2")]
    seen = 0
    for _ in range(4):
        await app.append(random_triggers(chance, 300))
        await app.settled()
        decided = await _decided(app)
        await app.append(random_answers(chance, decided[seen:]))
        seen = len(decided)
        await app.settled()
    for worker in workers:
        await worker.ready()
        await worker.drained()
    outcome = await app.exact()
    assert outcome.command_count() > 20
    _compare_with_simulate(app, outcome, text)
    if bounds is not None:
        letters = await read_all(app.connection, app.topics.dead_letters, app.partitions)
        found = [
            read_dead_letter(record.value, key=record.key, headers=tuple(record.headers)).left_out
            for records in letters.values()
            for record in records
        ]
        assert None in found, "no trigger was refused: this shows nothing of bounds"
        assert 0 in found, "no trigger was left out: this shows nothing of bounds"


async def test_configurations_that_change_mean_the_same_to_every_engine(app: Stage) -> None:
    chance = random.Random(3)
    await app.prepare(tasks_file(chance))
    worker = app.start()
    for _ in range(4):
        await app.append(random_triggers(chance, 200))
        await app.settled()
        await app.append(random_answers(chance, await _decided(app)))
        await app.apply(tasks_file(chance))
    await app.settled()
    await worker.drained()
    assert (await app.exact()).command_count() > 20


async def _decided(app: Stage) -> list[Command]:
    found = await read_all(app.connection, app.topics.commands, app.partitions)
    decisions = [commands.decode(record.value) for records in found.values() for record in records]
    return [decision for decision in decisions if isinstance(decision, Command)]


def _compare_with_simulate(app: Stage, outcome: Outcome, text: str) -> None:
    config = tasksfile.read(text, name="tasks")
    for partition, records in outcome.events.items():
        simulation = Simulation(config, app=app.app, name="log")
        lines = [
            dumps(
                as_object(loads(record.value or b""), "")
                | {"session": record.key.decode(), "received": format_instant(record.arrival_us)}
            )
            for record in records
            if record.key is not None
        ]
        shown = [_brief(command) for command in simulation.run(lines) if isinstance(command, Command)]
        real = [commands.decode(value) for value in outcome.commands[partition]]
        assert shown == [_brief(command) for command in real if isinstance(command, Command)]
        for session, known in simulation.sessions():
            stored = outcome.states[partition][session.encode()]
            assert instances_of(known) == instances_of(state.decode(stored))


def _brief(command: Command) -> tuple[object, ...]:
    """What does not depend on where in a log the command was decided."""
    return command.id, command.instance, command.run, command.kwargs, command.attempt, command.retries
