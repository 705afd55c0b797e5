"""Probes and metrics. Their own port and thread let them answer while the event loop is busy.

They hold no data of sessions, need no account, and change nothing.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from triggerstream.core.errors import UsageError, describe_error
from triggerstream.engine.health.liveness import PublishedHealth
from triggerstream.supervision.channel import PROBES
from triggerstream.supervision.child import Supervision
from triggerstream.web.answers import json_refusal
from triggerstream.web.http_connections import ConnectionLimits
from triggerstream.web.serving import Server, listening_socket, url_of

BOUNDS = ConnectionLimits(connections=16, requests=8, body_bytes=1024)
"""Limits of the port: a kubelet and two Prometheus servers need three connections; no client sends a body."""


def probes(health: PublishedHealth, registry: CollectorRegistry) -> web.Application:
    """The application that answers for ``health``: 200, or 503 and in a line why."""
    app = web.Application(client_max_size=BOUNDS.body_bytes, middlewares=[_answer_in_json])

    def add(path: str, why_not: Callable[[], str | None]) -> None:
        async def answer(_request: web.Request) -> web.Response:
            reason = why_not()
            return web.Response(status=200 if reason is None else 503, text=f"{reason or 'ok'}\n")

        app.router.add_get(path, answer)

    add("/livez", health.dead)
    add("/startedz", health.unstarted)
    add("/readyz", health.unready)

    async def metrics(request: web.Request) -> web.Response:
        try:
            encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        except Exception:  # noqa: BLE001 - prometheus_client raises several kinds for an invalid header
            encode, content_type = choose_encoder("")
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    app.router.add_get("/metrics", metrics)
    return app


@web.middleware
async def _answer_in_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as exc:
        answer = json_refusal(request.path, exc.status, f"{request.method} {request.path}: {exc.reason}")
        if "Allow" in exc.headers:
            answer.headers["Allow"] = exc.headers["Allow"]
        return answer


@contextmanager
def served(
    app: web.Application,
    *,
    host: str,
    port: int,
    supervision: Supervision | None = None,
    on_end: Callable[[str], None] = lambda _reason: None,
) -> Iterator[str]:
    """Serve ``app`` from a new thread; return its URL. With port 0, the system chooses the port.

    ``supervision`` keeps the socket open during restarts of this process. ``on_end`` is called in that
    thread, with the reason, if the server ends too early.

    Raises:
        UsageError: it cannot listen on this address.
    """
    supervision = supervision or Supervision()
    try:
        listening = supervision.listen(PROBES, lambda: listening_socket(host, port))
    except OSError as exc:
        raise UsageError(
            f"--probes-port {port}: {exc.strerror}: choose another one, 0 for a free one"
        ) from exc
    with listening:
        url = url_of(listening)
        serving: Future[Callable[[], object]] = Future()
        work = _serve(Server(app, listening, refuse=json_refusal, bounds=BOUNDS), serving)
        leaving = threading.Event()

        def run() -> None:
            try:
                asyncio.run(work)
                reason = "it returned"
            except Exception as exc:  # noqa: BLE001 - after any error, nobody could probe the process any more
                reason = describe_error(exc)
            if not leaving.is_set():
                on_end(f"the background task `probes` has ended: {reason}")

        thread = threading.Thread(target=run, name="triggerstream-probes", daemon=True)
        thread.start()
        end = serving.result()
        supervision.serving(PROBES)
        try:
            yield url
        finally:
            leaving.set()
            with suppress(RuntimeError):  # the loop is closed: the server has already ended
                end()
            thread.join()


async def _serve(server: Server, serving: Future[Callable[[], object]]) -> None:
    loop = asyncio.get_running_loop()
    ending: asyncio.Future[None] = loop.create_future()
    try:
        await server.start(lambda exc: None if ending.done() else ending.set_exception(exc))
    except BaseException as exc:
        serving.set_exception(exc)
        raise
    serving.set_result(
        lambda: loop.call_soon_threadsafe(lambda: None if ending.done() else ending.set_result(None))
    )
    try:
        await ending
    finally:
        await server.stop()
