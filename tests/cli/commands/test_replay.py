"""`triggerstream replay` on a state directory."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cli.conftest import SURVEY, Cli
from tests.support.engines import RunningEngine, running_engine
from triggerstream import bootstrap, variables
from triggerstream.adapters.memory import MemoryDispatcher
from triggerstream.core import tasks
from triggerstream.core.conditions import all_of
from triggerstream.core.events import Finished, Retried, Started, Trigger
from triggerstream.core.ids import AppId, CommandId, InstanceId, SessionId, TaskName, TriggerName, command_id
from triggerstream.core.tasks import Configuration
from triggerstream.engine import configuration_cache
from triggerstream.engine.failpoints import REBUILD
from triggerstream.engine.stored_states import UnreadableStateError
from triggerstream.settings import SqliteAddress
from triggerstream.wire import tasksfile
from triggerstream.wire.records import NewRecord

APP = AppId("triggerstream")
Tables = dict[str, list[tuple[object, ...]]]


def command_of(session: str, task: str = "t_process", number: int = 0) -> CommandId:
    return command_id(APP, SessionId(session), generation=0, task=TaskName(task), number=number)


def trigger(name: str, **data: int) -> Trigger:
    return Trigger(name=TriggerName(name), data={**data})


def database(cli: Cli) -> sqlite3.Connection:
    return sqlite3.connect(cli.directory / "triggerstream.db", isolation_level=None)


def tables(cli: Cli) -> Tables:
    """The stored data beside the log; the rows of the outbox without the time of their hand-over."""
    queries = {
        "sessions": "SELECT id, state, due_us FROM sessions ORDER BY id",
        "configurations": "SELECT * FROM configurations ORDER BY offset",
        "outbox": "SELECT command, revoke, session, value, settled FROM outbox ORDER BY number",
        "meta": "SELECT * FROM meta ORDER BY name",
        "log": "SELECT * FROM log ORDER BY offset",
        "dead_letters": "SELECT * FROM dead_letters ORDER BY number",
    }
    with closing(database(cli)) as connection:
        return {name: connection.execute(query).fetchall() for name, query in queries.items()}


def change(cli: Cli, *statements: str) -> None:
    with closing(database(cli)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def lived(cli: Cli) -> Cli:
    """A session is done, one's command is out, one waits for a timer, one for a trigger."""
    with running_engine(cli.directory, SURVEY) as engine:
        for session in ("done", "out", "later"):
            engine.append(session, trigger("module1", n=1), trigger("module4"))
        engine.append("waits", trigger("module4"))
        engine.append_raw([NewRecord(key=b"bad", value=b"no JSON")])
        engine.commands(3)
        instance = InstanceId("t_process#0")
        engine.append("done", Finished(instance=instance, command=command_of("done"), result={"n": 2}))
        engine.append("later", Started(instance=instance, command=command_of("later")))
        engine.append(
            "later", Retried(instance=instance, command=command_of("later"), after_us=3_600_000_000)
        )
    return cli


def test_a_check_finds_nothing_while_an_engine_runs_or_not(lived: Cli) -> None:
    ran = lived("replay", "--check", "--json")
    assert (ran.status, ran.err) == (0, "")
    row = ran.row()
    assert (row["partition"], row["sessions"], row["agrees"]) == (0, 4, True)
    with running_engine(lived.directory):
        ran = lived("replay", "--check")
    assert ran.status == 0
    assert "everything agrees with the log: " in ran.out


def test_a_check_names_what_is_damaged(lived: Cli) -> None:
    change(
        lived,
        """UPDATE sessions SET state = CAST(replace(state, '"scheduled"', '"running"') AS BLOB)
           WHERE id = 'out'""",
        "UPDATE sessions SET due_us = due_us + 1 WHERE id = 'later'",
        "DELETE FROM sessions WHERE id = 'waits'",
        "DELETE FROM outbox WHERE session = 'out'",
    )
    ran = lived("replay", "--check", "--json")
    assert ran.status == 1
    *rows, summary = ran.rows()
    assert (summary["differing"], summary["agrees"]) == (3, False)
    found = {(row["session"], row["place"]): (row.get("kept"), row.get("log")) for row in rows}
    assert found["out", "/tasks/t_process#0/status"] == ("running", "scheduled")
    assert found["out", f"/outbox/{command_of('out')}"] == (None, "t_process#0")
    assert found["waits", ""][0] is None
    kept, log = found["later", "/due"]
    assert isinstance(log, int)
    assert kept == log + 1
    ran = lived("replay", "--check")
    assert ran.status == 1
    line = 'session out/tasks/t_process#0/status: kept is "running", the log gives "scheduled"'
    assert f"partition 0: {line}\n" in ran.out


def test_a_rebuild_gives_what_was_lost_and_decides_nothing_again(lived: Cli) -> None:
    before = tables(lived)
    change(lived, "DELETE FROM sessions", "DELETE FROM configurations", "DELETE FROM outbox")
    ran = lived("replay", "--rebuild", "--json")
    assert (ran.status, ran.err) == (0, "")
    row = ran.row()
    assert (row["source"], row["sessions"], row["rebuilt"]) == ("checkpoint", 4, True)
    assert tables(lived) == before
    with running_engine(lived.directory) as engine:
        open_ = {command_of("out"), command_of("done", "t_mail")}
        assert {command.id for command in engine.commands(2)} == open_
        engine.append("waits", trigger("module1"))
        assert {command.id for command in engine.commands(3)} == {*open_, command_of("waits")}
        instance = InstanceId("t_process#0")
        engine.append("out", Finished(instance=instance, command=command_of("out"), result={}))
        assert command_of("out", "t_mail") in {command.id for command in engine.commands(4)}
    assert lived("replay", "--check").status == 0


def test_a_rebuild_leaves_what_is_right_as_it_is(lived: Cli) -> None:
    with closing(database(lived)) as connection:
        rows = connection.execute("SELECT * FROM outbox ORDER BY number").fetchall()
    assert rows
    before = tables(lived)
    ran = lived("replay", "--rebuild")
    assert ran.status == 0
    assert "rebuilt: engines may start again: " in ran.out
    assert tables(lived) == before
    with closing(database(lived)) as connection:
        assert connection.execute("SELECT * FROM outbox ORDER BY number").fetchall() == rows


def test_rows_of_the_outbox_that_the_log_knows_nothing_of_go(lived: Cli) -> None:
    before = tables(lived)
    change(lived, "INSERT INTO outbox (command, revoke, session, value) VALUES ('c', 0, 's', '{}')")
    assert lived("replay", "--rebuild").status == 0
    assert tables(lived) == before


def test_a_dry_run_changes_nothing_and_tells_what_is_to_be_decided(lived: Cli) -> None:
    change(lived, "DELETE FROM sessions WHERE id = 'out'")
    before = tables(lived)
    lived("fire", "waits", "module1")
    ran = lived("replay", "--rebuild", "--dry-run", "--json")
    assert (ran.status, ran.row()["toDecide"], ran.row()["rebuilt"]) == (0, 1, False)
    after = tables(lived)
    assert len(after.pop("log")) == len(before.pop("log")) + 1
    assert after == before


async def run_engine(directory: Path) -> None:
    """Run an engine to its end."""
    engine, log = bootstrap.embedded(
        SqliteAddress(path=directory / "triggerstream.db"),
        app=APP,
        dispatcher=MemoryDispatcher(),
        on_checkpoint=lambda _: None,
    )
    try:
        await engine.run()
    finally:
        await log.close()


def test_a_state_that_cannot_be_read_is_named_with_what_repairs_it(lived: Cli) -> None:
    before = tables(lived)
    change(lived, "UPDATE sessions SET state = CAST('{\"version\": 99}' AS BLOB) WHERE id = 'waits'")
    rebuild = f"`triggerstream replay --rebuild --at {lived.directory}`"
    said = f"{lived.directory}/triggerstream.db: the state of session 'waits' cannot be read (/version: "
    for words in (("sessions", "show", "waits"), ("sessions", "list"), ("sessions", "explain", "waits")):
        ran = lived(*words)
        assert (ran.status, ran.err.count("\n")) == (2, 1)
        assert ran.err.startswith(said)
        assert rebuild in ran.err
    ran = lived("replay", "--check")
    assert ran.status == 1
    assert "session waits: kept is " in ran.out
    assert rebuild in ran.out
    assert lived("fire", "waits", "module1").status == 0
    with pytest.raises(UnreadableStateError) as ended:
        asyncio.run(run_engine(lived.directory))
    assert str(ended.value).startswith(said)
    assert rebuild in str(ended.value)
    assert lived(*rebuild.strip("`").split()[1:-2]).status == 0
    assert tables(lived)["sessions"] == before["sessions"]
    assert lived("replay", "--check").status == 0


def test_another_fold_is_said_and_a_rebuild_asks_before_it_hands_anything_over(
    lived: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(text: str, *, name: str) -> Configuration:
        config = tasksfile.read(text, name=name)
        return replace(
            config, tasks=tuple(replace(one, after=all_of(one.needs[-1:])) for one in config.tasks)
        )

    assert lived("replay", "--check", "--json").row().get("fold") is None
    monkeypatch.setattr(tasks, "FOLD_VERSION", 2)
    monkeypatch.setattr(configuration_cache, "tasksfile", SimpleNamespace(read=read))
    ran = lived("replay", "--check", "--json")
    assert ran.status == 1
    assert ran.rows()[-1]["fold"] == 1
    new = [row for row in ran.rows() if "newCommand" in row]
    assert [(row["session"], row["instance"]) for row in new] == [("waits", "t_process#0")]
    assert "only this release decides t_process#0 of session waits" in lived("replay", "--check").out
    before = tables(lived)
    ran = lived("replay", "--rebuild")
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert "1 commands that only this release decides would be handed over" in ran.err
    assert tables(lived) == before
    assert lived("replay", "--rebuild", "--yes").status == 0
    assert lived("replay", "--check", "--json").row().get("fold") is None
    assert command_of("waits") in {row[0] for row in tables(lived)["outbox"]}


def test_an_engine_that_runs_is_left_alone(cli: Cli, engine: RunningEngine) -> None:
    engine.append("s", trigger("module1"))
    before = tables(cli)
    ran = cli("replay", "--rebuild")
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert f"another engine (process {os.getpid()}) runs on this directory" in ran.err
    assert tables(cli) == before


@pytest.mark.slow
@pytest.mark.parametrize("point", [point for point in REBUILD if point.startswith("rebuild.")])
def test_a_rebuild_that_was_killed_is_repeated(lived: Cli, point: str) -> None:
    before = tables(lived)
    change(lived, "DELETE FROM sessions WHERE id < 'm'", "DELETE FROM outbox")
    command = [sys.executable, "-m", "triggerstream", "replay", "--rebuild", "--at", str(lived.directory)]
    killed = subprocess.run(command, env={**os.environ, variables.FAILPOINT: point}, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert lived("replay", "--rebuild").status == 0
    assert tables(lived) == before


@pytest.mark.slow
def test_a_terminal_shows_a_bar_and_the_output_stays_clean(lived: Cli) -> None:
    ours, theirs = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "triggerstream",
        "replay",
        "--check",
        "--json",
        "--at",
        str(lived.directory),
    ]
    ran = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
        timeout=60,
        check=True,
    )
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # how a terminal that nobody writes to any more ends
        while piece := os.read(ours, 4096):
            shown += piece
    os.close(ours)
    assert b"log" in shown
    assert b"12/12" in shown
    assert [json.loads(line)["agrees"] for line in ran.stdout.splitlines()] == [True]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give --check or --rebuild"),
        (("--check", "--rebuild"), "give --check or --rebuild, not both"),
        (("--check", "--dry-run"), "go with --rebuild"),
        (
            ("--rebuild", "--from-offset", "x"),
            "'x': write commands, latest, earliest, an offset, or PARTITION:OFFSET",
        ),
        (("--rebuild", "--from-offset", ":3"), "':3': write commands"),
        (("--rebuild", "--from-offset", "7:3"), "there is no partition 7, but 1 from 0 on"),
    ],
)
def test_wrong_usage_is_told_in_one_line(lived: Cli, arguments: tuple[str, ...], says: str) -> None:
    ran = lived("replay", *arguments)
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert says in ran.err


def test_nothing_is_made_by_looking(cli: Cli, tmp_path: Path) -> None:
    ran = cli("replay", "--check")
    assert ran.status == 2
    assert "there is no state directory here yet" in ran.err
    assert not (tmp_path / "state").exists()


def test_an_intake_has_nothing_to_replay(cli: Cli) -> None:
    ran = cli("replay", "--check", at="http://127.0.0.1:1")
    assert ran.status == 2
    assert "name the engine's state directory or database" in ran.err
