"""Hands decisions over to the executor, in the order in which they were decided."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from triggerstream.core.commands import Command, Decision, Revoke
from triggerstream.core.errors import DestinationError, DispatchError, UndispatchableError
from triggerstream.core.events import Failed, FailureReason
from triggerstream.core.ids import CommandId
from triggerstream.engine.checkpoint import Decided
from triggerstream.engine.handover.destinations import Destinations, RefusedDestination
from triggerstream.engine.ports import Clock, Dispatcher, Refused, Sent, Store
from triggerstream.wire import commands, events
from triggerstream.wire.records import NewRecord

logger = logging.getLogger(__name__)

UNCONFIRMED = 100
"""How many decisions wait for the executor's confirmation at once."""
_QUEUED = 5_000
"""Rows kept in memory; beyond that they wait in the store until it is their turn."""
_HELD = 1_000
"""Rows that may wait for refused destinations while more are read from the store."""
_PAGE = 1_000
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_MARK_S = 0.25
"""Hand-overs are noted with the next checkpoint, or after this time: not each in a transaction of its own."""
_DRAIN_S = 5.0
"""How long a stop waits for confirmations. What is not confirmed then is handed over again at the start."""
_HAND_OVER = "hand over"


@dataclass(slots=True, eq=False)
class _Entry:
    number: int
    decision: Decision
    dropped: bool = False
    probes: str | None = None
    reason: str = ""
    """Why it is given up; empty: it is not."""

    def __lt__(self, other: _Entry) -> bool:
        return self.number < other.number


class Outbox:
    """Reads the rows of ``store`` from the first on, and hands each over until it is confirmed.

    Decisions are started in their order, at most ``UNCONFIRMED`` at once. While the executor does not
    confirm, one at a time is tried, the oldest first, with growing pauses; none is passed over. A revocation
    waits for its command. Commands whose destination is refused wait for it in their order, and the others
    go on.
    """

    def __init__(self, *, store: Store, dispatcher: Dispatcher, clock: Clock, last: int) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._read = 0
        """All rows up to this number were taken from the store, or were in memory before they were there."""
        self._last = last
        self._queue: deque[_Entry] = deque()
        self._queued: dict[CommandId, _Entry] = {}
        self._failed: list[_Entry] = []
        self._flying: dict[CommandId, _Entry] = {}
        self._failures = 0
        self._paused = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        self._wake = asyncio.Event()
        self._sent: list[Sent] = []
        self._to_mark = asyncio.Event()
        self._destinations: Destinations[_Entry] = Destinations(
            destination_of=dispatcher.destination, clock=clock, start=self._start, attempt=self._attempt
        )
        self.handed_over = 0
        self.refused = 0

    def add(self, first: int, decided: Sequence[Decided]) -> None:
        """Take the rows that a checkpoint decided, once durable; ``first`` is the first one's number."""
        in_memory = (
            self._read >= self._last
            and len(self._queue) + len(decided) <= _QUEUED
            and self._destinations.count < _HELD
        )
        for number, item in enumerate(decided, first):
            decision = item.decision
            if isinstance(decision, Revoke) or decision.attempt:
                older = self._queued.pop(decision.id, None) or self._flying.get(decision.id)
                if older is not None:
                    older.dropped = True
                    if self._destinations:
                        self._destinations.forget_dropped()
            if in_memory:
                self._push(number, decision)
        self._last = first + len(decided) - 1
        if in_memory:
            self._read = self._last
        self._wake.set()

    def refused_destinations(self) -> tuple[RefusedDestination, ...]:
        """Destinations that the executor's broker refuses, those with the most waiting commands first."""
        return self._destinations.report()

    def take_sent(self) -> list[Sent]:
        """What was handed over since this was last called: for the next checkpoint to note."""
        sent, self._sent = self._sent, []
        return sent

    async def run(self) -> None:
        """Hand over until cancelled; then wait a little for what is not confirmed yet."""
        marking = self._start(self._mark())
        try:
            while self._error is None:
                await self._hand_over_some()
                await self._wake.wait()
                self._wake.clear()
            raise self._error
        finally:
            marking.cancel()
            await self._drain()

    async def _drain(self) -> None:
        flying = {task for task in self._tasks if task.get_name() == _HAND_OVER}
        if flying:
            await asyncio.wait(flying, timeout=_DRAIN_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[None, None, None], *, name: str | None = None) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            self._error = task.exception() or self._error
        self._wake.set()

    async def _hand_over_some(self) -> None:
        """Start to hand over whatever may be now."""
        while not self._paused and len(self._flying) < (1 if self._failures else UNCONFIRMED):
            if not self._queue and self._read < self._last and self._destinations.count < _HELD:
                await self._fetch()
            entry = self._peek()
            if entry is None or entry.decision.id in self._flying:
                return
            self._pop(entry)
            if self._destinations and self._hold(entry):
                continue
            self._flying[entry.decision.id] = entry
            self._start(self._hand_over(entry), name=_HAND_OVER)

    def _hold(self, entry: _Entry) -> bool:
        """Have ``entry`` wait if its destination is refused."""
        held = self._destinations.hold(entry)
        if held:
            self._remember(entry)
            self._give_up_surplus()
        return held

    def _remember(self, entry: _Entry) -> None:
        """Have a revocation or a resend find ``entry``."""
        if isinstance(entry.decision, Command):
            self._queued[entry.decision.id] = entry

    def _give_up_surplus(self) -> None:
        while (surplus := self._destinations.surplus()) is not None:
            heappush(self._failed, surplus)

    def _attempt(self, entry: _Entry) -> None:
        heappush(self._failed, entry)
        self._give_up_surplus()
        self._wake.set()

    def _peek(self) -> _Entry | None:
        while self._failed and self._failed[0].dropped:
            dropped = heappop(self._failed)
            if dropped.probes is not None:
                self._destinations.test_again(dropped.probes)
        if self._failed:
            return self._failed[0]
        while self._queue and self._queue[0].dropped:
            self._queue.popleft()
        return self._queue[0] if self._queue else None

    def _pop(self, entry: _Entry) -> None:
        if self._failed and self._failed[0] is entry:
            heappop(self._failed)
        else:
            self._queue.popleft()
        if self._queued.get(entry.decision.id) is entry:
            del self._queued[entry.decision.id]

    def _push(self, number: int, decision: Decision) -> None:
        entry = _Entry(number, decision)
        self._queue.append(entry)
        if isinstance(decision, Command):
            self._queued[decision.id] = entry

    async def _fetch(self) -> None:
        last = self._last
        rows = await self._store.outbox(after=self._read, limit=_PAGE)
        for row in rows:
            self._push(row.number, commands.decode(row.value))
        self._read = rows[-1].number if len(rows) == _PAGE else max(last, rows[-1].number if rows else 0)

    async def _hand_over(self, entry: _Entry) -> None:
        try:
            if entry.reason:
                await self._refuse(entry, entry.reason)
            else:
                await self._dispatch(entry)
        finally:
            del self._flying[entry.decision.id]

    async def _dispatch(self, entry: _Entry) -> None:
        try:
            await self._dispatcher.dispatch(entry.decision)
        except UndispatchableError as exc:
            await self._refuse(entry, str(exc))
            if entry.probes is not None:
                self._destinations.test_again(entry.probes)
        except DestinationError as exc:
            self._failures = 0
            if not entry.dropped:
                self._remember(entry)
            self._destinations.refuse(entry, exc)
            self._give_up_surplus()
        except DispatchError as exc:
            self._put_back(entry, exc)
        else:
            self._failures = 0
            self.handed_over += 1
            self._note(entry)
            if entry.probes is not None:
                for waiting in self._destinations.accepted(entry.probes):
                    heappush(self._failed, waiting)

    def _note(self, entry: _Entry) -> None:
        self._sent.append(Sent(number=entry.number, sent_us=self._clock.now_us()))
        self._to_mark.set()

    def _put_back(self, entry: _Entry, exc: DispatchError) -> None:
        if not entry.dropped:
            heappush(self._failed, entry)
            self._remember(entry)
        elif entry.probes is not None:
            self._destinations.test_again(entry.probes)
        if self._paused:
            return
        self._paused = True
        pause_s = min(_FIRST_PAUSE_S * 2 ** min(self._failures, 16), _LONGEST_PAUSE_S)
        self._failures += 1
        logger.warning(
            "hand-over not confirmed, trying again",
            extra={"command": entry.decision.id, "pause_s": pause_s, "error": str(exc)},
        )
        self._start(self._resume_after(pause_s))

    async def _resume_after(self, pause_s: float) -> None:
        await self._clock.sleep(pause_s)
        self._paused = False

    async def _refuse(self, entry: _Entry, reason: str) -> None:
        decision = entry.decision
        logger.error("command cannot be handed over", extra={"command": decision.id, "error": reason})
        if isinstance(decision, Revoke):
            self._note(entry)
            return
        failed = Failed(
            instance=decision.instance,
            command=decision.id,
            error=reason,
            reason=FailureReason.NOT_DISPATCHABLE,
            attempt=decision.attempt,
        )
        record = NewRecord(key=decision.session.encode(), value=events.encode(failed))
        await self._store.refuse(Refused(number=entry.number, reason=reason, failed=record))
        self.refused += 1

    async def _mark(self) -> None:
        while True:
            await self._to_mark.wait()
            self._to_mark.clear()
            await self._clock.sleep(_MARK_S)
            if sent := self.take_sent():
                await self._store.sent(sent)
