"""Measures how fast `backtest` folds a file of events under two tasks files, with one process per core.

Sessions of four triggers and an outcome, as `sessions export` prints them; a tasks file of 100 tasks, and one
of which a tenth of the tasks, or all, run something else: a session that both files fold to the same is
folded once. The time is that of the command, with the start of its processes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

from tests.benchmarks.rows import Row
from triggerstream.core.ids import SessionId, TaskName, command_id
from triggerstream.settings import DEFAULT_APP
from triggerstream.wire.instants import format_instant

SESSIONS = 200_000
TASKS = 100
PARTS = "abcd"
PROCESSES = 2
START_US = 1_767_225_600_000_000


def tasks_file(*, changed: int) -> dict[str, object]:
    """A tasks file of which the first ``changed`` tasks run something else."""
    return {
        f"t{n}": {
            "after": [f"{part}{n}" for part in PARTS],
            "run": f"other.t{n}" if n < changed else f"app.t{n}",
        }
        for n in range(TASKS)
    }


def history(sessions: int) -> Iterator[str]:
    """The lines of so many sessions, interleaved by twenties."""
    offset = 0
    for first in range(0, sessions, 20):
        some = range(first, min(first + 20, sessions))
        for place in range(len(PARTS) + 1):
            for session in some:
                yield _line(session, place, offset)
                offset += 1


def _line(number: int, place: int, offset: int) -> str:
    session, task = SessionId(f"session-{number}"), TaskName(f"t{number % TASKS}")
    if place < len(PARTS):
        kind = f"{PARTS[place]}{number % TASKS}"
        data: dict[str, object] = {"score": 3, "name": "hello world", "flag": True}
    else:
        kind = "triggerstream.task.finished"
        command = command_id(DEFAULT_APP, session, generation=0, task=task, number=0)
        data = {"instance": f"{task}#0", "command": command, "result": {"ok": True}}
    line = {
        "type": kind,
        "data": data,
        "id": f"id-{number}-{place}",
        "session": session,
        "received": format_instant(START_US + offset * 1_000),
        "app": DEFAULT_APP,
        "offset": offset,
    }
    return json.dumps(line, separators=(",", ":")) + "\n"


def run(sessions: int = SESSIONS) -> list[Row]:
    """Events a second, and a second of processor time, if a tenth of the tasks and if all differ."""
    rows: list[Row] = []
    events = sessions * (len(PARTS) + 1)
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        with (folder / "events.jsonl").open("w") as file:
            file.writelines(history(sessions))
        for changed in (TASKS // 10, TASKS):
            took_s, used_s = _timed(folder, sessions, changed=changed)
            name = f"backtest of {events:,} events in a file, {changed} of {TASKS} tasks differ"
            rows.append(Row(name=f"{name}, {PROCESSES} processes", value=events / took_s, unit="events/s"))
            rows.append(Row(name=name, value=events / used_s, unit="events/s a core"))
    return rows


def _timed(folder: Path, sessions: int, *, changed: int) -> tuple[float, float]:
    """Seconds that the command takes, and seconds of processor time that its processes use."""
    (folder / "old.json").write_text(json.dumps(tasks_file(changed=0)))
    (folder / "new.json").write_text(json.dumps(tasks_file(changed=changed)))
    command = [sys.executable, "-m", "triggerstream", "backtest", "new.json", "--against", "old.json"]
    command += ["--from", "events.jsonl", "--processes", str(PROCESSES), "--json"]
    before, begun = getrusage(RUSAGE_CHILDREN), time.perf_counter()
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    took_s, after = time.perf_counter() - begun, getrusage(RUSAGE_CHILDREN)
    if ran.returncode != 1:
        raise AssertionError(ran.stderr)
    total = json.loads(ran.stdout.splitlines()[-1])
    expected = sessions * (len(PARTS) + 1), sessions * changed // TASKS, sessions
    if (total["events"], total["changed"], total["new"]) != expected:
        raise AssertionError("the benchmark does not compare what it should")
    return took_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
