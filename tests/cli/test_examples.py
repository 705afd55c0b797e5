"""The tasks files of ``examples/`` are what they are shown for: without a finding, with tests that pass."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

EXAMPLES = Path(__file__).parents[2] / "examples"
PROJECTS = ["order", "approval", "nightly", "rules"]
FILES = [EXAMPLES / name / f"{name}.json" for name in ("survey", *PROJECTS)]


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_an_example_has_no_finding(file: Path, tmp_path: Path) -> None:
    done = Cli(tmp_path)("config", "check", "--strict", str(file))
    assert (done.status, done.out.count("\n")) == (0, 1), done.out


@pytest.mark.parametrize("name", PROJECTS)
def test_the_tests_of_an_example_pass(name: str, tmp_path: Path) -> None:
    done = Cli(tmp_path)("test", str(EXAMPLES / name / f"{name}.json"))
    assert done.status == 0, done.out
    assert f"{6 if name == 'rules' else 4} tests: all passed" in done.out


@pytest.mark.parametrize("name", PROJECTS)
def test_the_commands_that_run_nothing_work_as_the_readme_writes_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLES / name)
    lines = (EXAMPLES / name / "README.md").read_text().splitlines()
    written = [line.removeprefix("$ triggerstream ") for line in lines if line.startswith("$ triggerstream ")]
    commands = [line for line in written if line.startswith(("test ", "simulate ", "config check "))]
    assert len(commands) >= 2
    for command in commands:
        done = Cli(tmp_path)(*shlex.split(command))
        assert (done.status, done.err) == (0, ""), f"{command}: {done.err}"
