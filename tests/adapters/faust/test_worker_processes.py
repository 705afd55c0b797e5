"""Worker processes of tests are ended by their own ids, and no others."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.faust.workers import WorkerProcess
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.core.ids import AppId


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process of somebody else, with a process group of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True
    ) as process:
        yield process
        process.kill()


async def test_the_process_that_has_the_id_of_an_ended_worker_is_left_alone(
    tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    connection = Connection(bootstrap="127.0.0.1:1")
    worker = WorkerProcess(connection, AppId("test"), tmp_path / "w", program=("-c", "pass"))
    assert await worker.ended() == 0
    worker._process.pid = stranger.pid  # noqa: SLF001 - after some 30,000 processes, ids come again
    worker.signal(signal.SIGTERM)
    worker.signal(signal.SIGSTOP)
    worker.kill_at_work()
    worker.kill()
    with pytest.raises(subprocess.TimeoutExpired):
        stranger.wait(0.2)
