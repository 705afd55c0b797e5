"""A fuzzer of raw HTTP at every door, over real sockets: no bare 500, no hang, and alive at the end.

Beside the three doors of :mod:`tests.web.test_http_connections` there are the two sockets of a supervisor,
which answers at them while there is no child.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
import threading
from concurrent.futures import Future
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.fuzz.harness import INPUTS, Fuzzer, Parser, fuzz, mutate_bytes
from tests.support.supervisor_door import supervisor_door
from tests.web.test_http_connections import DOORS as SERVED
from tests.web.test_http_connections import PATHS, WRONG, door, request
from triggerstream.supervision import answers as supervisor_answers
from triggerstream.supervision.channel import PROBES
from triggerstream.web import answers, http_connections, intake

SUPERVISED = {"supervisor, web": "web", "supervisor, probes": PROBES}
DOORS = [*SERVED, *SUPERVISED]

_ANSWER_S = 20.0
_ASK_EVERY = 500
_TOKENS = (
    b"\r\n",
    b"\n",
    b" ",
    b": ",
    b"\x00",
    b"%FC",
    b"%",
    b"?",
    b"#",
    b"/v1/",
    b"//",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Content-Type: multipart/form-data; boundary=x\r\n",
    b"Content-Type: application/json\r\n",
    b"charset=\xff",
    b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
    b'Cookie: triggerstream=1.2; a="\r\n',
    b"Authorization: Bearer \xff\r\n",
    b"Authorization: Triggerstream-Peer 1.2.3\r\n",
    b"X-Forwarded-For: \xff, ::1\r\n",
    b"X-Forwarded-Proto: https\r\n",
    b"Origin: http://[\r\n",
    b"Host: [\r\n",
    b"ce-id: \xff\xfe\r\n",
    b"ce-time: now\r\n",
    b"0\r\n\r\n",
    b"fffffffffffffffff\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
)
_EVENT = b'{"session": "s", "type": "t", "data": {"x": 1}}'
_JSON = b"Content-Type: application/json\r\n"
_STRUCTURED = b"Content-Type: application/cloudevents+json\r\n"
_FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """Bytes for a door."""

    door: str
    data: bytes


class Doors:
    """All doors, served from threads of their own; they begin with the first input."""

    def __init__(self) -> None:
        self._addresses: dict[str, tuple[str, int]] = {}
        self._stopping: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._thread: threading.Thread | None = None
        self._supervisors = ExitStack()
        self.count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._stopping is not None and self._thread is not None:
            loop, ending = self._stopping
            loop.call_soon_threadsafe(ending.set)
            self._thread.join()
        self._supervisors.close()

    def try_one(self, raw: Raw) -> None:
        """Send ``raw``, and hold the answer against the promise."""
        self.count += 1
        check(self.ask(raw.door, raw.data), supervised=raw.door in SUPERVISED)
        if self.count % _ASK_EVERY == 0:
            self.all_alive()

    def all_alive(self) -> None:
        """Whether each door still answers."""
        for name, path in zip(DOORS, ("/healthz", "/login", "/livez", "/", "/livez"), strict=True):
            assert self.ask(name, request("GET", path)).startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 503 ")), name

    def ask(self, name: str, data: bytes) -> bytes:
        """All that comes back until the connection is closed."""
        if self._thread is None:
            self._start()
        found = b""
        with socket.create_connection(self._addresses[name], timeout=_ANSWER_S) as made:
            try:
                made.sendall(data)
                made.shutdown(socket.SHUT_WR)
                while part := made.recv(65536):
                    found += part
            except ConnectionError:
                pass
        return found

    def _start(self) -> None:
        serving: Future[dict[str, tuple[str, int]]] = Future()

        async def serve() -> None:
            async with AsyncExitStack() as stack:
                ending = asyncio.Event()
                self._stopping = asyncio.get_running_loop(), ending
                found = {}
                for name in SERVED:
                    made = await stack.enter_async_context(door(name))
                    found[name] = (made.host, made.port)
                serving.set_result(found)
                await ending.wait()

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()))
        self._thread.start()
        self._addresses = serving.result()
        for name, socket_name in SUPERVISED.items():
            self._addresses[name] = self._supervisors.enter_context(supervisor_door(socket_name, unserved))


def unserved(name: str, path: str) -> tuple[int, str]:
    """What a supervisor says while there is no child."""
    return (200, "ok") if name == PROBES and path == "/livez" else (503, "the worker ended: \udcff\n<p>")


def check(found: bytes, *, supervised: bool) -> None:
    """Hold all that a connection answered against the promise."""
    for head in re.findall(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n(.*?)\r\n\r\n", found, re.DOTALL):
        status, headers = int(head[0]), head[1].lower()
        # A probe's own answer, in a run of more than a minute: nothing publishes this health.
        unready = b"\r\ncontent-type: text/plain" in b"\r\n" + headers
        away = supervised and status == 503 and b"\r\nretry-after: " in b"\r\n" + headers
        assert status < 500 or unready or away, found[:3000]
        assert status == 100 or b"\r\ncontent-security-policy: " in b"\r\n" + headers, found[:3000]


def mutate(chance: random.Random, raw: Raw) -> Raw:
    return Raw(
        door=chance.choice(DOORS) if chance.random() < 0.1 else raw.door,
        data=mutate_bytes(chance, raw.data, _TOKENS),
    )


def seeds() -> list[Raw]:
    """Right requests, and wrong ones of each kind, at each door."""
    found = [
        Raw(door=name, data=text.replace(b"{path}", path.encode()))
        for name in DOORS
        for path in PATHS.get(name, ["/livez", "/v1/overview"])[:2]
        for text in WRONG.values()
        if len(text) < 5_000
    ]
    found += [
        Raw(door="dev", data=request("POST", "/v1/events", _JSON, _EVENT)),
        Raw(door="dev", data=request("POST", "/v1/events", _JSON, b"[%s,%s]" % (_EVENT, _EVENT))),
        Raw(door="dev", data=request("POST", "/v1/events", _JSON, b'[{"type": "t"}, 7]')),
        Raw(door="dev", data=request("POST", "/v1/events", _JSON, b"[]")),
        Raw(door="dev", data=request("POST", "/v1/events", b"ce-type: t\r\nce-session: s\r\n", b"{}")),
        Raw(door="dev", data=request("POST", "/v1/events", b"ce-type: t\r\n" + _STRUCTURED, _EVENT)),
        Raw(door="dev", data=request("POST", "/v1/sessions/s/triggers/t", _STRUCTURED, b"{}")),
        Raw(door="dev", data=request("POST", "/v1/sessions/s/triggers/t", _JSON, b"[1]")),
        Raw(door="dev", data=request("GET", "/sessions", b"Expect: nothing\r\n")),
        Raw(door="dev", data=request("POST", "/v1/events", _JSON, b"[%s]" % b",".join([b"7"] * 1001))),
        Raw(door="dev", data=request("POST", "/login", _FORM, b"token=" + b"x" * 70_000)),
        Raw(
            door="dev",
            data=request(
                "POST", "/v1/sessions/s/triggers/t?id=1", b"ce-time: 2026-03-01T12:00:00Z\r\n", b"{}"
            ),
        ),
        Raw(door="dev", data=request("POST", "/v1/sessions/s/triggers/t?x=1")),
        Raw(
            door="dev",
            data=request("POST", "/v1/sessions/s/triggers/t", b"Origin: http://evil.example\r\n", b"[1]"),
        ),
        Raw(door="dev", data=request("GET", "/sessions?prefix=%C3%A9&status=failed&limit=3&after=s")),
        Raw(door="dev", data=request("GET", "/v1/deadletters?after=1&limit=x")),
        Raw(
            door="dev",
            data=request(
                "POST", "/v1/sessions/s/orders", _JSON, b'{"order": "skip", "instance": "t#", "reason": "r"}'
            ),
        ),
        Raw(
            door="dev",
            data=request("POST", "/sessions/s/orders", _FORM, b"order=skip&instance=t%230&reason=r&form=x"),
        ),
        Raw(door="worker", data=request("GET", "/login?to=%2Fsessions")),
        Raw(door="worker", data=request("POST", "/login", _FORM, b"token=an-operator-s-token&to=/&form=x")),
        Raw(
            door="worker",
            data=request("GET", "/v1/overview", b"Authorization: Bearer an-operator-s-token\r\n"),
        ),
        Raw(door="worker", data=request("GET", "/static/style.css", b"If-None-Match: x\r\n")),
        Raw(door="worker", data=request("POST", "/logout", _FORM, b"form=x")),
        Raw(door="probes", data=request("GET", "/livez") * 3),
        Raw(
            door="probes",
            data=request("HEAD", "/metrics", b"Accept: application/openmetrics-text; version=x\r\n"),
        ),
        Raw(door="supervisor, web", data=request("GET", "/sessions?prefix=x")),
        Raw(door="supervisor, web", data=request("HEAD", "/v1/overview")),
        Raw(door="supervisor, probes", data=request("GET", "/livez") * 2),
        Raw(door="supervisor, probes", data=b"GET /readyz HTTP/1.0\n\n"),
        Raw(door="supervisor, probes", data=b"GET"),
        Raw(door="supervisor, probes", data=b""),
        Raw(door="supervisor, probes", data=b"GET /" + b"x" * 9_000),
        Raw(door="probes", data=b""),
        Raw(door="probes", data=b"GET"),
    ]
    return found


PARSERS = (
    Parser(
        module=supervisor_answers,
        functions=frozenset(
            {
                "StandInServer._answer_request",
                "StandInServer._refuse",
                "StandInServer._send",
                "_line",
                "_refusal",
            }
        ),
    ),
    Parser(
        module=http_connections,
        functions=frozenset({"_wrong_in", "_path_in", "HttpConnection.eof_received"}),
    ),
    Parser(module=answers, functions=frozenset({"body_of", "form_of", "refusal", "is_for_programs"})),
    Parser(module=intake, functions=frozenset({"_Intake.events", "_Intake.trigger", "_loads"})),
)


def test_no_bytes_get_a_500_or_no_answer_at_all() -> None:
    with Doors() as doors:
        fuzz(
            Fuzzer(parse=doors.try_one, refuses=(), seeds=seeds(), mutate=mutate, parsers=PARSERS),
            count=INPUTS,
        )
        doors.all_alive()
