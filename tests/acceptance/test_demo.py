"""`demo` with real processes: it shows what it claims, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.dev import TRIGGERSTREAM, descendants, wait_gone
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.celery]


def demo(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "TMPDIR": str(tmp_path), "CELERY_BROKER_URL": "amqp://nowhere.invalid"}
    return subprocess.run(
        [TRIGGERSTREAM, "demo", *arguments],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_demo_shows_why_one_ran_and_what_the_other_waits_for(tmp_path: Path) -> None:
    since = time.monotonic()
    ran = demo(tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert time.monotonic() - since < 60
    for said in (
        '"after": ["module1Received", "module4Received"]',
        "participant-1  module4Received",
        "t_processStepData#0 finished",
        "because of module4Received",
        'returned {"participant":"Ada","steps":20204,"device":"unknown"}',
        "waits for module1Received",
        "It ran once",
    ):
        assert said in ran.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_demo_for_programs_is_json_lines(tmp_path: Path) -> None:
    ran = demo(tmp_path, "--json")
    complete, lacking, verdict = (json.loads(line) for line in ran.stdout.splitlines())
    assert ran.returncode == 0
    assert (complete["session"], complete["waitsFor"]) == ("participant-1", [])
    assert (lacking["session"], lacking["waitsFor"]) == ("participant-2", ["module1Received"])
    assert verdict == {"ran": 1, "ranForTheOther": 0, "ok": True}


def test_a_demo_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [TRIGGERSTREAM, "demo"], cwd=tmp_path, env=env, stdout=subprocess.DEVNULL
    ) as process:
        below = wait_until(lambda: descendants(process.pid), within_s=30, what="no child was started")
        process.kill()
    wait_gone(below)


def test_the_example_is_the_demos_survey() -> None:
    root = Path(__file__).resolve().parents[2]
    example, survey = root / "examples" / "survey", root / "triggerstream" / "demo" / "survey"
    for name in ("survey.json", "my_app/__init__.py", "my_app/tasks.py"):
        assert (example / name).read_bytes() == (survey / name).read_bytes()
