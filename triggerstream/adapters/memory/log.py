"""A log in memory."""

from __future__ import annotations

from collections.abc import Sequence

from triggerstream.adapters.memory.clock import ManualClock
from triggerstream.adapters.memory.database import MemoryDatabase
from triggerstream.core.ids import SessionId
from triggerstream.wire.records import NewRecord


class MemoryLog:
    """A :class:`triggerstream.engine.ports.Log` of a database, and an ``OutcomeLog``."""

    def __init__(self, database: MemoryDatabase | None = None, *, clock: ManualClock | None = None) -> None:
        self.database = database or MemoryDatabase()
        self._clock = clock or ManualClock()

    async def append(self, records: Sequence[NewRecord]) -> None:
        self.database.append(records, now_us=self._clock.now_us())

    def report(self, session: SessionId, value: bytes) -> None:
        self.database.append([NewRecord(key=session.encode(), value=value)], now_us=self._clock.now_us())

    async def close(self) -> None:
        """Do nothing."""
