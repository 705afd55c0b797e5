"""From `fire` to the start of the task, with `dev` and a real Celery worker, at 20 events a second.

The peer in the same run is Celery alone: from `send_task` to the start of the same task on the same worker.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import quantiles

from tests.benchmarks.latency_app import STARTS_VARIABLE, app
from tests.benchmarks.rows import Row
from tests.support.valkey import valkey_server
from tests.support.waiting import wait_until
from triggerstream import SyncClient

ROOT = Path(__file__).resolve().parents[2]
EVENTS = 100
PAUSE_S = 0.05
TASKS = '{"t_note": {"after": ["first", "second"], "run": "bench.note"}}'


def run() -> list[Row]:
    """p50 and p99 of both, in milliseconds."""
    with tempfile.TemporaryDirectory() as name, valkey_server() as broker:
        directory = Path(name)
        starts = directory / "starts"
        starts.touch()
        (directory / "tasks.json").write_text(TASKS)
        with _dev(directory, broker, starts):
            app.config_from_object({"broker_url": broker}, force=True)
            with SyncClient(f"sqlite:///{directory}/.triggerstream/triggerstream.db") as client:
                for number in range(EVENTS + 1):
                    client.fire(f"s{number}", "first", {})

                def fire(number: int) -> None:
                    client.fire(f"s{number}", "second", {"name": f"fire-{number}"})

                def send(number: int) -> None:
                    app.send_task("bench.note", kwargs={"second": {"name": f"send-{number}"}})

                # Each path in turn, so that the machine is the same for both.
                sent = _paced({"fire": fire, "send": send}, starts)
    peer = "Celery alone: send_task to the start"
    ours, theirs = sent["fire"], sent["send"]
    return [
        Row(
            name=f"fire to the start of the task, p{percent}",
            value=ours[percent - 1],
            unit="ms",
            peer=peer,
            ratio=ours[percent - 1] / theirs[percent - 1],
        )
        for percent in (50, 99)
    ]


@contextmanager
def _dev(directory: Path, broker: str, starts: Path) -> Iterator[None]:
    """`dev` with the tasks file in force."""
    printed = directory / "dev.txt"
    with printed.open("wb") as output:
        dev = subprocess.Popen(
            [
                *(sys.executable, "-m", "triggerstream", "dev", "tasks.json", "--port", "0"),
                *("--celery", "tests.benchmarks.latency_app:app", "--broker", broker),
            ],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(ROOT), STARTS_VARIABLE: str(starts)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: "Ctrl-C" in printed.read_text(), within_s=60, what=printed.read_text)
        yield
    finally:
        dev.send_signal(signal.SIGTERM)
        dev.wait(30)


def _has_begun(starts: Path, name: str) -> bool:
    return f"{name} " in starts.read_text()


def _paced(paths: dict[str, Callable[[int], None]], starts: Path) -> dict[str, list[float]]:
    """The percentiles, 1 to 99, of each path's latencies in milliseconds; the first of each only warms up."""
    sent: dict[str, float] = {}
    for number in range(EVENTS + 1):
        for name, act in paths.items():
            sent[f"{name}-{number}"] = time.time()
            act(number)
            if number == 0:
                wait_until(partial(_has_begun, starts, f"{name}-0"), within_s=60)
            time.sleep(PAUSE_S)
    wait_until(lambda: len(starts.read_text().splitlines()) >= len(sent), within_s=60, what=starts.read_text)
    begun = {line.split()[0]: float(line.split()[1]) for line in starts.read_text().splitlines()}
    return {
        name: quantiles(
            [(begun[f"{name}-{n}"] - sent[f"{name}-{n}"]) * 1000 for n in range(1, EVENTS + 1)], n=100
        )
        for name in paths
    }
