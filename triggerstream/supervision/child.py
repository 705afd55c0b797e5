"""The child's side of supervision: takes its sockets from the supervisor, and reports facts to it."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field

from triggerstream import variables
from triggerstream.supervision.channel import send

_PR_SET_PDEATHSIG = 1


@dataclass(slots=True, kw_only=True)
class Supervision:
    """Connection of a process to its supervisor; without arguments, for a process without supervisor.

    ``member``: the name under which the process joins its consumer group. It stays the same when the
    supervisor restarts the process.
    """

    member: str | None = None
    channel: socket.socket | None = None
    sockets: dict[str, socket.socket] = field(default_factory=dict)

    def listen(self, name: str, bind: Callable[[], socket.socket]) -> socket.socket:
        """The listening socket for ``name``: the supervisor's, or one that ``bind`` creates."""
        inherited = self.sockets.get(name)
        if inherited is not None:
            return inherited
        made = self.sockets[name] = bind()
        self._send({"listening": name}, attached=made)
        return made

    def serving(self, name: str) -> None:
        """Report that from now on this process, not the supervisor, accepts the connections of ``name``."""
        self._send({"serving": name})

    def connecting(self, bootstrap: str) -> None:
        """Report the brokers that this process needs: ``host:port``, or several with commas."""
        self._send({"brokers": [broker.strip() for broker in bootstrap.split(",")]})

    def ending(self, reason: str, *, unreadable: bool = False) -> None:
        """Report why this process is about to end.

        ``unreadable``: a partition cannot be taken over, because a record batch cannot be read.
        """
        self._send({"ending": reason, "unreadable": unreadable})

    def _send(self, message: dict[str, object], *, attached: socket.socket | None = None) -> None:
        if self.channel is not None:
            # Without its supervisor, this process is about to be killed.
            with suppress(OSError):
                send(self.channel, message, attached=attached)


def connect(environment: MutableMapping[str, str]) -> Supervision | None:
    """Connect to the supervisor; from now on this process ends with it. None if there is no supervisor.

    Removes the variable from ``environment``, so that processes started from here are not supervised.
    """
    text = environment.pop(variables.SUPERVISOR, None)
    if text is None:
        return None
    given = json.loads(text)
    channel = _taken(given["channel"])
    _end_with(given["parent"], channel)
    return Supervision(
        member=given["member"],
        channel=channel,
        sockets={name: _taken(number) for name, number in given["sockets"].items()},
    )


def _taken(number: int) -> socket.socket:
    made = socket.socket(fileno=number)
    made.set_inheritable(False)
    return made


def _end_with(parent: int, channel: socket.socket) -> None:
    """Make the kernel kill this process when ``parent`` dies, even if this process is stopped."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    else:
        threading.Thread(target=_await_end, args=(channel,), daemon=True).start()
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _await_end(channel: socket.socket) -> None:
    # The supervisor sends nothing: a readable channel means that it has ended.
    with suppress(OSError):
        channel.recv(1)
    os.kill(os.getpid(), signal.SIGKILL)
