"""Folds logs of plain tasks files, and prints one JSON line a round. Each release that is compared runs it.

It uses only what the releases have in common, and nothing of ``tests``. A line of input starts a round.
"""

from __future__ import annotations

import gc
import json
import sys
from hashlib import sha256
from time import process_time

from triggerstream.core.ids import AppId, SessionId
from triggerstream.core.tasks import AppliedConfiguration, Rules
from triggerstream.engine.processor import Processor
from triggerstream.wire import state, tasksfile
from triggerstream.wire.records import Record

APP = AppId("bench")
BATCH = 10
"""Events for which a state is encoded once."""
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


def record_of(session: str, event: dict[str, object], *, offset: int) -> Record:
    """An event of a log as a record."""
    return Record(
        partition=0,
        offset=offset,
        arrival_us=1_700_000_000_000_000 + offset,
        key=session.encode(),
        value=json.dumps({"data": {"score": 3, "name": "hello world"}, **event}).encode(),
    )


class Case:
    """One log, ready to be folded."""

    def __init__(self, tasks: dict[str, object], log: Log) -> None:
        text = json.dumps(tasks)
        config = tasksfile.read(text, name="tasks.json")
        applied = AppliedConfiguration(config=config, offset=-1, arrival_us=0)
        self.rules = Rules(app=APP, history=(applied,))
        self.records = [record_of(*one, offset=offset) for offset, one in enumerate(log)]
        self.stored: dict[SessionId, bytes] = {}
        """The states after the last round."""

    def fold(self, *, digest: bool = False) -> str:
        """Decode, fold and encode all events in batches as a worker does; with ``digest``, hash the commands.

        A worker keeps the states that it has encoded, in the form in which they are stored, so it neither
        reads a state again nor encodes what has not changed. How a state is stored may differ between
        releases, and is not part of the hash.
        """
        processor = Processor(app=APP)
        stored: dict[SessionId, bytes] = {}
        self.stored = stored
        made = sha256()
        for start in range(0, len(self.records), BATCH):
            checkpoint = processor.process(self.rules, self.records[start : start + BATCH], stored.get)
            for session, one in checkpoint.states.items():
                stored[session] = one.state
            if digest:
                for decided in checkpoint.decided:
                    made.update(decided.value)
        return made.hexdigest()


class Finished(Case):
    """Sessions with an instance each, which is finished."""

    def __init__(self) -> None:
        super().__init__(
            {"t": {"after": ["a"], "run": "app.t"}},
            [(f"s{n}", {"type": "a", "id": f"{n}"}) for n in range(400)],
        )
        checkpoint = Processor(app=APP).process(self.rules, self.records, lambda _: None)
        for one in checkpoint.decided:
            command = json.loads(one.value)
            data = {"instance": "t#0", "command": command["id"], "attempt": 0, "result": {"rows": 1}}
            event: dict[str, object] = {"type": "triggerstream.task.finished", "data": data}
            self.records.append(record_of(command["session"], event, offset=len(self.records)))

    def recover(self) -> float:
        """µs a session of reading the states again, as a take-over and the index of a web view do."""
        start = process_time()
        for value in self.stored.values():
            state.read_header(value)
            state.decode(value)
        return (process_time() - start) / len(self.stored) * 1e6

    def bytes_stored(self) -> float:
        """Bytes of a state."""
        return sum(map(len, self.stored.values())) / len(self.stored)


def main() -> None:
    """Print the hashes, then the times of a round for each line read."""
    cases = {name: Case(*case) for name, case in CASES.items()}
    cases["finished"] = finished = Finished()
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
        times["recovered"], times["stored"] = finished.recover(), finished.bytes_stored()
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
