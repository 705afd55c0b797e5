"""The output of `dev`, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from triggerstream.cli.dev.output import JsonOutput, PlainOutput
from triggerstream.cli.tasks_file import load
from triggerstream.core.errors import ConfigError, UsageError

BROKEN = '{"t_a": {"after": [], "run": "app.a"},\n "t_b": {"after": ["x"], "unless": ["x"], "rum": "app.b"}}'


@pytest.fixture
def broken(tmp_path: Path) -> tuple[Path, ConfigError]:
    """A tasks file with errors and warnings, and the error that reading it raises."""
    file = tmp_path / "tasks.json"
    file.write_text(BROKEN)
    with pytest.raises(ConfigError) as caught:
        load(file)
    return file, caught.value


def test_dev_prints_findings_like_config_check(
    broken: tuple[Path, ConfigError], cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    file, error = broken
    PlainOutput().write_refused(file, error)
    *findings, unchanged = capsys.readouterr().err.splitlines()
    *checked, _ = cli("config", "check", str(file)).out.splitlines()
    assert findings == checked
    assert len(findings) >= 2
    assert unchanged == f"{file}: nothing has changed; the file that was applied before stays in force"


def test_dev_prints_findings_for_programs_like_config_check(
    broken: tuple[Path, ConfigError], cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    file, error = broken
    JsonOutput().write_refused(file, error)
    refused = json.loads(capsys.readouterr().out)
    checked = [json.loads(line) for line in cli("config", "check", "--json", str(file)).out.splitlines()]
    assert refused == {"event": "refused", "file": str(file), "findings": checked}


def test_dev_says_that_a_refused_file_is_usable_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tasks.json"
    PlainOutput().write_restored(file, 2)
    assert capsys.readouterr().out == f"{file}: usable again, as it was applied before (2 tasks)\n"
    JsonOutput().write_restored(file, 2)
    assert json.loads(capsys.readouterr().out) == {"event": "restored", "file": str(file), "tasks": 2}


def test_dev_says_why_a_file_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gone.json"
    error = UsageError(f"{file}: cannot be read: No such file or directory")
    PlainOutput().write_refused(file, error)
    assert capsys.readouterr().err.splitlines()[0] == str(error)
    JsonOutput().write_refused(file, error)
    assert json.loads(capsys.readouterr().out) == {
        "event": "refused",
        "file": str(file),
        "findings": [],
        "error": str(error),
    }
