"""The table of ``--cpu``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cpu_by_file import Figures, running_below, table

ROOT = Path(__file__).parents[2]
_BUSY = """
import subprocess, sys, time

def burn(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass

def test_alone():
    burn(0.3)

def test_with_a_child():
    program = "import time\\nwhile time.process_time() < 0.6: pass"
    subprocess.run([sys.executable, "-c", program], check=True)
"""


def test_files_that_used_most_come_first_and_the_last_line_is_the_sum() -> None:
    files = {"a.py": Figures(1.0, 0.5, 2, 0), "b.py": Figures(0.5, 9.5, 4, 1)}
    head, *rows = table(files)
    assert head.split() == ["all", "s", "own", "s", "below", "s", "started", "JVMs", "file"]
    assert [row.split() for row in rows] == [
        ["10.0", "0.5", "9.5", "4", "1", "b.py"],
        ["1.5", "1.0", "0.5", "2", "0", "a.py"],
        ["11.5", "1.5", "10.0", "6", "1", "(all)"],
    ]


def test_processes_below_others_count_with_those_that_they_waited_for(tmp_path: Path) -> None:
    def running(number: int, above: int, *ticks: int) -> None:
        (tmp_path / str(number)).mkdir()
        fields = ["S", str(above), *["0"] * 9, *map(str, ticks), *["0"] * 20]
        (tmp_path / str(number) / "stat").write_text(f"{number} (a) name) {' '.join(fields)}")

    running(10, 1, 500, 0, 0, 0)  # the process itself: not below
    running(11, 10, 100, 20, 3, 4)
    running(12, 11, 50, 0, 0, 0)
    running(13, 1, 900, 0, 0, 0)
    assert running_below(10, proc=tmp_path) == pytest.approx(1.77)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="waits for a /proc")
@pytest.mark.parametrize("processes", [(), ("-n", "1")], ids=["one process", "a process of xdist"])
def test_a_run_prints_what_tests_and_processes_below_them_used(
    tmp_path: Path, processes: tuple[str, ...]
) -> None:
    (tmp_path / "test_busy.py").write_text(_BUSY)
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "tests.support.cpu_by_file", "-c", "/dev/null"),
            *("--rootdir", str(tmp_path), str(tmp_path), "--cpu", *processes),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    (row,) = (line.split() for line in ran.stdout.splitlines() if line.endswith(" test_busy.py"))
    _, own, below, started, servers, _ = row
    assert float(own) >= 0.2
    assert float(below) >= 0.5
    assert (started, servers) == ("1", "0")
