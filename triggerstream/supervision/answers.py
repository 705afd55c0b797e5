"""Minimal HTTP server of the supervisor, which answers on its sockets while no child does.

It reads the head of a request within bounds, answers in the form of that door, and closes. A client that
sends too slowly, too much or nothing is closed at its deadline; beyond a number of clients the oldest goes
first.
"""

from __future__ import annotations

import html
import json
import re
import selectors
import socket
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import TypeAlias

from triggerstream.supervision.channel import PROBES

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "triggerstream",
}
"""Headers of every answer, here and at the child's ports; nothing of the child's is imported here."""

DEADLINE_S = 5.0
"""Time for a whole request and its answer: a probe of Kubernetes waits 1 to 5 s."""
MOST_CLIENTS = 64
_LONGEST_HEAD = 8 * 1024
_AT_ONCE = 16
"""Connections accepted in a row from one socket, before other work gets its turn."""
_LONGEST_TEXT = 1_000
"""The child says why it ended; an answer is sent at once, so it has to fit into the buffer of a socket."""
_RETRY_S = 5
_REQUEST_LINE = re.compile(rb"([!-~]+) ([!-~]+) HTTP/1\.[01]\r?")

Answer: TypeAlias = Callable[[str, str], tuple[int, str]]
"""Function from the name of a socket and the path of a request to a status and a line of text."""


class StandInServer:
    """HTTP server for some listening sockets, as part of the loop that owns ``selector``."""

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
        """Stop accepting connections for ``name``: the child accepts them."""
        listening = self._listening.pop(name, None)
        if listening is not None:
            self._selector.unregister(listening)

    def clients(self) -> int:
        """Number of open connections."""
        return len(self._clients)

    def close(self) -> None:
        """Serve nothing any more, and close the connections."""
        for name in list(self._listening):
            self.leave(name)
        for client in list(self._clients):
            self._drop(client)

    def expire(self) -> float | None:
        """Close clients after their deadline; return the time until the next one, None without clients."""
        now = time.monotonic()
        for client in [client for client in self._clients if client.deadline <= now]:
            if client.head and not client.answered:
                text = f"the head of a request takes {DEADLINE_S:g} s at most"
                self._refuse(client, HTTPStatus.REQUEST_TIMEOUT, text)
            self._drop(client)
        return max(next(iter(self._clients)).deadline - now, 0.0) if self._clients else None

    def _accept(self, name: str, listening: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                made, _address = listening.accept()
            except OSError:
                return  # no connection is waiting, or the client has already closed it
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
            self._drop(client)
            return
        if client.answered:
            if not data:
                self._drop(client)
            return  # unread data would cause a reset, which could overtake the answer
        if not data:
            if client.head:
                self._refuse(client, HTTPStatus.BAD_REQUEST, "the request ends within its head")
            self._drop(client)
            return
        client.head += data
        if b"\r\n\r\n" in client.head or b"\n\n" in client.head:
            self._answer_request(client)
        elif len(client.head) > _LONGEST_HEAD:
            text = "the head of the request is too long"
            self._refuse(client, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text)

    def _answer_request(self, client: _Client) -> None:
        line = _REQUEST_LINE.fullmatch(client.head.split(b"\n", 1)[0])
        if line is None:
            self._refuse(client, HTTPStatus.BAD_REQUEST, "this is not an HTTP request")
            return
        method, path = line[1].decode(), line[2].split(b"?", 1)[0].decode()
        if client.name == PROBES and method not in {"GET", "HEAD"}:
            text = f"{method[:20]}: probes are asked with GET"
            self._send(
                client, HTTPStatus.METHOD_NOT_ALLOWED, *_refusal(client, path, text), "Allow: GET, HEAD\r\n"
            )
            return
        status, text = self._answer(client.name, path)
        kind, body = (
            ("text/plain", f"{_line(text)}\n") if client.name == PROBES else _refusal(client, path, text)
        )
        more = "" if status == HTTPStatus.OK else f"Retry-After: {_RETRY_S}\r\n"
        self._send(client, status, kind, body, more, bare=method == "HEAD")

    def _refuse(self, client: _Client, status: int, text: str) -> None:
        words = client.head.split(b"\n", 1)[0].split(b" ")
        path = words[1].decode("ascii", "replace") if len(words) > 1 and words[1].startswith(b"/") else ""
        self._send(client, status, *_refusal(client, path, text))

    def _send(
        self, client: _Client, status: int, kind: str, text: str, more: str = "", *, bare: bool = False
    ) -> None:
        """Answer, and close for writing; ``bare``: without the body, which HEAD does not want."""
        body = text.encode(errors="backslashreplace")
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {kind}; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\n{_HEADER_LINES}{more}Connection: close\r\n\r\n"
        )
        client.answered = True
        try:
            # Some 2 KB at most fit into the buffer of a socket that is new.
            client.socket.sendall(head.encode() + (b"" if bare else body))
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


_HEADER_LINES = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())


def _line(text: str) -> str:
    """``text`` from the child as one line of bounded length."""
    return " ".join(text.split())[:_LONGEST_TEXT]


def _refusal(client: _Client, path: str, text: str) -> tuple[str, str]:
    """The type and the body of an answer other than success: JSON for programs, a page for people."""
    if client.name == PROBES or path.startswith("/v1/") or path in {"", "/healthz"}:
        return "application/json", json.dumps({"error": _line(text)}) + "\n"
    return "text/html", f"<!doctype html>\n<title>triggerstream</title>\n<p>{html.escape(_line(text))}</p>\n"
