"""`triggerstream config check`: what it says, where it says it, and with which status it ends."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.conftest import SURVEY, Cli
from tests.support.engines import RunningEngine
from triggerstream.cli.commands.config import excerpt
from triggerstream.core.events import Trigger
from triggerstream.core.ids import TriggerName

WRONG = """{
  "t_report": {
    "after": "module1Received",
    "run": "my_app.tasks.Report",
    "unles": ["surveyWithdrawn"],
  },
}
"""
DOUBTFUL = '{"t_report": {"after": ["t_report"], "run": "my_app.tasks.Report"}}'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tasks.json"


def test_a_clean_file_is_0(cli: Cli, file: Path) -> None:
    file.write_text(SURVEY, encoding="utf-8")
    ran = cli("config", "check", str(file))
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == f"{file}: usable, 2 tasks: no problems found\n"


def test_errors_are_1_with_a_line_each(cli: Cli, file: Path) -> None:
    file.write_text(WRONG, encoding="utf-8")
    ran = cli("config", "check", str(file))
    assert (ran.status, ran.err) == (1, "")
    assert ran.out.splitlines() == [
        (
            f"{file}:3:14: error: /t_report/after: must be a list of triggers, not a string: "
            'write `["module1Received"]` [wrong-type]'
        ),
        f"{file}:5:5: error: /t_report/unles: unknown key `unles`: did you mean `unless`? [unknown-key]",
        f"{file}: not usable: 2 errors",
    ]


def test_warnings_are_0_and_1_where_strict(cli: Cli, file: Path) -> None:
    file.write_text(DOUBTFUL, encoding="utf-8")
    ran = cli("config", "check", str(file))
    assert ran.status == 0
    assert ran.out.splitlines()[-1] == f"{file}: usable, 1 task: 1 warning"
    assert cli("config", "check", "--strict", str(file)).status == 1


def test_json_is_one_object_a_finding(cli: Cli, file: Path) -> None:
    file.write_text(WRONG, encoding="utf-8")
    ran = cli("config", "check", "--json", str(file))
    assert ran.status == 1
    assert [(row["line"], row["column"], row["code"]) for row in ran.rows()] == [
        (3, 14, "wrong-type"),
        (5, 5, "unknown-key"),
    ]
    assert ran.rows()[1] == {
        "file": str(file),
        "line": 5,
        "column": 5,
        "path": "/t_report/unles",
        "severity": "error",
        "code": "unknown-key",
        "message": "unknown key `unles`: did you mean `unless`?",
    }


def test_json_of_a_clean_file_is_nothing(cli: Cli, file: Path) -> None:
    file.write_text(SURVEY, encoding="utf-8")
    ran = cli("config", "check", "--json", str(file))
    assert (ran.status, ran.out, ran.err) == (0, "", "")


def test_a_file_that_cannot_be_read_is_2_and_the_others_are_checked(
    cli: Cli, file: Path, tmp_path: Path
) -> None:
    file.write_text(WRONG, encoding="utf-8")
    missing = tmp_path / "missing.json"
    ran = cli("config", "check", str(missing), str(tmp_path), str(file))
    assert ran.status == 2
    assert ran.err.splitlines() == [
        f"{missing}: cannot be read: No such file or directory",
        f"{tmp_path}: cannot be read: Is a directory",
    ]
    assert f"{file}: not usable: 2 errors" in ran.out


def test_no_file_is_wrong_usage(cli: Cli) -> None:
    ran = cli("config", "check")
    assert ran.status == 2
    assert ran.err.count("\n") == 1


def test_standard_input_is_read(cli: Cli) -> None:
    ran = cli("config", "check", "-", stdin=DOUBTFUL.encode())
    assert ran.out.startswith("-:1:25: warning: /t_report/after/0: ")


def test_bytes_that_are_no_text_are_an_error_with_a_place(cli: Cli, file: Path) -> None:
    file.write_bytes('{"t_küche": {"after": ["a"], "run": "x"}}'.encode("latin-1"))
    ran = cli("config", "check", str(file))
    assert ran.status == 1
    assert ran.out.startswith(f"{file}:1:6: error: not UTF-8 (0xFC): save the file as UTF-8 [invalid-utf8]\n")


def test_names_cannot_steer_the_terminal(cli: Cli) -> None:
    ran = cli("config", "check", "-", stdin=b'{"\\u001b[2J": {"after": [], "run": "x"}}')
    assert "\x1b" not in ran.out
    assert "\\u001b[2J" in ran.out


def test_an_excerpt_shows_the_place() -> None:
    assert excerpt('\t"after": "x",', 11) == ('     "after": "x",', "              ^")
    long, caret = excerpt("x" * 500 + "!" + "x" * 500, 501)
    assert len(long) == 104
    assert long[caret.index("^")] == "!"


def test_a_trigger_that_no_kept_session_has_seen_is_a_warning_where_an_address_is_named(
    cli: Cli, engine: RunningEngine, file: Path
) -> None:
    file.write_text(SURVEY, encoding="utf-8")
    at = str(cli.directory)
    empty = cli("config", "check", str(file), "--at", at)
    assert (empty.status, empty.err) == (0, f"{at}: keeps no session with which triggers can be compared\n")
    engine.append("s", *(Trigger(name=TriggerName(name), data={}) for name in ("module1", "modul4")))
    assert "never-seen" not in cli("config", "check", str(file)).out
    ran = cli("config", "check", str(file), "--at", at)
    assert ran.out.splitlines()[:-1] == [
        (
            f"{file}:3:38: warning: /t_process/after/1: no session kept at {at} has seen `module4`: "
            "did you mean `modul4`? [never-seen]"
        ),
        (
            f"{file}:4:49: warning: /t_mail/unless/0: no session kept at {at} has seen "
            "`unsubscribed` [never-seen]"
        ),
    ]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import sys\nsys.exit(3)\n", "SystemExit: 3 ({file}:2)"),
        ("\n\nraise SystemExit\n", "SystemExit ({file}:3)"),
        ("x = 1\nx = = 2\n", "SyntaxError: invalid syntax ({file}:2)"),
        ("def f():\nreturn 1\n", "IndentationError: expected an indented block after function definition"),
        ("\n\nexec('x = =')\n", "SyntaxError: invalid syntax ({file}:3)"),
        ("\nfrom celery import Celery\napp = Celery('a', include=['exiting_tasks'])\n", "SystemExit: 4"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line_with_its_place(
    cli: Cli, file: Path, monkeypatch: pytest.MonkeyPatch, source: str, says: str
) -> None:
    place = file.parent
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    for module in ("unusable_app", "exiting_tasks"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    (place / "unusable_app.py").write_text(source)
    (place / "exiting_tasks.py").write_text("raise SystemExit(4)\n")
    file.write_text(SURVEY, encoding="utf-8")
    ran = cli("config", "check", str(file), "--celery", "unusable_app:app")
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith("--celery unusable_app:app: ")
    assert says.format(file=place / "unusable_app.py") in ran.err
    assert "<frozen" not in ran.err


def test_a_file_is_compared_with_the_tasks_of_a_celery_app(
    cli: Cli, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "checked_app.py").write_text(
        "from celery import Celery\n"
        "app = Celery('checked', set_as_current=False)\n"
        "@app.task(name='app.process', shared=False)\n"
        "def process(module1, modul4): pass\n"
    )
    file.write_text(SURVEY, encoding="utf-8")
    ran = cli("config", "check", str(file), "--celery", "checked_app:app")
    assert ran.status == 1
    assert [line.rpartition(" ")[2] for line in ran.out.splitlines()[:-1]] == [
        "[unexpected-argument]",
        "[missing-argument]",
        "[unknown-task]",
    ]
    assert "`app.process` takes no argument `module4`: did you mean `modul4`?" in ran.out
    assert "there is no task `app.mail` in the app checked_app:app" in ran.out
    ran = cli("config", "check", str(file), "--celery", "no_such_app")
    assert (ran.status, ran.err.count("\n")) == (2, 1)
