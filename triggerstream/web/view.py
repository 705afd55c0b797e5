"""The web view of a worker, and the address at which it listens."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from yarl import URL

from triggerstream.core.errors import LogError, UsageError
from triggerstream.core.ids import AppId
from triggerstream.engine.loglimit import LogLimit
from triggerstream.engine.queries.inspector import Inspector
from triggerstream.supervision.child import Supervision
from triggerstream.web.access import Access, tokens_for
from triggerstream.web.logins import Logins
from triggerstream.web.loopback import is_loopback
from triggerstream.web.peeranswers import EndedLogins
from triggerstream.web.peerkey import PeerKey, read_peer_key
from triggerstream.web.peers import NO_KEY, GroupInspector, PeerGroup, Peers, PeerWorker
from triggerstream.web.serving import Server, listening_socket, url_of
from triggerstream.web.site import site
from triggerstream.wire.answers import to_json

logger = logging.getLogger(__name__)

PORT = 6066
_ON = "on"
"""Parameter of an announced address with the name of its machine: 127.0.0.1 differs on each."""
LEARN_S = 5.0
"""How often a worker asks the others for logouts. A login ended elsewhere stays valid for this long."""
_WEB = "web"
"""Name of the socket, which the supervisor keeps open during restarts."""
_ANY = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSettings:
    """Settings of a worker's pages.

    ``port`` None: the usual one, or a free one if it is taken. ``tokens`` and ``peer_key`` are files. ``url``
    is the address for other workers, if it differs; ``public_url`` the address for browsers, if a proxy
    serves the pages. ``directory`` is the worker's. ``lasting``: the worker keeps its name, so it must
    announce the same address after a restart of its supervisor, too.
    """

    app: AppId
    host: str
    directory: Path
    port: int | None = None
    tokens: Path | None = None
    peer_key: Path | None = None
    url: str | None = None
    public_url: str | None = None
    lasting: bool = False


class WebView:
    """A :class:`triggerstream.adapters.faust.web.WebListener` that listens before there are pages."""

    def __init__(self, settings: PageSettings, *, supervision: Supervision | None = None) -> None:
        """Listen.

        Raises:
            UsageError: it cannot listen; or other machines could reach it and there are no tokens.
        """
        url, public_url = settings.url, settings.public_url
        if url is not None and not _is_http_url(url):
            raise UsageError(f"--web-url {url}: write http://HOST:PORT, as other workers reach it")
        if public_url is not None and not _is_http_url(public_url):
            raise UsageError(f"--web-public-url {public_url}: write https://HOST, as browsers reach it")
        roles = tokens_for(settings.host, settings.tokens)
        key = settings.peer_key
        self._key = None if key is None else read_peer_key(key, app=settings.app)
        self._supervision = supervision or Supervision()
        self.listening = self._supervision.listen(_WEB, lambda: _listen(settings.host, settings.port))
        bound = self.listening.getsockname()
        machine = socket.gethostname()
        self.address = url_of(self.listening)
        """The address at which it listens."""
        seen = url or (str(URL(self.address).with_host(machine)) if bound[0] in _ANY else self.address)
        stays = url is not None or (bool(settings.port) and is_loopback(self.address))
        announced = str(URL(seen).with_query({_ON: machine}))
        if self._key is not None:
            announced = self._key.announced(announced)
        self.url = announced if stays or not settings.lasting else None
        """The address that other workers have for it, which the group is found; None: they have none."""
        self._access = Access(
            roles,
            peer_key=self._key,
            url=_base_of(URL(announced)),
            public=public_url,
            ended_logins=settings.directory / f"{settings.app}-ended-logins.json",
        )

    def close(self) -> None:
        """Stop listening, if it never served."""
        self.listening.close()

    def pages(self, here: Inspector, others: Callable[[], Mapping[int, str]]) -> Server:
        """A service for pages that show ``here``.

        ``others``: the addresses of other workers, by partition.
        """
        peers = Peers(lambda: peer_group(others(), self._key), self._key)
        app = site(here, GroupInspector(here, peers), self._access)
        sharing: list[asyncio.Task[None]] = []

        async def share(_: web.Application) -> None:
            if self._key is not None and self._access.tokens is not None:
                sharing.append(asyncio.create_task(learn_logouts(peers, self._access.logins)))

        async def close(_: web.Application) -> None:
            for task in sharing:
                task.cancel()
            await asyncio.gather(*sharing, return_exceptions=True)
            await peers.close()

        async def serve(_: web.Application) -> None:
            self._supervision.serving(_WEB)

        app.on_startup.append(serve)
        app.on_startup.append(share)
        app.on_cleanup.append(close)
        return Server(app, self.listening)


def _is_http_url(url: str) -> bool:
    try:
        return URL(url).scheme in {"http", "https"} and bool(URL(url).host)
    except ValueError:
        return False


def peer_group(others: Mapping[int, str], key: PeerKey | None) -> PeerGroup:
    """The other workers by partition; only those whose address ``key`` proves are asked."""
    return PeerGroup(others={number: _worker_at(url, key) for number, url in others.items()})


def _worker_at(announced: str, key: PeerKey | None) -> PeerWorker:
    """The worker with the address ``announced``, which any member of the group may have announced."""
    try:
        given = URL(announced)
        name = f"the worker that says {given.host}:{given.port}"
    except ValueError:
        given, name = URL(), "a worker without an address"
    if key is None:
        return PeerWorker(name=name, url=None, says=NO_KEY)
    if _ON not in given.query:
        return PeerWorker(name=name, url=None, says="it has no pages that others can reach")
    proven = key.proven(announced)
    if proven is None:
        return PeerWorker(
            name=name, url=None, says="its address is not proven by the peer key: it is not asked"
        )
    url = URL(proven)
    base, machine = _base_of(url), url.query.get(_ON)
    if is_loopback(base) and machine != socket.gethostname():
        return PeerWorker(
            name=f"{base} on {machine}", url=None, says="its pages are for its own machine only"
        )
    return PeerWorker(name=base, url=base)


def _base_of(url: URL) -> str:
    """The address at which a worker is dialled."""
    return str(url.with_query(None)).removesuffix("/")


async def learn_logouts(peers: Peers, logins: Logins) -> None:
    """Ask the other workers for logouts periodically, without end."""
    log = LogLimit(logger)
    while True:
        for worker in peers.group().workers():
            try:
                found = await peers.ask(worker, "/v1/logouts", EndedLogins)
                if found is not None:
                    logins.add_ended(to_json(found))
            except LogError:
                continue  # The pages name workers that do not answer, so no log line is needed.
            except Exception as exc:  # noqa: BLE001 - without this task, ended logins would stay valid here
                log.note(f"cannot take over the logouts of {worker.name}", exc)
        await asyncio.sleep(LEARN_S)


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
