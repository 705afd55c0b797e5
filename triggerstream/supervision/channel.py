"""The channel from a child to its supervisor: lines of JSON over a socket pair, some with a socket attached.

=================================  ========================================================================
``{"brokers": ["host:port", …]}``  the Kafka brokers that the child connects to
``{"listening": NAME}``            the attached socket is the one that the child listens on for ``NAME``
``{"serving": NAME}``              from now on the child accepts the connections of ``NAME``
``{"ending": REASON}``             why the child is about to end
=================================  ========================================================================

The supervisor passes data to the child in one environment variable,
:data:`triggerstream.variables.SUPERVISOR`, as JSON. Its members: ``channel``, the file descriptor of the
channel; ``sockets``, the file descriptors of listening sockets by name; ``parent``, the process id of the
supervisor; ``member``, the child's name in its group.
"""

from __future__ import annotations

import json
import socket
from typing import Any

COMMANDS = frozenset({"worker", "bridge"})
"""Commands that run under a supervisor."""

PROBES = "probes"
"""Name of the socket for probes."""

_LONGEST = 64 * 1024
_MOST_SOCKETS = 8


def send(channel: socket.socket, message: dict[str, Any], *, attached: socket.socket | None = None) -> None:
    """Send ``message`` to the supervisor.

    Raises:
        OSError: there is no supervisor any more.
    """
    line = json.dumps(message).encode() + b"\n"
    if attached is None:
        channel.sendall(line)
        return
    sent = socket.send_fds(channel, [line], [attached.fileno()])
    channel.sendall(line[sent:])


class Receiver:
    """The supervisor's end of the channel: reassembles messages and the sockets attached to them."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self._text = b""
        self._attached: list[socket.socket] = []

    def messages(self) -> tuple[list[tuple[dict[str, Any], socket.socket | None]], bool]:
        """All messages that have arrived, and whether the channel is still open.

        An invalid line is dropped: a child that writes nonsense must not end its supervisor.
        """
        is_open = True
        while True:
            try:
                data, numbers, _flags, _address = socket.recv_fds(self.channel, _LONGEST, _MOST_SOCKETS)
            except BlockingIOError:
                break
            except OSError:
                is_open = False
                break
            self._attached += [socket.socket(fileno=number) for number in numbers]
            for made in self._attached:
                made.set_inheritable(False)
            self._text += data
            if not data:
                is_open = False
                break
        *lines, self._text = self._text.split(b"\n")
        return [found for line in lines if (found := self._message(line)) is not None], is_open

    def _message(self, line: bytes) -> tuple[dict[str, Any], socket.socket | None] | None:
        try:
            message = json.loads(line)
        except ValueError:
            return None
        if not isinstance(message, dict):
            return None
        attached = self._attached.pop(0) if "listening" in message and self._attached else None
        return message, attached

    def close(self) -> None:
        """Close the channel, and sockets that no message claimed."""
        self.channel.close()
        for made in self._attached:
            made.close()
