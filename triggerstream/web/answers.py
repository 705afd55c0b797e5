"""Responses of pages and JSON: the headers of all of them, and what they say about an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from urllib.parse import parse_qsl

from aiohttp import web
from aiohttp.typedefs import Handler

from triggerstream.core.errors import DecodeError, LogError, UsageError
from triggerstream.core.ids import JsonObject
from triggerstream.engine.queries.inspector import ElsewhereError
from triggerstream.supervision.answers import HEADERS
from triggerstream.web import render
from triggerstream.web.peers import PeerError
from triggerstream.wire.json import dumps

FORM_BYTES = 64 * 1024
_FORM = "application/x-www-form-urlencoded"
_FIELDS = 20
"""Maximum number of fields in a form; the pages' forms have four."""
_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii"})


class RefusedError(Exception):
    """Answer other than success, with a message for the caller; ``errors`` has one per part of a request."""

    def __init__(
        self,
        status: int,
        says: str,
        errors: Sequence[JsonObject] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(says)
        self.status = status
        self.errors = list(errors)
        self.headers = headers or {}


def json(value: JsonObject, *, status: int = 200) -> web.Response:
    """``value`` as JSON."""
    return web.Response(status=status, body=dumps(value) + b"\n", content_type="application/json")


def html(name: str, values: dict[str, object], *, status: int = 200) -> web.Response:
    """A page."""
    return web.Response(status=status, text=render.page(name, values), content_type="text/html")


def is_for_programs(path: str) -> bool:
    """True if requests for ``path`` are answered as JSON."""
    return path.startswith("/v1/") or path in {"", "/healthz"}


def refusal(path: str, status: int, says: str) -> web.Response:
    """The answer, other than success, to a request for ``path``: JSON for programs, a page for people."""
    return json_refusal(path, status, says) if is_for_programs(path) else _error_page(status, says)


def json_refusal(_path: str, status: int, says: str) -> web.Response:
    """The answer of a port that only programs use."""
    answer = json({"error": printable(says)}, status=status)
    if status == HTTPStatus.UNAUTHORIZED:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def printable(says: str) -> str:
    """``says`` without lone surrogates, which stand for undecodable bytes of a request."""
    return says.encode(errors="backslashreplace").decode()


def _error_page(status: int, says: str) -> web.Response:
    values = {
        "title": HTTPStatus(status).phrase.capitalize(),
        "says": printable(says),
        "nav": False,
        "may_leave": False,
    }
    return html("error", values, status=status)


def see_other(address: str) -> web.Response:
    """A redirect of a browser to ``address``."""
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": address})


async def body_of(request: web.Request, *, most: int) -> bytes:
    """The body, of at most ``most`` bytes.

    Raises:
        RefusedError: the body is longer, or not in UTF-8.
    """
    if (request.charset or "utf-8").lower() not in _CHARSETS:
        raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send the body in UTF-8")
    parts, size = [], 0
    while part := await request.content.readany():
        size += len(part)
        if size > most:
            raise web.HTTPRequestEntityTooLarge(most, size)
        parts.append(part)
    return b"".join(parts)


async def form_of(request: web.Request) -> dict[str, str]:
    """The fields of a form that one of the pages sends.

    Raises:
        RefusedError: the form has another content type, is not UTF-8, or has too many fields.
    """
    if request.content_type != _FORM:
        raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"a form is sent as {_FORM}")
    body = await body_of(request, most=FORM_BYTES)
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_FIELDS)
    except ValueError as exc:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "the form is not UTF-8, or has too many fields") from exc
    return dict(pairs)


@web.middleware
async def with_headers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Middleware: adds the common headers to every answer."""
    answer = await handler(request)
    for name, value in HEADERS.items():
        answer.headers.setdefault(name, value)
    return answer


@web.middleware
async def with_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Middleware: answers errors as JSON or as a page."""
    more: Mapping[str, str] = {}
    try:
        return await handler(request)
    except web.HTTPException as exc:
        status, says = exc.status, f"{request.method} {request.path}: {exc.reason}"
        more = {"Allow": allowed} if (allowed := exc.headers.get("Allow")) else {}
    except RefusedError as exc:
        status, says, more = exc.status, str(exc), exc.headers
    except ElsewhereError as exc:
        status, says = HTTPStatus.MISDIRECTED_REQUEST, str(exc)
    except PeerError as exc:
        status, says = HTTPStatus.BAD_GATEWAY, str(exc)
    except DecodeError as exc:
        status, says = HTTPStatus.UNPROCESSABLE_ENTITY, str(exc)
    except (UsageError, LogError) as exc:
        status, says = HTTPStatus.SERVICE_UNAVAILABLE, str(exc)
    answer = refusal(request.path, status, says)
    answer.headers.update(more)
    return answer
