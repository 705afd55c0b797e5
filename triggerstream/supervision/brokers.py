"""Checks whether a broker accepts a connection, before the supervisor starts the child again."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress

CONNECT_S = 2.0
"""Time limit for a connection: longer than a round trip to another continent with one lost packet."""


def look_up(brokers: Sequence[str], found: Callable[[bool], None]) -> None:
    """Check in a new thread whether one of ``brokers`` accepts a connection; pass the result to ``found``.

    Resolving names may take longer than a probe of Kubernetes waits, so the caller's loop must not wait.
    There is always a result: where the check itself fails, for lack of open files for example, it is False.
    """

    def look() -> None:
        try:
            there = accepts(brokers)
        except Exception:  # noqa: BLE001 - without a result, the supervisor would wait for ever
            there = False
        found(there)

    try:
        threading.Thread(target=look, daemon=True).start()
    except RuntimeError:  # the system has no thread left
        found(False)  # noqa: FBT003 - the callback's own signature


def accepts(brokers: Sequence[str], *, timeout_s: float = CONNECT_S) -> bool:
    """True if one of ``brokers``, ``host:port`` each, accepts a connection. All are tried at once."""
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for broker in brokers:
            host, _, port = broker.rpartition(":")
            addresses = []
            with suppress(OSError, ValueError):  # the name cannot be resolved (now), or there is no port
                # As bytes: the IDNA codec for text would load tables of a megabyte.
                name = host.strip("[]").encode("ascii")
                addresses = socket.getaddrinfo(name, int(port), type=socket.SOCK_STREAM)
            for family, kind, protocol, _name, address in addresses:
                with suppress(OSError):
                    made = stack.enter_context(socket.socket(family, kind, protocol))
                    made.setblocking(False)  # noqa: FBT003 - the socket's own signature
                    made.connect_ex(address)
                    selector.register(made, selectors.EVENT_WRITE)
        deadline = time.monotonic() + timeout_s
        while selector.get_map():
            ready = selector.select(max(deadline - time.monotonic(), 0))
            if not ready:
                return False
            for key, _ in ready:
                tried = key.fileobj
                assert isinstance(tried, socket.socket)  # noqa: S101 - for the type checker
                if not tried.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    return True
                selector.unregister(tried)
    return False
