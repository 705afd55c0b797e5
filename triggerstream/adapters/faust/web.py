"""Faust's web server with our pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from aiohttp.web import Application
from faust.types import AppT
from faust.web.drivers.aiohttp import Web

from triggerstream.engine.queries.inspector import Inspector


class Pages(Protocol):
    """Web server of an application. It already listens, and answers between ``start`` and ``stop``."""

    @property
    def app(self) -> Application:
        """The application."""

    async def start(self, fail: Callable[[BaseException], None]) -> None:
        """Start to answer. ``fail`` is called if the server ends before ``stop``."""

    async def stop(self) -> None:
        """Stop listening."""


class WebListener(Protocol):
    """A port that listens for the web view. Its pages are made once there is a worker to inspect."""

    @property
    def address(self) -> str:
        """The address at which it listens."""

    @property
    def url(self) -> str | None:
        """The address for other workers, announced in the group; None: there is none."""

    def pages(self, here: Inspector, others: Callable[[], Mapping[int, str]]) -> Pages:
        """A service for pages that show ``here``.

        ``others``: the addresses of other workers, by partition.
        """


class AgentWeb(Web):
    """Serves ``pages`` in place of Faust's web server, without Faust's pages (tables, router, statistics)."""

    default_blueprints = ()
    production_blueprints = ()
    debug_blueprints = ()
    optional_blueprints = ()

    def __init__(self, app: AppT, *, pages: Pages, fail: Callable[[BaseException], None]) -> None:
        super().__init__(app)
        self._fail = fail
        self.web_app = pages.app
        self._pages = pages

    async def start_server(self) -> None:
        """Serve the pages in place of Faust's own application."""
        await self._pages.start(self._fail)

    async def stop_server(self) -> None:
        """Stop serving the pages."""
        await self._pages.stop()
