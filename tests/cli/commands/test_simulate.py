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


# ---- another tasks file, time, and outcomes by hand ------------------------------------------------


def apply(tasks: object, **fields: object) -> dict[str, Any]:
    return {"apply": tasks, **fields}


OTHER: dict[str, Any] = {"t_process": {"after": ["module1"], "run": "app.other"}}


def test_an_apply_line_changes_the_tasks_file_from_there(cli: Cli, tasks: str) -> None:
    later = [event("b", "module1"), event("a", "nothing"), apply(OTHER)]
    ran = cli("simulate", tasks, "-", stdin=lines(event("a", "module1"), apply(OTHER), *later))
    # As engines do, it touches a session for which the new file decides something.
    assert [(r["session"], r["run"]) for r in ran.rows()] == [("a", "app.other"), ("b", "app.other")]
    assert (ran.status, ran.err) == (0, "")


def test_an_apply_line_of_an_engine_s_log_touches_no_session(cli: Cli, tasks: str) -> None:
    log = [
        event("a", "module1", offset=0),
        apply(OTHER, offset=1),
        event("b", "module1", offset=2),
        event("a", "triggerstream.session.touch", offset=3),
    ]
    ran = cli("simulate", tasks, "-", stdin=lines(*log))
    assert [(r["session"], r["run"]) for r in ran.rows()] == [("b", "app.other"), ("a", "app.other")]


def test_an_applied_file_may_be_its_text_with_comments(cli: Cli, tasks: str) -> None:
    text = '{\n  // other\n  "t": {"after": ["x"], "run": "app.x"},\n}'
    ran = cli("simulate", tasks, "-", stdin=lines(apply(text), event("a", "x")))
    assert ran.row()["run"] == "app.x"
    text = text.replace("run", "rum")
    ran = cli("simulate", tasks, "-", stdin=lines(apply(text), event("a", "x")))
    assert ran.status == 2
    assert ran.err.startswith("-:1:11: /apply: 3:")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (apply({"t": {"after": ["a"], "run": "r", "unles": []}}), "/apply/t/unles: unknown key `unles`"),
        (apply([1]), "/apply: must be a tasks file, an object of task name → task or its text, is an array"),
        (apply(OTHER, session="a"), "unknown key `session`: the keys are"),
        (apply(OTHER, receved="2026-01-01T00:00:00Z"), "did you mean `received`?"),
        (
            apply(OTHER, received="2026-01-01T00:00:00Z"),
            "/received: must be 2026-02-01T00:00:00Z or later, as an event before arrived then, is 2026-01-",
        ),
        (apply(OTHER, received="soon"), "/received: must be an RFC 3339 instant"),
    ],
)
def test_an_apply_line_that_cannot_be_used_ends_the_run_with_its_place(
    cli: Cli, tasks: str, line: dict[str, Any], says: str
) -> None:
    before = event("a", "module1", received="2026-02-01T00:00:00Z")
    ran = cli("simulate", tasks, "-", stdin=lines(before, line, event("b", "module1")))
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith("-:2:")
    assert says in ran.err


def test_the_place_of_a_mistake_in_an_applied_file_is_that_in_the_list(
    cli: Cli, tasks: str, tmp_path: Path
) -> None:
    events = tmp_path / "events.json"
    events.write_text(
        '[\n  {"session": "a", "type": "x"},\n  {"apply": {\n    "t": {"after": [],\n"run": "r"}\n}}\n]'
    )
    ran = cli("simulate", tasks, str(events))
    assert ran.status == 2
    assert ran.err.startswith(f"{events}:4:20: /apply/t/after: ")


@pytest.mark.parametrize("name", ["received", "time"])
def test_a_line_after_apply_does_not_arrive_before_it(cli: Cli, tasks: str, name: str) -> None:
    stdin = lines(
        apply(OTHER, received="2026-02-01T00:00:00Z"),
        event("a", "module1"),
        event("a", "module1", **{name: "2026-01-01T00:00:00Z"}),
    )
    ran = cli("simulate", tasks, "-", stdin=stdin)
    assert (ran.status, len(ran.rows())) == (2, 1)
    assert ran.err == (
        "-:3:1: /received: must be 2026-02-01T00:00:00Z or later, when the tasks file at -:1:1 was applied, "
        "is 2026-01-01T00:00:00Z\n"
    )


def test_a_list_that_applies_its_tasks_files_needs_no_file(cli: Cli, tmp_path: Path) -> None:
    log = lines(apply(OTHER), event("a", "module1"))
    assert [row["run"] for row in cli("simulate", "-", stdin=log).rows()] == ["app.other"]
    events = tmp_path / "events.jsonl"
    events.write_bytes(log)
    ran = cli("simulate", str(events), "--state")
    assert (ran.status, ran.err) == (0, "")
    assert list(ran.row()["instances"]) == ["t_process#0"]


@pytest.mark.parametrize("text", [SURVEY, '{"t": {"after": ["a"], "run": "r"}}', "{no JSON"])
def test_a_tasks_file_alone_is_answered_with_what_is_missing(cli: Cli, tmp_path: Path, text: str) -> None:
    file = tmp_path / "tasks.json"
    file.write_text(text)
    ran = cli("simulate", str(file))
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith(f"{file}:1:")
    assert "; write `simulate FILE EVENTS…`, or give a list of events in which " in ran.err


@pytest.mark.parametrize("alone", ["-", "a module1"])
def test_a_list_alone_that_applies_no_tasks_file_is_answered_with_what_is_missing(
    cli: Cli, alone: str
) -> None:
    ran = cli("simulate", alone, stdin=lines(event("a", "module1")))
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith(f"{alone}: no tasks file is applied in it; write `simulate FILE EVENTS…`")


def test_a_mistake_behind_the_first_tasks_file_is_reported_alone(cli: Cli) -> None:
    ran = cli("simulate", "-", stdin=lines(apply(OTHER), event("a", "module1")) + b"{")
    assert (ran.status, len(ran.rows())) == (2, 1)
    assert ran.err.startswith("-:3:")
    assert "EVENTS" not in ran.err


def test_lines_of_an_engine_s_log_are_in_order_by_their_offsets(cli: Cli) -> None:
    log = [
        apply({"x": {"after": ["x"], "run": "app.x"}}, offset=0, received="2026-03-01T00:00:00Z"),
        event("a", "module1", offset=1, received="2026-02-01T00:00:00Z"),
        apply(OTHER, offset=2, received="2026-01-01T00:00:00Z"),
        event("a", "module1", offset=3, received="2025-12-01T00:00:00Z"),
    ]
    ran = cli("simulate", "-", stdin=lines(*log))
    assert (ran.status, ran.err, ran.row()["run"]) == (0, "", "app.other")
    log[3]["offset"] = 2
    assert "-:4:1: /offset: must be greater" in cli("simulate", "-", stdin=lines(*log)).err


def test_a_file_that_an_engine_applied_is_read_as_it_was_even_if_it_would_be_refused_now(cli: Cli) -> None:
    file = {"t": {"after": ["module1"], "run": "tasks.py"}}
    ran = cli("simulate", "-", stdin=lines(apply(file), event("a", "module1")))
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("-:1:")
    ran = cli("simulate", "-", stdin=lines(apply(file, offset=0), event("a", "module1", offset=1)))
    assert (ran.status, ran.err, ran.row()["run"]) == (0, "", "tasks.py")
    file = {"t": {"after": ["module1"], "run": "app.t", "unles": ["b"]}}
    ran = cli("simulate", "-", stdin=lines(apply(file, offset=0), event("a", "module1", offset=1)))
    assert (ran.status, ran.err) == (
        2,
        "-:1:56: /apply/t/unles: unknown key `unles`: did you mean `unless`?\n",
    )


RETRYING = """{"t": {"after": ["a"], "run": "r", "retry": {"max": 1, "backoff": "1h"}}}"""


@pytest.fixture
def retrying(tmp_path: Path) -> str:
    path = tmp_path / "retrying.json"
    path.write_text(RETRYING)
    return str(path)


def failed(session: str, instance: str, **data: object) -> dict[str, Any]:
    return event(session, "triggerstream.task.failed", data={"instance": instance, **data})


def test_until_lets_the_timers_of_every_session_fire(cli: Cli, retrying: str) -> None:
    events = [
        event("a", "a", received="2026-01-01T00:00:00Z"),
        failed("a", "t#0"),
        event("b", "a", received="2026-01-01T00:10:00Z"),
        failed("b", "t#0"),
    ]

    def decided(*until: str) -> list[tuple[str, str]]:
        ran = cli("simulate", retrying, "-", *until, stdin=lines(*events))
        assert (ran.status, ran.err) == (0, "")
        return [(row["session"], row["instance"]) for row in ran.rows()]

    assert decided() == decided("--until", "2026-01-01T00:59:59Z") == [("a", "t#0"), ("b", "t#0")]
    assert decided("--until", "2026-01-01T01:00:00Z") == [("a", "t#0"), ("b", "t#0"), ("a", "t#1")]
    both = [("a", "t#0"), ("b", "t#0"), ("a", "t#1"), ("b", "t#1")]
    assert decided("--until", "2026-01-01T01:10:00Z") == decided("--until", "+1h") == both


@pytest.mark.parametrize(
    ("until", "says"),
    [
        ("2025-01-01T00:00:00Z", "2025-01-01T00:00:00Z is too early: an event before arrived at 2026-"),
        ("tomorrow", "TIME: must be an RFC 3339 instant such as"),
        ("+1w", "write +90s, +5m, +36h, +3d or +1h30m, or a time"),
    ],
)
def test_a_wrong_until_is_one_line(cli: Cli, retrying: str, until: str, says: str) -> None:
    stdin = lines(event("a", "a", received="2026-01-01T00:00:00Z"))
    ran = cli("simulate", retrying, "-", "--until", until, stdin=stdin)
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert ran.err.startswith(f"--until: {says}")


def test_an_outcome_without_command_is_one_of_its_instance_in_any_generation(cli: Cli, retrying: str) -> None:
    life = [event("a", "a"), event("a", "triggerstream.task.finished", data={"instance": "t#0"})]
    close = event("a", "triggerstream.session.close")
    ran = cli("simulate", retrying, "-", "--state", stdin=lines(*life, close, *life))
    assert (ran.status, ran.err) == (0, "")
    assert ran.row()["instances"]["t#0"]["status"] == "finished"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (failed("a", "t_process#0"), "t_process#0 waits for module4"),
        (failed("a", "t_process#7"), "session a has `t_process#0`"),
        (failed("b", "t_process#0"), "nothing has arrived for session b"),
    ],
)
def test_an_outcome_without_command_says_why_its_instance_has_none(
    cli: Cli, tasks: str, line: dict[str, Any], says: str
) -> None:
    ran = cli("simulate", tasks, "-", stdin=lines(event("a", "module1"), line))
    assert (ran.status, ran.out) == (0, "")
    about = f"{line['data']['instance']} of session {line['session']}"
    assert ran.err == f"-:2:1: this outcome belongs to no command: {about} has none: {says}\n"


# ---- arrays -----------------------------------------------------------------------------------------


def test_a_file_may_be_one_json_array(cli: Cli, tasks: str, tmp_path: Path) -> None:
    events = [event("a", "module1"), "a module4 x=1", "+1h", event("b", "module1"), event("b", "module4")]
    file = tmp_path / "events.json"
    for text in (json.dumps(events, indent=2), json.dumps(events), "\n\n" + json.dumps(events) + "\n\n"):
        file.write_text(text, encoding="utf-8-sig")
        ran = cli("simulate", tasks, str(file))
        assert (ran.status, ran.err) == (0, "")
        assert [(row["session"], row["decided"]) for row in ran.rows()] == [
            ("a", "1970-01-01T00:00:00Z"),
            ("b", "1970-01-01T01:00:00Z"),
        ]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[{"session": "a", "type": "x"},\n 7]', "2:2: must be an object"),
        ('[{"session": "a", "type": "x"}\n {"session": "a"}]', "2:2: not JSON: `,` or `]` is due"),
        ('[{"session": "a", "type": "x"},\n]', "2:1: not JSON: no `,` may stand before `]`"),
        ('[\n{"session": "a", "type": x}]', "2:26: not JSON"),
        ('[{"session": "a", "type": "x"}]\n7', "2:1: nothing may follow the array"),
        ('[{"session": "a", "type": "x"}', "2:1: not JSON"),
        ('[\n  {"session": "a",\n   "tpe": "x"}]', "2:3: /type: must be a non-empty string, is missing"),
        ("[\n  // a comment\n]", "2:3: not JSON"),
        ('[\n  "a"]', "2:3: a trigger is missing"),
        ('[\n  {"n": NaN}]', "2:9: not JSON"),
    ],
)
def test_a_mistake_in_an_array_has_its_place(
    cli: Cli, tasks: str, tmp_path: Path, text: str, place: str
) -> None:
    file = tmp_path / "events.json"
    file.write_text(text)
    ran = cli("simulate", tasks, str(file))
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert ran.err.startswith(f"{file}:{place}")


# ---- events in words --------------------------------------------------------------------------------


def test_events_in_words_print_the_commands_and_the_sessions_explained(cli: Cli, tasks: str) -> None:
    ran = cli("simulate", tasks, "42 module1 score=3", "+3d", "42 module4", "43 module1")
    assert (ran.status, ran.err) == (0, "")
    shown = ran.out.splitlines()
    assert shown[0] == '42  t_process#0  runs app.process  {"module1":{"score":3},"module4":{}}'
    assert "session 42" in shown
    assert any("t_process#0 unstarted  waits for module4" in line for line in shown)
    assert any(line.startswith("1970-01-04 00:00:00.000Z") and "decided" in line for line in shown)
    row = cli("simulate", tasks, "42 module1 score=3", "+3d", "42 module4", "--json").row()
    assert (row["kwargs"], row["decided"]) == (
        {"module1": {"score": 3}, "module4": {}},
        "1970-01-04T00:00:00Z",
    )


def test_explain_prints_each_session_as_json(cli: Cli, tasks: str) -> None:
    rows = cli("simulate", tasks, "42 module1", "43 unused", "--explain", "--json").rows()
    assert [row["session"] for row in rows] == ["42", "43"]
    assert rows[0]["waitsFor"] == ["module4"]
    assert rows[1]["seen"][0]["unused"] is True
    both = cli("simulate", tasks, "42 module1", "--explain", "--state")
    assert (both.status, both.err) == (2, "--state and --explain: give one of them\n")


def test_files_words_and_json_may_be_mixed(cli: Cli, tasks: str, tmp_path: Path) -> None:
    events = tmp_path / "my events.jsonl"  # a file that exists is a file
    events.write_bytes(lines(event("a", "module1", received="2026-01-01T00:00:00Z")))
    more = '{"session": "a", "type": "module4", "data": {"n": 1}, "id": "x"}'
    ran = cli("simulate", tasks, str(events), "+1h", more, "@2026-01-02T00:00:00Z", "b module1", "--json")
    assert ran.row()["decided"] == "2026-01-01T01:00:00Z"
    applied = cli("simulate", tasks, "a module1", json.dumps(apply(OTHER)), "b module1", "--json")
    assert [(row["session"], row["run"]) for row in applied.rows()] == [
        ("a", "app.other"),
        ("b", "app.other"),
    ]


def test_a_retry_in_words(cli: Cli, retrying: str) -> None:
    ran = cli("simulate", retrying, "42 a", '42 t#0 failed error="disk full"', "+59m", "--json")
    assert [row["instance"] for row in ran.rows()] == ["t#0"]
    ran = cli("simulate", retrying, "42 a", '42 t#0 failed error="disk full"', "+60m", "--json")
    assert [row["instance"] for row in ran.rows()] == ["t#0", "t#1"]


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("42 module1 score", "`42 module1 score`: `score`: write KEY=VALUE"),
        (
            "42 t#0 finshed",
            "`42 t#0 finshed`: `finshed` is nothing that becomes of an instance: did you mean",
        ),
        ("+3w", "`+3w`: did you mean `+21d`?"),
        ("+3x", "`+3x`: write + and a duration"),
        ("@noon", "`@noon`: after @: must be an RFC 3339 instant"),
        ("@1969-01-01T00:00:00Z", "`@1969-01-01T00:00:00Z`: 1969-01-01T00:00:00Z is too early"),
        ('{"session": "42"}', '`{"session": "42"}`: /type: must be a non-empty string, is missing'),
        ('{"session": "42"', '`{"session": "42"`: not JSON'),
        ("module1", "module1: cannot be read: No such file or directory; an event in words has a space"),
    ],
)
def test_a_wrong_argument_is_named_with_what_would_be_right(
    cli: Cli, tasks: str, argument: str, says: str
) -> None:
    ran = cli("simulate", tasks, "42 module4", argument)
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith(says)


def test_standard_input_is_read_once(cli: Cli, tasks: str) -> None:
    ran = cli("simulate", tasks, "-", "-")
    assert (ran.status, ran.err) == (2, "- is given twice: standard input can be read once\n")


def test_a_terminal_shows_why_nothing_was_decided(
    cli: Cli, tasks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triggerstream.cli.commands.simulate._people_read", lambda: True)
    stdin = lines(event("a", "module1"), event("a", "module4"), event("b", "module1"), event("c", "modul1"))
    assert cli("simulate", tasks, "-", stdin=stdin).out.splitlines() == [
        'a  t_process#0  runs app.process  {"module1":{},"module4":{}}',
        "b  t_process#0 waits for module4",
        "c  no instance: no task uses what has arrived",
        "c  modul1: no task uses it; the nearest name is module1",
    ]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["42 module1", "3d"], "3d: cannot be read: No such file or directory; did you mean `+3d`?"),
        (
            ["42 module1", "2026-03-01T12:00:00Z"],
            "2026-03-01T12:00:00Z: cannot be read: No such file or directory; did you mean `@2026-03-01T12",
        ),
        (["42 module1", "--until", "3d"], "--until: did you mean `+3d`?"),
        (["42 module1", "3x"], "3x: cannot be read: No such file or directory; an event in words has a"),
    ],
)
def test_a_time_without_its_sign_is_answered_with_the_sign(
    cli: Cli, tasks: str, given: list[str], says: str
) -> None:
    ran = cli("simulate", tasks, *given)
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith(says)


def test_an_outcome_of_a_task_that_the_file_does_not_have_names_the_nearest(cli: Cli, tasks: str) -> None:
    ran = cli("simulate", tasks, "a module1", "a t_proces#0 finished", "a xyz#0 failed error=x")
    none = "this outcome belongs to no command"
    assert [line.partition(" of session a has none: ")[::2] for line in ran.err.splitlines()] == [
        (
            f"`a t_proces#0 finished`: {none}: t_proces#0",
            "there is no task `t_proces`: did you mean `t_process`?",
        ),
        (f"`a xyz#0 failed error=x`: {none}: xyz#0", "there is no task `xyz`"),
    ]


def test_an_event_of_unless_that_came_before_the_instance_is_said_not_to_count(
    cli: Cli, tmp_path: Path
) -> None:
    file = tmp_path / "tasks.json"
    some = {"trigger": "off", "where": "data.now"}
    task = {"after": ["a"], "unlessFrom": "instance", "run": "app.t"}
    file.write_text(json.dumps({"t": {**task, "unless": ["no"]}, "u": {**task, "unless": ["no", some]}}))
    shown = cli("simulate", str(file), "42 no", "42 off now=false", "42 a", "42 off now=false").out
    before = "event 0 did not count: it came before the instance (`unlessFrom`)"
    assert f"· unless no: {before}\n" in shown
    assert "○ no: no event counted\n" in shown
    assert shown.count(f"{before}\n") == 2
    assert "○ off: had not arrived\n" in shown  # its latest event came after the decision
    shown = cli("simulate", str(file), "42 no").out
    reason = "no: event 0 does not count: it begins no instance (`unlessFrom`)"
    assert f"└── no instance yet: {reason}\n" in shown


def test_a_leaf_on_a_task_names_the_attempt_that_counts(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "tasks.json"
    first = {"after": ["a"], "run": "app.t", "retry": {"max": 1, "backoff": "1s"}}
    file.write_text(json.dumps({"t": first, "u": {"after": ["t", "b"], "run": "app.u"}}))
    events = ["42 a", "42 b", "42 t#0 failed error=away", "+2s", "42 t#1 failed error=away"]
    shown = cli("simulate", str(file), *events).out
    assert "○ t: not arrived\n        │   └── t#1: failed\n" in shown
    assert "failed; tried again as t#1 (retry 1 of 1)" in shown
    assert "replay" not in shown


def test_how_long_a_wait_is_is_said_before_any_time_has_passed(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "tasks.json"
    file.write_text(json.dumps({"t": {"after": ["a"], "delay": "3d", "run": "app.t"}}))
    for clock, date in (("@1970-01-01T00:00:00Z", "1970-01-04"), ("@2026-03-01T00:00:00Z", "2026-03-04")):
        assert f"due in 3 d ({date} 00:00:00.000Z)" in cli("simulate", str(file), clock, "42 a").out
    assert "due in 3 d (1970-01-04 00:00:00.000Z)" in cli("simulate", str(file), "42 a").out
