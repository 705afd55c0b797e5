"""What strangers may do to a port before anybody has logged in: over real sockets, and counted."""

from __future__ import annotations

import asyncio
import gzip
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web

from tests.support.rawhttp import Answer, Served, close, read_answer, served
from tests.support.waiting import eventually
from triggerstream.adapters.memory import MemoryDatabase, MemoryLog, MemoryReader
from triggerstream.core.ids import AppId
from triggerstream.engine.health.liveness import PublishedHealth
from triggerstream.engine.queries.embedded import EmbeddedInspector
from triggerstream.web.access import Access, Role
from triggerstream.web.answers import json_refusal
from triggerstream.web.http_connections import ConnectionLimits
from triggerstream.web.metrics import bridge_registry
from triggerstream.web.peerkey import PeerKey
from triggerstream.web.probes import BOUNDS, probes
from triggerstream.web.site import site

QUICK = ConnectionLimits(connections=20, requests=4, head_s=0.2, body_s=0.2, answer_s=0.2, idle_s=0.2)
HOST = b"Host: 127.0.0.1\r\n"
HALF = b"GET /livez HTTP/1.1\r\nHost: x\r\nX-More: "
FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"
DOORS = ["dev", "worker", "probes"]


@asynccontextmanager
async def door(name: str, bounds: ConnectionLimits | None = None) -> AsyncIterator[Served]:
    """One of the three doors: dev's intake and pages, a worker's pages with tokens, the probes."""
    if name == "probes":
        health = PublishedHealth()
        app = probes(health, bridge_registry(health))
        async with served(app, refuse=json_refusal, bounds=bounds or BOUNDS) as made:
            yield made
        return
    database = MemoryDatabase()
    log = MemoryLog(database)
    inspector = EmbeddedInspector(MemoryReader(database), log, app=AppId("app"))
    tokens = {"an-operator-s-token": Role.OPERATOR} if name == "worker" else None
    key = PeerKey(bytes(32), app=AppId("app")) if name == "worker" else None
    app = site(inspector, inspector, Access(tokens, peer_key=key), log=log if name == "dev" else None)
    async with served(app, bounds=bounds) as made:
        yield made


async def alive(made: Served, name: str) -> bool:
    path = {"probes": b"/livez", "dev": b"/healthz", "worker": b"/login"}[name]
    answer = await made.ask(b"GET %s HTTP/1.1\r\n%s\r\n" % (path, HOST))
    return answer is not None and answer.status == 200


def request(method: str, path: str, headers: bytes = b"", body: bytes = b"") -> bytes:
    size = b"Content-Length: %d\r\n" % len(body) if body else b""
    return f"{method} {path} HTTP/1.1\r\n".encode() + HOST + headers + size + b"\r\n" + body


@pytest.mark.parametrize("name", DOORS)
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZip", "gzip, gzip", "nonsense"])
@pytest.mark.parametrize("path", ["/v1/events", "/login", "/logout", "/sessions/s/orders", "/", "/nowhere"])
async def test_a_body_with_an_encoding_is_refused_unread(name: str, encoding: str, path: str) -> None:
    body = gzip.compress(bytes(10_000_000))
    sent = request("POST", path, f"Content-Encoding: {encoding}\r\n".encode() + FORM, body[:100])
    sent = sent.replace(b"Content-Length: 100", b"Content-Length: %d" % len(body))
    async with door(name) as made:
        # Only the beginning of the body is sent: the answer does not wait for the rest.
        answer = await made.ask(sent)
        assert answer is not None
        assert answer.status == 415
        assert "Content-Encoding" in answer.body.decode()
        assert answer.has_security_headers()
        assert await alive(made, name)


WRONG = {
    "a body that ends early": (
        request("POST", "{path}", FORM).replace(b"\r\n\r\n", b"\r\nContent-Length: 9\r\n\r\nab")
    ),
    "a chunk without a length": request("POST", "{path}", FORM + b"Transfer-Encoding: chunked\r\n")
    + b"zz\r\n",
    "a multipart without a boundary": request(
        "POST", "{path}", b"Content-Type: multipart/form-data\r\n", b"--x"
    ),
    "an invalid multipart": request(
        "POST", "{path}", b"Content-Type: multipart/form-data; boundary=x\r\n", b"--y\r\n\r\n--x--"
    ),
    "a multipart part without a name": request(
        "POST",
        "{path}",
        b"Content-Type: multipart/form-data; boundary=x\r\n",
        b"--x\r\nContent-Disposition: form-data\r\n\r\nv\r\n--x--\r\n",
    ),
    "an unknown charset": request(
        "POST", "{path}", b"Content-Type: application/x-www-form-urlencoded; charset=none\r\n", b"form=x"
    ),
    "a form that is not UTF-8": request("POST", "{path}", FORM, b"form=%FF%FE&token=\xff"),
    "a form of too many fields": request("POST", "{path}", FORM, b"&".join([b"a=b"] * 1000)),
    "a path that is not UTF-8": request("POST", "{path}/%FC"),
    "a query that is not UTF-8": request("POST", "{path}?id=%C3"),
    "a path of raw bytes": request("POST", "{path}/X").replace(b"X", b"\xfc"),
    "an expectation": request("POST", "{path}", b"Expect: everything\r\n" + FORM, b"form=x"),
    "an invalid origin": request("POST", "{path}", FORM + b"Origin: http://[\r\n", b"form=x"),
    "an invalid origin, with JSON": request(
        "POST", "{path}", b"Content-Type: application/json\r\nOrigin: http://[\r\n", b"{}"
    ),
    "a header that is not UTF-8": request("POST", "{path}", FORM + b"ce-id: \xff\r\n", b"form=x"),
    "an invalid content type": request("POST", "{path}", b'Content-Type: ;;="\r\n', b"form=x"),
    "two lengths": request("POST", "{path}", b"Content-Length: 3\r\n", b"form=x"),
    "an unknown method": request("BREW", "{path}"),
    "an invalid header": request("POST", "{path}", b"no colon\r\n"),
    "a line that is too long": request("POST", "{path}/" + "x" * 20_000),
    "a header that is too long": request("POST", "{path}", b"X: " + b"x" * 20_000 + b"\r\n"),
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}
PATHS = {
    "dev": [
        "/v1/events",
        "/v1/sessions/s/triggers/t",
        "/v1/sessions/s/orders",
        "/sessions/s/orders",
        "/logout",
    ],
    "worker": ["/v1/sessions/s/orders", "/sessions/s/orders", "/login", "/logout"],
    "probes": ["/livez", "/metrics"],
}


@pytest.mark.parametrize(("name", "path"), [(name, path) for name in DOORS for path in PATHS[name]])
async def test_every_wrong_request_is_answered_in_the_form_of_its_door(name: str, path: str) -> None:
    async with door(name) as made:
        for what, text in WRONG.items():
            answer = await made.ask(text.replace(b"{path}", path.encode()), end=True)
            assert answer is not None, what
            # A worker leads a browser without a token to its login before it reads what it sends.
            led = name == "worker" and answer.status == 303 and not path.startswith("/v1/")
            assert led or 400 <= answer.status < 500, (what, answer)
            assert answer.has_security_headers(), what
            if not led:
                programs = name == "probes" or path.startswith("/v1/") or what == "no HTTP at all"
                assert answer.is_json() if programs else answer.is_page(), (what, answer)
            assert await alive(made, name), what


@pytest.mark.parametrize("name", DOORS)
async def test_half_heads_leave_room_for_whole_ones(name: str) -> None:
    async with door(name, replace(QUICK, head_s=60.0, idle_s=60.0)) as made:
        bounded = made.server.runner.bounded
        halves = []
        for _ in range(3 * QUICK.connections):
            reader, writer = await made.connect()
            writer.write(HALF)
            await writer.drain()
            halves.append((reader, writer))
        assert await alive(made, name)
        assert bounded.most_open <= QUICK.connections
        assert bounded.closed_for_room >= 2 * QUICK.connections
        for _, writer in halves:
            await close(writer)


async def test_a_head_that_does_not_come_is_answered_and_closed() -> None:
    async with door("worker", QUICK) as made:
        reader, writer = await made.connect()
        writer.write(b"POST /v1/overview HTTP/1.1\r\nHo")
        answer = await read_answer(reader)
        assert answer is not None
        assert (answer.status, answer.is_json()) == (408, True)
        assert await reader.read() == b""
        await close(writer)


async def test_a_head_that_comes_byte_by_byte_has_no_more_time() -> None:
    async with door("probes", QUICK) as made:
        reader, writer = await made.connect()
        writer.write(HALF)
        reading = asyncio.create_task(read_answer(reader))
        while not reading.done():
            writer.write(b"x")
            await asyncio.sleep(0.01)
        answer = reading.result()
        assert answer is None or answer.status == 408
        await close(writer)


async def test_a_connection_that_asks_for_nothing_is_closed() -> None:
    async with door("probes", QUICK) as made:
        reader, writer = await made.connect()
        assert await reader.read() == b""
        await close(writer)


@pytest.mark.parametrize(("path", "form"), [("/login", Answer.is_page), ("/v1/events", Answer.is_json)])
async def test_a_body_that_does_not_come_is_answered_so(path: str, form: object) -> None:
    async with door("dev", QUICK) as made:
        answer = await made.ask(request("POST", path, FORM + b"Content-Length: 50\r\n") + b"form=")
        assert answer is not None
        assert answer.status == 408
        assert form(answer)  # type: ignore[operator] # a method of it


async def test_slow_bodies_do_not_keep_others_from_their_turn() -> None:
    async with door("dev", replace(QUICK, body_s=60.0)) as made:
        slow = []
        for _ in range(2 * QUICK.requests):
            reader, writer = await made.connect()
            writer.write(request("POST", "/v1/events", b"Content-Length: 50\r\n"))
            slow.append((reader, writer))
        answer = await made.ask(request("GET", "/healthz"))
        assert answer is not None
        assert answer.status == 200
        assert made.server.runner.bounded.most_handled <= QUICK.requests
        for _, writer in slow:
            await close(writer)


async def test_no_more_requests_are_handled_at_once_than_the_bound() -> None:
    released, running, most = asyncio.Event(), 0, 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await released.wait()
        running -= 1
        return web.Response(text="done")

    app = web.Application()
    app.router.add_get("/", handler)
    async with served(app, bounds=QUICK) as made:
        asked = [asyncio.create_task(made.ask(request("GET", "/"))) for _ in range(3 * QUICK.requests)]
        await eventually(lambda: running == QUICK.requests)
        # Those that wait for an answer are not closed for others; there is no room for more than the bound.
        more = [asyncio.create_task(made.ask(request("GET", "/"))) for _ in range(QUICK.connections)]
        await eventually(lambda: sum(task.done() for task in more) >= 3 * QUICK.requests - QUICK.requests)
        released.set()
        answers = await asyncio.gather(*asked)
        await asyncio.gather(*more)
    assert most == QUICK.requests
    assert {None if answer is None else answer.status for answer in answers} == {200}


async def test_who_waits_too_long_for_a_turn_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triggerstream.web.http_connections._BUSY_S", 0.01)
    released = asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        await released.wait()
        return web.Response(text="done")

    app = web.Application()
    app.router.add_get("/v1/x", handler)
    async with served(app, bounds=replace(QUICK, requests=1)) as made:
        first = asyncio.create_task(made.ask(request("GET", "/v1/x")))
        await eventually(lambda: made.server.runner.bounded.most_handled == 1)
        second = await made.ask(request("GET", "/v1/x"))
        assert second is not None
        assert (second.status, second.headers["retry-after"], second.is_json()) == (503, "5", True)
        released.set()
        answer = await first
        assert answer is not None
        assert answer.status == 200


async def test_who_does_not_read_an_answer_is_closed() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=bytes(64 * 1024 * 1024))

    app = web.Application()
    app.router.add_get("/", handler)
    async with served(app, bounds=QUICK) as made:
        _, writer = await made.connect()
        writer.write(request("GET", "/"))
        await writer.drain()
        bounded = made.server.runner.bounded
        await eventually(lambda: bounded.most_open == 1)
        await eventually(lambda: not bounded.connections)
        await close(writer)


@pytest.mark.parametrize("chunk", [b"1\r\nx\r\n", b"100\r\n" + bytes(256) + b"\r\n"])
async def test_a_body_without_end_is_read_up_to_a_bound(chunk: bytes) -> None:
    async with door("dev", ConnectionLimits()) as made:
        for path in ("/login", "/v1/events"):
            reader, writer = await made.connect()
            writer.write(request("POST", path, FORM + b"Transfer-Encoding: chunked\r\n"))
            answering = asyncio.create_task(read_answer(reader))
            sent = 0
            try:
                while not answering.done():
                    writer.write(chunk * 1000)
                    sent += len(chunk) * 1000
                    await writer.drain()
            except ConnectionError:
                pass
            answer = await answering
            assert answer is None or answer.status == 413
            # What lies in the buffers of sockets, and what is read while the refusal is on its way.
            assert sent <= made.server.runner.bounded.wire_bytes + 32 * 1024 * 1024
            await close(writer)
        assert await alive(made, "dev")


async def test_what_strangers_send_logs_a_bounded_number_of_lines(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_: web.Request) -> web.Response:
        raise RuntimeError("a fault of ours")

    app = web.Application()
    app.router.add_get("/v1/broken", broken)
    with caplog.at_level(logging.DEBUG):
        async with served(app) as made:
            for _ in range(50):
                answer = await made.ask(request("GET", "/v1/broken"))
                assert answer is not None
                assert (answer.status, answer.is_json(), answer.has_security_headers()) == (500, True, True)
                for what in ("no HTTP at all", "an invalid header", "a chunk without a length"):
                    await made.ask(WRONG[what].replace(b"{path}", b"/v1/nowhere"))
    lines = [
        record for record in caplog.records if record.name != "asyncio" or record.levelno > logging.DEBUG
    ]
    assert len(lines) == 1
    assert made.server.runner.bounded.log.left_out == 49


FILES_RUN_OUT = """
import asyncio, os, resource, socket, sys, time
from triggerstream.engine.health.liveness import PublishedHealth
from triggerstream.web.metrics import bridge_registry
from triggerstream.web.probes import probes, served
import logging
logging.basicConfig(stream=sys.stderr)
health = PublishedHealth()
with served(probes(health, bridge_registry(health)), host="127.0.0.1", port=0) as url:
    resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
    print(url, flush=True)
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        os.close(held.pop())
    print("full", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.slow
async def test_probes_answer_where_open_files_have_run_out() -> None:
    child = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
        [sys.executable, "-c", FILES_RUN_OUT], stdin=-1, stdout=-1, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    try:
        host, _, port = child.stdout.readline().strip().removeprefix("http://").rpartition(":")
        assert child.stdout.readline() == "full\n"
        writers = []
        for _ in range(100):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(HALF)
            writers.append(writer)
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request("GET", "/livez"))
        answer = await read_answer(reader)
        assert answer is not None
        assert answer.status in {200, 503}
        for one in (*writers, writer):
            await close(one)
    finally:
        _, log = child.communicate("\n")
    assert log.count("\n") < 600, log[:3000]
    assert log.count("cannot accept") <= 11
