"""Orders of `instances`, which are folded before the command returns."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands.test_sessions import trigger
from tests.cli.conftest import SURVEY, Cli
from tests.support.engines import RunningEngine, running_engine
from triggerstream.core.commands import Command
from triggerstream.core.events import Failed


def fail(engine: RunningEngine, *commands: Command) -> None:
    for command in commands:
        engine.append(command.session, Failed(instance=command.instance, command=command.id, error="broken"))


@pytest.fixture
def failed(engine: RunningEngine) -> Command:
    engine.append("s", trigger("module1"), trigger("module4"))
    (command,) = engine.commands(1)
    fail(engine, command)
    return command


def test_skip_ends_a_failed_instance(cli: Cli, failed: Command) -> None:
    ran = cli("instances", "skip", "s", failed.instance, "--json", "--reason", "not needed", "--by", "ada")
    assert ran.status == 0
    assert ran.row() | {"offset": 0} == {
        "session": "s",
        "instance": "t_process#0",
        "order": "skip",
        "offset": 0,
        "applied": True,
        "status": "skipped",
    }
    shown = cli("sessions", "show", "s", "--json").row()["instances"]
    assert shown["t_process#0"]["note"] == "not needed (ada)"
    assert "t_mail#0" not in shown


def test_skip_with_cascade_goes_on_with_the_result(cli: Cli, engine: RunningEngine, failed: Command) -> None:
    ran = cli("instances", "skip", "s", failed.instance, "--cascade", "--result", '{"steps": 0}')
    assert (ran.status, ran.out) == (0, "s t_process#0: skipped\n")
    _, mail = engine.commands(2)
    assert mail.kwargs == {"t_process": {"steps": 0}}


def test_replay_runs_again_with_other_arguments(cli: Cli, engine: RunningEngine, failed: Command) -> None:
    ran = cli("instances", "replay", "s", failed.instance, "--kwargs", '{"module1": {"fixed": true}}')
    assert (ran.status, ran.out) == (0, "s t_process#0: replayed as t_process#1\n")
    _, again = engine.commands(2)
    assert (again.instance, again.kwargs) == ("t_process#1", {"module1": {"fixed": True}})


def test_cancel_ends_an_instance_that_waits(cli: Cli, engine: RunningEngine) -> None:
    engine.append("w", trigger("module1"))
    ran = cli("instances", "cancel", "w", "t_process#0")
    assert (ran.status, ran.out) == (0, "w t_process#0: cancelled\n")


def test_resend_hands_the_same_command_over_once_more(cli: Cli, engine: RunningEngine) -> None:
    engine.append("s", trigger("module1"), trigger("module4"))
    (first,) = engine.commands(1)
    ran = cli("instances", "resend", "s", "t_process#0")
    assert (ran.status, ran.out) == (0, "s t_process#0: handed over again; it is scheduled\n")
    _, second = engine.commands(2)
    assert (second.id, second.attempt) == (first.id, 1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["skip", "s", "t_process#0"], "only a failed one can be skipped"),
        (["replay", "s", "t_process#0"], "only a failed one is replayed"),
        (["cancel", "s", "t_process#7"], "no instance t_process#7"),
        (["resend", "s", "nope#0"], "no instance of task nope"),
        (["skip", "nobody", "t#0"], "nothing is known of this session"),
    ],
)
def test_an_order_that_does_not_apply_is_the_answer_no_with_its_reason(
    cli: Cli, engine: RunningEngine, arguments: list[str], says: str
) -> None:
    engine.append("s", trigger("module1"), trigger("module4"))
    ran = cli("instances", *arguments)
    assert (ran.status, ran.out) == (1, "")
    assert ": not done: " in ran.err
    assert says in ran.err
    row = cli("instances", *arguments, "--json").row()
    assert (row["applied"], says in row["reason"]) == (False, True)


def test_many_at_once_by_task_status_and_age(cli: Cli, engine: RunningEngine) -> None:
    for session in ("a", "b", "c"):
        engine.append(session, trigger("module1"), trigger("module4"))
    first, second, _ = engine.commands(3)
    fail(engine, first, second)
    dry = cli("instances", "skip", "--task", "t_process", "--dry-run", "--json")
    assert [(row["session"], row["status"]) for row in dry.rows()] == [("a", "failed"), ("b", "failed")]
    assert cli("instances", "skip", "--older-than", "1h", "--json").rows() == []
    assert cli("instances", "skip", "a", "--status", "failed", "--dry-run", "--json").row()["session"] == "a"
    ran = cli("instances", "skip", "--task", "t_process", "--json")
    assert [(row["session"], row["status"]) for row in ran.rows()] == [("a", "skipped"), ("b", "skipped")]
    assert cli("instances", "skip", "--task", "t_process").out == "no instance matches\n"


def test_without_an_engine_the_order_waits_in_the_log(cli: Cli, tmp_path: Path) -> None:
    with running_engine(tmp_path / "state", SURVEY) as engine:
        engine.append("w", trigger("module1"))
    ran = cli("instances", "cancel", "w", "t_process#0", "--wait", "0.1")
    assert ran.status == 1
    assert "the order is stored as event 2, but no engine has processed it yet" in ran.err
    with running_engine(tmp_path / "state") as engine:
        engine.append("w", trigger("other"))
        shown = cli("sessions", "show", "w", "--json").row()["instances"]
    assert shown["t_process#0"]["status"] == "cancelled"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["skip"], "name SESSION and INSTANCE"),
        (["skip", "s"], "name SESSION and INSTANCE"),
        (["skip", "s", "t#0", "--task", "t"], "name the instances, or choose them"),
        (["skip", "s", "t"], "write task#number"),
        (["skip", "s", "t#0", "--result", "{}"], "give both"),
        (["skip", "s", "t#0", "--cascade", "--result", "{"], "not JSON"),
        (["replay", "s", "t#0", "--kwargs", "[]"], "must be a JSON object"),
        (["skip", "--older-than", "soon"], "is not a duration"),
    ],
)
def test_an_order_that_says_too_little_or_too_much_is_wrong_usage(
    cli: Cli, engine: RunningEngine, arguments: list[str], says: str
) -> None:
    assert engine.directory == cli.directory
    ran = cli("instances", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert says in ran.err
    assert ran.err.count("\n") == 1


def test_release_decides_a_retry_that_waits(cli: Cli, engine: RunningEngine) -> None:
    engine.apply('{"t": {"after": ["x"], "run": "app.t", "retry": {"max": 1, "backoff": "1d"}}}')
    engine.append("later", trigger("x"))
    command = engine.commands(1)[-1]
    engine.append("later", Failed(instance=command.instance, command=command.id, error="away"))
    ran = cli("instances", "release", "--status", "delayed", "--reason", "it is back", "--by", "ann")
    assert (ran.status, ran.out) == (0, "later t#1: scheduled\n")
    assert [one.instance for one in engine.commands(2)] == ["t#0", "t#1"]
    again = cli("instances", "release", "later", "t#1")
    assert (again.status, "only a delayed or held one is released" in again.err) == (1, True)
