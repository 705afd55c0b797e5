"""The pages and the intake of an engine in memory, as one application."""

from __future__ import annotations

from aiohttp import web

from triggerstream.adapters.memory import MemoryDatabase, MemoryReader
from triggerstream.core.ids import AppId
from triggerstream.engine.ports import Log
from triggerstream.engine.queries.embedded import EmbeddedInspector
from triggerstream.web.access import Access
from triggerstream.web.site import site


def intake(log: Log, database: MemoryDatabase) -> web.Application:
    """The application that appends to ``log`` and shows ``database``."""
    inspector = EmbeddedInspector(MemoryReader(database), log, app=AppId("app"))
    return site(inspector, inspector, Access(), log=log)
