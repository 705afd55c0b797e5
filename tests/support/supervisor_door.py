"""A supervisor's answers at a port, from a thread of this process."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from triggerstream.supervision.answers import Answer, StandInServer


@contextmanager
def supervisor_door(name: str, answer: Answer) -> Iterator[tuple[str, int]]:
    """The address of a socket ``name`` that ``answer`` answers; an error there is raised at the end."""
    ending, ended = socket.socketpair()
    failed: list[BaseException] = []
    with socket.create_server(("127.0.0.1", 0)) as listening, selectors.DefaultSelector() as selector:
        answers = StandInServer(selector, answer)
        answers.serve(name, listening)
        selector.register(ended, selectors.EVENT_READ)

        def run() -> None:
            try:
                while True:
                    for key, _ in selector.select(answers.expire()):
                        if key.fileobj is ended:
                            return
                        if key.fd in selector.get_map():
                            key.data()
            except BaseException as exc:  # noqa: BLE001 - raised by the thread that asks
                failed.append(exc)
            finally:
                answers.close()
                listening.close()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield listening.getsockname()[:2]
        finally:
            ending.close()
            thread.join()
            ended.close()
    if failed:
        raise failed[0]


def ask(address: tuple[str, int], data: bytes, *, end: bool = True, timeout_s: float = 60.0) -> bytes:
    """All that comes back for ``data`` until the connection is closed; ``end``: nothing more is sent."""
    found = b""
    with socket.create_connection(address, timeout=timeout_s) as made:
        made.sendall(data)
        if end:
            made.shutdown(socket.SHUT_WR)
        while part := made.recv(65536):
            found += part
    return found
