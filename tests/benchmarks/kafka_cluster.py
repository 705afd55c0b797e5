"""The Kafka server of a measurement, and the progress lines of a measurement."""

from __future__ import annotations

import logging
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.environment import CLUSTER
from tests.support.kafka.server import KafkaServer, KafkaUnavailableError, missing


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """``host:port`` of the cluster that the environment names, else of a server that is gone at the end.

    Raises:
        KafkaUnavailableError: the environment names no cluster, and no server can be started.
    """
    if named := os.environ.get(CLUSTER):
        yield named
        return
    if (lacking := missing()) is not None:
        raise KafkaUnavailableError(f"lacking {lacking}, or {CLUSTER}=host:port of a Kafka cluster")
    server = KafkaServer(folder / "kafka", optimised=True)
    server.start()
    try:
        yield server.bootstrap
    finally:
        server.stop()


def say(line: str) -> None:
    """Print a line of progress to standard error."""
    print(f"kafka: {line}", file=sys.stderr, flush=True)


def say_load() -> None:
    """Print the load average: figures of a busy machine cannot be compared with those of a quiet one."""
    said = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    say(f"load average before the first run: {said}")


def quiet() -> None:
    """Silence aiokafka's log: a broker that has just made a topic refuses requests, which are repeated."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def new_app() -> str:
    """The name of an app whose topics no other run has."""
    return f"bench-{uuid.uuid4().hex[:8]}"
