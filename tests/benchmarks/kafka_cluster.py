"""The Kafka server of a measurement, and the progress lines of a measurement."""

from __future__ import annotations

import logging
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks.rows import Row
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


def measured(measure: Callable[[str, Path], Sequence[Row]]) -> list[Row]:
    """The rows of ``measure``, which is called with a cluster's address and an empty folder.

    No rows, and a line that says why, where there is no Kafka.
    """
    quiet()
    say_load()
    try:
        with TemporaryDirectory() as name, cluster(Path(name)) as bootstrap:
            return [*measure(bootstrap, Path(name))]
    except KafkaUnavailableError as exc:
        say_skipped(exc)
        return []


def say_skipped(exc: KafkaUnavailableError) -> None:
    """Print that nothing is measured, and why."""
    say(f"SKIPPED, nothing of Kafka is measured: {exc}")


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
