"""Counts what a proposed tasks file would do at once to the sessions there are, before it is applied."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from triggerstream.core.changes import FINAL, Consequence, ProposedFile, consequences
from triggerstream.core.errors import LogError
from triggerstream.core.ids import SessionId, TaskName
from triggerstream.core.tasks import Configuration
from triggerstream.engine.queries.snapshots import SessionSnapshot
from triggerstream.wire.state import EncodedSizes, read_header, trigger_marks

EXAMPLES = 3
"""Number of sessions that are named for each count."""
_SIZES = EncodedSizes()

OnCounted = Callable[[int, str, int, int | None], None]
"""Progress callback: partition, step, offsets or sessions done, and their total if it is known."""
READING = "reading"
"""Step in which the offsets of a changelog are read."""
COUNTING = "counting"
"""Step in which sessions are looked at."""


@dataclass(slots=True)
class TaskCounts:
    """The instances of a task by consequence, and the first sessions with each."""

    counts: Counter[Consequence] = field(default_factory=Counter)
    examples: dict[Consequence, list[SessionId]] = field(default_factory=dict)

    def add(self, session: SessionId, one: Consequence) -> None:
        """Count an instance of ``session``."""
        self.counts[one] += 1
        shown = self.examples.setdefault(one, [])
        if len(shown) < EXAMPLES and session not in shown:
            shown.append(session)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedPartition:
    """The point of a partition's log that counts describe.

    Its sessions include the events below ``offset``. If the engine went on meanwhile, some include those
    below ``last_offset``. The log had events up to before ``log_end``.
    """

    partition: int
    offset: int
    last_offset: int
    log_end: int

    @property
    def unfolded(self) -> int:
        """Events of the log that the sessions did not include when the counting began."""
        return max(self.log_end - self.offset, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedChange:
    """The counts of all consequences. ``sessions`` is the number of sessions looked at.

    Without ``partitions``, no session had to be looked at.
    """

    sessions: int = 0
    partitions: tuple[CountedPartition, ...] = ()
    tasks: dict[TaskName, TaskCounts] = field(default_factory=dict)

    def total(self, one: Consequence) -> int:
        """The instances of all tasks with a consequence."""
        return sum(task.counts[one] for task in self.tasks.values())

    @property
    def is_final(self) -> bool:
        """True if the file would do something that no later file takes back."""
        return any(self.total(one) for one in FINAL)


async def count_changes(
    snapshots: Iterable[SessionSnapshot], config: Configuration, *, at_us: int, on_counted: OnCounted
) -> CountedChange:
    """Count what ``config`` would do at once if it were applied at ``at_us``, partition by partition.

    Raises:
        UsageError: a state cannot be read, or belongs to another log or app.
        LogError: the sessions cannot be read; or another file came into force meanwhile.
    """
    tasks: dict[TaskName, TaskCounts] = {}
    partitions = []
    sessions = 0
    for snapshot in snapshots:
        counting = _Counting(snapshot, config, tasks, on_counted)
        try:
            partitions.append(await counting.run(at_us))
        finally:
            await snapshot.close()
        sessions += counting.sessions
    order = {task.name: place for place, task in enumerate(config.tasks)}
    names = sorted(tasks, key=lambda name: (order.get(name, len(order)), name))
    return CountedChange(
        sessions=sessions, partitions=tuple(partitions), tasks={name: tasks[name] for name in names}
    )


class _Counting:
    """The counting of one partition. ``sessions``: those looked at so far."""

    def __init__(
        self,
        snapshot: SessionSnapshot,
        config: Configuration,
        tasks: dict[TaskName, TaskCounts],
        on_counted: OnCounted,
    ) -> None:
        self._snapshot = snapshot
        self._config = config
        self._tasks = tasks
        self._on_counted = on_counted
        self._marks: tuple[bytes, ...] = ()
        self.sessions = 0

    async def run(self, at_us: int) -> CountedPartition:
        snapshot, number = self._snapshot, self._snapshot.number

        def on_read(done: int, total: int) -> None:
            self._on_counted(number, READING, done, total)

        begin = await snapshot.open(on_read)
        file = ProposedFile(
            rules=begin.rules, config=self._config, offset=max(begin.log_end, begin.offset), at_us=at_us
        )
        self._marks = trigger_marks(file.triggers_for_existing)
        first = last = begin.offset
        async with aclosing(snapshot.pages()) as pages:
            async for page in pages:
                if page.offset > file.offset:  # the engine has gone on since the log's end was looked at
                    file = replace(file, offset=page.offset)
                for key, value in page.entries:
                    self._look(file, key, value)
                last = page.offset
                self.sessions += len(page.entries)
                self._on_counted(number, COUNTING, self.sessions, begin.sessions)
                await asyncio.sleep(0)  # else a signal would wait until the end
        return CountedPartition(partition=number, offset=first, last_offset=last, log_end=begin.log_end)

    def _look(self, file: ProposedFile, key: bytes, value: bytes) -> None:
        seen = read_header(value)
        waits = seen is None or seen.may_be_open or seen.is_unsettled
        if not waits and not any(mark in value for mark in self._marks):
            return  # and no task could begin in it
        session = SessionId(key.decode())
        state = self._snapshot.decoder.read(session, value)
        if state.is_empty():
            return
        if state.config > file.rules.current.offset:
            raise LogError("another tasks file came into force while sessions were counted: count again")
        for task, _, one in consequences(file, session, state, _SIZES):
            counts = self._tasks.get(task)
            if counts is None:
                counts = self._tasks[task] = TaskCounts()
            counts.add(session, one)
