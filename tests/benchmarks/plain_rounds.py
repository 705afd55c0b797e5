"""Folds logs of plain tasks files, and prints one JSON line a round. Each release that is compared runs it.

It uses only what the releases have in common, and nothing of ``tests``. A line of input starts a round.
"""

from __future__ import annotations

import gc
import json
import sys
from hashlib import sha256
from time import process_time

from triggerstream.core.events import Event
from triggerstream.core.fold import step
from triggerstream.core.ids import AppId, SessionId
from triggerstream.core.results import Folded
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import AppliedConfiguration, Rules
from triggerstream.wire import commands, events, state, tasksfile
from triggerstream.wire.records import Record

Log = list[tuple[str, dict[str, object]]]


def joined(used: int) -> tuple[dict[str, object], Log]:
    """1,000 tasks of four triggers each, every trigger used by ``used`` tasks; four events a session."""
    tasks: dict[str, object] = {
        f"t{n}": {"after": [f"{part}{n // used}" for part in "abcd"], "run": f"app.t{n}"}
        for n in range(1_000)
    }
    log: Log = [
        (f"s{session}", {"type": f"{part}{session % (1_000 // used)}", "id": f"{session}-{part}"})
        for session in range(500)
        for part in "abcd"
    ]
    return tasks, log


def repeated() -> tuple[dict[str, object], Log]:
    """A repeatable task with ``unless``, whose triggers come again and again."""
    tasks: dict[str, object] = {
        "t": {"after": ["a", "b"], "andEvery": "e", "unless": ["no"], "run": "app.t"},
        "u": {"after": ["t", "a"], "run": "app.u"},
    }
    log: Log = [(f"s{n % 20}", {"type": "aebaz"[n // 20 % 5]}) for n in range(2_000)]
    return tasks, log


def waiting() -> tuple[dict[str, object], Log]:
    """900 instances that wait, and then triggers that no task uses."""
    tasks: dict[str, object] = {"t": {"after": ["never"], "andEvery": "e", "run": "app.t"}}
    log: Log = [("s", {"type": "e" if n < 900 else "other"}) for n in range(1_200)]
    return tasks, log


CASES = {"one": joined(1), "ten": joined(10), "repeated": repeated(), "waiting": waiting()}


class Case:
    """One log, ready to be folded."""

    def __init__(self, tasks: dict[str, object], log: Log) -> None:
        text = json.dumps(tasks)
        config = tasksfile.read(text, name="tasks.json")
        applied = AppliedConfiguration(config=config, offset=-1, arrival_us=0)
        self.rules = Rules(app=AppId("bench"), history=(applied,))
        self.records = [
            Record(
                partition=0,
                offset=offset,
                arrival_us=1_700_000_000_000_000 + offset,
                key=session.encode(),
                value=json.dumps({"data": {"score": 3, "name": "hello world"}, **event}).encode(),
            )
            for offset, (session, event) in enumerate(log)
        ]

    def fold(self, *, digest: bool = False) -> str:
        """Decode, fold and encode all events, states once for 10 events; the commands' hash with ``digest``.

        How a state is stored may differ between releases, and is not part of the hash.
        """
        states: dict[SessionId, SessionState] = {}
        made = sha256()
        for number, record in enumerate(self.records):
            event = events.decode(record)
            assert isinstance(event, Event)
            session = event.session
            folded = step(self.rules, states.get(session), event)
            if not isinstance(folded, Folded):
                continue
            states[session] = folded.state
            for decision in folded.decisions:
                value = commands.encode(decision)
                if digest:
                    made.update(value)
            if number % 10 == 9:
                state.encode(folded.state)
        return made.hexdigest()


def main() -> None:
    """Print the hashes, then the times of a round for each line read."""
    cases = {name: Case(*case) for name, case in CASES.items()}
    print(json.dumps({name: case.fold(digest=True) for name, case in cases.items()}), flush=True)
    for _ in sys.stdin:
        times = {}
        for name, case in cases.items():
            gc.collect()
            gc.disable()
            start = process_time()
            case.fold()
            times[name] = (process_time() - start) / len(case.records) * 1e6
            gc.enable()
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
