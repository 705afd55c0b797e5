"""The worker on a real Kafka beside its peers: a full log, and 100 events a second.

Same rule for all: four events a session, one command for each. Every run has topics of its own with the same
events in them, and is timed from what the process says as it begins to consume, start-up excluded, to the
last command that a reader of committed records sees. A peer that loses or doubles commands is shown as one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

from confluent_kafka import Producer

from tests.benchmarks import kafka_load as load
from tests.benchmarks.peers.arguments import PARTS, Arguments
from tests.benchmarks.peers.process import PLAIN, QUIX, STOCK_FAUST, WORKER, PeerProcess, peer
from tests.benchmarks.rows import Row, table
from tests.support.environment import CLUSTER
from tests.support.kafka.server import KafkaServer, KafkaUnavailableError, missing
from triggerstream.adapters.kafka.topics import DEFAULT_PARTITIONS
from triggerstream.core.ids import AppId
from triggerstream.core.placement import partition_of

SESSIONS = 15_000
ROUNDS = 3
"""Of all but the stock agent, which goes through the log once: that takes longer than all others together."""
PARTITIONS = DEFAULT_PARTITIONS
IDLE_S = 30.0
"""After so long without a command, the rest are lost."""
LATENCY_S = 30
EVENTS_A_SECOND = 100
_WARM_UP = 50
"""Sessions whose latency does not count: connections are made, the broker has not compiled its code yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How one went through a full log. ``cpu_s`` is that of its process, None where it is not known."""

    seconds: float
    cpu_s: float | None
    wrong: str


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """``host:port`` of the cluster that the environment names, else of a server that is gone at the end.

    Raises:
        KafkaUnavailableError: there is none to be had.
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
    """One line for whoever waits."""
    print(f"kafka: {line}", file=sys.stderr, flush=True)


def say_load() -> None:
    """What else the machine has to do: figures of two machines, or of a busy one, are not to be compared."""
    said = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    say(f"load average before the first run: {said}")


def quiet() -> None:
    """Leave it to the errors themselves to be reported: a broker that has just made a topic refuses some."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def told_to(bootstrap: str, folder: Path, *, sessions: int, partitions: int = PARTITIONS) -> Arguments:
    """Arguments of a process that shares nothing with any other."""
    app = f"bench-{uuid.uuid4().hex[:8]}"
    return Arguments(
        bootstrap=bootstrap, app=app, partitions=partitions, directory=folder / app, sessions=sessions
    )


def full_log(name: str, told: Arguments) -> Run:
    """Have ``name`` go through a log that is there before it."""
    app = AppId(told.app)
    asyncio.run(_preload(name, told))
    reader = load.CommandReader(told.bootstrap, app, partitions=told.partitions)
    with peer(name, told) as process:
        began = process.wait_ready()
        cpu_began = process.cpu_s()
        watch = _Cpu(process)
        seen = reader.read_all(told.sessions, idle_s=IDLE_S)
        cpu_s = watch.stop()
        if seen.verdict(told.sessions):
            say(process.said())
    reader.close()
    found = Run(
        seconds=seen.last_at - began,
        cpu_s=None if cpu_s is None or cpu_began is None else cpu_s - cpu_began,
        wrong=seen.verdict(told.sessions),
    )
    say(f"{name}: {found}")
    return found


class _Cpu:
    """Looks at the CPU time of a process that may end by itself. An idle second adds nothing to it."""

    def __init__(self, process: PeerProcess) -> None:
        self._process = process
        self._last = process.cpu_s()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> float | None:
        """The last that was seen."""
        self._stopping.set()
        self._thread.join()
        return self._last

    def _run(self) -> None:
        while not self._stopping.wait(0.05):
            self._last = max(filter(None, (self._last, self._process.cpu_s())), default=None)


async def _preload(name: str, told: Arguments) -> None:
    app = AppId(told.app)
    await load.prepare(told.bootstrap, app, partitions=told.partitions, configured=name == WORKER)
    await load.append(told.bootstrap, app, load.events(told.sessions), partitions=told.partitions)


def latency(name: str, told: Arguments) -> list[float]:
    """Percentiles 1 to 99, in ms, from before the last event of a session is sent to its command."""
    app = AppId(told.app)
    asyncio.run(load.prepare(told.bootstrap, app, partitions=told.partitions, configured=name == WORKER))
    # Something to be ready with: a peer says so with its first record.
    first = [(load.key(told.sessions), load.event(told.sessions, 0))]
    asyncio.run(load.append(told.bootstrap, app, first, partitions=told.partitions))
    reader = load.CommandReader(told.bootstrap, app, partitions=told.partitions)
    sent: dict[bytes, float] = {}
    with peer(name, told) as process:
        process.wait_ready()
        sending = threading.Thread(target=_send, args=(told, sent), daemon=True)
        sending.start()
        heard = time.monotonic()
        while len(reader.seen.at) < told.sessions and time.monotonic() - heard < IDLE_S:
            before = reader.seen.count
            reader.read_next()
            if reader.seen.count > before:
                heard = time.monotonic()
        sending.join()
    reader.close()
    if wrong := reader.seen.verdict(told.sessions):
        raise AssertionError(f"{name}: {wrong}")
    counted = [load.key(session) for session in range(_WARM_UP, told.sessions)]
    return quantiles([(reader.seen.at[name] - sent[name]) * 1000 for name in counted], n=100)


def _send(told: Arguments, sent: dict[bytes, float]) -> None:
    producer = Producer({"bootstrap.servers": told.bootstrap, "linger.ms": 0})
    due = time.monotonic()
    for session in range(told.sessions):
        key = load.key(session)
        for part in range(len(PARTS)):
            due += 1 / EVENTS_A_SECOND
            time.sleep(max(due - time.monotonic(), 0))
            sent[key] = time.monotonic()
            place = partition_of(key, told.partitions)
            producer.produce(told.events, key=key, value=load.event(session, part), partition=place)
            producer.poll(0)
    producer.flush()


def run(sessions: int = SESSIONS, *, rounds: int = ROUNDS, partitions: int = PARTITIONS) -> list[Row]:
    """Events/s of each, and the latency at 100 events/s of the worker and of the limit."""
    quiet()
    say_load()
    with TemporaryDirectory() as name:
        folder = Path(name)
        try:
            with cluster(folder) as bootstrap:
                runs = _rounds(bootstrap, folder, sessions=sessions, rounds=rounds, partitions=partitions)
                paced = LATENCY_S * EVENTS_A_SECOND // len(PARTS)
                waits = {
                    one: latency(one, told_to(bootstrap, folder, sessions=paced, partitions=partitions))
                    for one in (PLAIN, WORKER)
                }
        except KafkaUnavailableError as exc:
            print(f"SKIPPED, nothing of Kafka is measured: {exc}", file=sys.stderr, flush=True)
            return []
    return [*_full_log_rows(runs, sessions * len(PARTS)), *_latency_rows(waits)]


def _rounds(
    bootstrap: str, folder: Path, *, sessions: int, rounds: int, partitions: int
) -> dict[str, list[Run]]:
    """Each in turn, so that the machine is the same for all. The very first run warms the broker up."""
    full_log(PLAIN, told_to(bootstrap, folder, sessions=sessions, partitions=partitions))
    runs: dict[str, list[Run]] = {}
    for number in range(rounds):
        for name in (PLAIN, STOCK_FAUST, QUIX, WORKER) if number == 0 else (PLAIN, QUIX, WORKER):
            told = told_to(bootstrap, folder, sessions=sessions, partitions=partitions)
            runs.setdefault(name, []).append(full_log(name, told))
    return runs


def _full_log_rows(runs: dict[str, list[Run]], events: int) -> list[Row]:
    rate = {name: events / median(one.seconds for one in found) for name, found in runs.items()}
    rows = []
    for name, found in runs.items():
        wrong = "; ".join(sorted({one.wrong for one in found if one.wrong}))
        said = f"kafka: full log, {name}" + (f" [{wrong}]" if wrong else "")
        rows.append(Row(name=said, value=rate[name], unit="events/s"))
        spent = [one.cpu_s for one in found if one.cpu_s]
        if spent:
            rows.append(Row(name=f"{said}, CPU time", value=events / median(spent), unit="events/CPU s"))
    rows += [
        Row(
            name=f"kafka: full log, {WORKER}",
            value=rate[WORKER],
            unit="events/s",
            peer=name,
            ratio=rate[WORKER] / rate[name],
        )
        for name in runs
        if name != WORKER
    ]
    return rows


def _latency_rows(waits: dict[str, list[float]]) -> list[Row]:
    return [
        Row(
            name=f"kafka: event to committed command at {EVENTS_A_SECOND} events/s, p{percent}",
            value=waits[WORKER][percent - 1],
            unit="ms",
            peer=PLAIN,
            ratio=waits[WORKER][percent - 1] / waits[PLAIN][percent - 1],
        )
        for percent in (50, 99)
    ]


if __name__ == "__main__":
    print(table(run(*map(int, sys.argv[1:2]))))
