"""The reference of the tasks file says what is so: its examples are read, its tables are complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.wire.tasksfile.reference import rendered
from triggerstream.core.tasks import Bounds
from triggerstream.wire.tasksfile import check
from triggerstream.wire.tasksfile.conditions import GROUP_KEYS
from triggerstream.wire.tasksfile.keys import BOUND_KEYS, TOP_KEYS
from triggerstream.wire.tasksfile.leaves import LEAF_KEYS
from triggerstream.wire.tasksfile.task_keys import TASK_KEYS
from triggerstream.wire.tasksfile.time_keys import DEBOUNCE_KEYS, REPEAT_KEYS, RETRY_KEYS

PACKAGE = Path(__file__).parents[2] / "triggerstream/wire/tasksfile"
PAGE = (Path(__file__).parents[2] / "docs/tasks-file.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```jsonc\n(.*?)```", PAGE, re.DOTALL)

CHECKED = """{
  "t_report": {
    "after": "module1Received",
    "run": "my_app.tasks.Report",
    "unles": ["surveyWithdrawn"]
  },
  // waits for itself
  "t_again": {"after": ["t_again"], "run": "my_app.tasks.Again"}
}
"""


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_read_without_a_finding(example: str) -> None:
    config, findings = check(example, name="tasks.json")
    assert findings == ()
    assert config is not None


def test_generated_parts_are_what_the_schema_says() -> None:
    assert rendered(PAGE) == PAGE, "run `make reference`, and look at what changed"


def test_every_key_is_explained() -> None:
    for named in (*TASK_KEYS, *GROUP_KEYS, *LEAF_KEYS):
        assert f"\n### `{named}`\n" in PAGE
    for key in (*TOP_KEYS, *RETRY_KEYS, *DEBOUNCE_KEYS, *REPEAT_KEYS):
        assert f"`{key}`" in PAGE


def test_the_bounds_are_those_of_the_engine() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d+)(?:; at most \d+)? \|", PAGE, re.MULTILINE))
    assert rows == {key: str(getattr(Bounds(), name)) for key, name in BOUND_KEYS.items()}


def test_every_warning_is_listed() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.glob("*.py"))
    warnings = set(re.findall(r'\.warn\(\s*(?:findings, )?"([a-z-]+)"', sources))
    assert len(warnings) == 20
    for code in warnings:
        assert f"`{code}`" in PAGE


def test_the_command_says_what_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tasks.json").write_text(CHECKED, encoding="utf-8")
    (shown,) = re.findall(r"\$ triggerstream config check tasks\.json\n(.*?)```", PAGE, re.DOTALL)
    assert Cli(tmp_path)("config", "check", "tasks.json").out == shown
