"""HTTP over plain sockets: bytes that no client library would send, and the answers to them."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from triggerstream.supervision.answers import HEADERS
from triggerstream.web.answers import refusal
from triggerstream.web.http_connections import ConnectionLimits, RefusalFactory
from triggerstream.web.serving import Server, listening_socket

ANSWERED_S = 60.0
"""How long an answer is waited for; a busy machine may need seconds for one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer, taken apart."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - JSON, looked into by the tests
        return json.loads(self.body)

    def is_json(self) -> bool:
        """Whether it is a refusal as programs read it."""
        return self.headers["content-type"].startswith("application/json") and set(self.json) >= {"error"}

    def is_page(self) -> bool:
        """Whether it is a page."""
        return self.headers["content-type"].startswith("text/html") and b"<h1>" in self.body

    def has_security_headers(self) -> bool:
        """Whether it has the headers that every answer must have."""
        return {name.lower() for name in HEADERS} <= set(self.headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server on loopback."""

    server: Server
    host: str
    port: int

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A new connection."""
        return await asyncio.open_connection(self.host, self.port)

    async def ask(self, data: bytes, *, end: bool = False) -> Answer | None:
        """The first answer to ``data``; None: the connection was closed without one. ``end``: half close."""
        reader, writer = await self.connect()
        try:
            with suppress(ConnectionError):
                writer.write(data)
                await writer.drain()
                if end:
                    writer.write_eof()
            return await read_answer(reader, head_only=data.startswith(b"HEAD "))
        finally:
            await close(writer)


async def close(writer: asyncio.StreamWriter) -> None:
    """Close a connection, whatever the other side did to it."""
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def read_answer(reader: asyncio.StreamReader, *, head_only: bool = False) -> Answer | None:
    """The next answer of a connection; None: it is closed."""
    try:
        async with asyncio.timeout(ANSWERED_S):
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = {}
            for line in lines:
                name, _, value = line.partition(": ")
                if name:
                    headers[name.lower()] = value
            size = 0 if head_only else int(headers.get("content-length", "0"))
            body = await reader.readexactly(size)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return Answer(status=int(first.split(" ")[1]), headers=headers, body=body)


@asynccontextmanager
async def served(
    app: web.Application,
    *,
    refuse: RefusalFactory = refusal,
    bounds: ConnectionLimits | None = None,
    listening: socket.socket | None = None,
) -> AsyncIterator[Served]:
    """Serve ``app`` as a process does."""
    listening = listening or listening_socket("127.0.0.1", 0)
    host, port = listening.getsockname()
    server = Server(app, listening, refuse=refuse, bounds=bounds)
    failures: list[BaseException] = []
    await server.start(failures.append)
    try:
        yield Served(server=server, host=host, port=port)
    finally:
        await server.stop()
    assert not failures
