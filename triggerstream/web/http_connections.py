"""Limits for HTTP connections: their number, the time for each step, and concurrent requests.

aiohttp parses and answers; this module decides how long a client may take, and which connection is closed
when there are too many. Every answer, even to bytes that are not HTTP, has the port's usual form and headers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote_to_bytes

from aiohttp import StreamReader, web
from aiohttp.web_protocol import RequestPayloadError

from triggerstream.engine.loglimit import LogLimit

logger = logging.getLogger(__name__)

_BUSY_S = 5.0
"""Maximum time that a request waits while the maximum number of requests is being handled."""
_TICK_S = 0.5
"""Interval of the checks of connections for their time limits, which are 10 s and more."""
_HEAD_START = 200
"""First bytes of a request that are kept, to find its path if the rest of its head is not HTTP."""
_WIRE_SLACK = 512 * 1024
"""Bytes allowed for a request in addition to its body: its head, chunk lengths, pipelined requests."""

RefusalFactory = Callable[[str, int, str], web.Response]
"""Function that makes the answer for a path, a status and a sentence, in the form of this path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Limits of one server. ``body_bytes`` is the largest body that any handler reads."""

    connections: int = 100
    requests: int = 32
    head_s: float = 10.0
    """From the first byte of a request to the end of its head."""
    body_s: float = 30.0
    answer_s: float = 30.0
    """Until a client has read its answer."""
    idle_s: float = 75.0
    body_bytes: int = 64 * 1024


class ConnectionPhase(Enum):
    """Phase of a connection."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    HANDLING = auto()
    ANSWERING = auto()


class HttpConnection(web.RequestHandler):
    """aiohttp's connection, extended by its phase and the time when the phase began."""

    def __init__(self, server: BoundedServer, **options: Any) -> None:  # noqa: ANN401 - aiohttp's own
        super().__init__(server, **options)
        self._server = server
        self.phase = ConnectionPhase.IDLE
        self.since = 0.0
        self._path = ""
        self._received = 0
        self.ended = False
        """True if the client has closed its sending side."""
        self.body: StreamReader | None = None
        """Body of the request being handled."""

    def enter(self, phase: ConnectionPhase) -> None:
        """Begin ``phase``."""
        self.phase = phase
        self.since = asyncio.get_running_loop().time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the timer of the first phase."""
        self.enter(ConnectionPhase.IDLE)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Parse ``data``, unless the request already exceeds the maximum length."""
        if self.phase is ConnectionPhase.IDLE:
            self.enter(ConnectionPhase.HEAD)
            self._path = _path_in(data[:_HEAD_START])
        self._received += len(data)
        if self._received > self._server.wire_bytes:
            self._too_much()
            return
        try:
            super().data_received(data)
        except Exception:  # noqa: BLE001 - the parser's; asyncio would log each one with its traceback
            self.refuse_at_once(400, "this is not an HTTP request")
        if self.phase is ConnectionPhase.HEAD and self._messages:
            self.enter(ConnectionPhase.HANDLING)

    def eof_received(self) -> bool:  # type: ignore[override] # asyncio reads what it returns
        """Answer a client that has closed its sending side but may still read; True: do not close yet."""
        if self.phase is ConnectionPhase.IDLE:
            return False
        if self.phase is ConnectionPhase.HEAD:
            self.refuse_at_once(400, "the request ends within its head")
            return True
        self.ended = True
        self.end_body(_cut_short())
        return True

    def end_body(self, refusal: web.HTTPException) -> None:
        """Fail the reader of the body with ``refusal``, unless the body is complete."""
        body = self.body
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(refusal)

    def _too_much(self) -> None:
        """Stop reading from a client that sends more than any handler accepts."""
        if self.phase is ConnectionPhase.HEAD:
            self.refuse_at_once(431, "the head of the request is too long")
            return
        self.end_body(web.HTTPRequestEntityTooLarge(self._server.body_bytes))
        self.close()
        if self.transport is not None:
            self.transport.pause_reading()

    def refuse_at_once(self, status: int, says: str) -> None:
        """Answer without a valid request, and close the connection."""
        if self.transport is not None:
            self.transport.write(_as_bytes(self._server.refused(self._path, status, says)))
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to a request that the parser rejected; aiohttp's own is bare text, and logs each one."""
        says = "this is not an HTTP request" if message is None else " ".join(message.split())[:500]
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self._server.log.note(f"answered {status} to {request.remote}", exc)
            says = "something went wrong here; the log has more"
        answer = self._server.refused(self._path, status, says)
        answer.force_close()
        return answer

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer, with the common headers."""
        self.enter(ConnectionPhase.ANSWERING)
        complete = request.content.is_eof()
        if not complete:
            resp.force_close()
        for name, value in self._server.headers.items():
            resp.headers.setdefault(name, value)
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            if complete:
                self.enter(ConnectionPhase.HANDLING if self._messages else ConnectionPhase.IDLE)
                self._received = 0
                if self.ended and not self._messages:
                    self.close()

    def log_exception(self, *args: Any, **kw: Any) -> None:  # noqa: ANN401 - aiohttp's own
        """Log an error that aiohttp could not handle, within the limit of lines."""
        exc = kw.get("exc_info")
        # These errors have been answered; aiohttp raises them again while it reads the rest of a body.
        if not isinstance(exc, web.HTTPException | RequestPayloadError):
            self._server.log.note(str(args[0]), exc)


class BoundedServer(web.Server):
    """The connections of one listening socket."""

    def __init__(
        self,
        made: web.Server,
        *,
        refuse: RefusalFactory,
        headers: Mapping[str, str],
        bounds: ConnectionLimits,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__(self._answered, request_factory=made.request_factory)
        self._handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] = made.request_handler
        self._refuse = refuse
        self.headers = headers
        self._bounds = bounds
        self._options = options
        self.body_bytes = bounds.body_bytes
        self.wire_bytes = bounds.body_bytes + _WIRE_SLACK
        self._turns = asyncio.Semaphore(bounds.requests)
        self._open: dict[HttpConnection, asyncio.Transport] = {}
        self._handled: set[HttpConnection] = set()
        self.log = LogLimit(logger)
        self.most_open = 0
        """Maximum number of open connections so far."""
        self.most_handled = 0
        self.closed_for_room = 0

    def __call__(self) -> HttpConnection:
        """A new connection's protocol."""
        return HttpConnection(self, loop=asyncio.get_running_loop(), auto_decompress=False, **self._options)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Count a connection."""
        super().connection_made(handler, transport)
        if isinstance(handler, HttpConnection):
            self._open[handler] = transport
            self.most_open = max(self.most_open, len(self._open))

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Count one less."""
        super().connection_lost(handler, exc)
        if isinstance(handler, HttpConnection):
            self._open.pop(handler, None)

    def has_room(self) -> bool:
        """True if one more connection is allowed."""
        return len(self._open) < self._bounds.connections

    def make_room(self) -> bool:
        """Close the connection that has waited longest for its client; False if none waits for a client."""
        waited_for = [one for one in self._open if self._phase(one) is not ConnectionPhase.HANDLING]
        if not waited_for:
            return False
        self.closed_for_room += 1
        self._abort(min(waited_for, key=lambda one: one.since))
        return True

    def close_late(self) -> None:
        """Close connections that have exceeded the time limit of their phase."""
        now = asyncio.get_running_loop().time()
        limits = {
            ConnectionPhase.IDLE: self._bounds.idle_s,
            ConnectionPhase.HEAD: self._bounds.head_s,
            ConnectionPhase.BODY: self._bounds.body_s,
            ConnectionPhase.ANSWERING: self._bounds.answer_s,
        }
        for one in list(self._open):
            phase = self._phase(one)
            if phase is ConnectionPhase.HANDLING or now - one.since < limits[phase]:
                continue
            match phase:
                case ConnectionPhase.IDLE:
                    one.force_close()
                case ConnectionPhase.HEAD:
                    one.refuse_at_once(408, f"the head of a request takes {limits[phase]:g} s at most")
                case ConnectionPhase.BODY:
                    one.end_body(web.HTTPRequestTimeout())
                case ConnectionPhase.ANSWERING:
                    self._abort(one)

    async def close_late_for_ever(self) -> None:
        """Close late connections periodically, without end."""
        while True:
            await asyncio.sleep(_TICK_S)
            try:
                self.close_late()
            except Exception as exc:  # noqa: BLE001 - without this task, no time limit would be enforced
                self.log.note("cannot close a late connection", exc)

    def refused(self, path: str, status: int, says: str) -> web.Response:
        """The refusal for ``path``, with the common headers."""
        answer = self._refuse(path, status, says)
        for name, value in self.headers.items():
            answer.headers.setdefault(name, value)
        return answer

    def _phase(self, one: HttpConnection) -> ConnectionPhase:
        """The phase of ``one``; a connection with a complete body no longer waits for its client."""
        if one.phase is ConnectionPhase.BODY and one.body is not None and one.body.is_eof():
            return ConnectionPhase.HANDLING
        return one.phase

    def _abort(self, one: HttpConnection) -> None:
        transport = self._open.pop(one, None)
        if transport is not None:
            transport.abort()

    async def _answered(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to ``request``, in its turn."""
        one = cast("HttpConnection", request.protocol)
        one.body = request.content
        one.enter(ConnectionPhase.HANDLING if request.content.is_eof() else ConnectionPhase.BODY)
        if one.ended:
            one.end_body(_cut_short())
        if (wrong := _wrong_in(request)) is not None:
            return self._closing(request, *wrong)
        if self._turns.locked():
            self._end_slowest_body()
        try:
            async with asyncio.timeout(_BUSY_S):
                await self._turns.acquire()
        except TimeoutError:
            answer = self._closing(request, 503, "busy: the maximum number of requests is being handled")
            answer.headers["Retry-After"] = "5"
            return answer
        self._handled.add(one)
        self.most_handled = max(self.most_handled, len(self._handled))
        try:
            return await self._handle(request)
        except web.HTTPException as exc:
            return self._closing(request, exc.status, exc.reason)
        except RequestPayloadError:
            return self._closing(request, 400, "the body is not what the head of the request says")
        except ConnectionError:
            return self._closing(request, 400, "the connection was lost")  # nobody will read this answer
        except Exception as exc:  # noqa: BLE001 - a fault of ours; aiohttp would answer in bare text
            if one.transport is None:
                return self._closing(request, 400, "the connection was lost")
            self.log.note(f"answered 500 to {request.method} {request.path!r:.300}", exc)
            return self._closing(request, 500, "something went wrong here; the log has more")
        finally:
            self._handled.discard(one)
            self._turns.release()

    def _end_slowest_body(self) -> None:
        waited_for = [one for one in self._handled if self._phase(one) is ConnectionPhase.BODY]
        if waited_for:
            min(waited_for, key=lambda one: one.since).end_body(web.HTTPRequestTimeout())

    def _closing(self, request: web.BaseRequest, status: int, says: str) -> web.Response:
        answer = self.refused(request.path, status, says)
        if not request.content.is_eof():
            answer.force_close()
        return answer


def _wrong_in(request: web.BaseRequest) -> tuple[int, str] | None:
    """Status and sentence for an invalid request, before any handler; None if the request is valid."""
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        return 415, "send the body as it is, without a Content-Encoding"
    if request.headers.get("Expect", "100-continue").lower() != "100-continue":
        return 417, "the only Expect that is met is 100-continue"
    try:
        "".join(request.headers.values()).encode()
    except UnicodeError:
        return 400, "a header is not UTF-8"
    try:
        unquote_to_bytes(request.raw_path).decode()
    except UnicodeError:
        return 400, "the address is not UTF-8: write its characters as percent-encoded UTF-8"
    return None


def _cut_short() -> web.HTTPException:
    return web.HTTPBadRequest(reason="the body ends early")


def _path_in(head: bytes) -> str:
    """The path in the first line of a request; empty if there is none."""
    words = head.split(b"\r\n", 1)[0].split(b" ")
    return words[1].decode("latin-1") if len(words) > 1 and words[1].startswith(b"/") else ""


def _as_bytes(answer: web.Response) -> bytes:
    """``answer`` encoded for a connection that is closed afterwards."""
    body = answer.body if isinstance(answer.body, bytes) else b""
    answer.headers["Content-Length"] = str(len(body))
    answer.headers["HttpConnection"] = "close"
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
