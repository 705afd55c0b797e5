"""`triggerstream config diff`: what a file would do to the sessions there are."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import SURVEY, Cli
from tests.support.advised import printed_command
from tests.support.engines import RunningEngine, running_engine
from triggerstream.core import advice
from triggerstream.core.events import Failed, Trigger
from triggerstream.core.ids import InstanceId, TriggerName

FIRST = """{
  "t_process": {"after": ["module1", "module4"], "run": "app.process"},
  "t_late": {"after": ["module1"], "run": "app.late", "retry": {"max": 1, "backoff": "1h"}},
  "t_mail": {"after": ["t_process", "sent"], "unless": ["unsubscribed"], "run": "app.mail"},
}"""
LATER = """{
  "t_process": {"after": ["module1"], "run": "app.process"},
  "t_late": {"after": ["module1"], "run": "app.late"},
}"""
KINDS = ("touched", "decided", "due", "expired", "abandoned", "cancelled", "failed", "begun")


@pytest.fixture
def later(tmp_path: Path) -> Path:
    file = tmp_path / "later.json"
    file.write_text(LATER)
    return file


def trigger(name: str) -> Trigger:
    return Trigger(name=TriggerName(name), data={})


def live(engine: RunningEngine) -> None:
    """Two sessions that wait for module4, one of which also waits to mail, and to try again."""
    engine.apply(FIRST)
    engine.append("s1", trigger("module1"), trigger("sent"))
    (late,) = engine.commands(1)
    engine.append("s1", Failed(instance=InstanceId("t_late#0"), command=late.id, error="e"))
    engine.append("s2", trigger("module1"))
    engine.commands(2)


@pytest.fixture
def lived(engine: RunningEngine) -> RunningEngine:
    live(engine)
    return engine


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """The database that such an engine has left behind."""
    with running_engine(tmp_path / "state") as engine:
        live(engine)
    return tmp_path / "state" / "triggerstream.db"


def counts(**given: int) -> dict[str, int]:
    return {kind: given.get(kind, 0) for kind in KINDS}


@pytest.mark.usefixtures("lived")
def test_it_counts_by_task_what_would_happen_at_once(cli: Cli, later: Path) -> None:
    ran = cli("config", "diff", str(later), "--json")
    row: dict[str, Any] = ran.row()
    assert (ran.status, row["removed"], row["changed"]) == (1, ["t_mail"], ["t_process", "t_late"])
    sessions = row["sessions"]
    (partition,) = sessions["partitions"]
    assert (sessions["looked"], partition["partition"]) == (2, 0)
    assert partition["offset"] == partition["lastOffset"] == partition["logEnd"]
    tasks = sessions["tasks"]
    assert list(tasks) == ["t_process", "t_late", "t_mail"]
    examples = {name: task.pop("examples") for name, task in tasks.items()}
    assert tasks == {
        "t_process": counts(touched=2, decided=2),
        "t_late": counts(touched=1, decided=1, due=1),
        "t_mail": counts(touched=1, cancelled=1),
    }
    assert examples["t_process"] == {"touched": ["s1", "s2"], "decided": ["s1", "s2"]}
    assert examples["t_late"] == {one: ["s1"] for one in ("touched", "decided", "due")}


def test_people_see_a_table_with_examples_and_the_point_of_the_log(
    cli: Cli, later: Path, lived: RunningEngine
) -> None:
    ran = cli("config", "diff", str(later))
    assert (ran.status, ran.err) == (1, "")
    out = ran.out.splitlines()
    assert any(line.split() == ["t_process", "2", "2", "0", "0"] for line in out), ran.out
    assert any(line.split() == ["t_mail", "1", "0", "0", "1"] for line in out), ran.out
    assert "t_late, of these, timer due: s1" in out
    assert out[-1].startswith("counted in 2 sessions, as they were at offset ")
    assert out[-1].endswith("; not counted: what arrives before the file does")
    program, *words = printed_command(advice.explain_examples(str(lived.directory)), ran.out)
    shown = cli(*["s2" if word == "SESSION" else word for word in words])
    assert (program, shown.status) == ("triggerstream", 0)
    assert "t_process#0" in shown.out


def test_the_counts_are_what_happens(cli: Cli, later: Path, lived: RunningEngine) -> None:
    tasks = cli("config", "diff", str(later), "--json").row()["sessions"]["tasks"]
    before = len(lived.commands(2))
    lived.apply(LATER)
    total = sum(one["decided"] for one in tasks.values())
    decided = lived.commands(before + total)[before:]
    assert sorted(command.instance for command in decided) == ["t_late#1", "t_process#0", "t_process#0"]
    ran = cli("sessions", "list", "--status", "cancelled", "--json")
    assert [row["session"] for row in ran.rows()] == tasks["t_mail"]["examples"]["cancelled"]


@pytest.mark.usefixtures("left")
def test_events_that_are_not_folded_are_said(cli: Cli, later: Path) -> None:
    assert cli("fire", "s3", "module1").status == 0
    ran = cli("config", "diff", str(later))
    assert "not counted: 1 event of the log that is not folded yet, and what arrives before" in ran.out


@pytest.mark.parametrize(
    ("before", "after"),
    [("app.mail", "app.post"), ("\n}", '\n  "new": {"after": ["x"], "run": "app.new"},\n}')],
)
@pytest.mark.usefixtures("lived")
def test_of_a_file_that_does_nothing_at_once_no_session_is_read(
    cli: Cli, tmp_path: Path, before: str, after: str
) -> None:
    file = tmp_path / "plain.json"
    file.write_text(FIRST.replace(before, after))
    ran = cli("config", "diff", str(file), "--json")
    assert (ran.status, ran.row()["sessions"]) == (1, {"looked": 0, "partitions": [], "tasks": {}})
    ran = cli("config", "diff", str(file))
    assert ran.out.endswith("to sessions: nothing would happen before their next events\n")


@pytest.mark.usefixtures("lived")
def test_counting_is_left_out_where_it_is_not_wanted(cli: Cli, later: Path) -> None:
    assert "sessions" not in cli("config", "diff", str(later), "--without-counts", "--json").row()
    assert "counted" not in cli("config", "diff", str(later), "--without-counts").out


def test_states_that_cannot_be_read_leave_the_difference_between_the_files(
    cli: Cli, later: Path, left: Path
) -> None:
    with closing(sqlite3.connect(left, isolation_level=None)) as database:
        database.execute("UPDATE sessions SET state = '{' WHERE id = 's2'")
    ran = cli("config", "diff", str(later))
    assert (ran.status, ran.err.count("\n")) == (1, 1)
    assert ran.err.startswith("what would happen to sessions is not known: ")
    assert "2 tasks changed: t_process, t_late" in ran.out
    row = cli("config", "diff", str(later), "--json").row()
    assert row["sessions"] is None
    assert "the state of session 's2' cannot be read" in str(row["notCounted"])


def test_the_file_in_force_changes_nothing(cli: Cli, engine: RunningEngine, tmp_path: Path) -> None:
    file = tmp_path / "same.json"
    file.write_text(SURVEY)
    ran = cli("config", "diff", str(file))
    assert (ran.status, ran.out) == (0, "nothing would change\n")
    assert engine.directory.exists()
