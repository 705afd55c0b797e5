"""Faust's web server with our pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from aiohttp.web import Application
from faust.types import AppT
from faust.web.drivers.aiohttp import Web

from triggerstream.engine.inspect import Inspector


class Pages(Protocol):
    """A web server for an application. It listens already, and answers between ``start`` and ``stop``."""

    @property
    def app(self) -> Application:
        """The application."""

    async def start(self, fail: Callable[[BaseException], None]) -> None:
        """Answer from now on. ``fail`` is called where that ends before ``stop``."""

    async def stop(self) -> None:
        """Listen no more."""


class Front(Protocol):
    """Where people look. It is told what there is to be seen once there is a worker."""

    @property
    def address(self) -> str:
        """Where it listens."""

    @property
    def url(self) -> str | None:
        """The address that other workers have for it, which the group is told; None: they have none."""

    def pages(self, here: Inspector, others: Callable[[], Mapping[int, str]]) -> Pages:
        """What serves pages that show ``here``. ``others``: the addresses of other workers, by partition."""


class AgentWeb(Web):
    """Serves ``pages`` while Faust's server runs; neither tables nor router nor statistics are there."""

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
        """Serve the pages in place of an application of Faust's own."""
        await self._pages.start(self._fail)

    async def stop_server(self) -> None:
        """Serve them no more."""
        await self._pages.stop()
