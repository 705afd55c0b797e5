"""Measures events of sessions by their past: the tenth and the ten-thousandth instance of a task.

Each instance is finished before the next is made, and each event is a batch of its own, so that the state is
encoded after each. A *busy* session's state is in memory, that of a *scattered* one is decoded each time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from tests.benchmarks.rows import Row
from triggerstream.core.events import Finished
from triggerstream.core.ids import AppId, SessionId, TaskName, command_id, instance_id
from triggerstream.core.tasks import AppliedConfiguration, Rules
from triggerstream.engine.checkpoint import Checkpoint
from triggerstream.engine.processor import Processor
from triggerstream.wire import tasksfile
from triggerstream.wire.events import encode
from triggerstream.wire.json import dumps
from triggerstream.wire.records import Record

APP = AppId("bench")
T = TaskName("t")
START_US = 1_767_225_600_000_000
EVERY = {"t": {"after": [], "andEvery": "a", "run": "app.tasks.t"}}
FEW, MANY = 10, 10_000
MEASURED = 300
"""Instances whose events are measured: a dozen sessions of few, or the last ones of one session with many."""


class Past:
    """A session and what its events cost."""

    def __init__(self, session: str, *, scattered: bool) -> None:
        config = tasksfile.read(json.dumps(EVERY), name="tasks.json")
        self._rules = Rules(
            app=APP, history=(AppliedConfiguration(config=config, offset=-1, arrival_us=START_US),)
        )
        self._session = SessionId(session)
        self._scattered = scattered
        self._processor = Processor(app=APP)
        self._stored: bytes | None = None
        self._offset = self._number = 0
        self.written = 0
        """Bytes of states and entries, as a changelog has them."""

    def go_on(self, count: int) -> float:
        """Make and finish ``count`` instances; the CPU seconds that their events took."""
        taken = 0.0
        for _ in range(count):
            command = command_id(APP, self._session, generation=0, task=T, number=self._number)
            finished = Finished(
                instance=instance_id(T, self._number), command=command, result={"n": self._number}
            )
            for value in (
                dumps({"type": "a", "data": {"n": self._number, "text": "x" * 40}}),
                encode(finished),
            ):
                taken += self._fold(value)
            self._number += 1
        return taken

    def _fold(self, value: bytes) -> float:
        record = Record(
            partition=0,
            offset=self._offset,
            arrival_us=START_US + self._offset,
            key=self._session.encode(),
            value=value,
        )
        self._offset += 1
        processor = Processor(app=APP) if self._scattered else self._processor
        load: Callable[[SessionId], bytes | None] = lambda _: self._stored  # noqa: E731
        begun = time.process_time()
        checkpoint = processor.process(self._rules, [record], load)
        taken = time.process_time() - begun
        self._keep(checkpoint)
        return taken

    def _keep(self, checkpoint: Checkpoint) -> None:
        self._stored = checkpoint.states[self._session].state
        self.written += len(self._stored)
        self.written += sum(len(entry) for entry in checkpoint.retired.values() if entry is not None)


def run() -> list[Row]:
    """The rows; the peer of each is the tenth instance, in the same run."""
    rows = []
    for scattered, what in ((False, "busy"), (True, "scattered")):
        one = _few(1, 1, scattered=scattered)
        few = _few(FEW, MEASURED // FEW, scattered=scattered)
        many = Past("s", scattered=scattered)
        many.go_on(MANY - MEASURED)
        before = many.written
        late = many.go_on(MEASURED) / MEASURED / 2 * 1e6, (many.written - before) / MEASURED / 2
        for name, (cpu_us, size) in (
            (f"{what} session with one finished instance", one),
            (f"{what} session, instance {FEW:,}", few),
            (f"{what} session, instance {MANY:,}", late),
        ):
            is_late = name.endswith(f"{MANY:,}")
            peer = f"instance {FEW:,}" if is_late else None
            rows.append(
                Row(
                    name=f"past: {name}",
                    value=cpu_us,
                    unit="µs CPU/event",
                    peer=peer,
                    ratio=cpu_us / few[0] if is_late else None,
                )
            )
            rows.append(
                Row(
                    name=f"past: {name}, written",
                    value=size,
                    unit="B/event",
                    peer=peer,
                    ratio=size / few[1] if is_late else None,
                )
            )
    return rows


def _few(before: int, measured: int, *, scattered: bool) -> tuple[float, float]:
    """CPU in µs and bytes of an event of the next ``measured`` instances after ``before`` ones."""
    taken, written, events = 0.0, 0, 0
    for number in range(MEASURED // measured):
        past = Past(f"s{number}", scattered=scattered)
        past.go_on(before)
        begun = past.written
        taken += past.go_on(measured)
        written += past.written - begun
        events += 2 * measured
    return taken / events * 1e6, written / events
