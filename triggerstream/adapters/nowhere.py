"""Dispatcher for an engine without an executor: all commands stay in the outbox."""

from __future__ import annotations

import asyncio

from triggerstream.core.commands import Decision
from triggerstream.core.errors import DispatchError


class NowhereDispatcher:
    """A :class:`triggerstream.engine.ports.Dispatcher` that confirms nothing.

    Every decision stays in the outbox.
    """

    def __init__(self) -> None:
        self._released = asyncio.Event()

    async def dispatch(self, decision: Decision) -> None:
        """Wait until ``release``.

        Raises:
            DispatchError: always.
        """
        await self._released.wait()
        raise DispatchError(f"{decision.instance}: there is no executor; the command stays where it is")

    def destination(self, decision: Decision) -> str | None:  # noqa: ARG002 - the port's signature
        """Returns None: nothing is sent anywhere."""
        return None

    def release(self) -> None:
        """Make the waiting calls of ``dispatch`` raise an error."""
        self._released.set()

    async def close(self) -> None:
        """Make the waiting calls of ``dispatch`` raise an error."""
        self.release()
