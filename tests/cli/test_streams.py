"""Output that a terminal or file cannot take, and packages that are not installed: one line, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.commands.test_sessions import trigger
from tests.cli.conftest import SURVEY
from tests.support.engines import running_engine

KAFKA = "kafka://127.0.0.1:1/app"
DEADLINE_S = 120


def run(
    *words: str, at: Path | None = None, redirect: str = "", hide: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the program in a process of its own; ``redirect`` as a shell has it."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("TRIGGERSTREAM_")}
    env |= environment
    if hide is not None:
        env["PYTHONPATH"] = str(hide)
    if at is not None:
        env["TRIGGERSTREAM_AT"] = str(at)
    line = f'exec "$@" {redirect}'
    command = ["sh", "-c", line, "sh", sys.executable, "-m", "triggerstream", *words]
    return subprocess.run(
        command,
        env=env,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=DEADLINE_S,
        check=False,
    )


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("state")
    with running_engine(directory, SURVEY.replace("module4", "módulo→4")) as engine:
        engine.append("Łódź", trigger("module1"))
    return directory


# ---- characters ----------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("sessions", "list"), ("sessions", "explain", "Łódź")])
@pytest.mark.parametrize("encoding", ["cp1252", "ascii:strict"])
def test_characters_that_an_encoding_lacks_are_written_as_escapes(
    state: Path, words: Sequence[str], encoding: str
) -> None:
    ran = run(*words, at=state, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "\\u0141" in ran.stdout


def test_a_document_that_a_file_cannot_hold_as_it_is_is_one_line(state: Path) -> None:
    ran = run("config", "show", at=state, PYTHONIOENCODING="cp1252", PYTHONUTF8="0")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        "standard output: its encoding cp1252 lacks '\\u2192' (U+2192): set PYTHONIOENCODING=utf-8\n"
    )


# ---- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("config", "--help"),
        ("sessions", "list"),
        ("sessions", "list", "--json"),
        ("sessions", "export", "Łódź"),
        ("config", "show"),
    ],
)
def test_a_full_file_is_one_line(state: Path, words: Sequence[str]) -> None:
    ran = run(*words, at=state, redirect="> /dev/full")
    assert ran.returncode == 2
    assert ran.stderr == "standard output: No space left on device\n"


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_full_file_does_not_hide_that_a_trigger_was_fired(state: Path, form: Sequence[str]) -> None:
    words = ("fire", "full", "module1", "--id", "7", *form)
    ran = run(*words, at=state, redirect="> /dev/full")
    assert ran.returncode == 2
    assert ran.stderr == ("fired module1 for full (id 7), but standard output: No space left on device\n")


def test_a_full_file_for_warnings_does_not_make_a_fired_trigger_a_failure(state: Path) -> None:
    ran = run("fire", "full", "nobody", "--id", "8", at=state, redirect="2> /dev/full")
    assert (ran.returncode, ran.stdout) == (0, "fired nobody for full (id 8)\n")


@pytest.mark.parametrize("words", [("sessions", "list"), ("sessions", "list", "--json"), ("sessions", "x")])
@pytest.mark.parametrize("redirect", [">&-", ">&- 2>&-", "2> /dev/full"])
def test_a_closed_stream_and_a_full_one_for_errors_are_no_traceback(
    state: Path, words: Sequence[str], redirect: str
) -> None:
    ran = run(*words, at=state, redirect=redirect)
    assert ran.returncode == (2 if words[-1] == "x" else 0)
    assert "Traceback" not in ran.stderr + ran.stdout


# ---- packages ------------------------------------------------------------------------------------


def without(packages: Sequence[str], directory: Path) -> Path:
    """``directory``, which hides ``packages`` from a process that has it first on its path."""
    for package in packages:
        found = directory / package
        found.mkdir()
        text = f"raise ModuleNotFoundError(\"No module named '{package}'\", name='{package}')\n"
        (found / "__init__.py").write_text(text)
    return directory


@pytest.mark.parametrize(
    ("package", "words", "extra"),
    [
        (
            "redis",
            ("bridge", "--at", KAFKA, "--broker", "redis://127.0.0.1:1/0", "--allow-any"),
            "guard-redis",
        ),
        ("redis", ("bridge", "--at", KAFKA, "--celery", "shop:app", "--allow-any"), "guard-redis"),
        ("redis", ("dev", "tasks.json", "--celery", "shop:app", "--port", "0"), "guard-redis"),
        ("redis", ("demo",), "demo"),
        ("sqlalchemy", ("bridge", "--at", KAFKA, "--broker", "sqla+sqlite:///x", "--allow-any"), "guard-sql"),
        ("aiokafka", ("sessions", "list", "--at", KAFKA), "kafka"),
        ("aiokafka", ("fire", "s", "a", "--to", KAFKA), "kafka"),
        ("faust", ("worker", "--at", KAFKA), "kafka"),
        ("rocksdict", ("worker", "--at", KAFKA), "kafka"),
    ],
)
def test_a_missing_package_is_one_line_that_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, words: Sequence[str], extra: str
) -> None:
    (tmp_path / "tasks.json").write_text('{"t": {"after": ["a"], "run": "shop.t"}}')
    (tmp_path / "shop.py").write_text(
        'from celery import Celery\napp = Celery("shop", broker="redis://127.0.0.1:1/0")\n'
        '@app.task(name="shop.t")\ndef t(**_): ...\n'
    )
    monkeypatch.chdir(tmp_path)
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    ran = run(*words, hide=without([package], hidden))
    assert ran.returncode == 2
    assert "Traceback" not in ran.stdout + ran.stderr
    last = ran.stderr.splitlines()[-1]
    assert f"package {package}" in last
    assert f"triggerstream[{extra}]" in last


def test_doctor_reports_a_missing_package_beside_all_else(tmp_path: Path, state: Path) -> None:
    ran = run("doctor", "--broker", "redis://127.0.0.1:1/0", at=state, hide=without(["redis"], tmp_path))
    assert ran.returncode == 1
    assert "needs the package redis: `pip install triggerstream[guard-redis]`" in ran.stdout
