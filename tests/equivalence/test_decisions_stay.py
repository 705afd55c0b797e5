"""The fold decides what it decided before the code moved into rooms; that release is kept beside the test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BEFORE = HERE / "before_the_rooms.whl"


def decisions(package: Path, count: int) -> list[str]:
    """A line for each log, as the release at ``package`` decides it."""
    ran = subprocess.run(
        [sys.executable, "-P", str(HERE / "decisions.py"), "0", str(count)],
        env=os.environ | {"PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.faults)])
def test_random_logs_with_changed_files_are_decided_as_before(count: int) -> None:
    before, now = decisions(BEFORE, count), decisions(HERE.parents[1], count)
    assert sum(int(line.split()[1]) for line in before) > 5 * count
    assert len(before) == count
    assert now == before
