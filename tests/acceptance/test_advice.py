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

import tests
import triggerstream
from tests.acceptance.replaying import lose_changelog, lose_group, replay, set_group_back
from tests.adapters.faust.workers import TASKS, Outcome, Stage, outcome_of, stage
from tests.cli.conftest import SURVEY, Cli
from tests.support.advised import carry_out, printed_command
from tests.support.commands import END_S
from tests.support.commands import triggerstream as run
from tests.support.engines import running_engine
from triggerstream.adapters.kafka.cluster import change_settings, describe
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.core import advice
from triggerstream.core.errors import ConfigError
from triggerstream.core.ids import AppId
from triggerstream.wire import tasksfile
from triggerstream.wire.json import dumps
from triggerstream.wire.records import NewRecord

COMMAND = re.compile(r"`(triggerstream|pip|chmod|kafka-[a-z]+[.]sh) ")
CARRYING_OUT = frozenset({"printed_command", "carry_out"})
TESTS = Path(tests.__file__).parent

HARMLESS = {
    "end_transaction": "a command of Kafka's that shows transactions; a person decides how one of them ends",
    "add_replicas": "a command of Kafka's that adds copies, with a file that a person has to write first",
    "install_extra": "installs a package, and touches no state",
    "apply_file": "names `config apply` without a file; an apply appends, and nothing that is kept goes",
    "dev_applies": "starts `dev` with the file that was to be applied; events that are kept stay",
    "begin_directory": "is printed only where no database is, and `dev` never replaces one that is there",
    "put_database_back": "a person puts a file back or moves one away; nothing is deleted, and until then no "
    "database is made beside it",
    "look_for_bridge": "`doctor` changes nothing; a person has to write the broker's address",
    "look_for_workers": "`doctor` changes nothing; a person has to write the broker's address",
    "look_for_silent_workers": "`sessions explain` changes nothing; a person has to write the session's id",
    "accept_clock": "starts `dev` with its file; events that are kept stay, later ones get the clock's time",
    "release_instance": "an order, which the log keeps; it is refused for an instance that does not wait",
    "replay_instance": "an order, which the log keeps; it is refused for an instance that has not failed",
}
"""Advice that takes nothing from anybody when it is followed, and why. All other advice has a scenario."""


HOSTILE = "/my dir/$(id); 'x' & --yes"


def test_what_comes_from_outside_is_one_word_of_what_is_typed() -> None:
    """A directory with a blank is a clumsy operator's; a member of a group may have any name."""
    tried = 0
    for name in sorted(names()):
        function = getattr(advice, name)
        parameters = inspect.signature(function).parameters.values()
        given = {
            one.name: {"str": HOSTILE, "str | None": HOSTILE, "int": 3, "bool": True}[str(one.annotation)]
            for one in parameters
            if one.name not in {"extra", "variable", "log", "group", "why", "queue"}
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


def names() -> set[str]:
    found = inspect.getmembers(advice, inspect.isfunction)
    return {
        name
        for name, function in found
        if function.__module__ == advice.__name__
        and not name.startswith("_")
        and inspect.signature(function).return_annotation == "str"
    }


def carried_out(tree: ast.Module) -> dict[str, set[str]]:
    """The names of advice that the tests of a module have printed and take a command from, with the tests.

    Such a call has the advice as its first argument, ``carry_out(advice.NAME(…), …)``, and stands in a test,
    or in a function that a test of the module calls; its result is used, or it runs the command itself.
    """
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    calls = {function.name: called(function) for function in functions}
    found: dict[str, set[str]] = {}
    for function in functions:
        running = {
            name
            for name, used in calls.items()
            if name.startswith("test_") and (name == function.name or function.name in used)
        }
        unused = {id(node.value) for node in ast.walk(function) if isinstance(node, ast.Expr)}
        for node in ast.walk(function):
            if not isinstance(node, ast.Call) or not running or id(node) in unused:
                continue
            if name_of(node.func) in CARRYING_OUT and node.args and isinstance(node.args[0], ast.Call):
                made = node.args[0].func
                if isinstance(made, ast.Attribute) and name_of(made.value) == "advice":
                    found.setdefault(made.attr, set()).update(running)
    return found


def called(function: ast.AST) -> set[str]:
    return {name_of(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)}


def name_of(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def test_every_advice_is_carried_out_as_it_is_printed_or_harmless() -> None:
    scenarios: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text()
        if "tests.support.advised" in text:
            for name, running in carried_out(ast.parse(text)).items():
                scenarios.setdefault(name, []).extend(f"{path.stem}::{test}" for test in sorted(running))
    assert names() == set(scenarios) | set(HARMLESS)
    assert set(scenarios) & set(HARMLESS) == set()


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("async def test_it():\n    await carry_out(advice.rebuild(at), said)", {"rebuild"}),
        (
            "def helper():\n    x = printed_command(advice.rebuild(at), said)\ndef test_it():\n    helper()",
            {"rebuild"},
        ),
        ("def helper():\n    x = printed_command(advice.rebuild(at), said)\ndef test_it():\n    pass", set()),
        ("def test_it():\n    printed_command(advice.rebuild(at), said)", set()),
        ("def test_it():\n    assert advice.rebuild(at) in said", set()),
    ],
)
def test_a_scenario_is_a_test_that_takes_the_command_from_what_was_printed(
    body: str, found: set[str]
) -> None:
    assert set(carried_out(ast.parse(body))) == found


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


def address(app: Stage) -> str:
    return f"kafka://{app.connection.bootstrap}/{app.app}"


def same(one: Outcome, other: Outcome) -> None:
    assert one.states == other.states
    assert one.commands == other.commands
    assert one.letters == other.letters


async def go_on(app: Stage, before: Outcome) -> None:
    """Complete other sessions, and check that nothing was decided again."""
    worker = app.start("next")
    await app.fire(range(20, 25))
    await app.settled()
    await worker.drained()
    after = await outcome_of(app.connection, app.app, app.partitions)
    assert after.command_count() == before.command_count() + 5
    assert sum(map(len, after.states.values())) == 25


@pytest.mark.kafka
@pytest.mark.slow
async def test_topics_that_are_missing_and_a_first_configuration(app: Stage) -> None:
    at = address(app)
    ran = await run("topics", "check", "--at", at)
    assert ran.status == 1
    await carry_out(advice.create_topics(at), ran.out)
    assert (await run("topics", "check", "--at", at)).status == 0
    async with app.connection.client() as client:
        app.partitions = (await describe(client, [app.topics.events])).topics[app.topics.events].partitions
    found = await run("doctor", "--at", at)
    assert found.status == 1
    program, *words = printed_command(advice.apply_first_file(at, kafka=True), found.out)
    path = app.folder / "TASKS.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(TASKS)
    ran = await run(*[str(path) if word == "TASKS.json" else word for word in words])
    assert (program, ran.status) == ("triggerstream", 0), ran.err
    worker = app.start()
    await app.fire(range(5))
    await app.settled()
    await worker.drained()
    assert (await app.exact()).command_count() == 5


@pytest.mark.kafka
@pytest.mark.slow
async def test_topics_with_other_settings(app: Stage) -> None:
    before = await lived(app)
    async with app.connection.client() as client:
        await change_settings(client, app.topics.changelog, {"max.message.bytes": "1000000"})
    refused = app.start("w2")
    assert await refused.ended() == 2
    await carry_out(advice.repair_topics(address(app)), refused.text())
    same(await outcome_of(app.connection, app.app, app.partitions), before)
    await go_on(app, before)


@pytest.mark.kafka
@pytest.mark.slow
async def test_a_changelog_that_was_lost(app: Stage) -> None:
    before = await lived(app)
    await lose_changelog(app)
    # It leaves its group although its session is far from over, so that the rebuild need not wait.
    refused = app.start("w2", session_timeout="85s")
    assert await refused.ended(within_s=END_S) == 2
    await carry_out(advice.rebuild(address(app)), refused.text())
    same(await outcome_of(app.connection, app.app, app.partitions), before)
    await go_on(app, before)


@pytest.mark.kafka
@pytest.mark.slow
async def test_a_changelog_and_the_group_s_offsets_that_were_lost(app: Stage) -> None:
    before = await lived(app)
    await lose_changelog(app)
    await lose_group(app)
    refused = await replay(app, "--rebuild")
    assert refused.status == 2
    await carry_out(advice.rebuild_from_offset(address(app), commands=20), refused.err)
    worker = app.start("w2")
    await worker.ready()
    await app.settled()
    await worker.drained()
    same(await outcome_of(app.connection, app.app, app.partitions), before)
    await go_on(app, before)


@pytest.mark.kafka
@pytest.mark.slow
async def test_a_log_whose_head_was_deleted(app: Stage) -> None:
    before = await lived(app)
    # Retention takes what was folded, and a record that was not.
    await app.fire(range(20))
    places = [TopicPartition(app.topics.events, partition) for partition in range(app.partitions)]
    async with app.connection.running(app.connection.admin()) as admin:
        await admin.delete_records({place: RecordsToDelete(before_offset=-1) for place in places})
    refused = app.start("w2")
    assert await refused.ended(within_s=END_S) == 2
    await carry_out(advice.rebuild_from_rest(address(app)), refused.text())
    same(await outcome_of(app.connection, app.app, app.partitions), before)
    await go_on(app, before)


@pytest.mark.kafka
@pytest.mark.slow
async def test_a_log_that_fits_no_number_of_partitions(app: Stage) -> None:
    before = await lived(app)
    # A record of one session in each partition: one of them is misplaced, whatever their number.
    stray = [NewRecord(key=b"stray", value=dumps({"type": "a"}))]
    for partition in range(app.partitions):
        await app.append(stray, partition=partition)
    await set_group_back(app, by=-1)
    await lose_changelog(app)
    refused = await replay(app, "--rebuild")
    assert refused.status == 2
    assert "1 records of 1 sessions are not where 2 partitions would place them" in refused.err
    words = printed_command(advice.name_partitions(address(app)), refused.err)[1:]
    named = ["2" if word == "NUMBER" else word for word in words]
    assert (await run(*named)).status == 2
    assert not any((await outcome_of(app.connection, app.app, app.partitions)).states.values())
    ran = await run(*named, "--yes")
    assert ran.status == 0, ran.err
    after = await outcome_of(app.connection, app.app, app.partitions)
    assert after.commands == before.commands
    for partition, states in before.states.items():
        found = {key: value for key, value in after.states[partition].items() if key != b"stray"}
        assert found == states
    # The record without a copy is not forgotten because there is a checkpoint now.
    checked = await replay(app, "--check")
    assert checked.status == 1
    assert "1 records of 1 sessions are not where 2 partitions would place them" in checked.out


# ---- questions, which change nothing ----------------------------------------------------------------


def test_looking_changes_nothing_and_works(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "state")
    with running_engine(cli.directory, SURVEY):
        pass
    missing = cli("deadletters", "show", "99")
    assert missing.status == 1
    assert cli(*printed_command(advice.list_letters(), missing.err)[1:]).status == 0
    # Printed on Kafka alone.
    for command in (
        printed_command(advice.resend_stuck(), advice.resend_stuck()),
        printed_command(advice.show_file(), advice.show_file()),
    ):
        assert cli(*command[1:]).status == 0


def test_a_tasks_file_with_many_errors(tmp_path: Path) -> None:
    path = tmp_path / "my tasks.json"
    path.write_text('{"a": {}, "b": {}, "c": 1}')
    with pytest.raises(ConfigError) as caught:
        tasksfile.read(path.read_text(), name=str(path))
    ran = Cli(tmp_path / "state")(*printed_command(advice.check_file(str(path)), str(caught.value))[1:])
    assert ran.status == 1
    assert len(ran.out.splitlines()) >= len(caught.value.findings)
