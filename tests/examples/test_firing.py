"""The programs of `examples/` that fire, where nothing listens; the tests of `dev` run them otherwise."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("name", ["survey", "order", "approval", "nightly"])
def test_fire_prints_one_line_if_nothing_listens_at_its_address(name: str) -> None:
    fire = EXAMPLES / name / "fire.py"
    with socket.socket() as bound:  # bound, so that no other process listens there
        bound.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        ran = subprocess.run([sys.executable, fire, address], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (1, "", 1)
    assert ran.stderr.startswith(f"cannot fire: {address}")
