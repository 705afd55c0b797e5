"""How what a process shows is served."""

from __future__ import annotations

from aiohttp import web

_GRACE_S = 1.0
"""How long an answer that is under way keeps a process from ending; aiohttp's own default is 60 s."""


def runner_of(app: web.Application) -> web.AppRunner:
    """What serves ``app``: a client that hangs on does not keep the process from ending."""
    return web.AppRunner(app, access_log=None, shutdown_timeout=_GRACE_S)
