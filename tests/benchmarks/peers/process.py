"""A peer, or the worker, as a process that says when it is ready."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.peers.arguments import Arguments
from tests.support.supervised import at_work
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[3]
START_S = 120.0
_STOP_S = 30.0
WORKER = "triggerstream worker"
STOCK_FAUST = "stock Faust agent and table (RocksDB, at least once)"
QUIX = "quix-streams 3.28 (RocksDB, changelog, exactly once)"
PLAIN = "aiokafka consume and produce, no state"
_MODULES = {STOCK_FAUST: "stock_faust", QUIX: "quix", PLAIN: "plain"}


class PeerProcess:
    """``name`` is one of the constants above."""

    def __init__(self, name: str, told: Arguments) -> None:
        self.name = name
        self.lines: list[str] = []
        self.ready_at: float | None = None
        told.directory.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            _command(name, told),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def wait_ready(self) -> float:
        """When it was."""

        def ready() -> float | None:
            if self.ready_at is None and self.process.poll() is not None:
                raise AssertionError(self.said())
            return self.ready_at

        return wait_until(ready, within_s=START_S, what=self.said)

    def said(self) -> str:
        """Its name and its last lines, for people."""
        return "\n".join([f"{self.name}, status {self.process.poll()}:", *self.lines[-20:]])

    def cpu_s(self) -> float | None:
        """The CPU seconds that it has used; None where the system does not tell, or it has ended."""
        try:
            fields = Path(f"/proc/{at_work(self.process.pid)}/stat").read_text().rpartition(")")[2].split()
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

    def stop(self) -> None:
        """Have it end in order, and see to it that it does."""
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
def peer(name: str, told: Arguments) -> Iterator[PeerProcess]:
    """The process, gone at the end."""
    process = PeerProcess(name, told)
    try:
        yield process
    finally:
        process.stop()


def _command(name: str, told: Arguments) -> list[str]:
    if name != WORKER:
        return [sys.executable, "-m", f"tests.benchmarks.peers.{_MODULES[name]}", *told.words()]
    options = ("--kafka", told.bootstrap, "--app", told.app, "--dir", str(told.directory))
    return [sys.executable, "-m", "triggerstream", "worker", *options]
