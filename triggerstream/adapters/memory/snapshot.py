"""The stored sessions of a :class:`MemoryDatabase`, read in pages."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from triggerstream.adapters.memory.database import MemoryDatabase
from triggerstream.core.ids import AppId
from triggerstream.engine.configuration_cache import ConfigurationCache, rules_of
from triggerstream.engine.queries.snapshots import OnRead, SnapshotBegin, SnapshotPage
from triggerstream.engine.stored_states import SOMEWHERE

_PAGE = 2
"""Few, so that a test of some sessions has several pages."""


class MemorySnapshot:
    """A :class:`triggerstream.engine.queries.snapshots.SessionSnapshot` of a database."""

    number = 0
    decoder = SOMEWHERE

    def __init__(self, database: MemoryDatabase, *, app: AppId) -> None:
        self._database = database
        self._app = app

    async def open(self, on_read: OnRead) -> SnapshotBegin:  # noqa: ARG002 - nothing takes long
        database = self._database
        return SnapshotBegin(
            rules=rules_of(self._app, database.configurations, ConfigurationCache()),
            offset=database.offset,
            log_end=len(database.records),
            sessions=len(database.sessions),
        )

    async def pages(self) -> AsyncGenerator[SnapshotPage]:
        entries = [(session.encode(), stored.state) for session, stored in self._database.sessions.items()]
        for at in range(0, len(entries), _PAGE):
            yield SnapshotPage(entries=entries[at : at + _PAGE], offset=self._database.offset)

    async def close(self) -> None:
        """Do nothing."""
