"""Ports for servers that need their port before they listen on it."""

from __future__ import annotations

import random
import socket
from contextlib import closing
from pathlib import Path

HOST = "127.0.0.1"
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 20_000
_TRIES = 100


def free_port() -> int:
    """A port of the loopback interface that nothing listens on.

    It is below those that the system gives to outgoing connections (from 32,768 by default): tests make many
    of them, and one could get the port before the server does.
    """
    beyond = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 32_768
    for _ in range(_TRIES):
        port = random.randrange(_LOWEST, max(beyond, _LOWEST + 10_000))
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no free port of {HOST} in {_TRIES} tries")
