"""Fixtures: one Kafka for a whole test run, and private ones for tests that kill or freeze theirs."""

from __future__ import annotations

import atexit
import fcntl
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.environment import CLUSTER
from tests.support.kafka.server import KafkaServer, answers, missing
from triggerstream.core.ids import AppId

_ANSWER_S = 60.0
"""A busy server takes its time. One that has ended refuses the connection at once."""
_HEAP = "-Xmx1g"
"""An app of five topics with 4 partitions takes 0.5 MB of it, and all tests together make some 600 apps."""


def _skip_where_there_is_none() -> None:
    if (lacking := missing()) is not None:
        pytest.skip(f"waits for {lacking}, or for {CLUSTER}=host:port of a Kafka cluster")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``host:port`` of the Kafka that all tests of this run share. Each test has topics of its own."""
    cluster = os.environ.get(CLUSTER)
    if cluster:
        yield cluster
        return
    _skip_where_there_is_none()
    if "PYTEST_XDIST_WORKER" in os.environ:
        yield shared_by_run(tmp_path_factory.getbasetemp().parent)
        return
    server = KafkaServer(tmp_path_factory.mktemp("kafka"))
    server.start()
    yield server.bootstrap
    server.stop()


def shared_by_run(folder: Path) -> str:
    """``host:port`` of the Kafka of all processes of a run, in a folder that is theirs.

    The first that asks starts it. It ends with this process, which lives until the run ends, also if it has
    no more tests. Idle, a server takes 2 % of a processor; a new one takes four times as long for the same.
    """
    with (folder / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        address = folder / "kafka.address"
        if address.exists() and _answers(found := address.read_text()):
            return found
        server = KafkaServer(folder / f"kafka-{uuid.uuid4().hex[:8]}", java=[_HEAP])
        atexit.register(server.kill)
        server.start()
        address.write_text(server.bootstrap)
        return server.bootstrap


def _answers(bootstrap: str) -> bool:
    host, _, port = bootstrap.rpartition(":")
    return answers(host, int(port), timeout_s=_ANSWER_S)


@pytest.fixture
def needs_kafka() -> None:
    """Skip where no Kafka can be started."""
    _skip_where_there_is_none()


@pytest.fixture
def start_kafka(tmp_path: Path) -> Iterator[Callable[..., KafkaServer]]:
    """Start a Kafka for this test alone; ``start_kafka({"name": "value"})`` adds broker settings."""
    _skip_where_there_is_none()
    started: list[KafkaServer] = []

    def start(settings: dict[str, str] | None = None) -> KafkaServer:
        server = KafkaServer(tmp_path / f"kafka-{len(started)}", settings=settings)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.kill()


@pytest.fixture
def kafka_app() -> AppId:
    """An app whose topics no other test has."""
    return AppId(f"test-{uuid.uuid4().hex[:12]}")
