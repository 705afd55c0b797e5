"""`make demo-kafka`: the whole chain shows what it claims, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.dev import descendants, wait_gone
from tests.support.kafka.server import ROOT
from tests.support.secrets import write_secret
from tests.support.waiting import wait_until
from triggerstream.adapters.kafka.cluster import describe
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.topics import Topics
from triggerstream.core.ids import AppId

pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.celery]

COMMAND = (sys.executable, "-m", "tests.support.demo_kafka")


def environment(kafka: str, tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "TRIGGERSTREAM_KAFKA": kafka, "TMPDIR": str(tmp_path)}


def demo(kafka: str, tmp_path: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=environment(kafka, tmp_path) | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_the_whole_chain_runs_the_task_once_and_says_why(kafka: str, tmp_path: Path) -> None:
    ran = demo(kafka, tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for said in (
        '"after": ["module1Received", "module4Received"]',
        "bridge",
        "put into partition",
        "t_processStepData#0 finished",
        "because of module4Received",
        'returned {"participant":"Ada","steps":20204,"device":"unknown"}',
        "waits for module1Received",
        "It ran once",
    ):
        assert said in ran.stdout
    assert list(tmp_path.iterdir()) == []


def test_with_a_control_key_too_and_its_topics_go_and_programs_get_json_lines(
    kafka: str, tmp_path: Path
) -> None:
    write_secret(tmp_path / "control.key", f"2026-01-01T00:00:00Z {'5a' * 32}\n")
    config = tmp_path / "kafka.json"
    config.write_text('{"control_key_file": "control.key"}')
    ran = demo(kafka, tmp_path, "--json", TRIGGERSTREAM_KAFKA_CONFIG=str(config))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    complete, lacking, verdict = (json.loads(line) for line in ran.stdout.splitlines())
    assert (complete["session"], complete["waitsFor"]) == ("participant-1", [])
    assert (lacking["session"], lacking["waitsFor"]) == ("participant-2", ["module1Received"])
    assert verdict == {"app": verdict["app"], "ran": 1, "ranForTheOther": 0, "ok": True}
    assert asyncio.run(_left(Connection(bootstrap=kafka), AppId(verdict["app"]))) == []


async def _left(connection: Connection, app: AppId) -> list[str]:
    async with connection.client() as client:
        return list((await describe(client, Topics.of(app).all())).topics)


def test_a_demo_that_is_killed_leaves_no_process(kafka: str, tmp_path: Path) -> None:
    with subprocess.Popen(
        COMMAND, cwd=ROOT, env=environment(kafka, tmp_path), stdout=subprocess.DEVNULL
    ) as process:
        # The broker, two workers, the bridge and the Celery worker, each below its watchdog.
        below = wait_until(
            lambda: found if len(found := descendants(process.pid)) >= 10 else None,
            within_s=90,
            what="the chain was not started",
        )
        process.kill()
    wait_gone(below)
