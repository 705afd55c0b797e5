"""Celery workers as real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.waiting import wait_until

_ROOT = Path(__file__).resolve().parents[2]


class CeleryWorker:
    """A `celery worker` in a process group of its own."""

    def __init__(self, module: str, *arguments: str, env: Mapping[str, str], output: Path) -> None:
        self.output = output
        with output.open("ab") as stream:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "celery", "-A", module, "worker", "-l", "INFO"),
                    *("--without-gossip", "--without-mingle", "--without-heartbeat"),
                    *arguments,
                ],
                cwd=_ROOT,
                env={**os.environ, **env},
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def text(self) -> str:
        """The output so far."""
        return self.output.read_text(errors="replace")

    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait_ready(self, *, within_s: float = 30.0) -> None:
        """Wait until it consumes."""

        def ready() -> bool:
            status = self._process.poll()
            assert status is None, f"ended with {status}: {self.text()}"
            return " ready." in self.text()

        wait_until(ready, within_s=within_s, what=self.text)

    def wait_end(self, *, within_s: float = 60.0) -> int:
        """Its exit status."""
        return self._process.wait(within_s)

    def terminate(self) -> None:
        """Ask it to end in good order."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """``kill -9`` for it and its children."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Ask it to end, and see to it that it does."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
        self.kill()


@contextmanager
def celery_worker(
    module: str, *arguments: str, env: Mapping[str, str], output: Path
) -> Iterator[CeleryWorker]:
    """A worker of the app in ``module`` that consumes, gone at the end."""
    worker = CeleryWorker(module, *arguments, env=env, output=output)
    try:
        worker.wait_ready()
        yield worker
    finally:
        worker.stop()
