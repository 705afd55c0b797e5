"""The embedded engine is killed with -9 while three processes append; a file says what it handed over."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random
from uuid import UUID

import pytest

from tests.acceptance.embedded.engine import APP
from tests.acceptance.embedded.producer import fires
from tests.support.waiting import wait_until
from triggerstream.adapters.sqlite import SqliteReader
from triggerstream.core.ids import SessionId, TaskName, command_id

ROOT = Path(__file__).resolve().parents[2]
SESSIONS = 300
PRODUCERS = 3
KILLS = 6
COMPLETE = [n for n in range(SESSIONS) if n % 5]


def start(module: str, *arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", f"tests.acceptance.embedded.{module}", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT)


def handed(directory: Path) -> list[str]:
    file = directory / "handed.txt"
    return file.read_text().splitlines() if file.exists() else []


def wait_for_more(directory: Path, lines: int) -> None:
    """Return once so many more commands were handed over."""
    until = len(handed(directory)) + lines
    wait_until(lambda: len(handed(directory)) >= until, within_s=60)


async def progress(directory: Path) -> tuple[int, int | None, int | None]:
    """How far the engine is behind, rows not settled, dead letters."""
    reader = SqliteReader(directory)
    now = await reader.progress()
    await reader.close()
    return now.lag, now.outbox, now.dead_letters


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_engine_killed_at_random_hands_over_every_command_and_no_other(tmp_path: Path) -> None:
    chance = Random(7)
    engine = start("engine", tmp_path)
    producers: list[subprocess.Popen[bytes]] = []
    try:
        wait_until((tmp_path / "triggerstream.wake").exists, within_s=60)
        producers = [start("producer", tmp_path, trigger, SESSIONS) for trigger in range(PRODUCERS)]
        for _ in range(KILLS):
            wait_for_more(tmp_path, chance.randint(1, 60))
            engine.kill()
            engine.wait()
            engine = start("engine", tmp_path)
        assert [producer.wait(120) for producer in producers] == [0] * PRODUCERS
        wait_until(
            lambda: asyncio.run(progress(tmp_path)) == (0, 0, 0),
            within_s=120,
            what=lambda: asyncio.run(progress(tmp_path)),
        )
    finally:
        for process in (engine, *producers):
            process.kill()
            process.wait()
    lines = Counter(handed(tmp_path))
    assert lines.keys() == {
        f"{command_id(APP, SessionId(f's{n}'), generation=0, task=TaskName(task), number=0)} s{n} {task}#0"
        for n in COMPLETE
        for task in ("t_report", "t_next")
    }
    assert all(UUID(line.split()[0]).version == 5 for line in lines)
    assert asyncio.run(triggers(tmp_path)) == sum(
        fires(n, trigger) for n in range(SESSIONS) for trigger in range(PRODUCERS)
    )


async def triggers(directory: Path) -> int:
    """How many triggers the log holds."""
    reader = SqliteReader(directory)
    records = await reader.records(limit=100_000)
    await reader.close()
    return sum(
        b'"t0"' in v or b'"t1"' in v or b'"t2"' in v
        for v in (r.value or b"" for r in records)
        if b"task." not in v
    )
