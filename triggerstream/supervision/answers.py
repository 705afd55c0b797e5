"""Answers for a child that does not serve: a minimal HTTP server on the sockets that its supervisor holds.

It reads the head of a request within bounds, answers, and closes. A client that sends too slowly, too much
or nothing is closed at its deadline; beyond a number of clients the oldest goes first.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from typing import TypeAlias

DEADLINE_S = 5.0
"""How long a client may take for all of it: a probe of Kubernetes waits 1 to 5 s."""
MOST_CLIENTS = 64
_LONGEST_HEAD = 8 * 1024
_AT_ONCE = 16
"""Connections accepted from one socket before other work has its turn."""
_REASONS = {200: "OK", 400: "Bad Request", 503: "Service Unavailable"}

Answer: TypeAlias = Callable[[str, str], tuple[int, str]]
"""From the name of a socket and the path of a request to a status and a line of text."""


class Answers:
    """Serves the sockets that it was given, as part of the loop that owns ``selector``."""

    def __init__(self, selector: selectors.BaseSelector, answer: Answer) -> None:
        self._selector = selector
        self._answer = answer
        self._listening: dict[str, socket.socket] = {}
        self._clients: dict[_Client, None] = {}

    def serve(self, name: str, listening: socket.socket) -> None:
        """Accept the connections of ``listening`` from now on."""
        if name not in self._listening:
            self._listening[name] = listening
            listening.setblocking(False)  # noqa: FBT003 - the socket's own signature
            self._selector.register(listening, selectors.EVENT_READ, lambda: self._accept(name, listening))

    def leave(self, name: str) -> None:
        """Accept no more connections for ``name``: somebody else does."""
        listening = self._listening.pop(name, None)
        if listening is not None:
            self._selector.unregister(listening)

    def clients(self) -> int:
        """How many connections are open."""
        return len(self._clients)

    def expire(self) -> float | None:
        """Close clients whose time is over; how long until the next deadline, None: there is no client."""
        now = time.monotonic()
        for client in [client for client in self._clients if client.deadline <= now]:
            self._drop(client)
        return max(next(iter(self._clients)).deadline - now, 0.0) if self._clients else None

    def _accept(self, name: str, listening: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                made, _address = listening.accept()
            except OSError:
                return  # none left, or one that has gone again
            made.setblocking(False)  # noqa: FBT003 - the socket's own signature
            if len(self._clients) >= MOST_CLIENTS:
                self._drop(next(iter(self._clients)))
            client = _Client(name, made)
            self._clients[client] = None
            self._selector.register(made, selectors.EVENT_READ, lambda client=client: self._read(client))

    def _read(self, client: _Client) -> None:
        try:
            data = client.socket.recv(_LONGEST_HEAD)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        if client.answered:
            return  # unread, the rest of its request would have a reset overtake the answer
        client.head += data
        if b"\r\n\r\n" not in client.head and b"\n\n" not in client.head:
            if len(client.head) <= _LONGEST_HEAD:
                return
            self._send(client, 400, "the head of the request is too long")
            return
        words = client.head.split(b"\n", 1)[0].split()
        if len(words) != 3 or not words[2].startswith(b"HTTP/"):  # noqa: PLR2004 - method, path, version
            self._send(client, 400, "this is no HTTP request")
            return
        path = words[1].split(b"?", 1)[0].decode("ascii", "replace")
        self._send(client, *self._answer(client.name, path))

    def _send(self, client: _Client, status: int, text: str) -> None:
        body = f"{text}\n".encode()
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        client.answered = True
        try:
            # A few hundred bytes fit into the buffer of a socket that is new.
            client.socket.sendall(head.encode() + body)
            client.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(client)

    def _drop(self, client: _Client) -> None:
        if client in self._clients:
            del self._clients[client]
            self._selector.unregister(client.socket)
            client.socket.close()


class _Client:
    """One connection."""

    __slots__ = ("answered", "deadline", "head", "name", "socket")

    def __init__(self, name: str, made: socket.socket) -> None:
        self.name = name
        self.socket = made
        self.head = b""
        self.answered = False
        self.deadline = time.monotonic() + DEADLINE_S
