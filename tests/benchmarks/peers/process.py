"""A process of the worker or of a peer, with its CPU time and memory."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.supervised import at_work
from tests.support.waiting import wait_until

START_S = 120.0
_STOP_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Command line of a process. ``variables`` are added to the environment."""

    name: str
    words: Sequence[str]
    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)


class PeerProcess:
    """A started program. Its last lines on standard error are kept for a report of what went wrong."""

    def __init__(self, program: Program) -> None:
        self.name = program.name
        self.lines: list[str] = []
        self.ready_at: float | None = None
        self._working: int | None = None
        self.process = subprocess.Popen(
            program.words,
            cwd=program.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "ignore", **program.variables},
        )
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def wait_ready(self) -> float:
        """Monotonic time at which a worker printed that it is ready. Peers print nothing of that kind."""

        def ready() -> float | None:
            if self.ready_at is None and self.process.poll() is not None:
                raise AssertionError(self.said())
            return self.ready_at

        return wait_until(ready, within_s=START_S, what=self.said)

    def said(self) -> str:
        """Its name and its last lines, for people."""
        return "\n".join([f"{self.name}, status {self.process.poll()}:", *self.lines[-20:]])

    def has_failed(self) -> bool:
        """Whether it has ended with an error. A peer that has done all its work ends by itself, without one.

        It is not reaped: its CPU time can still be read.
        """
        ended = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return ended is not None and (ended.si_code != os.CLD_EXITED or ended.si_status != 0)

    def find_working(self) -> int:
        """The process that does the work: a supervisor's child, else the one that was started."""
        self._working = at_work(self.process.pid)
        return self._working

    def cpu_s(self) -> float | None:
        """The CPU seconds that it has used; None where the system does not tell, or it is gone."""
        pid = self._working or self.find_working()
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mib(self) -> float:
        """Its resident memory."""
        shown = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(at_work(self.process.pid))],
            capture_output=True,
            text=True,
            check=True,
        )
        return int(shown.stdout) / 1024

    def signal_working(self, number: signal.Signals) -> None:
        """Send a signal to the process that does the work."""
        os.kill(self._working or self.find_working(), number)

    def kill(self) -> None:
        """Kill the process that works, then its supervisor, which has no time to end it in order."""
        self.signal_working(signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it by SIGTERM, and kill it if it does not end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reading.join()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                if self.ready_at is None and "ready:" in line:
                    self.ready_at = time.monotonic()
                self.lines.append(line.rstrip())
                del self.lines[:-1_000]


@contextmanager
def running(program: Program) -> Iterator[PeerProcess]:
    """The started process, which is stopped at the end."""
    process = PeerProcess(program)
    try:
        yield process
    finally:
        process.stop()
