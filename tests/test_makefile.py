"""Targets of the Makefile that a newcomer runs first."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="waits for make")
def test_an_installation_ends_with_a_line_that_names_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKELEVEL", "1")  # below another make, it prints the directory that it leaves
    dry = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "--always-make", "install"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    last = dry.stdout.splitlines()[-1]
    assert last.startswith("echo ")
    assert "triggerstream --help" in last
