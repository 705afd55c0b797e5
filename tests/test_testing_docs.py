"""The page on testing: what it shows is run, file by file, as a user would."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from triggerstream.adapters import memory

PAGE = (Path(__file__).parents[1] / "docs/testing.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with every file of the page."""
    monkeypatch.chdir(tmp_path)
    (tasks,) = re.findall(r"```jsonc\n(.*?)```", PAGE, re.DOTALL)
    (events,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    (tests,) = re.findall(r"```text\n(\"x-tests\".*?)```", PAGE, re.DOTALL)
    tested = tasks.rstrip().removesuffix("}") + tests + "}"
    files = {"tasks.json": tasks, "tested.json": tested, "events.jsonl": events, **FILES}
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_the_tests_of_the_page_pass(project: Path) -> None:
    assert sorted(FILES) == ["engine_in_memory.py", "test_engine.py", "test_survey.py", "test_tasks_file.py"]
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:asyncio",
            "-W",
            "error",
            "--rootdir=.",
        ],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    expected = sum(text.count("def test_") for text in FILES.values())
    assert f"{expected} passed" in ran.stdout


@pytest.mark.usefixtures("project")
def test_the_commands_of_the_page_print_what_it_shows(tmp_path: Path) -> None:
    shown = re.findall(r"\$ triggerstream ((?:simulate|test) .*?)\n(.*?)```", PAGE, re.DOTALL)
    assert shown
    for command, output in shown:
        printed = Cli(tmp_path)(*shlex.split(command)).out
        assert [line.rstrip() for line in printed.splitlines()] == output.splitlines()


def test_every_in_memory_adapter_is_on_the_page() -> None:
    for name in memory.__all__:
        assert f"`{name}`" in PAGE, name
