"""The Kafka of the tests does what the tests that use it rely on."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.kafka.server import ROOT, KafkaServer, answers

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

_STARTER = """
import sys
from pathlib import Path
from tests.support.kafka.server import KafkaServer
server = KafkaServer(Path(sys.argv[1]))
server.start()
print(server.port, flush=True)
sys.stdin.read()
"""
_PROCESS_OF_A_RUN = """
import sys
from pathlib import Path
from tests.support.kafka.fixtures import shared_by_run
print(shared_by_run(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


def test_a_killed_server_starts_again_on_its_port(start_kafka: Callable[..., KafkaServer]) -> None:
    server = start_kafka()
    server.kill()
    assert not answers("127.0.0.1", server.port)
    server.start()
    assert answers("127.0.0.1", server.port)


def test_a_frozen_server_does_not_answer_until_it_goes_on(start_kafka: Callable[..., KafkaServer]) -> None:
    server = start_kafka()
    server.pause()
    assert not answers("127.0.0.1", server.port, timeout_s=0.3)
    server.resume()
    assert answers("127.0.0.1", server.port, timeout_s=5)


@pytest.mark.skipif(sys.platform != "linux", reason="waits for a way to do this elsewhere than on Linux")
def test_a_server_ends_with_its_starter_however_that_one_ends(
    tmp_path: Path, start_kafka: Callable[..., KafkaServer]
) -> None:
    del start_kafka  # asked for because it skips where there is no Kafka
    starter = subprocess.Popen(
        [sys.executable, "-c", _STARTER, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with starter:
        assert starter.stdout is not None
        port = int(starter.stdout.readline())
        assert answers("127.0.0.1", port)
        starter.kill()
    deadline = time.monotonic() + 10
    while answers("127.0.0.1", port):
        assert time.monotonic() < deadline, "the server outlived its starter"


@pytest.mark.usefixtures("needs_kafka")
def test_the_processes_of_a_run_share_one_server_which_ends_with_them(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _PROCESS_OF_A_RUN, str(tmp_path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    addresses = set()
    for process in processes:
        assert process.stdout is not None
        addresses.add(process.stdout.readline().strip())
    (address,) = addresses
    host, _, port = address.rpartition(":")
    assert answers(host, int(port), timeout_s=5)
    for process in processes:
        process.communicate()  # ends its standard input, and so the process
    assert not answers(host, int(port))
