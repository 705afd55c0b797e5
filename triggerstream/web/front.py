"""A worker's pages, and the address at which it listens for those who want them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from aiohttp import web
from yarl import URL

from triggerstream.core.errors import UsageError
from triggerstream.engine.inspect import Inspector
from triggerstream.web.access import access
from triggerstream.web.loopback import is_loopback
from triggerstream.web.peers import Everywhere, Group, Peers, Worker
from triggerstream.web.serving import Server, listening_socket, url_of
from triggerstream.web.site import site

PORT = 6066
_ON = "on"
"""The parameter of an announced address that says on which machine it is: 127.0.0.1 is another on each."""
_ANY = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound


class Front:
    """A :class:`triggerstream.adapters.faust.web.Front`: it listens before there are pages."""

    def __init__(
        self, *, host: str, port: int | None, tokens: Path | None, url: str | None, lasting: bool
    ) -> None:
        """Listen on ``host``.

        ``url``: how others reach it, if not there. ``lasting``: the worker keeps its name, and has to
        announce the same address after a restart.

        Raises:
            UsageError: it cannot; or others would reach it and there are no tokens.
        """
        if url is not None and not _is_web(url):
            raise UsageError(f"--web-url {url}: write http://HOST:PORT, as other workers reach it")
        self._access = access(host, tokens)
        self.listening = _listen(host, port)
        bound = self.listening.getsockname()
        machine = socket.gethostname()
        self.address = url_of(self.listening)
        """Where it listens."""
        seen = url or (str(URL(self.address).with_host(machine)) if bound[0] in _ANY else self.address)
        stays = url is not None or (bool(port) and is_loopback(self.address))
        self.url = str(URL(seen).with_query({_ON: machine})) if stays or not lasting else None
        """The address that other workers have for it, which the group is told; None: they have none."""

    def close(self) -> None:
        """Listen no more; for one that never served."""
        self.listening.close()

    def pages(self, here: Inspector, others: Callable[[], Mapping[int, str]]) -> Server:
        """What serves pages that show ``here``. ``others``: the addresses of other workers, by partition."""
        peers = Peers(lambda: group(others()))
        app = site(here, lambda token: Everywhere(here, peers, token=token), self._access)

        async def close(_: web.Application) -> None:
            await peers.close()

        app.on_cleanup.append(close)
        return Server(app, self.listening)


def _is_web(url: str) -> bool:
    try:
        return URL(url).scheme in {"http", "https"} and bool(URL(url).host)
    except ValueError:
        return False


def group(others: Mapping[int, str]) -> Group:
    """The other workers by partition, as far as they can be reached from here."""
    return Group(others={number: _worker(url) for number, url in others.items()})


def _worker(announced: str) -> Worker:
    url = URL(announced)
    machine = url.query.get(_ON)
    if machine is None:
        return Worker(name=f"the worker {url.host}", url=None, says="it has no pages that others can reach")
    name = str(url.with_query(None)).removesuffix("/")
    if is_loopback(name) and machine != socket.gethostname():
        return Worker(name=f"{name} on {machine}", url=None, says="its pages are for its own machine only")
    return Worker(name=name, url=name)


def _listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens; without a port that was named, on the usual one or another one that is free."""
    if port is None:
        with suppress(OSError):
            return listening_socket(host, PORT)
    try:
        return listening_socket(host, port or 0)
    except OSError as exc:
        raise UsageError(
            f"--web-host {host} --web-port {port or 0}: {exc.strerror}: choose another one (0: a free one), "
            "or --without-web"
        ) from exc
