"""Finds out whether a process listens at the address of its pages."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

from triggerstream.engine.operations.processes import Knock

_ANSWER_S = 2.0
_NO_PORT = 1
"""The port in the address of a worker that has no pages."""


async def knock(url: str | None) -> Knock:
    """Connect to ``url``, the address that a worker announces to its group, and return the result."""
    try:
        parts = urlsplit(url or "")
        host, port = parts.hostname, parts.port
    except ValueError:
        return Knock.NO_ADDRESS
    if host is None or port is None or port == _NO_PORT:
        return Knock.NO_ADDRESS
    machine = parse_qs(parts.query).get("on", [""])[0]
    if _is_loopback(host) and machine and machine != socket.gethostname():
        return Knock.NO_ADDRESS  # of another machine
    try:
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                if parts.scheme == "http":
                    writer.write(b"HEAD / HTTP/1.0\r\n\r\n")
                    if not await reader.read(1):
                        return Knock.REFUSED
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except (ConnectionRefusedError, ConnectionResetError):
        return Knock.REFUSED
    except TimeoutError:
        return Knock.SILENT
    except OSError:
        return Knock.NO_ADDRESS
    return Knock.ANSWERS


def _is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")
