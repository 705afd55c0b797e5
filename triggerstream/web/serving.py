"""Web server used for pages, intake and probes: listens, accepts and answers within limits."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace

from aiohttp import web
from yarl import URL

from triggerstream.engine.background import Background
from triggerstream.supervision.answers import HEADERS
from triggerstream.web.answers import refusal
from triggerstream.web.http_connections import BoundedServer, ConnectionLimits, RefusalFactory

if sys.platform != "win32":
    import resource

_GRACE_S = 1.0
"""Maximum time that a stopping process waits for answers in progress; aiohttp's default is 60 s."""
_LINGER_S = 1.0
"""Maximum time for reading the rest of a refused body, so that the client can read the refusal."""
_BACKLOG = 128
_PAUSE_S = 0.1
"""Pause after a connection could not be accepted, for example at the limit of open files."""
_MOST_CONNECTIONS = 200
_SHARE_OF_FILES = 8


class Runner(web.AppRunner):
    """aiohttp's runner of an application, with limited connections."""

    def __init__(
        self,
        app: web.Application,
        *,
        refuse: RefusalFactory = refusal,
        headers: Mapping[str, str] = HEADERS,
        bounds: ConnectionLimits | None = None,
    ) -> None:
        super().__init__(app, access_log=None, shutdown_timeout=_GRACE_S)
        self._refuse = refuse
        self._headers = headers
        given = bounds or ConnectionLimits(connections=most_connections())
        self._bounds = replace(given, body_bytes=max(given.body_bytes, app._client_max_size))  # noqa: SLF001 - nothing public
        self.bounded: BoundedServer

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        options = {"access_log": None, "lingering_time": _LINGER_S}
        self.bounded = BoundedServer(
            made, refuse=self._refuse, headers=self._headers, bounds=self._bounds, options=options
        )
        return self.bounded


class Server:
    """Server of an application on a listening socket; it answers between ``start`` and ``stop``."""

    def __init__(
        self,
        app: web.Application,
        listening: socket.socket,
        *,
        refuse: RefusalFactory = refusal,
        bounds: ConnectionLimits | None = None,
    ) -> None:
        self.app = app
        self.url = url_of(listening)
        self._listening = listening
        self.runner = Runner(app, refuse=refuse, bounds=bounds)
        self._background: Background | None = None

    async def start(self, fail: Callable[[BaseException], None]) -> None:
        """Start to answer. ``fail`` is called if the server ends before ``stop``."""
        await self.runner.setup()
        self._listening.setblocking(False)  # noqa: FBT003 - the socket's own signature
        bounded = self.runner.bounded
        self._background = Background(fail)
        self._background.start(f"connections of {self.url}", _accept_for_ever(self._listening, bounded))
        self._background.start(f"time limits of {self.url}", bounded.close_late_for_ever())

    async def stop(self) -> None:
        """Stop listening; requests in progress get a moment to finish."""
        if self._background is not None:
            await self._background.close()
        self._listening.close()
        await self.runner.cleanup()


async def _accept_for_ever(listening: socket.socket, server: BoundedServer) -> None:
    """Pass connections to ``server``, one after the other, without end.

    asyncio's own server accepts up to a hundred connections at once without regard to a limit, and at the
    limit of open files it logs each attempt.
    """
    loop = asyncio.get_running_loop()
    while True:
        await _readable(loop, listening)
        try:
            accepted, _ = listening.accept()
        except BlockingIOError:
            continue
        except OSError as exc:
            server.make_room()
            server.log.note(f"cannot accept a connection on {url_of(listening)}", exc)
            await asyncio.sleep(_PAUSE_S)
            continue
        accepted.setblocking(False)  # noqa: FBT003 - the socket's own signature
        if not server.has_room() and not server.make_room():
            accepted.close()
            continue
        try:
            await loop.connect_accepted_socket(server, accepted)
        except Exception as exc:  # noqa: BLE001 - without this task, no request would be answered
            accepted.close()
            server.log.note(f"lost a connection on {url_of(listening)}", exc)


async def _readable(loop: asyncio.AbstractEventLoop, listening: socket.socket) -> None:
    """Wait for a connection: at the limit of open files, ``accept`` fails even if none is waiting."""
    there = loop.create_future()

    def note() -> None:
        if not there.done():
            there.set_result(None)

    loop.add_reader(listening, note)
    try:
        await there
    finally:
        loop.remove_reader(listening)


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens on ``host``; with port 0, the system chooses the port.

    Raises:
        OSError: it cannot listen.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(_BACKLOG)
        made.setblocking(False)  # noqa: FBT003 - the socket's own signature
    except OSError:
        made.close()
        raise
    return made


def url_of(listening: socket.socket) -> str:
    """The URL of the listening socket."""
    host, port = listening.getsockname()[:2]
    return str(URL.build(scheme="http", host=host, port=port))


def most_connections() -> int:
    """Maximum number of connections of one server: a part of the process's limit of open files."""
    if sys.platform == "win32":
        return _MOST_CONNECTIONS
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(8, min(_MOST_CONNECTIONS, files // _SHARE_OF_FILES))
