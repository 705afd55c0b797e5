"""Every repair that the program prints has a scenario, and those that nothing else carries out are here."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

import triggerstream
from tests.acceptance.replaying import lose_changelog, lose_group, replay
from tests.adapters.faust.workers import Outcome, Stage, outcome_of, stage
from tests.cli.conftest import SURVEY, Cli
from tests.support.commands import END_S, Ran
from tests.support.commands import triggerstream as run
from tests.support.engines import running_engine
from triggerstream.adapters.kafka.cluster import change_settings
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.core import advice
from triggerstream.core.ids import AppId

PRINTED = re.compile(r"`triggerstream ([^`]+)`")
COMMAND = re.compile(r"`(triggerstream|pip|chmod|kafka-[a-z]+[.]sh) ")

ELSEWHERE = {
    "list_letters": "test_looking_changes_nothing_and_works",
    "resend_stuck": "test_looking_changes_nothing_and_works",
    "show_file": "test_looking_changes_nothing_and_works",
    "rehome_added": "tests/acceptance/test_grown_topics.py::test_doing_what_is_printed",
    "rebuild_with_partitions": "tests/acceptance/test_grown_topics.py::test_what_was_destroyed_by_hand",
    "rebuild_all_the_same": "tests/acceptance/test_replay.py::test_a_log_that_was_made_again_begins_anew",
    "name_partitions": "tests/engine/test_rebuild.py::test_another_number_of_partitions_is_refused",
    "begin_bridge": "tests/adapters/kafka/test_bridge.py",
    "remove_member": "tests/adapters/faust",
    "check_file": "tests/wire/test_tasksfile.py",
    "close_file": "tests/engine/test_secret_files.py",
}
"""Advice that a test of its room carries out."""
NOTHING_TO_LOSE = {
    "add_replicas": "Kafka's own tool: it adds copies",
    "name_partitions_to_rehome": "says that a number is missing; rehome_added is the repair",
    "install_extra": "installs a package",
    "apply_file": "appends a configuration",
    "apply_first_file": "appends a configuration",
    "dev_applies": "says what happens by itself",
    "begin_directory": "begins where there is nothing",
    "put_database_back": "leaves a file as it is, or moves it",
    "replay_instance": "an order, which the log keeps",
}
"""Advice that can take nothing from anybody, and why."""


HOSTILE = "/my dir/$(id); 'x' & --yes"


def test_what_comes_from_outside_is_one_word_of_what_is_typed() -> None:
    """A directory with a blank is a clumsy operator's; a member of a group may have any name."""
    tried = 0
    for name in names():
        function = getattr(advice, name)
        parameters = inspect.signature(function).parameters.values()
        given = {
            one.name: {"str": HOSTILE, "int": 3, "bool": True}[str(one.annotation)]
            for one in parameters
            if one.name not in {"extra", "variable", "log", "group", "why"}
        }
        if HOSTILE not in given.values() or set(given) != {one.name for one in parameters}:
            continue
        tried += 1
        text = function(**given)
        commands = re.findall(r"`((?:triggerstream|chmod|kafka-)[^`]+)`", text) or re.findall(
            r"(triggerstream .+|kafka-[a-z]+[.]sh .+)", text
        )
        for command in commands:
            words = shlex.split(command)
            assert HOSTILE in words, (name, command)
            assert "--yes" not in words or name == "rebuild_all_the_same", (name, command)
    assert tried >= 10


def names() -> list[str]:
    found = inspect.getmembers(advice, inspect.isfunction)
    return [name for name, function in found if function.__module__ == advice.__name__]


def test_every_advice_has_a_scenario() -> None:
    here = {name.removeprefix("test_advice_") for name in globals() if name.startswith("test_advice_")}
    assert set(names()) == here | set(ELSEWHERE) | set(NOTHING_TO_LOSE)


def test_no_other_module_prints_a_command() -> None:
    root = Path(triggerstream.__file__).parent
    found = []
    for path in sorted(root.rglob("*.py")):
        if path.name == "advice.py" or "celery" in path.parts:
            continue
        tree = ast.parse(path.read_text())
        docs = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        loose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Constant) or id(node) in docs | loose:
                continue
            if isinstance(node.value, str) and COMMAND.search(node.value):
                found.append(f"{path.relative_to(root)}:{node.lineno}: {node.value}")
    assert found == []


# ---- carried out on Kafka -------------------------------------------------------------------------


@pytest.fixture
def app(kafka: str, kafka_app: AppId, tmp_path: Path) -> Iterator[Stage]:
    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "workers", partitions=2) as made:
        yield made


async def lived(app: Stage) -> Outcome:
    """Sessions that are complete, after which the worker has ended; what is in Kafka."""
    await app.prepare()
    worker = app.start()
    await app.fire(range(20))
    await app.settled()
    await worker.drained()
    return await outcome_of(app.connection, app.app, app.partitions)


def same(one: Outcome, other: Outcome) -> None:
    assert one.states == other.states
    assert one.commands == other.commands
    assert one.letters == other.letters


async def carried_out(text: str, *, status: int = 0) -> Ran:
    """Run the one command that ``text`` has, as it is printed."""
    (command,) = set(PRINTED.findall(text))
    while "stays a member until its session times out" in (ran := await run(*command.split())).err:
        pass
    assert ran.status == status, ran.err
    return ran


async def go_on(app: Stage, before: Outcome) -> None:
    """Complete other sessions, and see that nothing was decided anew."""
    worker = app.start("next")
    await app.fire(range(20, 25))
    await app.settled()
    await worker.drained()
    after = await outcome_of(app.connection, app.app, app.partitions)
    assert after.command_count() == before.command_count() + 5
    assert sum(map(len, after.states.values())) == 25


@pytest.mark.kafka
@pytest.mark.slow
async def test_advice_create_topics(app: Stage) -> None:
    address = f"kafka://{app.connection.bootstrap}/{app.app}"
    ran = await run("topics", "check", "--at", address)
    assert ran.status == 1
    await carried_out(ran.out)
    assert (await run("topics", "check", "--at", address)).status == 0


@pytest.mark.kafka
@pytest.mark.slow
async def test_advice_repair_topics(app: Stage) -> None:
    before = await lived(app)
    async with app.connection.client() as client:
        await change_settings(client, app.topics.changelog, {"max.message.bytes": "1000000"})
    refused = app.start("w2")
    assert await refused.ended() == 2
    await carried_out(refused.text())
    same(await outcome_of(app.connection, app.app, app.partitions), before)
    await go_on(app, before)


@pytest.mark.kafka
@pytest.mark.slow
async def test_advice_rebuild(app: Stage) -> None:
    before = await lived(app)
    await lose_changelog(app)
    refused = app.start("w2")
    assert await refused.ended(within_s=END_S) == 2
    await carried_out(refused.text())
    same(await outcome_of(app.connection, app.app, app.partitions), before)
    await go_on(app, before)


@pytest.mark.kafka
@pytest.mark.slow
async def test_advice_rebuild_from_offset(app: Stage) -> None:
    before = await lived(app)
    await lose_changelog(app)
    await lose_group(app)
    refused = await replay(app, "--rebuild")
    assert refused.status == 2
    await carried_out(refused.err)
    worker = app.start("w2")
    await worker.ready()
    await app.settled()
    await worker.drained()
    same(await outcome_of(app.connection, app.app, app.partitions), before)
    await go_on(app, before)


@pytest.mark.kafka
@pytest.mark.slow
async def test_advice_rebuild_from_rest(app: Stage) -> None:
    before = await lived(app)
    # Retention takes what was folded, and a record that was not.
    await app.fire(range(20))
    places = [TopicPartition(app.topics.events, partition) for partition in range(app.partitions)]
    async with app.connection.running(app.connection.admin()) as admin:
        await admin.delete_records({place: RecordsToDelete(before_offset=-1) for place in places})
    refused = app.start("w2")
    assert await refused.ended(within_s=END_S) == 2
    await carried_out(refused.text())
    same(await outcome_of(app.connection, app.app, app.partitions), before)
    await go_on(app, before)


# ---- questions, which change nothing ----------------------------------------------------------------


@pytest.mark.parametrize("text", [advice.list_letters(), advice.resend_stuck(), advice.show_file()])
def test_looking_changes_nothing_and_works(tmp_path: Path, text: str) -> None:
    cli = Cli(tmp_path / "state")
    with running_engine(cli.directory, SURVEY):
        pass
    (command,) = PRINTED.findall(text)
    assert cli(*command.split()).status == 0
