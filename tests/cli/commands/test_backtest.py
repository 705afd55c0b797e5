"""`backtest`: two tasks files compared on what has happened, from files of events and state directories."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli
from tests.support.advised import printed_command
from tests.support.commands import Ran
from tests.support.engines import running_engine
from triggerstream.core import advice
from triggerstream.core.events import Trigger
from triggerstream.core.ids import Json, SessionId, TaskName, TriggerName, command_id
from triggerstream.settings import DEFAULT_APP
from triggerstream.wire.instants import format_instant

OLD = {"t": {"after": ["a", "b"], "run": "app.t"}, "next": {"after": ["t"], "run": "app.next"}}
NEW = {**OLD, "u": {"after": [{"trigger": "a", "where": "data.n > 1"}], "run": "app.u"}}
START_US = 1_767_225_600_000_000


@pytest.fixture
def old(tmp_path: Path) -> str:
    return written(tmp_path / "old.json", json.dumps(OLD))


@pytest.fixture
def new(tmp_path: Path) -> str:
    return written(tmp_path / "new.json", json.dumps(NEW))


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def exported(offset: int, session: str, kind: str, **data: Json) -> dict[str, Any]:
    """An event as `sessions export` prints it, one a second."""
    received = format_instant(START_US + offset * 1_000_000)
    return {
        "type": kind,
        "data": data,
        "session": session,
        "received": received,
        "app": DEFAULT_APP,
        "offset": offset,
    }


def finished(offset: int, session: str) -> dict[str, Any]:
    command = command_id(DEFAULT_APP, SessionId(session), generation=0, task=TaskName("t"), number=0)
    return exported(
        offset, session, "triggerstream.task.finished", instance="t#0", command=command, result={"ok": 1}
    )


def history() -> list[dict[str, Any]]:
    """Twelve sessions, in each of which t finishes; in half of them u would be added."""
    events: list[dict[str, Any]] = []
    for n in range(12):
        session = f"s-{n}" if n % 3 else f"order/{n}"
        events.append(exported(len(events), session, "a", n=n % 2 * 5))
        events.append(exported(len(events), session, "b", n=n))
        events.append(finished(len(events), session))
    return events


def lines(events: Iterable[dict[str, Any]], *, compact: bool = True) -> str:
    separators = (",", ":") if compact else (", ", ": ")
    return "".join(json.dumps(event, separators=separators) + "\n" for event in events)


def without_pace(ran: Ran) -> list[dict[str, Any]]:
    """The lines of `--json`, without the figures that no two runs have in common."""
    rows = ran.rows()
    assert rows[-1].pop("seconds") >= 0
    assert rows[-1].pop("eventsPerSecond") >= 0
    return rows


def test_prints_what_is_added_with_sessions_and_exits_with_1(
    cli: Cli, old: str, new: str, tmp_path: Path
) -> None:
    events = written(tmp_path / "events.jsonl", lines(history()))
    ran = cli("backtest", new, "--against", old, "--from", events)
    assert (ran.status, ran.err) == (1, "")
    assert "u, added: s-1 (u#0), order/3 (u#0), s-5 (u#0), …\n" in ran.out
    program, *words = printed_command(advice.simulate_examples(new, events, until=None), ran.out)
    shown = cli(*words)
    assert (program, shown.status) == ("triggerstream", 0)
    assert '"session":"s-1"' in shown.out
    assert "6 commands assumed to finish at once with an empty result" in ran.out
    assert "no such command: u 6\n" in ran.out
    assert "6 of 12 sessions differ; 36 events of 12 sessions in " in ran.out


def test_a_file_differs_in_nothing_from_itself(cli: Cli, old: str, tmp_path: Path) -> None:
    events = written(tmp_path / "events.jsonl", lines(history()))
    ran = cli("backtest", old, "--against", old, "--from", events)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith(
        "nothing differs: both files decide the same 24 commands; 36 events of 12 sessions in "
    )


def test_json_has_a_line_for_each_task_and_one_for_all(cli: Cli, old: str, new: str, tmp_path: Path) -> None:
    events = written(tmp_path / "events.jsonl", lines(history()))
    ran = cli("backtest", new, "--against", old, "--from", events, "--json")
    assert ran.status == 1
    *tasks, total = without_pace(ran)
    assert [one["task"] for one in tasks] == ["next", "t", "u"]
    assert tasks[0] == {
        "task": "next",
        "old": 12,
        "new": 12,
        "added": 0,
        "removed": 0,
        "changed": 0,
        "later": 0,
        "earlier": 0,
        "assumed": 0,
        "examples": {},
    }
    assert len(tasks[2]["examples"]["added"]) == 5
    assert tasks[2]["examples"]["added"][0] == {
        "session": "s-1",
        "instance": "u#0",
        "attempt": 0,
        "offset": 3,
        "differs": [],
        "old": None,
        "new": {
            "retries": 0,
            "run": "app.u",
            "kwargs": {"a": {"n": 5}},
            "decided": format_instant(START_US + 3_000_000),
        },
    }
    assert total == {
        "differs": True,
        "events": 36,
        "sessions": 12,
        "differing": 6,
        "old": 24,
        "new": 30,
        "added": 6,
        "removed": 0,
        "changed": 0,
        "later": 0,
        "earlier": 0,
        "assumed": 6,
        "outcomes": {"strays": 0, "moved": 0, "dropped": 0},
        "unreadable": 0,
        "reasons": [],
        "rejected": {"old": 0, "new": 0},
        "configurations": 0,
        "misplaced": 0,
        "cut": 0,
        "pending": 0,
    }


@pytest.mark.parametrize("form", ["spaced", "array", "without offsets", "standard input"])
def test_every_form_of_a_list_gives_the_same(cli: Cli, old: str, new: str, tmp_path: Path, form: str) -> None:
    expected = written(tmp_path / "expected.jsonl", lines(history()))
    events, text = history(), ""
    if form == "without offsets":
        events = [{name: one[name] for name in one if name != "offset"} for one in events]
    text = json.dumps(events) if form == "array" else lines(events, compact=False)
    source = "-" if form == "standard input" else written(tmp_path / "events.json", text)
    rows = [
        without_pace(cli("backtest", new, "--against", old, "--from", one, "--json", stdin=text.encode()))
        for one in (expected, source)
    ]
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_any_number_of_processes_gives_the_same(cli: Cli, old: str, new: str, tmp_path: Path) -> None:
    events = history()
    # Lines without an arrival arrive with the line before, although another process folds that.
    for place in (7, 16, 17, 30):
        del events[place]["received"]
    events.insert(9, exported(9, "s-1", "a", n='\\ "session":"s-2"') | {"offset": 100})
    events = [{name: one[name] for name in one if name != "offset"} for one in events]
    source = written(tmp_path / "events.jsonl", lines([*events, {"apply": {}}], compact=True))
    command = ("backtest", new, "--against", old, "--from", source, "--json", "--processes")
    found = [without_pace(cli(*command, number)) for number in ("1", "2", "3")]
    assert found[0] == found[1] == found[2]
    assert found[0][-1]["configurations"] == 1


def test_sessions_are_chosen_by_id_and_by_patterns(cli: Cli, old: str, new: str, tmp_path: Path) -> None:
    events = written(tmp_path / "events.jsonl", lines(history()))
    chosen_by = ((("s-1",), 1), (("order/*",), 4), (("*-1*", "s-4"), 4), (("s-*0",), 1), (("x*",), 0))
    for patterns, number in chosen_by:
        chosen = [part for pattern in patterns for part in ("--sessions", pattern)]
        ran = cli("backtest", new, "--against", old, "--from", events, "--json", *chosen)
        assert ran.rows()[-1]["sessions"] == number, patterns


def test_since_begins_sessions_with_later_events(cli: Cli, old: str, new: str, tmp_path: Path) -> None:
    events = written(tmp_path / "events.jsonl", lines(history()))
    since = format_instant(START_US + 31 * 1_000_000)
    ran = cli("backtest", new, "--against", old, "--from", events, "--json", "--since", since)
    total = ran.rows()[-1]
    assert (total["sessions"], total["events"]) == (2, 5)
    # Of the session that began before there is no t, and its outcome belongs to no command.
    assert (total["old"], total["outcomes"]["strays"]) == (2, 1)


def test_a_history_without_events_is_not_called_equal(cli: Cli, old: str, new: str, tmp_path: Path) -> None:
    events = written(tmp_path / "events.jsonl", lines(history()))
    for choice in (("--since", "1s"), ("--sessions", "nobody")):
        ran = cli("backtest", new, "--against", old, "--from", events, *choice)
        assert (ran.status, ran.err) == (0, "")
        assert ran.out.startswith("nothing was compared: the history has no event, or none that `--since`")


def test_until_lets_time_pass_after_the_last_event(cli: Cli, tmp_path: Path) -> None:
    retry = {"t": {"after": ["a"], "run": "app.t", "retry": {"max": 1, "backoff": "1h"}}}
    old = written(tmp_path / "old.json", json.dumps({"t": {"after": ["a"], "run": "app.t"}}))
    new = written(tmp_path / "new.json", json.dumps(retry))
    failed = {
        "session": "s",
        "type": "triggerstream.task.failed",
        "data": {"instance": "t#0", "error": "no luck"},
    }
    start = {"session": "s", "type": "a", "received": "2026-03-01T12:00:00Z"}
    events = written(tmp_path / "events.jsonl", lines([start, failed]))
    command = ("backtest", new, "--against", old, "--from", events)
    left = cli(*command)
    assert left.status == 0
    assert "1 session with a timer that has not fired when its events end: --until" in left.out
    for until in ("+1h", "2026-03-01T13:00:00Z"):
        ran = cli(*command, "--until", until)
        assert "t, added: s (t#1)" in ran.out
        assert "has not fired" not in ran.out
        _, *words = printed_command(advice.simulate_examples(new, events, until=until), ran.out)
        assert '"t#1","status":"scheduled"' in cli(*words).out
    assert cli(*command, "--until", "1h").err == "--until: did you mean `+1h`?\n"
    assert cli(*command, "--until", "+59m").status == 0


def test_events_that_an_engine_would_not_fold_are_counted(cli: Cli, old: str, tmp_path: Path) -> None:
    hostile = [
        exported(90, "s-1", "a") | {"data": [1]},
        exported(91, "s-1", "triggerstream.nothing"),
        exported(92, "s-2", "triggerstream.task.finished", instance="t"),
    ]
    events = written(tmp_path / "events.jsonl", lines([*history(), *hostile]))
    ran = cli("backtest", old, "--against", old, "--from", events, "--json")
    total = ran.rows()[-1]
    assert (ran.status, total["unreadable"], total["events"]) == (0, 3, 36)
    assert total["reasons"][0] == f"{events}, event 90: /data: must be an object, is an array"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "events.jsonl:1:1: not JSON"),
        ('{"type": "a"}', "events.jsonl:1:1: /session: must be a non-empty string, is missing"),
        ('"+3d"', "events.jsonl:1:1: events have their arrivals here"),
        ('{"session": "s", "type": "a", "received": "x"}', "events.jsonl:1:1: /received"),
    ],
)
def test_a_list_that_cannot_be_read_exits_with_2(
    cli: Cli, old: str, tmp_path: Path, text: str, says: str
) -> None:
    events = written(tmp_path / "events.jsonl", text)
    ran = cli("backtest", old, "--against", old, "--from", events)
    assert (ran.status, ran.out) == (2, "")
    assert says in ran.err


def test_a_history_that_is_not_there_exits_with_2(cli: Cli, old: str, tmp_path: Path) -> None:
    for source in (tmp_path / "nothing", "ftp://x", tmp_path / "old.json" / "x", "kafka://x", "http://x"):
        assert cli("backtest", old, "--against", old, "--from", str(source)).status == 2
    ran = cli("backtest", old, "--against", old, "--from", str(tmp_path / "nothing"))
    assert "nothing: there is no such file of events or state directory\n" in ran.err
    for wrong in (("--since", "x"), ("--until", "x"), ("--until", "+x")):
        events = written(tmp_path / "events.jsonl", lines(history()))
        assert cli("backtest", old, "--against", old, "--from", events, *wrong).status == 2


@pytest.mark.slow
def test_the_log_of_a_state_directory_is_a_history(cli: Cli, old: str, new: str, tmp_path: Path) -> None:
    directory = tmp_path / "engine"
    with running_engine(directory, json.dumps(OLD)) as engine:
        for n in range(5):
            names = (TriggerName("a"), TriggerName("b"))
            engine.append(f"s{n}", *(Trigger(name=name, data={"n": n}) for name in names))
    for source in (directory, f"sqlite:///{directory}/triggerstream.db", directory / "triggerstream.db"):
        for processes in ("1", "2"):
            command = ("backtest", new, "--against", old, "--from", str(source), "--json")
            ran = cli(*command, "--processes", processes)
            total = ran.rows()[-1]
            assert (ran.status, total["sessions"], total["events"], total["added"]) == (1, 5, 10, 3)
            assert total["configurations"] == 1
    ran = cli("backtest", new, "--against", old, "--from", str(directory), "--until", "+1h", "--since", "1h")
    assert f"`triggerstream sessions explain SESSION --at sqlite:///{directory}/triggerstream.db`" in ran.out
