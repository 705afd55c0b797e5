"""Hands the commands of a shared log over to the executor, and knows up to where that is done."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from triggerstream.core.commands import Decision
from triggerstream.core.errors import DecodeError, DispatchError, LogError, UndispatchableError
from triggerstream.engine.failpoints import failpoint
from triggerstream.engine.histogram import Durations
from triggerstream.engine.ports import Clock, Dispatcher
from triggerstream.wire import commands
from triggerstream.wire.records import Record

logger = logging.getLogger(__name__)

UNCONFIRMED = 100
"""How many commands wait for the executor's confirmation at once."""
TAKEN = 1_000
"""How many are taken from the log and not committed as done: so many a crash repeats at the most."""
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0


class Lane:
    """One partition's commands: ``next`` is the offset to take next, ``position`` all below is done."""

    def __init__(self, partition: int, offset: int) -> None:
        self.partition = partition
        self.next = offset
        self.committed = offset
        self.left = False
        """True once another process may have the partition: what is not started is not started any more."""
        self._open: dict[int, None] = {}
        self._uncommitted: deque[int] = deque()

    @property
    def position(self) -> int:
        """Every command below is handed over, or buried with its reason."""
        return next(iter(self._open), self.next)

    @property
    def idle(self) -> bool:
        """True where everything that was taken is done."""
        return not self._open

    @property
    def uncommitted(self) -> int:
        """How many were taken and are not below what is committed."""
        return len(self._uncommitted)

    def commit(self, position: int) -> None:
        """Note that ``position`` is committed."""
        self.committed = position
        while self._uncommitted and self._uncommitted[0] < position:
            self._uncommitted.popleft()

    def take(self, offset: int) -> None:
        """Count a record in."""
        self._open[offset] = None
        self._uncommitted.append(offset)
        self.next = offset + 1

    def done(self, offset: int) -> None:
        """Count it out."""
        self._open.pop(offset, None)

    def passed(self, offset: int) -> None:
        """Note that the log has no command below ``offset``, where all that were taken are done."""
        if self.idle:
            self.next = max(self.next, offset)


@dataclass(slots=True, eq=False)
class _Entry:
    number: int
    lane: Lane
    record: Record
    decision: Decision | None
    reason: str = ""
    task: asyncio.Task[None] | None = None

    def __lt__(self, other: _Entry) -> bool:
        return self.number < other.number

    @property
    def key(self) -> str | int:
        return self.number if self.decision is None else self.decision.id


Refuse = Callable[[Record, Decision | None, str], Awaitable[None]]
"""Makes it durable that a record is never handed over, and why; LogError: not known to be durable."""


class HandOver:
    """Starts commands in the order in which they were taken, at most ``UNCONFIRMED`` at once.

    While the executor does not confirm, or the log does not take a refusal, one at a time is tried, the
    oldest first, with growing pauses; none is passed over. Commands of one id wait for one another.
    """

    def __init__(self, *, dispatcher: Dispatcher, clock: Clock, refuse: Refuse) -> None:
        self._dispatcher = dispatcher
        self._clock = clock
        self._refuse = refuse
        self._queue: deque[_Entry] = deque()
        self._failed: list[_Entry] = []
        self._flying: dict[str | int, _Entry] = {}
        self._number = 0
        self._failures = 0
        self._paused = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        self._wake = asyncio.Event()
        self.moved = asyncio.Event()
        """Set when some lane's position may have moved."""
        self.handed_over = 0
        self.refused = 0
        self.took = Durations()

    @property
    def waiting(self) -> int:
        """How many were taken and are not confirmed."""
        return len(self._queue) + len(self._failed) + len(self._flying)

    @property
    def away(self) -> bool:
        """Whether the last hand-over failed, and is tried again."""
        return self._failures > 0 and self.waiting > 0

    def take(self, lane: Lane, record: Record) -> None:
        """Take the next record of a lane."""
        lane.take(record.offset)
        self._number += 1
        try:
            entry = _Entry(self._number, lane, record, commands.decode(record.value or b""))
        except DecodeError as exc:
            entry = _Entry(self._number, lane, record, None, f"no command: {exc}")
        self._queue.append(entry)
        self._wake.set()

    def leave(self, lanes: Collection[Lane]) -> None:
        """Start nothing more of ``lanes``. What is handed over now still counts when it is confirmed."""
        for lane in lanes:
            lane.left = True
        self._queue = deque(entry for entry in self._queue if not entry.lane.left)
        self._failed = [entry for entry in self._failed if not entry.lane.left]
        heapify(self._failed)
        self._wake.set()

    async def settled(self, lanes: Collection[Lane], *, within_s: float) -> None:
        """Return once nothing of ``lanes`` is being handed over, or after ``within_s``."""
        tasks = [entry.task for entry in self._flying.values() if entry.task and entry.lane in lanes]
        if tasks:
            await asyncio.wait(tasks, timeout=within_s)

    async def run(self) -> None:
        """Hand over until cancelled.

        Raises:
            Exception: what is neither confirmed nor refused nor safe to try again; nothing may go on.
        """
        try:
            while self._error is None:
                self._start_some()
                await self._wake.wait()
                self._wake.clear()
            raise self._error
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start_some(self) -> None:
        while not self._paused and len(self._flying) < (1 if self._failures else UNCONFIRMED):
            entry = self._failed[0] if self._failed else self._queue[0] if self._queue else None
            if entry is None or entry.key in self._flying:
                return
            if self._failed:
                heappop(self._failed)
            else:
                self._queue.popleft()
            self._flying[entry.key] = entry
            entry.task = self._start(self._hand_over(entry))

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            self._error = self._error or task.exception()
        self._wake.set()

    async def _hand_over(self, entry: _Entry) -> None:
        try:
            await self._try(entry)
        except (DispatchError, LogError) as exc:
            self._put_back(entry, exc)
        else:
            self._failures = 0
            entry.lane.done(entry.record.offset)
        finally:
            del self._flying[entry.key]
            self.moved.set()

    async def _try(self, entry: _Entry) -> None:
        reason = entry.reason
        if entry.decision is not None:
            now = asyncio.get_running_loop().time
            begun = now()
            try:
                await self._dispatcher.dispatch(entry.decision)
            except UndispatchableError as exc:
                reason = str(exc)
            else:
                self.handed_over += 1
                self.took.note(now() - begun)
                failpoint("bridge.published")
                return
        await self._refuse(entry.record, entry.decision, reason)
        self.refused += 1

    def _put_back(self, entry: _Entry, exc: Exception) -> None:
        if not entry.lane.left:
            heappush(self._failed, entry)
        if self._paused:
            return
        self._paused = True
        pause_s = min(_FIRST_PAUSE_S * 2 ** min(self._failures, 16), _LONGEST_PAUSE_S)
        self._failures += 1
        logger.warning(
            "hand-over not confirmed, trying again",
            extra={
                "partition": entry.lane.partition,
                "offset": entry.record.offset,
                "pause_s": pause_s,
                "error": str(exc),
            },
        )
        self._start(self._resume_after(pause_s))

    async def _resume_after(self, pause_s: float) -> None:
        await self._clock.sleep(pause_s)
        self._paused = False
