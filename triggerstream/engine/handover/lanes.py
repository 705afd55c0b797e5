"""Hands the commands of a shared log over to the executor, and knows up to where that is done."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from triggerstream.core.commands import Decision, Revoke
from triggerstream.core.errors import (
    DecodeError,
    DestinationError,
    DispatchError,
    LogError,
    UndispatchableError,
)
from triggerstream.engine.failpoints import failpoint
from triggerstream.engine.handover.destinations import Destinations, RefusedDestination
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A partition's progress: all is done below ``position``, and below ``upto`` but for ``open`` offsets."""

    position: int
    upto: int
    open: tuple[int, ...] = ()


class Lane:
    """One partition's commands: ``next`` is the offset to take next, ``position`` all below is done.

    ``resumed``: the progress that was committed last, of which nothing needs to be done again.
    """

    def __init__(self, partition: int, offset: int, resumed: Reached | None = None) -> None:
        self.partition = partition
        self.next = offset
        self.committed = offset
        self.left = False
        """True once another process may have the partition: what is not started is not started any more."""
        self._open: dict[int, None] = {}
        self._uncommitted: deque[int] = deque()
        self._changed = False
        self._known_upto = 0 if resumed is None else resumed.upto
        self._known_open = frozenset(() if resumed is None else resumed.open)

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
        """How many were taken and are not committed as done: a crash repeats those of them that are done."""
        return len(self._uncommitted)

    @property
    def changed(self) -> bool:
        """Whether anything was done since :meth:`reached` was last called."""
        return self._changed

    @property
    def resuming(self) -> bool:
        """Whether commands that were done before this process had the partition are still ahead."""
        return self.next < self._known_upto

    def reached(self) -> Reached:
        """The progress now; commands above ``position`` that are done are part of it."""
        self._changed = False
        still = sorted(offset for offset in self._known_open if offset >= self.next)
        return Reached(
            position=self.position, upto=max(self.next, self._known_upto), open=(*sorted(self._open), *still)
        )

    def commit(self, reached: Reached) -> None:
        """Note that ``reached`` is committed."""
        self.committed = reached.position
        while self._uncommitted and self._uncommitted[0] < reached.position:
            self._uncommitted.popleft()
        if reached.upto > reached.position:
            open_ = frozenset(reached.open)
            self._uncommitted = deque(
                offset for offset in self._uncommitted if offset >= reached.upto or offset in open_
            )

    def take(self, offset: int) -> None:
        """Count a record in."""
        self._open[offset] = None
        self._uncommitted.append(offset)
        self.next = offset + 1

    def skip_known(self, offset: int) -> bool:
        """Pass over a record that was done before this process had the partition; False: take it."""
        if offset >= self._known_upto or offset in self._known_open:
            return False
        self.next = offset + 1
        self._changed = True
        return True

    def done(self, offset: int) -> None:
        """Count it out."""
        self._open.pop(offset, None)
        self._changed = True

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
    """Why it is never handed over; empty: it is to be."""
    probes: str | None = None
    task: asyncio.Task[None] | None = None

    def __lt__(self, other: _Entry) -> bool:
        return self.number < other.number

    @property
    def dropped(self) -> bool:
        return self.lane.left

    @property
    def key(self) -> str | int:
        return self.number if self.decision is None else self.decision.id


Refuse = Callable[[Record, Decision | None, str], Awaitable[None]]
"""Makes it durable that a record is never handed over, and why; LogError: not known to be durable."""


class HandOver:
    """Starts commands in the order in which they were taken, at most ``UNCONFIRMED`` at once.

    While the executor does not confirm, or the log does not take a refusal, one at a time is tried, the
    oldest first, with growing pauses; none is passed over. Commands of one id wait for one another.
    Commands whose destination is refused wait for it in their order, and the others go on; a revocation
    removes its command from those that wait.
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
        self._destinations: Destinations[_Entry] = Destinations(
            destination_of=dispatcher.destination, clock=clock, start=self._start, attempt=self._attempt
        )
        self.moved = asyncio.Event()
        """Set when some lane's position may have moved."""
        self.handed_over = 0
        self.refused = 0
        self.took = Durations()

    @property
    def waiting(self) -> int:
        """How many were taken and are not confirmed."""
        return len(self._queue) + len(self._failed) + len(self._flying) + self._destinations.count

    @property
    def holds(self) -> bool:
        """Whether commands wait for a refused destination, while later ones are handed over."""
        return bool(self._destinations)

    def refused_destinations(self) -> tuple[RefusedDestination, ...]:
        """Destinations that the executor's broker refuses, those with the most waiting commands first."""
        return self._destinations.report()

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
        for entry in self._failed:
            if entry.lane.left and entry.probes is not None:
                self._destinations.test_again(entry.probes)
        self._failed = [entry for entry in self._failed if not entry.lane.left]
        heapify(self._failed)
        self._destinations.forget_dropped()
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
            if self._destinations and self._hold(entry):
                continue
            self._flying[entry.key] = entry
            entry.task = self._start(self._hand_over(entry))

    def _hold(self, entry: _Entry) -> bool:
        """Have ``entry`` wait if its destination is refused."""
        if isinstance(entry.decision, Revoke):
            for cancelled in self._destinations.withdraw(entry.decision.id):
                cancelled.lane.done(cancelled.record.offset)
                self.moved.set()
        held = self._destinations.hold(entry)
        if held:
            self._give_up_surplus()
        return held

    def _give_up_surplus(self) -> None:
        while (surplus := self._destinations.surplus()) is not None:
            heappush(self._failed, surplus)

    def _attempt(self, entry: _Entry) -> None:
        heappush(self._failed, entry)
        self._give_up_surplus()
        self._wake.set()

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
            accepted = await self._try(entry)
        except DestinationError as exc:
            self._failures = 0
            self._destinations.refuse(entry, exc)
            self._give_up_surplus()
        except (DispatchError, LogError) as exc:
            self._put_back(entry, exc)
        else:
            self._failures = 0
            entry.lane.done(entry.record.offset)
            if entry.probes is not None:
                self._end_probe(entry.probes, accepted=accepted)
        finally:
            del self._flying[entry.key]
            self.moved.set()

    def _end_probe(self, destination: str, *, accepted: bool) -> None:
        if not accepted:
            self._destinations.test_again(destination)
            return
        for entry in self._destinations.accepted(destination):
            heappush(self._failed, entry)

    async def _try(self, entry: _Entry) -> bool:
        """Hand ``entry`` over; False: it never can be, and that is durable."""
        reason = entry.reason
        if entry.decision is not None and not reason:
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
                return True
        await self._refuse(entry.record, entry.decision, reason)
        self.refused += 1
        return False

    def _put_back(self, entry: _Entry, exc: Exception) -> None:
        if not entry.lane.left:
            heappush(self._failed, entry)
        elif entry.probes is not None:
            self._destinations.test_again(entry.probes)
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
