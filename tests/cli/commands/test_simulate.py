"""`simulate`: events folded in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import SURVEY, Cli


@pytest.fixture
def tasks(tmp_path: Path) -> str:
    path = tmp_path / "tasks.json"
    path.write_text(SURVEY)
    return str(path)


def lines(*events: dict[str, Any] | str) -> bytes:
    return "\n".join(e if isinstance(e, str) else json.dumps(e) for e in events).encode() + b"\n"


def event(session: str, trigger: str, **fields: object) -> dict[str, Any]:
    return {"session": session, "type": trigger, **fields}


def test_prints_each_command_in_the_order_decided(cli: Cli, tasks: str) -> None:
    ran = cli(
        "simulate",
        tasks,
        "-",
        stdin=lines(
            event("b", "module4", data={"x": 1}),
            event("a", "module1"),
            event("a", "module4"),
            event("b", "module1", data={"y": 2}),
        ),
    )
    assert ran.status == 0
    assert [(r["session"], r["task"], r["instance"], r["run"]) for r in ran.rows()] == [
        ("a", "t_process", "t_process#0", "app.process"),
        ("b", "t_process", "t_process#0", "app.process"),
    ]
    assert ran.rows()[1]["kwargs"] == {"module4": {"x": 1}, "module1": {"y": 2}}
    assert len({r["id"] for r in ran.rows()}) == 2


def test_the_same_events_give_the_same_ids(cli: Cli, tasks: str, tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    events.write_bytes(lines(event("a", "module1"), event("a", "module4")))
    first, second = (cli("simulate", tasks, str(events)).row()["id"] for _ in range(2))
    assert first == second


def test_state_shows_sessions_by_first_appearance_and_no_command(cli: Cli, tasks: str) -> None:
    ran = cli(
        "simulate",
        tasks,
        "-",
        "--state",
        stdin=lines(
            event("z", "module1", data={"a": 1}),
            event("y", "nobodyUsesThis"),
            event("a", "module1"),
            event("z", "module4", data={"b": 2}),
            event("bad", "x", data=[]),
        ),
    )
    assert ran.rows() == [
        {
            "session": "z",
            "instances": {
                "t_process#0": {
                    "status": "scheduled",
                    "kwargs": {"module1": {"a": 1}, "module4": {"b": 2}},
                }
            },
        },
        {"session": "y", "instances": {}},
        {
            "session": "a",
            "instances": {"t_process#0": {"status": "unstarted", "kwargs": {"module1": {}}}},
        },
        {"session": "bad", "instances": {}},
    ]


def test_state_shows_kwargs_before_with_params(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text('{"t": {"after": ["a"], "run": "r", "withParams": {"a": {"extra": true}}}}')
    stdin = lines(event("s", "a", data={"x": 1}))
    assert cli("simulate", str(path), "-", "--state", stdin=stdin).row()["instances"] == {
        "t#0": {"status": "scheduled", "kwargs": {"a": {"x": 1}}}
    }
    assert cli("simulate", str(path), "-", stdin=stdin).row()["kwargs"] == {"a": {"x": 1, "extra": True}}


def test_assume_finished_chains_tasks_before_the_next_line(cli: Cli, tasks: str) -> None:
    stdin = lines(
        event("a", "module1"), event("a", "module4"), event("a", "unsubscribed"), event("b", "unsubscribed")
    )
    ran = cli("simulate", tasks, "-", "--assume-finished", stdin=stdin)
    assert [(r["session"], r["instance"]) for r in ran.rows()] == [("a", "t_process#0"), ("a", "t_mail#0")]
    assert ran.rows()[1]["kwargs"] == {"t_process": {}}
    assert cli("simulate", tasks, "-", stdin=stdin).row()["task"] == "t_process"


def test_assume_finished_is_breadth_first(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(
        """{"a": {"after": ["go"], "run": "r"}, "b": {"after": ["go"], "run": "r"},
            "aa": {"after": ["a"], "run": "r"}, "bb": {"after": ["b"], "run": "r"},
            "end": {"after": ["aa", "bb"], "run": "r"}}"""
    )
    ran = cli("simulate", str(path), "-", "--assume-finished", stdin=lines(event("s", "go")))
    assert [r["task"] for r in ran.rows()] == ["a", "b", "aa", "bb", "end"]


def test_assume_finished_with_state_shows_what_finished(cli: Cli, tasks: str) -> None:
    ran = cli(
        "simulate",
        tasks,
        "-",
        "--state",
        "--assume-finished",
        stdin=lines(event("a", "module1"), event("a", "module4")),
    )
    statuses = {name: fields["status"] for name, fields in ran.row()["instances"].items()}
    assert statuses == {"t_process#0": "finished", "t_mail#0": "finished"}


def test_arrival_is_received_else_time_else_that_of_the_line_before(cli: Cli, tasks: str) -> None:
    ran = cli(
        "simulate",
        tasks,
        "-",
        stdin=lines(
            event("a", "module1"),
            event("a", "module4"),
            event("b", "module1", time="2026-01-01T00:00:00Z"),
            event("b", "module4"),
            event("c", "module1", time="2026-02-01T00:00:00Z", received="2026-03-01T00:00:00Z"),
            event("c", "module4", time="not a time", received="2026-03-02T00:00:00Z"),
            event("c", "module4"),
        ),
    )
    assert [r["decided"] for r in ran.rows()] == [
        "1970-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z",
        "2026-03-02T00:00:00Z",
    ]


def test_an_event_for_the_dead_letters_is_told_with_its_line_and_the_run_goes_on(
    cli: Cli, tasks: str
) -> None:
    ran = cli(
        "simulate",
        tasks,
        "-",
        stdin=lines(
            event("a", "module1"),
            "",
            event("a", "module4", data=[1]),
            '{"session": "a", "type": "module4", "data": {"n": 123456789012345678901234567890}}',
            event("a", "triggerstream.config"),
            event("a", "module4"),
        ),
    )
    assert ran.status == 0
    assert ran.row()["session"] == "a"
    reasons = ran.err.splitlines()
    assert [reason.split(": ")[0] for reason in reasons] == ["-:3:1", "-:4:1", "-:5:1"]
    assert all(": dead letter: " in reason for reason in reasons)


def test_a_trigger_that_is_left_out_is_told_with_the_line_that_it_follows_from(
    cli: Cli, tmp_path: Path
) -> None:
    file = tmp_path / "pages.json"
    file.write_text(
        """{
          "$bounds": {"unresolvedInstances": 3},
          "t_page": {"after": [], "andEvery": "page", "run": "app.page"},
          "t_x": {"after": ["close"], "andEvery": "t_page", "run": "app.x"},
          "t_y": {"after": ["close"], "andEvery": "t_page", "run": "app.y"},
        }"""
    )
    ran = cli(
        "simulate",
        str(file),
        "-",
        "--assume-finished",
        stdin=lines("", *(event("s", "page") for _ in range(3))),
    )
    assert [row["instance"] for row in ran.rows()] == ["t_page#0", "t_page#1", "t_page#2"]
    full = "a session holds at most 3 unresolved instances ($bounds.unresolvedInstances)"
    assert ran.err.splitlines() == [
        f"-:{line}:1: dead letter: the trigger `t_page` was left out: {full}" for line in (3, 4)
    ]


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ('{"session": "a"', "3:16"),
        ('{"session": "a", "type": module}', "3:26"),
        ('["a"]', "3:1"),
        ('{"type": "module1"}', "3:1"),
        ('{"session": 7, "type": "module1"}', "3:1"),
        ('{"session": "a"}', "3:1"),
        ('{"session": "a", "type": 1}', "3:1"),
        ('{"session": "a", "type": "x", "received": "yesterday"}', "3:1"),
    ],
)
def test_an_unusable_line_ends_the_run_with_its_place(
    cli: Cli, tasks: str, tmp_path: Path, line: str, place: str
) -> None:
    events = tmp_path / "events.jsonl"
    events.write_bytes(lines(event("a", "module1"), event("a", "module4"), line, event("b", "module1")))
    ran = cli("simulate", tasks, str(events))
    assert ran.status == 2
    assert ran.err.count("\n") == 1
    assert ran.err.startswith(f"{events}:{place}: ")
    assert ran.row()["session"] == "a"  # what came before it counts


def test_an_order_that_does_not_apply_changes_nothing_and_is_no_error(cli: Cli, tasks: str) -> None:
    order = event("a", "triggerstream.instance.skip", data={"instance": "t_process#0"})
    ran = cli("simulate", tasks, "-", "--state", stdin=lines(event("a", "module1"), order))
    assert (ran.status, ran.err) == (0, "")
    assert ran.row()["instances"]["t_process#0"]["status"] == "unstarted"


def test_a_cancelled_command_is_no_further_line(cli: Cli, tasks: str) -> None:
    order = event("a", "triggerstream.instance.cancel", data={"instance": "t_process#0"})
    ran = cli("simulate", tasks, "-", stdin=lines(event("a", "module1"), event("a", "module4"), order))
    assert ran.row()["instance"] == "t_process#0"


def test_a_tasks_file_with_errors_is_one_line_with_its_place(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text('{\n  "t": {"after": "a", "run": "r"}\n}')
    ran = cli("simulate", str(path), "-")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(f"{path}:2:18 /t/after: ")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("missing", ["tasks", "events"])
def test_a_file_that_is_not_there_is_one_line(cli: Cli, tasks: str, tmp_path: Path, missing: str) -> None:
    nowhere = str(tmp_path / "nowhere")
    ran = cli("simulate", *([nowhere, "-"] if missing == "tasks" else [tasks, nowhere]))
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == f"{nowhere}: cannot be read: No such file or directory\n"


def test_a_byte_order_mark_before_the_first_line_is_skipped(cli: Cli, tasks: str) -> None:
    events = lines(event("s", "module1Received"), event("s", "module2Received"))
    marked = cli("simulate", tasks, "-", stdin=b"\xef\xbb\xbf" + events)
    assert marked == cli("simulate", tasks, "-", stdin=events)
    empty = cli("simulate", tasks, "-", stdin=b"\xef\xbb\xbf")
    assert (empty.status, empty.out) == (0, "")


def test_an_outcome_that_belongs_to_no_command_is_reported(cli: Cli, tasks: str) -> None:
    data = {"instance": "t_process#0", "command": "of-another-app"}
    ran = cli(
        "simulate",
        tasks,
        "-",
        stdin=lines(
            event("a", "module1"),
            event("a", "module4"),
            event("a", "triggerstream.task.finished", data=data),
        ),
    )
    assert (ran.status, len(ran.rows())) == (0, 1)
    assert ran.err == (
        "-:3:1: this outcome belongs to no command: the file decides no command of-another-app for "
        "t_process#0 of session a\n"
    )
