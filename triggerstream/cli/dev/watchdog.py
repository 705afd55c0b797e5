"""Runs one command so that it, and all that it starts, ends with the process that asked for it.

    python -I -S watchdog.py FD GRACE COMMAND [ARGUMENT …]

FD is the read end of a pipe whose write end the asking process holds: when that process ends, however it
ends, the pipe does too, and everything below the watchdog is killed at once. SIGTERM is passed on to the
command, which has GRACE seconds before the same happens. The exit status is the command's.

Only the standard library, and run as a script: it has to start in milliseconds and to stay small.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LINUX = sys.platform == "linux"
_KILLED_POLL_S = 0.01


def main(arguments: list[str]) -> int:
    """Run the command; return its exit status, 128 + n where signal n ended it."""
    parent = int(arguments[0])
    grace_s = float(arguments[1])
    # Ctrl-C at a terminal reaches its whole process group; the asking process stops its children in order.
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda received, _frame: signals.append(received))
    child = subprocess.Popen(arguments[2:], preexec_fn=_die_with_the_watchdog, process_group=0)  # noqa: S603, PLW1509 - one thread only
    poll = select.poll()
    poll.register(parent, select.POLLIN)
    poll.register(wake_read, select.POLLIN)
    deadline: float | None = None
    while True:
        left_ms = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        ready = {fd for fd, _ in poll.poll(left_ms)}
        if wake_read in ready:
            os.read(wake_read, 4096)
        if child.poll() is not None or parent in ready or (not ready and deadline is not None):
            break
        if signal.SIGTERM in signals and deadline is None:
            deadline = time.monotonic() + grace_s
            child.send_signal(signal.SIGTERM)
        _reap(child.pid)
    _kill_everything(child)
    status = child.wait()
    return status if status >= 0 else 128 - status


def _prctl(option: int, value: int) -> None:
    if _LINUX:
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _die_with_the_watchdog() -> None:
    """Set up the child before it execs: nothing must outlive a watchdog that is itself killed."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _kill_everything(child: subprocess.Popen[bytes]) -> None:
    """Kill all that is left below this process. Orphans become its children, so none can hide for long."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    while True:
        below = _descendants(os.getpid())
        for pid in below:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        child.poll()
        _reap(child.pid)
        if not below:
            return
        time.sleep(_KILLED_POLL_S)


def _reap(but: int) -> None:
    """Collect orphans that ended; the child itself is left to its ``Popen``."""
    for pid in _descendants(os.getpid(), deep=False):
        if pid != but:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _descendants(root: int, *, deep: bool = True) -> list[int]:
    """The processes below ``root``, or just its children; empty where there is no ``/proc``."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            # The name, in parentheses, may itself hold any character; state and parent follow the last one.
            state, parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if state != "Z" or not deep:
            parents.setdefault(int(parent), []).append(int(entry.name))
    found = list(parents.get(root, ()))
    if deep:
        for pid in found:
            found.extend(parents.get(pid, ()))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
