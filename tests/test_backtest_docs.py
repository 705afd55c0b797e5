"""The page on backtests: its example is run, and prints what the page shows.

``python -m tests.test_backtest_docs`` writes the output anew.
"""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from pathlib import Path

from tests.cli.conftest import Cli
from triggerstream.cli.backtest_lines import task_fields, totals
from triggerstream.core.ids import TaskName
from triggerstream.engine.replay.backtest_counts import BacktestCounts, TaskCounts

PAGE = Path(__file__).parents[1] / "docs" / "backtest.md"
_FILE = re.compile(r"`([\w.]+)`:\n\n```jsonc?\n(.*?)```", re.DOTALL)
_CONSOLE = re.compile(r"```console\n\$ triggerstream ([^\n]*)\n(.*?)```", re.DOTALL)
_PACE = re.compile(r"in [\d.]+ s, [\d,]+ a second")


def rendered(page: str) -> str:
    """The page with the output of its command, which takes as long as the page says."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        try:
            for name, text in _FILE.findall(page):
                Path(name).write_text(text, encoding="utf-8")
            (found,) = _CONSOLE.finditer(page)
            ran = Cli(Path(directory))(*shlex.split(found[1]))
        finally:
            os.chdir(before)
    assert (ran.status, ran.err) == (1, "")
    printed = "\n".join(line.rstrip() for line in ran.out.splitlines() if line.strip())
    pace = _PACE.search(found[2])
    if pace is not None:
        printed = _PACE.sub(pace[0], printed)
    return f"{page[: found.start(2)]}{printed}\n{page[found.end(2) :]}"


def test_the_example_of_the_page_prints_what_it_shows() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert rendered(page) == page


def test_the_page_names_every_key_of_the_lines_for_programs() -> None:
    page = PAGE.read_text(encoding="utf-8").partition("## For programs")[2]
    named = set(re.findall(r"`(\w+)`", page))
    counts = BacktestCounts(tasks={TaskName("t"): TaskCounts()})
    (task,), total = [task_fields(name, one) for name, one in counts.tasks.items()], totals(counts, seconds=1)
    outcomes = total["outcomes"]
    assert isinstance(outcomes, dict)
    assert named >= {*task, *total, *outcomes}


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
