"""A supervisor whose child follows a script: ``python -m tests.supervision.scripted FOLDER PLAN [BROKERS]``.

``PLAN`` has a word for each start, with commas between them; the last one is for all later starts. A number:
end with that status. ``unreadable``: end with 70 because of a record batch. ``kill``: by SIGKILL. ``run``:
serve until SIGTERM, then end with 0. ``wait``: do not serve, and end with 0 at SIGTERM. ``stuck``: stop, so
that nothing but SIGKILL ends it. ``orphan``: leave an orphan behind that ends at once, then ``run``.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path

from triggerstream import variables
from triggerstream.supervision.channel import PROBES
from triggerstream.supervision.child import Supervision, connect
from triggerstream.supervision.parent import Policy, supervise

POLICY = Policy(calm_s=3600.0, first_pause_s=0.01, longest_pause_s=0.05, unreadable_pause_s=0.3)


def _child(folder: Path, plan: str, brokers: str | None) -> None:
    supervision = connect(os.environ)
    assert supervision is not None
    starts = folder / "starts"
    number = starts.read_text().count("\n") if starts.exists() else 0
    word = plan.split(",")[min(number, plan.count(","))]
    if brokers is not None:
        supervision.connecting(brokers)
    listening = supervision.listen(PROBES, lambda: socket.create_server(("127.0.0.1", 0)))
    host, port = listening.getsockname()
    (folder / "url").write_text(f"http://{host}:{port}")
    with starts.open("a") as stream:
        stream.write(f"{os.getpid()} {supervision.member} {word} {os.environ.get(variables.FAILPOINT)}\n")
    if word == "unreadable":
        supervision.ending("a batch cannot be read", unreadable=True)
        sys.exit(70)
    if word.isdigit():
        supervision.ending(f"told to end with {word}")
        sys.exit(int(word))
    if word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "stuck":
        (folder / "running").touch()
        os.kill(os.getpid(), signal.SIGSTOP)
    if word == "orphan":
        _leave_orphan(folder)
    _run(folder, supervision, None if word == "wait" else listening)


def _run(folder: Path, supervision: Supervision, listening: socket.socket | None) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])
    if listening is not None:
        threading.Thread(target=_serve, args=(listening,), daemon=True).start()
        supervision.serving(PROBES)
    (folder / "running").touch()
    while (got := signal.sigwait([signal.SIGTERM, signal.SIGUSR1])) != signal.SIGTERM:
        (folder / "signal").write_text(signal.Signals(got).name)
    sys.exit(0)


def _serve(listening: socket.socket) -> None:
    while True:
        listening.settimeout(None)
        connection, _ = listening.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nchild\n")


def _leave_orphan(folder: Path) -> None:
    if os.fork() == 0:
        if os.fork() == 0:
            while os.getppid() != int((folder / "supervisor").read_text()):
                os.sched_yield()
            (folder / "orphan").write_text(str(os.getpid()))
            os._exit(0)
        os._exit(0)
    os.wait()


def _supervise(folder: Path, plan: str) -> int:
    if sys.platform == "linux":
        # Orphans below it become its children, as those in a container become process 1's.
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    (folder / "supervisor").write_text(str(os.getpid()))
    policy = replace(POLICY, end_s=0.2) if plan == "stuck" else POLICY
    return supervise("worker", [sys.executable, *sys.orig_argv[1:]], policy=policy)


if __name__ == "__main__":
    place, words, *where = sys.argv[1:]
    if variables.SUPERVISOR in os.environ:
        _child(Path(place), words, where[0] if where else None)
    else:
        sys.exit(_supervise(Path(place), words))
