"""`triggerstream test`: the tests in a tasks file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli
from triggerstream.wire import tasksfile

TASKS = """
  "t_process": {"after": ["module1", "module4"], "run": "app.process", "withParams": {"module1": {"w": 2}}},
  "t_mail": {"after": ["t_process"], "unless": ["unsubscribed"], "run": "app.mail"},
"""


def file_of(tmp_path: Path, tests: object) -> str:
    path = tmp_path / "tasks.json"
    text = tests if isinstance(tests, str) else json.dumps(tests, indent=2)
    path.write_text(f'{{{TASKS}  // tests\n  "x-tests": {text}\n}}\n')
    return str(path)


def case(name: str, events: list[object], commands: list[object]) -> dict[str, Any]:
    return {"name": name, "events": events, "commands": commands}


BOTH: list[object] = ["42 module1 score=3", "+3d", {"session": "42", "type": "module4", "data": {"x": 1}}]
PROCESS = {
    "instance": "t_process#0",
    "run": "app.process",
    "kwargs": {"module1": {"score": 3, "w": 2}, "module4": {"x": 1.0}},
}


def test_tests_that_pass_are_named(cli: Cli, tmp_path: Path) -> None:
    file = file_of(
        tmp_path,
        [
            case("both modules", BOTH, [PROCESS]),
            case("one module", ["42 module1"], []),
            case(
                "a chain",
                [*BOTH, "42 t_process#0 finished result.n=1"],
                [{"instance": "t_process#0"}, {"instance": "t_mail#0", "kwargs": {"t_process": {"n": 1}}}],
            ),
            case("two sessions", [*BOTH, "43 module1"], [{"session": "42", "instance": "t_process#0"}]),
        ],
    )
    ran = cli("test", file)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "passed  both modules",
        "passed  one module",
        "passed  a chain",
        "passed  two sessions",
        f"{file}: 4 tests: all passed",
    ]
    rows = cli("test", file, "--json").rows()
    assert [(row["name"], row["passed"]) for row in rows][:2] == [
        ("both modules", True),
        ("one module", True),
    ]


@pytest.mark.parametrize(
    ("events", "commands", "why"),
    [
        (
            ["42 module1"],
            [{"instance": "t_process#0"}],
            [("t_process#0", True, False, "t_process#0 waits for module4")],
        ),
        (
            [*BOTH, "42 unsubscribed", "42 t_process#0 finished"],
            [{"instance": "t_process#0"}, {"instance": "t_mail#0"}],
            [("t_mail#0", True, False, "t_mail#0 is blocked by `unless`: unsubscribed arrived first")],
        ),
        (
            ["42 modul1"],
            [{"instance": "t_process#0"}],
            [
                (
                    "t_process#0",
                    True,
                    False,
                    "since the task was added; modul1: no task uses it; the nearest name is module1",
                )
            ],
        ),
        (
            BOTH,
            [],
            [
                (
                    "t_process#0",
                    False,
                    True,
                    "t_process#0 runs app.process, because of module1 (event 0), module4 (event 2)",
                )
            ],
        ),
        (
            BOTH,
            [
                {
                    "instance": "t_process#0",
                    "kwargs": {"module1": {"score": 3, "w": 2}, "module4": {"x": True}},
                }
            ],
            [("t_process#0", True, True, "t_process#0: differs at /kwargs/module4/x")],
        ),
        (
            BOTH,
            [{"instance": "t_process#0", "run": "app.proces", "kwargs": {}}],
            [("t_process#0", True, True, "t_process#0: differs at /run and /kwargs/module1")],
        ),
        (
            [*BOTH, "42 t_process#0 finished"],
            [{"instance": "t_mail#0"}, {"instance": "t_process#0"}],
            [
                ("t_process#0", False, True, "is expected and decided, but at another place of the order"),
                ("t_process#0", True, False, "is expected and decided, but at another place of the order"),
            ],
        ),
    ],
)
def test_a_mismatch_is_shown_side_by_side_with_why(
    cli: Cli,
    tmp_path: Path,
    events: list[object],
    commands: list[object],
    why: list[tuple[str, bool, bool, str]],
) -> None:
    file = file_of(tmp_path, [case("ours", events, commands), case("another", BOTH, [PROCESS])])
    ran = cli("test", file, "--json")
    assert (ran.status, ran.err) == (1, "")
    first, second = ran.rows()
    assert (first["passed"], second["passed"]) == (False, True)
    different = [one for one in first["commands"] if not one["same"]]
    assert len(different) == len(why)
    for found, (instance, expected, decided, says) in zip(different, why, strict=True):
        assert found["instance"] == instance
        assert (found["expected"] is not None, found["decided"] is not None) == (expected, decided)
        assert says in found["why"]
    ran = cli("test", file)
    assert ran.status == 1
    shown = ran.out.splitlines()
    assert shown[0] == f"FAILED  ours ({file}:6:3)"
    assert shown[-1] == f"{file}: 2 tests: 1 failed"
    assert {"expected", "decided"} <= {word for line in shown for word in line.split()}
    for *_, says in why:
        assert says in ran.out
    assert "session 42" in shown


def test_an_event_that_is_not_taken_fails_the_test(cli: Cli, tmp_path: Path) -> None:
    events: list[object] = [
        "42 module1",
        "42 t_process#0 finished",
        {"session": "42", "type": "a", "data": 1},
    ]
    row = cli("test", file_of(tmp_path, [case("ours", events, [])]), "--json").row()
    assert row["passed"] is False
    none = "this outcome belongs to no command: t_process#0 of session 42 has none"
    assert [refused.partition(": ")[2] for refused in row["refused"]] == [
        f"{none}: t_process#0 waits for module4",
        "dead letter: /data: must be an object, is a number",
    ]


def test_a_test_may_apply_another_tasks_file(cli: Cli, tmp_path: Path) -> None:
    tests = """[{"name": "a change",
      "events": ["42 module1", {"apply": {
        // one trigger only
        "t_process": {"after": ["module1"], "run": "app.other",},
      }}, "42 next"],
      "commands": [{"instance": "t_process#0", "run": "app.other"}]}]"""
    assert cli("test", file_of(tmp_path, tests)).status == 0
    ran = cli("test", file_of(tmp_path, tests.replace("app.other", "app/other", 1)))
    assert (ran.status, ran.err) == (1, "")
    failed, why, summary = ran.out.splitlines()
    assert failed == f"FAILED  a change ({tmp_path}/tasks.json:5:15)"
    assert why.startswith(f"  {tmp_path}/tasks.json:8:52: /apply/t_process/run: ")
    assert summary.endswith("1 test: 1 failed")


MALFORMED = [
    ("[7]", "5:15 /x-tests/0: must be a test, `{"),
    (
        '[{"nme": "a", "events": ["4 a"], "commands": []}]',
        "5:16 /x-tests/0/nme: unknown key `nme`: did you",
    ),
    ('[{"name": "a", "events": ["4 a"]}]', "5:15 /x-tests/0: `commands` is missing"),
    ('[{"name": "", "events": ["4 a"], "commands": []}]', "5:24 /x-tests/0/name: must be a text"),
    ('[{"name": "a", "events": [], "commands": []}]', "5:39 /x-tests/0/events: must hold at least one"),
    (
        '[{"name": "a", "events": "4 a", "commands": []}]',
        "5:39 /x-tests/0/events: must be a list, not a s",
    ),
    (
        '[{"name": "a", "events": ["4"], "commands": []}]',
        "5:40 /x-tests/0/events/0: `4`: a trigger is miss",
    ),
    (
        '[{"name": "a", "events": ["4 a", "3d"], "commands": []}]',
        "5:47 /x-tests/0/events/1: `3d`: did you mean `+3d`?",
    ),
    (
        '[{"name": "a", "events": [4], "commands": []}]',
        "5:40 /x-tests/0/events/0: must be an event in words",
    ),
    (
        '[{"name": "a", "events": [{"session": "4"}], "commands": []}]',
        "5:40 /x-tests/0/events/0: `type` is missing",
    ),
    (
        '[{"name": "a", "events": [{"apply": 4}], "commands": []}]',
        "5:50 /x-tests/0/events/0/apply: must be a tasks file, an object or its text, not a number",
    ),
    (
        '[{"name": "a", "events": ["4 a"], "commands": [{"instanc": "t#0"}]}]',
        "5:62 /x-tests/0/commands/0/instanc: unknown key `instanc`: did you mean `instance`?",
    ),
    (
        '[{"name": "a", "events": ["4 a"], "commands": [{"instance": "t_process"}]}]',
        "5:74 /x-tests/0/commands/0/instance: must be the id of an instance, such as `t_report#0`, no",
    ),
    (
        '[{"name": "a", "events": ["4 a"], "commands": [{"instance": "t#0", "kwargs": []}]}]',
        "5:91 /x-tests/0/commands/0/kwargs: must be an object of keyword arguments, not a list",
    ),
    (
        '[{"name": "a", "events": ["4 a", "5 a"], "commands": [{"instance": "t#0"}]}]',
        "5:68 /x-tests/0/commands/0: `session` is missing: the events are of several sessions, `4` and",
    ),
    (
        '[{"name":"a","events":["4 a"],"commands":[]}, {"name":"a","events":["4 a"],"commands":[]}]',
        "5:60 /x-tests/1: the test at 5:15 has the name `a`, too",
    ),
]


@pytest.mark.parametrize(("tests", "says"), MALFORMED)
def test_a_malformed_test_fails_with_the_place_of_its_mistake(
    cli: Cli, tmp_path: Path, tests: str, says: str
) -> None:
    file = file_of(tmp_path, tests)
    ran = cli("test", file)
    assert (ran.status, ran.err) == (1, "")
    *_, failed, why, summary = ran.out.splitlines()
    assert failed.startswith("FAILED  ")
    assert why.startswith(f"  {file}:{says}")
    assert summary.endswith("1 failed")


def test_tests_that_are_no_list_are_one_line(cli: Cli, tmp_path: Path) -> None:
    ran = cli("test", file_of(tmp_path, "{}"))
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith(f"{tmp_path}/tasks.json:5:14 /x-tests: must be a list of tests, `{{")


def test_a_malformed_test_keeps_no_other_from_being_run(cli: Cli, tmp_path: Path) -> None:
    tests = [
        case("wrong events", [1, "42"], [3]),
        case("both modules", BOTH, [PROCESS]),
        {"name": "no events", "commands": []},
        case("too early", ["42 module1", "@1960-01-01T00:00:00Z"], []),
        case("wrong", ["42 module1"], [PROCESS]),
        7,
    ]
    file = file_of(tmp_path, tests)
    rows = cli("test", file, "--json").rows()
    assert [(row["name"], row["passed"], len(row["mistakes"])) for row in rows] == [
        ("wrong events", False, 3),
        ("both modules", True, 0),
        ("no events", False, 1),
        ("too early", False, 1),
        ("wrong", False, 0),
        ("", False, 1),
    ]
    assert [mistake.removeprefix(f"{file}:")[:38] for mistake in rows[0]["mistakes"]] == [
        "9:7 /x-tests/0/events/0: must be an ev",
        "10:7 /x-tests/0/events/1: `42`: a trig",
        "13:7 /x-tests/0/commands/0: must be th",
    ]
    ran = cli("test", file)
    assert (ran.status, ran.err) == (1, "")
    assert ran.out.splitlines()[-1] == f"{file}: 6 tests: 5 failed"
    assert "passed  both modules" in ran.out


@pytest.mark.parametrize(("tests", "says"), MALFORMED)
def test_config_check_warns_of_malformed_tests_in_the_same_words(
    cli: Cli, tmp_path: Path, tests: str, says: str
) -> None:
    file = file_of(tmp_path, tests)
    said = cli("test", file).out.splitlines()[-2].removeprefix(f"  {file}:")
    place, _, words = said.partition(" ")
    checked = cli("config", "check", file)
    first, *_, last = checked.out.splitlines()
    assert checked.status == 0
    assert first.startswith(f"{file}:{place}: warning: {words} [")
    assert says in f"{place} {words}"
    assert last == f"{file}: usable, 2 tasks: 1 warning"
    assert cli("config", "check", "--strict", file).status == 1


def test_config_check_warns_of_instances_of_tasks_that_the_file_does_not_have(
    cli: Cli, tmp_path: Path
) -> None:
    outcome = {"session": "42", "type": "triggerstream.task.failed", "data": {"instance": "t_mial#0"}}
    events: list[object] = ["42 module1", "42 t_proces#0 finished", outcome, "42 t_process#0 skip"]
    tests = [case("a", events, [{"instance": "xyz#0"}, {"instance": "t_mail#0"}])]
    rows = cli("config", "check", "--json", file_of(tmp_path, tests)).rows()
    assert [(row["code"], row["severity"], row["path"], row["message"]) for row in rows] == [
        ("no-such-task", "warning", path, f"the file has no task {says}")
        for path, says in (
            ("/x-tests/0/events/1", "`t_proces`: did you mean `t_process`?"),
            ("/x-tests/0/events/2", "`t_mial`: did you mean `t_mail`?"),
            ("/x-tests/0/commands/0", "`xyz`"),
        )
    ]
    tests = [case("a", [{"apply": {"xyz": {"after": ["a"], "run": "r.r"}}}, *events], [])]
    assert cli("config", "check", "--json", file_of(tmp_path, tests)).rows() == []


def test_config_check_reports_every_mistake_in_the_tests_of_a_file_with_errors(
    cli: Cli, tmp_path: Path
) -> None:
    file = tmp_path / "tasks.json"
    file.write_text(
        '{"t": {"after": "a", "run": "r.r"}, "x-tests": [{"name": "a", "events": [1, 2], "commands": [3]}]}'
    )
    rows = cli("config", "check", "--json", str(file)).rows()
    assert [(row["path"], row["severity"]) for row in rows] == [
        ("/t/after", "error"),
        ("/x-tests/0/events/0", "warning"),
        ("/x-tests/0/events/1", "warning"),
        ("/x-tests/0/commands/0", "warning"),
    ]
    assert cli("config", "check", str(file)).status == 1


def test_a_text_that_is_no_json_has_no_findings_about_its_tests(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "tasks.json"
    file.write_text('{"x-tests": [{"name": "a", "events": [1 "commands": []}]}')
    rows = cli("config", "check", "--json", str(file)).rows()
    assert [row["severity"] for row in rows] == ["error"] * len(rows)


def test_a_task_that_no_event_started_is_explained_beside_one_that_runs(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "tasks.json"
    tests = [case("both", ["42 go", "42 approved"], [{"instance": "t_go#0"}])]
    tasks = {
        "t_go": {"after": ["go"], "run": "app.t"},
        "t_where": {"after": [{"trigger": "approved", "where": "data.level >= 2"}], "run": "app.t"},
        "t_key": {"after": [{"trigger": "approved", "count": 2, "key": "data.by"}], "run": "app.t"},
    }
    file.write_text(json.dumps({**tasks, "x-tests": tests}))
    shown = cli("simulate", str(file), "42 go", "42 approved").out
    says = "no instance yet: approved: event 1 does not count:"
    assert f"{says} its `where` fails: data.level does not exist: data is empty" in shown
    assert f"{says} it has no key: data.by does not exist: data is empty" in shown
    assert "no task uses what has arrived" not in cli("simulate", str(file), "42 approved").out


def test_a_command_of_a_task_that_no_event_started_says_why(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "tasks.json"
    tests = [
        case("too low", ["42 approved level=1"], [{"instance": "t#0"}]),
        case("no level", ["42 approved"], [{"instance": "t#0"}]),
        case("nothing", ["42 x", "43 approved level=1"], [{"session": "42", "instance": "t#0"}]),
        case("unknown", ["42 approved level=1"], [{"instance": "no_task#0"}]),
        case("misspelt", ["42 approved level=1"], [{"instance": "tt#0"}]),
    ]
    task = {"after": [{"trigger": "approved", "where": "data.level >= 2"}], "run": "app.t"}
    file.write_text(json.dumps({"t": task, "x-tests": tests}))
    rows = cli("test", str(file), "--json").rows()
    why = "no instance yet: approved: event 0 does not count"
    assert [row["commands"][0]["why"] for row in rows] == [
        f"t#0: {why}: its `where` is false",
        f"t#0: {why}: its `where` fails: data.level does not exist: data is empty",
        "t#0: no instance yet: none of its triggers has arrived since the task was added; x: no task uses it",
        "no_task#0: no such task",
        "tt#0: no such task; the nearest name is t",
    ]
    shown = cli("simulate", str(file), "42 approved level=1").out
    assert (
        "└── t  runs app.t\n    └── no instance yet: approved: event 0 does not count: its `where` is false\n"
        in shown
    )
    assert "no task uses" not in shown


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{" + TASKS + "}", ": has no tests: write `"),
        ("{" + TASKS + '"x-tests": []}', ": has no tests: write `"),
        ("{" + TASKS + '"x-test": []}', ": has no tests (did you mean `x-tests` by `x-test`?): write `"),
        ('{"t": {"after": "a", "run": "r"}, "x-tests": []}', ":1:17 /t/after: "),
        ("{", ":1:"),
    ],
)
def test_a_file_without_tests_or_with_errors_is_unusable(
    cli: Cli, tmp_path: Path, text: str, says: str
) -> None:
    file = tmp_path / "tasks.json"
    file.write_text(text)
    ran = cli("test", str(file))
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith(f"{file}{says}")


def test_a_file_that_is_not_there_is_one_line(cli: Cli, tmp_path: Path) -> None:
    ran = cli("test", str(tmp_path / "nowhere"))
    assert (ran.status, ran.err) == (2, f"{tmp_path}/nowhere: cannot be read: No such file or directory\n")


def test_tests_change_nothing_of_what_a_file_means(cli: Cli, tmp_path: Path) -> None:
    file = file_of(tmp_path, [case("both modules", BOTH, [PROCESS])])
    checked = cli("config", "check", "--strict", file)
    assert (checked.status, checked.out) == (0, f"{file}: usable, 2 tasks: no problems found\n")
    with_tests = tasksfile.read(Path(file).read_bytes(), name=file)
    without = tasksfile.read("{" + TASKS + "}", name="without")
    assert (with_tests.tasks, with_tests.bounds) == (without.tasks, without.bounds)
    assert "both modules" in with_tests.text


def test_the_installed_command_line_runs_tests(tmp_path: Path) -> None:
    tests = [case("both modules", BOTH, [PROCESS]), case("wrong", ["42 module1"], [PROCESS])]
    file = file_of(tmp_path, tests)
    program = Path(sys.executable).with_name("triggerstream")
    ran = subprocess.run(
        [program, "test", "-"], input=Path(file).read_bytes(), capture_output=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stderr) == (1, b"")
    assert ran.stdout.decode().splitlines()[:2] == ["passed  both modules", "FAILED  wrong (-:35:3)"]
    ran = subprocess.run(
        [program, "simulate", file, "42 module1 score=3", "+3d", "42 module4", "--json"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert json.loads(ran.stdout)["instance"] == "t_process#0"
