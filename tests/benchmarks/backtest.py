"""How fast `backtest` folds a file of events under two tasks files, with a process for each of two cores.

Sessions of four triggers and an outcome, as `sessions export` prints them; a tasks file of 100 tasks, and
one of which a tenth of the tasks runs something else. The time is that of the command, with the start of its
processes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

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
    """Events a second of the whole command, and of its folding alone."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        (folder / "old.json").write_text(json.dumps(tasks_file(changed=0)))
        (folder / "new.json").write_text(json.dumps(tasks_file(changed=TASKS // 10)))
        with (folder / "events.jsonl").open("w") as file:
            file.writelines(history(sessions))
        command = [sys.executable, "-m", "triggerstream", "backtest", "new.json", "--against", "old.json"]
        command += ["--from", "events.jsonl", "--processes", str(PROCESSES), "--json"]
        begun = time.perf_counter()
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        took_s = time.perf_counter() - begun
    if ran.returncode != 1:
        raise AssertionError(ran.stderr)
    total = json.loads(ran.stdout.splitlines()[-1])
    events = sessions * (len(PARTS) + 1)
    if (total["events"], total["changed"], total["new"]) != (events, sessions // 10, sessions):
        raise AssertionError("the benchmark does not compare what it should")
    name = f"backtest of a file of {events:,} events, both folds, {PROCESSES} processes"
    return [Row(name=name, value=events / took_s, unit="events/s")]
