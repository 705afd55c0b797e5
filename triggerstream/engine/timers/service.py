"""Appends timer events as they come due: the only part of a timer that looks at the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from triggerstream.core.events import Timer
from triggerstream.core.ids import SessionId
from triggerstream.engine.ports import Clock
from triggerstream.engine.timers.heap import Timers
from triggerstream.wire import events
from triggerstream.wire.records import NewRecord

PAGE = 250
"""Timer events appended at once; the next follow once these are folded. So many sessions whose timers decide
something take some 50 ms, and an event of another session waits for no more of them, however many are due."""
_LONGEST_SLEEP_S = 1.0
"""A timer waits no longer at once: the wall clock may be set meanwhile."""
_TIMER = events.encode(Timer())


class TimerService:
    """Appends timer events for the sessions of a partition when they are due.

    ``append`` appends records to the partition's log, and returns once they are folded. Otherwise an owner
    that lags behind would append the same timers again.
    """

    def __init__(self, *, clock: Clock, append: Callable[[list[NewRecord]], Awaitable[None]]) -> None:
        self._clock = clock
        self._append = append
        self._timers = Timers({})
        self._sooner = asyncio.Event()

    def __len__(self) -> int:
        """The number of sessions that wait for a timer."""
        return len(self._timers)

    def set(self, due: Iterable[tuple[SessionId, int | None]]) -> None:
        """Set the due times of sessions, from their folded states."""
        update = self._timers.update
        sooner = False
        for session, due_us in due:
            sooner |= update(session, due_us)
        if sooner:
            self._sooner.set()

    async def run(self) -> None:
        """Append timer events until cancelled."""
        while True:
            due = self._timers.take(self._clock.now_us(), limit=PAGE)
            if due:
                await self._append([NewRecord(key=session.encode(), value=_TIMER) for session in due])
                self._timers.again(due, self._clock.now_us())
            else:
                await self._sleep()

    async def _sleep(self) -> None:
        self._sooner.clear()
        next_us = self._timers.next_us()
        waits: list[asyncio.Task[Any]] = [asyncio.create_task(self._sooner.wait())]
        if next_us is not None:
            wait_s = (next_us - self._clock.now_us()) / 1_000_000
            waits.append(asyncio.create_task(self._clock.sleep(min(max(wait_s, 0), _LONGEST_SLEEP_S))))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
