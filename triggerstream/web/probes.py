"""Probes and metrics, on a port of their own and in a thread of their own: they answer whatever else is busy.

They hold no data of sessions, need no account, and change nothing.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from triggerstream.core.errors import UsageError
from triggerstream.engine.health import Pulse
from triggerstream.web.serving import runner_of


def probes(pulse: Pulse, registry: CollectorRegistry) -> web.Application:
    """The application that answers for ``pulse``: 200, or 503 and in a line why."""
    app = web.Application()

    def add(path: str, why_not: Callable[[], str | None]) -> None:
        async def answer(_request: web.Request) -> web.Response:
            reason = why_not()
            return web.Response(status=200 if reason is None else 503, text=f"{reason or 'ok'}\n")

        app.router.add_get(path, answer)

    add("/livez", pulse.dead)
    add("/startedz", pulse.unstarted)
    add("/readyz", pulse.unready)

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    app.router.add_get("/metrics", metrics)
    return app


@contextmanager
def served(app: web.Application, *, host: str, port: int) -> Iterator[str]:
    """Serve ``app`` from a thread of its own; its URL. Port 0 has the system choose one.

    Raises:
        UsageError: it cannot listen there.
    """
    serving: Future[tuple[str, Callable[[], object]]] = Future()
    work = _serve(app, host, port, serving)
    thread = threading.Thread(target=lambda: asyncio.run(work), name="triggerstream-probes", daemon=True)
    thread.start()
    url, end = serving.result()
    try:
        yield url
    finally:
        end()
        thread.join()


async def _serve(
    app: web.Application, host: str, port: int, serving: Future[tuple[str, Callable[[], object]]]
) -> None:
    loop, ending = asyncio.get_running_loop(), asyncio.Event()
    runner = runner_of(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        name = runner.addresses[0]
        at = f"[{name[0]}]" if ":" in name[0] else name[0]
        serving.set_result((f"http://{at}:{name[1]}", lambda: loop.call_soon_threadsafe(ending.set)))
        await ending.wait()
    except OSError as exc:
        refusal = UsageError(f"--probes-port {port}: {exc.strerror}: choose another one, 0 for a free one")
        refusal.__cause__ = exc
        serving.set_exception(refusal)
    finally:
        await runner.cleanup()
