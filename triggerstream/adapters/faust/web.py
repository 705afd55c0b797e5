"""Faust's web server with our pages."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Protocol

from aiohttp.web import AppRunner, BaseSite, SockSite
from faust.types import AppT
from faust.web.drivers.aiohttp import Web

from triggerstream.engine.inspect import Inspector


class Front(Protocol):
    """Where people look. It is told what there is to be seen once there is a worker."""

    @property
    def address(self) -> str:
        """Where it listens."""

    @property
    def url(self) -> str | None:
        """The address that other workers have for it, which the group is told; None: they have none."""

    @property
    def listening(self) -> socket.socket:
        """What it listens with."""

    def pages(self, here: Inspector, others: Callable[[], Mapping[int, str]]) -> AppRunner:
        """What serves pages that show ``here``. ``others``: the addresses of other workers, by partition."""


class AgentWeb(Web):
    """Serves ``pages`` where ``listening`` does; neither tables nor router nor statistics are there."""

    default_blueprints = ()
    production_blueprints = ()
    debug_blueprints = ()
    optional_blueprints = ()

    def __init__(self, app: AppT, *, pages: AppRunner, listening: socket.socket) -> None:
        super().__init__(app)
        self.web_app = pages.app
        self._runner = pages
        self._listening = listening

    def _create_site(self) -> BaseSite:
        return SockSite(self._runner, self._listening)
