"""Paced hand-over for both engines: a limited number at once, the oldest first, with growing pauses."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any, Final, Generic, TypeVar

from triggerstream.core.commands import Command, Decision, Revoke
from triggerstream.core.errors import DestinationError, DispatchError, UndispatchableError
from triggerstream.core.events import Failed, FailureReason
from triggerstream.engine.handover.destinations import Destinations
from triggerstream.engine.loglimit import RecurringLines
from triggerstream.engine.ports import Clock, Dispatcher
from triggerstream.wire import events
from triggerstream.wire.records import NewRecord

logger = logging.getLogger(__name__)

UNCONFIRMED: Final = 100
"""Commands that wait for the executor's confirmation at once."""
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0


@dataclass(slots=True, eq=False, kw_only=True)
class PendingDecision:
    """A decision to be handed over, a :class:`triggerstream.engine.handover.destinations.Waiting`.

    ``number`` is its place in the order. ``reason``: why it can never be handed over; empty if it can.
    """

    number: int
    decision: Decision | None
    reason: str = ""
    probes: str | None = None
    unconfirmed: bool = False
    """True once a hand-over was tried and not confirmed."""
    task: asyncio.Task[None] | None = None

    def __lt__(self, other: PendingDecision) -> bool:
        return self.number < other.number

    @property
    def dropped(self) -> bool:
        """True if it needs no hand-over any more."""
        return False

    @property
    def key(self) -> str | int:
        """The key of the command. Entries with the same key wait for one another."""
        return self.number if self.decision is None else self.decision.id

    @property
    def fields(self) -> Mapping[str, object]:
        """The entry's place, for log lines."""
        return {}


_E = TypeVar("_E", bound=PendingDecision)


def not_dispatchable(command: Command, reason: str) -> NewRecord:
    """The outcome of a command that can never be handed over, as a record for the log."""
    failed = Failed(
        instance=command.instance,
        command=command.id,
        error=reason,
        reason=FailureReason.NOT_DISPATCHABLE,
        attempt=command.attempt,
    )
    return NewRecord(key=command.session.encode(), value=events.encode(failed))


class Pacing(Generic[_E]):
    """Starts entries in their order, at most ``UNCONFIRMED`` at once.

    While the executor does not confirm, only the oldest entry is tried, with growing pauses; none is skipped.
    Entries of one command wait for one another. Commands whose destination is refused wait for it in their
    order, while others are handed over. A revocation removes its waiting command.

    Args:
        confirmed: called with an entry that the executor has accepted, and the time that it took in seconds.
        refuse: makes durable that an entry can never be handed over, with the reason.
        ended: called when an entry is done (True), or will be tried again (False).
        refill: adds entries, if there are more, when none is queued.
        retried: errors after which an entry is tried again. Any other error ends ``run``.
    """

    def __init__(
        self,
        *,
        dispatcher: Dispatcher,
        clock: Clock,
        confirmed: Callable[[_E, float], None],
        refuse: Callable[[_E, str], Awaitable[None]],
        ended: Callable[[_E, bool], None],
        refill: Callable[[], Awaitable[None]] | None = None,
        retried: tuple[type[Exception], ...] = (DispatchError,),
    ) -> None:
        self._dispatcher = dispatcher
        self._clock = clock
        self._confirmed = confirmed
        self._refuse = refuse
        self._on_end = ended
        self._refill = refill
        self._retried = retried
        self._queue: deque[_E] = deque()
        self._failed: list[_E] = []
        """A heap of entries that are to be tried again, which come before the queue."""
        self._in_flight: dict[str | int, _E] = {}
        self._failures = 0
        self._lines = RecurringLines(logger)
        self._paused = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        self._wake = asyncio.Event()
        self.destinations: Destinations[_E] = Destinations(
            destination_of=dispatcher.destination, clock=clock, start=self.start, attempt=self._attempt
        )

    @property
    def queued(self) -> int:
        """The number of entries that are not started."""
        return len(self._queue)

    @property
    def waiting(self) -> int:
        """The number of entries that are not confirmed."""
        return len(self._queue) + len(self._failed) + len(self._in_flight) + self.destinations.count

    @property
    def away(self) -> bool:
        """True if the last hand-over failed and is being repeated."""
        return self._failures > 0 and self.waiting > 0

    def in_flight(self) -> Iterable[_E]:
        """The entries that are being handed over."""
        return self._in_flight.values()

    def add(self, entry: _E) -> None:
        """Queue ``entry`` after all others."""
        self._queue.append(entry)

    def wake(self) -> None:
        """Look for entries that may be started."""
        self._wake.set()

    def forget_dropped(self) -> None:
        """Remove entries that are dropped."""
        self._queue = deque(entry for entry in self._queue if not entry.dropped)
        for entry in self._failed:
            if entry.dropped:
                self._end_probe(entry)
        self._failed = [entry for entry in self._failed if not entry.dropped]
        heapify(self._failed)
        self.destinations.forget_dropped()
        self._wake.set()

    async def run(self, *, drain_s: float = 0.0) -> None:
        """Hand over until cancelled; then wait up to ``drain_s`` for confirmations.

        Raises:
            Exception: an entry failed in a way that is not safe to try again, or a task of ``start`` did.
        """
        try:
            while self._error is None:
                await self._start_some()
                await self._wake.wait()
                self._wake.clear()
            raise self._error
        finally:
            await self._stop(drain_s)

    async def _stop(self, drain_s: float) -> None:
        in_flight = {entry.task for entry in self._in_flight.values() if entry.task is not None}
        for task in self._tasks - in_flight:
            task.cancel()
        if in_flight and drain_s:
            await asyncio.wait(in_flight, timeout=drain_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``work`` concurrently with the hand-overs. Its error ends ``run``."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            self._error = self._error or task.exception()
        self._wake.set()

    async def _start_some(self) -> None:
        """Start all entries that may be started now."""
        while not self._paused and len(self._in_flight) < (1 if self._failures else UNCONFIRMED):
            if not self._queue and self._refill is not None:
                await self._refill()
            entry = self._oldest()
            if entry is None or entry.key in self._in_flight:
                return
            if self._failed:
                heappop(self._failed)
            else:
                self._queue.popleft()
            if self.destinations and self._wait_if_refused(entry):
                continue
            self._in_flight[entry.key] = entry
            entry.task = self.start(self._hand_over(entry))

    def _oldest(self) -> _E | None:
        while self._failed and self._failed[0].dropped:
            self._end_probe(heappop(self._failed))
        if self._failed:
            return self._failed[0]
        while self._queue and self._queue[0].dropped:
            self._queue.popleft()
        return self._queue[0] if self._queue else None

    def _wait_if_refused(self, entry: _E) -> bool:
        """Make ``entry`` wait if its destination is refused."""
        if isinstance(entry.decision, Revoke):
            for cancelled in self.destinations.withdraw(entry.decision.id):
                self._on_end(cancelled, True)  # noqa: FBT003 - a callback
        held = self.destinations.hold(entry)
        if held:
            self._give_up_surplus()
        return held

    def _give_up_surplus(self) -> None:
        while (surplus := self.destinations.surplus()) is not None:
            heappush(self._failed, surplus)

    def _attempt(self, entry: _E) -> None:
        heappush(self._failed, entry)
        self._give_up_surplus()
        self._wake.set()

    async def _hand_over(self, entry: _E) -> None:
        done = False
        try:
            accepted = await self._try(entry)
        except DestinationError as exc:
            self._failures = 0
            self.destinations.refuse(entry, exc)
            self._give_up_surplus()
        except self._retried as exc:
            self._retry_later(entry, exc)
        else:
            done = True
            self._failures = 0
            if accepted and entry.probes is not None:
                for waiting in self.destinations.accepted(entry.probes):
                    heappush(self._failed, waiting)
            else:
                self._end_probe(entry)
        finally:
            del self._in_flight[entry.key]
            self._on_end(entry, done)

    def _end_probe(self, entry: _E) -> None:
        if entry.probes is not None:
            self.destinations.test_again(entry.probes)

    async def _try(self, entry: _E) -> bool:
        """Hand ``entry`` over. False: it can never be handed over, and that is durable."""
        reason = entry.reason
        if entry.decision is not None and not reason:
            now = asyncio.get_running_loop().time
            begun = now()
            try:
                await self._dispatcher.dispatch(entry.decision)
            except UndispatchableError as exc:
                reason = str(exc)
            else:
                self._confirmed(entry, now() - begun)
                return True
        await self._refuse(entry, reason)
        return False

    def _retry_later(self, entry: _E, exc: Exception) -> None:
        entry.unconfirmed = True
        if entry.dropped:
            self._end_probe(entry)
        else:
            heappush(self._failed, entry)
        if self._paused:
            return
        self._paused = True
        pause_s = min(_FIRST_PAUSE_S * 2.0 ** min(self._failures, 16), _LONGEST_PAUSE_S)
        self._failures += 1
        self._lines.write(
            "hand-over not confirmed, trying again",
            key=type(exc).__name__,
            extra={**entry.fields, "pause_s": pause_s, "error": str(exc)},
        )
        self.start(self._resume_after(pause_s))

    async def _resume_after(self, pause_s: float) -> None:
        await self._clock.sleep(pause_s)
        self._paused = False
