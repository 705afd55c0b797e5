"""The processes of the chain, each of which is started again whenever it has ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.supervised import at_work, lives, state
from tests.support.waiting import wait_until
from triggerstream import variables

_ROOT = Path(__file__).resolve().parents[3]
_STOP_S = 60.0
_READY = re.compile(r" ready: partitions (.*?), [0-9.]+ s after")
START_AGAIN = frozenset({-signal.SIGKILL, 70, 75})
"""The statuses after which an operator has to restart a process, and those of kills."""
_FOR_WORK = frozenset({signal.SIGSTOP, signal.SIGCONT})


@dataclass(slots=True, kw_only=True, eq=False)
class Member:
    """One process in a group of its own; ``ready`` is the line that it prints once it is ready."""

    name: str
    command: Sequence[str]
    output: Path
    ready: str
    environment: Mapping[str, str] = field(default_factory=dict)
    wanted: bool = False
    doomed: bool = False
    """Its end is awaited: it is not started again meanwhile."""
    ends: Counter[int] = field(default_factory=Counter)
    """The number of unrequested ends, by exit status."""
    _process: subprocess.Popen[bytes] | None = None
    _groups: list[int] = field(default_factory=list)
    _from: int = 0
    _was_ready: bool = False

    def start(self, *, failpoint: str | None = None) -> None:
        """Start it, and have it started again whenever it ends."""
        assert not self.running(), self.name
        self.wanted = True
        self.doomed = False
        self._was_ready = False
        self._from = self.output.stat().st_size if self.output.exists() else 0
        with self.output.open("ab") as stream:
            self._process = subprocess.Popen(
                self.command,
                cwd=_ROOT,
                env={
                    **os.environ,
                    **self.environment,
                    **({variables.FAILPOINT: failpoint} if failpoint else {}),
                },
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        self._groups.append(self._process.pid)

    def doom(self, failpoint: str) -> None:
        """Kill it if it runs, and start it so that it dies at ``failpoint``; then it stays down."""
        self.kill()
        self.start(failpoint=failpoint)
        self.doomed = True

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    def text(self) -> str:
        """The output since its last start."""
        if not self.output.exists():
            return ""
        return self.output.read_bytes()[self._from :].decode(errors="replace")

    def is_ready(self) -> bool:
        """Whether it is at work."""
        self._was_ready = self._was_ready or self.ready in self.text()
        return self._was_ready and self.running()

    def partitions(self) -> frozenset[int] | None:
        """The partitions that it took over last; None before it has printed them."""
        # One that its supervisor has started again has what it was assigned since.
        found = _READY.findall(self.text().rpartition(": starting it again")[2])
        if not found or not self.running():
            return None
        numbers: set[int] = set()
        for part in found[-1].split(", ") if found[-1] != "none" else ():
            first, _, last = part.partition("-")
            numbers.update(range(int(first), int(last or first) + 1))
        return frozenset(numbers)

    def is_stopped(self) -> bool:
        """Whether it is stopped by a signal."""
        return state(at_work(self.pid)) == "T"

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: one that stops it or lets it go on to the process that works."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.kill(at_work(self.pid) if number in _FOR_WORK else self.pid, number)

    def died(self) -> bool:
        """Note its end if it has ended unasked; it stays down."""
        if not self.wanted or self._process is None or self._process.poll() is None:
            return False
        self.ends[self._process.returncode] += 1
        assert self._process.returncode in START_AGAIN, f"{self.name}: {self.tail()}"
        self.wanted = False
        return True

    def tend(self) -> None:
        """Start it again if it has ended unasked."""
        if not self.doomed and self.died():
            self.start()

    def kill(self, *, below: bool = False) -> None:
        """``kill -9``, and leave it so; ``below``: of the process that works, not of its supervisor."""
        self.wanted = False
        if self._process is None or self._process.poll() is not None:
            return
        working = at_work(self.pid)
        with suppress(ProcessLookupError):
            os.kill(working if below else self.pid, signal.SIGKILL)
        self._process.wait()
        wait_until(lambda: not lives(working), within_s=_STOP_S, what=self.tail)

    def leave(self) -> None:
        """Ask it to end, and do not wait."""
        self.wanted = False
        self.signal(signal.SIGTERM)

    def left(self) -> None:
        """Have it end in order."""
        self.leave()
        if self._process is not None:
            wait_until(lambda: not self.running(), within_s=_STOP_S, what=self.tail)
            # One that was stopped before it was up ends by the signal.
            assert self._process.returncode in {0, -signal.SIGTERM, 75}, self.tail()

    def close(self) -> None:
        """Kill all that was ever started here, orphans of killed processes included."""
        self.kill()
        for group in self._groups:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)

    def tail(self) -> str:
        """The end of its output."""
        status = None if self._process is None else self._process.poll()
        return f"--- {self.name}, status {status}, ends {dict(self.ends)}\n{self.text()[-3000:]}"
