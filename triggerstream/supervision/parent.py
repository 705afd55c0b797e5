"""The supervisor: starts the child process that does the work, and restarts it after failures.

=================  ===========================================================================================
the child ends     the supervisor
=================  ===========================================================================================
70 or 75           starts it again: at once the first time, then once a broker accepts a connection, after
                   pauses of at most :attr:`Policy.longest_pause_s`
70 again           because a take-over cannot read a record batch: starts it again after pauses that grow to
                   :attr:`Policy.unreadable_pause_s`
10 such ends       within a minute, each with a broker that accepts connections: ends with that status
any other status   ends with that status
by a signal        ends by that signal
=================  ===========================================================================================

SIGTERM and SIGINT go to the child, whose end is then the supervisor's; without a child the supervisor ends
with 0. A child that has not ended :attr:`Policy.end_s` later is killed. SIGHUP, SIGUSR1 and SIGUSR2 go to the
child. If the supervisor is killed, the kernel kills the child.

While no child serves the sockets, the supervisor answers on them (:class:`StandInServer`): to probes as a
live process that is not ready, to everything else with 503 and the reason.

It imports only the standard library and takes under 20 MiB. As process 1 of a container, it also reaps
orphans.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import socket
import sys
import time
import uuid
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from triggerstream import variables
from triggerstream.loglines import line_head
from triggerstream.supervision import brokers
from triggerstream.supervision.answers import StandInServer
from triggerstream.supervision.channel import PROBES, Receiver

AGAIN = frozenset({70, 75})
"""Exit statuses after which a new process may succeed: a failure of the infrastructure; fenced."""
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_ENDING = frozenset({signal.SIGTERM, signal.SIGINT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Rules for restarts of a child.

    ``calm_s``: a child that ran for this time had recovered, so its end counts as the first one. ``most``:
    this number of ends ``within_s`` while Kafka is available is not caused by an outage of Kafka. Pauses
    begin with ``first_pause_s`` and double; the longest one allows that number of ends within that time.
    If a take-over cannot read a record batch, they double from there to ``unreadable_pause_s``: a restart
    helps only once another replica is the leader. It is shorter than a session of the group, by default 30 s,
    so that partitions stay where they are: another owner would end, too.
    ``end_s``: the time that a child may take to end. A worker limits itself to 100 s, but one that is
    stopped, or hangs in the kernel, would never end.
    """

    calm_s: float = 60.0
    first_pause_s: float = 0.25
    longest_pause_s: float = 2.0
    unreadable_pause_s: float = 20.0
    most: int = 10
    within_s: float = 60.0
    end_s: float = 110.0


def supervise(name: str, command: Sequence[str], *, policy: Policy | None = None) -> int:
    """Run ``command``, an argument vector, as the child until it is done; return the exit status.

    If a signal ended the child, it does not return: this process ends by the same signal. ``name`` is the
    child's name in messages.
    """
    return _Supervisor(name, command, policy or Policy()).run()


class _Supervisor:
    def __init__(self, name: str, command: Sequence[str], policy: Policy) -> None:
        self._name = name
        self._command = command
        self._policy = policy
        self._environment = dict(os.environ)
        self._member = f"{name}-{uuid.uuid4()}"
        self._selector = selectors.DefaultSelector()
        self._answers = StandInServer(self._selector, self._answer)
        self._sockets: dict[str, socket.socket] = {}
        self._brokers: list[str] = []
        self._child: int | None = None
        self._receiver: Receiver | None = None
        self._stopping = False
        self._result: int | None = None
        self._started_at = 0.0
        self._failures = 0
        """Consecutive ends of children that had not run for long."""
        self._unreadable_ends = 0
        """Those of them, without another end in between, that were caused by an unreadable record batch."""
        self._ending_unreadable = False
        """True if the child reports that it ends because of an unreadable record batch."""
        self._ends: deque[float] = deque(maxlen=policy.most)
        """Times of the last ends of children; ends without Kafka are removed."""
        self._reason = "starting"
        self._ending = ""
        self._status = 0
        self._start_at: float | None = None
        """Time at which to look for a broker, or to start the child if no broker is known; None: not now."""
        self._kill_at: float | None = None
        """Deadline after which a child that was asked to end is killed; None: it was not asked."""
        self._looking = False
        self._away = False
        """True if no broker has accepted a connection since the child ended."""
        self._handled: list[signal.Signals] = []
        self._wake, self._waker = socket.socketpair()
        self._woken, self._news = os.pipe()

    def run(self) -> int:
        """Supervise until the child is done."""
        # A core dump of this process would only overwrite the child's, which is not limited by this.
        limit = resource.getrlimit(resource.RLIMIT_CORE)
        self._listen_to_signals()
        os.set_blocking(self._woken, False)
        self._selector.register(self._woken, selectors.EVENT_READ, self._take_broker_search)
        self._start()
        while self._result is None:
            for key, _ in self._selector.select(self._timeout_s()):
                if key.fd in self._selector.get_map():  # an earlier event of this turn may have closed it
                    key.data()
            self._start_if_due()
            self._kill_if_due()
        if self._result < 0:
            resource.setrlimit(resource.RLIMIT_CORE, (0, limit[1]))
            _end_by(-self._result)
        return self._result

    def _timeout_s(self) -> float | None:
        times = [self._answers.expire()]
        times += [max(at - time.monotonic(), 0.0) for at in (self._start_at, self._kill_at) if at is not None]
        return min((one for one in times if one is not None), default=None)

    # ---- signals ----------------------------------------------------------------------------------

    def _listen_to_signals(self) -> None:
        self._wake.setblocking(False)  # noqa: FBT003 - the socket's own signature
        self._waker.setblocking(False)  # noqa: FBT003 - the function's own signature
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        # A signal that this process inherited as ignored (nohup) stays ignored, here and in the child.
        ignored = [number for number in _FORWARDED if signal.getsignal(number) is signal.SIG_IGN]
        self._handled = [number for number in (*_FORWARDED, signal.SIGCHLD) if number not in ignored]
        for number in self._handled:
            signal.signal(number, lambda _number, _frame: None)
        self._selector.register(self._wake, selectors.EVENT_READ, self._take_signals)

    def _take_signals(self) -> None:
        with suppress(BlockingIOError):
            for number in self._wake.recv(4096):
                if number in _FORWARDED:
                    self._forward(number)
        self._reap()

    def _forward(self, number: int) -> None:
        if number in _ENDING and not self._stopping:
            self._stopping = True
            self._kill_at = time.monotonic() + self._policy.end_s
        if self._child is not None:
            with suppress(ProcessLookupError):
                os.kill(self._child, number)
        elif self._stopping:
            self._write_line("ended while no process ran")
            self._result = 0

    def _kill_if_due(self) -> None:
        if self._kill_at is not None and self._child is not None and time.monotonic() >= self._kill_at:
            late = f"has not ended {self._policy.end_s:g} s after it was asked to"
            self._write_line(f"the {self._name} {late}: killed")
            self._kill_at = None
            os.kill(self._child, signal.SIGKILL)

    def _reap(self) -> None:
        """Reap processes that ended: the child, and orphans that became this process's children."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self._child:
                self._ended(status)

    # ---- the child --------------------------------------------------------------------------------

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        numbers = {name: held.fileno() for name, held in self._sockets.items()}
        passed = (theirs.fileno(), *numbers.values())
        given = {
            "channel": theirs.fileno(),
            "sockets": numbers,
            "parent": os.getpid(),
            "member": self._member,
        }
        for number in passed:
            os.set_inheritable(number, True)  # noqa: FBT003 - the function's own signature
        try:
            self._child = os.posix_spawn(
                self._command[0],
                list(self._command),
                {**self._environment, variables.SUPERVISOR: json.dumps(given)},
                setpgroup=0,  # otherwise the child would get Ctrl-C twice: from the terminal and from here
                setsigdef=self._handled,
            )
        finally:
            for number in passed:
                os.set_inheritable(number, False)  # noqa: FBT003 - the function's own signature
            theirs.close()
        ours.setblocking(False)  # noqa: FBT003 - the function's own signature
        self._receiver = Receiver(ours)
        self._selector.register(ours, selectors.EVENT_READ, self._receive)
        self._started_at = time.monotonic()
        self._start_at = None
        self._ending, self._ending_unreadable = "", False
        # A test's failpoint is for one process: otherwise the next child would die there as well.
        self._environment.pop(variables.FAILPOINT, None)

    def _receive(self) -> None:
        """Act on the child's messages."""
        receiver = self._receiver
        if receiver is None:
            return
        messages, is_open = receiver.messages()
        for message, attached in messages:
            match message:
                case {"brokers": list(addresses)}:
                    self._brokers = [str(address) for address in addresses]
                case {"listening": str(name)} if attached is not None:
                    self._sockets[name] = attached
                    self._answers.serve(name, attached)
                case {"serving": str(name)}:
                    self._answers.leave(name)
                case {"ending": str(reason), "unreadable": bool(unreadable)}:
                    self._ending, self._ending_unreadable = reason, unreadable
                case _:
                    pass
        if not is_open:
            self._selector.unregister(receiver.channel)
            receiver.close()
            self._receiver = None

    def _ended(self, status: int) -> None:
        self._receive()  # the child's last messages
        if self._receiver is not None:  # a process started by the child still has the other end
            self._selector.unregister(self._receiver.channel)
            self._receiver.close()
            self._receiver = None
        self._child = None
        code = os.waitstatus_to_exitcode(status)
        if self._stopping or code not in AGAIN:
            self._result = code
            return
        for name, held in self._sockets.items():
            self._answers.serve(name, held)
        now = time.monotonic()
        self._failures = 1 if now - self._started_at >= self._policy.calm_s else self._failures + 1
        is_repeated = self._ending_unreadable and self._failures > 1
        self._unreadable_ends = self._unreadable_ends + 1 if is_repeated else 0
        self._status = code
        self._away = False
        self._ends.append(now)
        self._reason = f"the {self._name} ended with status {code}" + (
            f": {self._ending}" if self._ending else ""
        )
        if self._failures == 1:
            self._write_line(f"the {self._name} ended with status {code}: starting it again")
            self._start_at = now
        else:
            pause_s = min(
                self._policy.first_pause_s * 2.0 ** min(self._failures - 2, 16), self._policy.longest_pause_s
            )
            if self._unreadable_ends:
                longest_s, first_s = self._policy.unreadable_pause_s, self._policy.longest_pause_s
                pause_s = min(first_s * 2.0 ** min(self._unreadable_ends, 16), longest_s)
                again = f"starting it again in {pause_s:g} s, as a record batch cannot be read"
                self._write_line(f"the {self._name} ended with status {code}: {again}")
            self._start_at = now + pause_s

    def _start_if_due(self) -> None:
        if self._result is not None or self._start_at is None or time.monotonic() < self._start_at:
            return
        if self._failures == 1:
            self._start()
        elif not self._brokers:
            self._start_or_give_up()
        elif not self._looking:
            self._looking = True
            self._start_at = None
            brokers.look_up(self._brokers, lambda found: _post(self._news, found=found))

    def _take_broker_search(self) -> None:
        found = os.read(self._woken, 1) == b"\1"
        self._looking = False
        if self._result is not None:
            return
        if found:
            self._start_or_give_up()
            return
        if not self._away:
            self._away = True
            if self._ends:
                self._ends.pop()  # Kafka's outage caused this end: a restart of the container would not help
            where = ", ".join(self._brokers)
            ended = f"the {self._name} ended with status {self._status}"
            self._write_line(f"{ended}: waiting for Kafka at {where}")
            self._reason += f"; no broker accepts a connection at {where}"
        self._start_at = time.monotonic() + self._policy.longest_pause_s / 2

    def _start_or_give_up(self) -> None:
        ends, policy = self._ends, self._policy
        if len(ends) == policy.most and ends[-1] - ends[0] < policy.within_s:
            self._write_line(
                f"the {self._name} ended {policy.most} times within {policy.within_s:g} s although Kafka is "
                f"there: ending with its status {self._status}"
            )
            self._result = self._status
            return
        self._write_line(f"the {self._name} ended with status {self._status}: starting it again")
        self._start()

    # ---- output ------------------------------------------------------------------------------------

    def _answer(self, name: str, path: str) -> tuple[int, str]:
        """The answer to a request while no child serves the socket.

        A child that waits for Kafka must not be killed as a slow start. So `/startedz` answers 200 once the
        child has failed: from then on Kubernetes asks `/livez`, and `/readyz` reports that the process is not
        ready. The reason is shown on the probes' port only, because the pages can be opened without a login.
        """
        if name != PROBES:
            return 503, f"the {self._name} is starting: its log and /readyz at its probes' port say more"
        if path == "/livez" or (path == "/startedz" and self._child is None):
            return 200, "ok"
        return 503, self._reason

    def _write_line(self, line: str) -> None:
        with suppress(OSError, ValueError):
            head = f"{line_head()} triggerstream {self._name} {os.getpid()}"
            sys.stderr.write(f"{head} (supervisor): {line}\n")
            sys.stderr.flush()


def _post(pipe: int, *, found: bool) -> None:
    os.write(pipe, b"\1" if found else b"\0")


def _end_by(number: int) -> NoReturn:
    """End by the child's signal; process 1, which cannot signal itself, ends with status 128 + N."""
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    sys.exit(128 + number)
