"""How pages and JSON are answered: the headers of all of them, and what is said where something fails."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler

from triggerstream.core.errors import DecodeError, LogError, UsageError
from triggerstream.core.ids import JsonObject
from triggerstream.engine.inspect import ElsewhereError
from triggerstream.web import render
from triggerstream.web.peers import PeerError
from triggerstream.wire.json import dumps

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class RefusedError(Exception):
    """An answer other than success; the message is for who asked."""

    def __init__(self, status: int, says: str) -> None:
        super().__init__(says)
        self.status = status


def json(value: JsonObject, *, status: int = 200) -> web.Response:
    """``value`` as JSON."""
    return web.Response(status=status, body=dumps(value) + b"\n", content_type="application/json")


def html(name: str, values: dict[str, object], *, status: int = 200) -> web.Response:
    """A page."""
    return web.Response(status=status, text=render.page(name, values), content_type="text/html")


def is_for_programs(request: web.Request) -> bool:
    """Whether the answer is JSON."""
    return request.path.startswith("/v1/")


@web.middleware
async def with_headers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Put the headers on whatever is answered."""
    answer = await handler(request)
    for name, value in HEADERS.items():
        answer.headers.setdefault(name, value)
    return answer


@web.middleware
async def with_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Say what went wrong, as JSON or as a page."""
    more = {}
    try:
        return await handler(request)
    except web.HTTPRedirection:
        raise
    except web.HTTPException as exc:
        status, says = exc.status, f"{request.method} {request.path}: {exc.reason}"
        more = {"Allow": allowed} if (allowed := exc.headers.get("Allow")) else {}
    except RefusedError as exc:
        status, says = exc.status, str(exc)
    except ElsewhereError as exc:
        status, says = HTTPStatus.MISDIRECTED_REQUEST, str(exc)
    except PeerError as exc:
        status, says = HTTPStatus.BAD_GATEWAY, str(exc)
    except DecodeError as exc:
        status, says = HTTPStatus.UNPROCESSABLE_ENTITY, str(exc)
    except (UsageError, LogError) as exc:
        status, says = HTTPStatus.SERVICE_UNAVAILABLE, str(exc)
    if is_for_programs(request):
        answer = json({"error": says}, status=status)
        if status == HTTPStatus.UNAUTHORIZED:
            answer.headers["WWW-Authenticate"] = "Bearer"
    else:
        values = {"title": HTTPStatus(status).phrase, "says": says, "nav": False, "may_leave": False}
        answer = html("error", values, status=status)
    answer.headers.update(more)
    return answer
