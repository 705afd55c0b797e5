"""A dispatcher that records decisions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from triggerstream.core.commands import Decision
from triggerstream.core.errors import DispatchError


class MemoryDispatcher:
    """A :class:`triggerstream.engine.ports.Dispatcher` that records its decisions.

    ``answer`` is called with each decision first, and may raise. ``destination`` returns that of a decision.
    """

    def __init__(
        self,
        answer: Callable[[Decision], Awaitable[None]] | None = None,
        *,
        destination: Callable[[Decision], str | None] = lambda _: None,
    ) -> None:
        self._destination = destination
        self.dispatched: list[Decision] = []
        self.closed = False
        self._answer = answer
        self._changed = asyncio.Condition()

    async def dispatch(self, decision: Decision) -> None:
        """Record one decision."""
        if self.closed:
            raise DispatchError("the dispatcher is closed")
        if self._answer is not None:
            await self._answer(decision)
        self.dispatched.append(decision)
        async with self._changed:
            self._changed.notify_all()

    def destination(self, decision: Decision) -> str | None:
        """The result of the function ``destination``; None without one."""
        return self._destination(decision)

    async def wait_for(self, count: int, *, timeout_s: float = 10.0) -> list[Decision]:
        """Wait until at least ``count`` decisions were dispatched, and return them."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: len(self.dispatched) >= count)
        return self.dispatched

    async def close(self) -> None:
        """Note that it was closed."""
        self.closed = True
