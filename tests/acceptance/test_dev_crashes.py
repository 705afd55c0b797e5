"""`dev` and its workers are killed with -9 under load; a table without a key counts what took effect."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import create_engine, select

from tests.acceptance.crashing.plan import TASKS, complete
from tests.acceptance.crashing.table import EFFECTS_VARIABLE, effects, metadata
from tests.support.descendants import descendants
from tests.support.dev import is_celery
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
PRODUCERS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The load: ten events a session, over ``seconds``, during which the kills happen."""

    sessions: int
    engine_kills: int
    worker_kills: int
    seconds: float


SHORT = Faults(sessions=100, engine_kills=2, worker_kills=2, seconds=10)
LONG = Faults(sessions=2_000, engine_kills=50, worker_kills=20, seconds=240)
"""20,000 events; run by `make faults`."""


class Dev:
    """`triggerstream dev`, started again whenever it was killed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.output = directory / "dev.txt"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.output.open("ab") as output:
            return subprocess.Popen(
                [
                    *(sys.executable, "-m", "triggerstream", "dev", "tasks.json", "--port", "0"),
                    *("--celery", "tests.acceptance.crashing.effects:app", "--dir", "state"),
                ],
                cwd=self.directory,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    EFFECTS_VARIABLE: f"sqlite:///{self.directory}/effects.db",
                },
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        """Kill the engine's process alone, and start it again: its children must end by themselves."""
        self.process.kill()
        self.process.wait()
        self.process = self._start()

    def kill_a_worker(self, chance: Random) -> bool:
        """Kill one of the Celery worker's processes; False if none lives at the moment."""
        workers = [pid for pid, line in descendants(self.process.pid).items() if is_celery(line)]
        if not workers:
            return False
        with suppress(ProcessLookupError):
            os.kill(chance.choice(workers), signal.SIGKILL)
        return True

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def text(self) -> str:
        return self.output.read_text(errors="replace")[-5_000:]


@contextmanager
def producers(directory: Path, faults: Faults, *, seed: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Three processes that fire; all have ended when this does."""
    started = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.acceptance.crashing.producer"),
                f"sqlite:///{directory}/state/triggerstream.db",
                *(str(faults.sessions), str(seed), str(number), str(PRODUCERS), str(faults.seconds)),
            ],
            cwd=ROOT,
        )
        for number in range(PRODUCERS)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def effects_of(directory: Path) -> Counter[str]:
    """How often each session's task took effect."""
    engine = create_engine(f"sqlite:///{directory}/effects.db")
    try:
        with engine.connect() as connection:
            return Counter(connection.scalars(select(effects.c.session)))
    finally:
        engine.dispose()


def run_faults(directory: Path, faults: Faults, *, seed: int) -> None:
    """Kill at random while events arrive, then let it come to rest, and count."""
    (directory / "tasks.json").write_text(TASKS)
    (directory / "state").mkdir()
    engine = create_engine(f"sqlite:///{directory}/effects.db")
    metadata.create_all(engine)
    engine.dispose()
    chance = Random(seed)
    dev = Dev(directory)
    try:
        database = directory / "state" / "triggerstream.db"
        wait_until(database.exists, within_s=30, what=dev.text)
        with producers(directory, faults, seed=seed) as firing:
            kills: list[Callable[[], object]] = [dev.kill] * faults.engine_kills
            kills += [
                lambda: wait_until(lambda: dev.kill_a_worker(chance), within_s=60)
            ] * faults.worker_kills
            chance.shuffle(kills)
            for kill in kills:
                time.sleep(chance.uniform(0, 2 * faults.seconds / len(kills)))  # when, is the point
                kill()
            assert [process.wait(600) for process in firing] == [0] * PRODUCERS
        expected = complete(faults.sessions)
        wait_until(
            lambda: effects_of(directory).keys() >= expected,
            within_s=180,
            what=lambda: f"{len(expected - effects_of(directory).keys())} effects are missing\n{dev.text()}",
        )
    finally:
        dev.stop()
    counted = effects_of(directory)
    assert {session: times for session, times in counted.items() if times != 1} == {}
    assert counted.keys() == expected


@pytest.mark.slow
@pytest.mark.celery
@pytest.mark.timeout(300)
def test_killed_engine_and_workers_lose_and_double_no_effect(tmp_path: Path) -> None:
    run_faults(tmp_path, SHORT, seed=1)


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_seventy_kills_under_20_000_events_lose_and_double_no_effect(tmp_path: Path) -> None:
    run_faults(tmp_path, LONG, seed=2)
