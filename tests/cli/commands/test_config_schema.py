"""`triggerstream config schema`, from the source tree and from a wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

ROOT = Path(__file__).parents[3]
SCHEMA = (ROOT / "schemas" / "tasks.schema.json").read_text(encoding="utf-8")


def test_it_prints_the_published_schema(tmp_path: Path) -> None:
    assert Cli(tmp_path)("config", "schema").out == SCHEMA


@pytest.mark.slow
def test_the_wheel_has_the_schema(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(installed)
    printed = subprocess.run(
        [sys.executable, "-P", "-m", "triggerstream", "config", "schema"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed)},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert printed.stdout == SCHEMA
