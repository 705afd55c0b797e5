"""What takes the worker long: recovery of a million sessions, and memory over ten minutes of steady load."""

from __future__ import annotations

import asyncio
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from confluent_kafka import Producer

from tests.benchmarks import kafka_load as load
from tests.benchmarks.kafka import cluster, quiet, say, say_load, told_to
from tests.benchmarks.peers.arguments import PARTS, Arguments
from tests.benchmarks.peers.process import WORKER, PeerProcess, peer
from tests.benchmarks.rows import Row, table
from tests.support.kafka.server import KafkaUnavailableError
from triggerstream.core.ids import AppId
from triggerstream.core.placement import partition_of

SESSIONS = 1_000_000
MINUTES = 10
EVENTS_A_SECOND = 1_000
_FOLD_S = 600.0
_PACE_S = 0.02
_SAMPLE_S = 5.0
_SETTLED_S = 60.0
"""What the memory after it is compared with: caches have filled up to their bounds by then."""


def recovery(bootstrap: str, folder: Path, *, sessions: int) -> list[Row]:
    """Seconds from the take-over of all partitions to their being ready, with the store gone and with it."""
    told = told_to(bootstrap, folder, sessions=sessions)
    app = AppId(told.app)
    asyncio.run(load.prepare(bootstrap, app, partitions=told.partitions, configured=True))
    started = ((load.key(session), load.event(session, 0)) for session in range(sessions))
    asyncio.run(load.append(bootstrap, app, started, partitions=told.partitions))
    last = (
        (load.key(sessions + n), load.event(sessions + n, part))
        for n, part in _after(sessions, told.partitions)
    )
    reader = load.CommandReader(bootstrap, app, partitions=told.partitions)
    with peer(WORKER, told) as worker:
        worker.wait_ready()
        # A session behind the others in every partition: once its command is there, all is folded.
        asyncio.run(load.append(bootstrap, app, last, partitions=told.partitions))
        reader.read_all(told.partitions, idle_s=_FOLD_S)
        folding_mib = worker.memory_mib()
    reader.close()
    with_store = _ready_s(told)
    shutil.rmtree(told.directory)
    without = _ready_s(told)
    said = f"kafka: start to ready, {sessions:,} sessions"
    return [
        Row(name=f"{said}, store kept", value=with_store, unit="s"),
        Row(
            name=f"{said}, store gone", value=without, unit="s", peer="store kept", ratio=without / with_store
        ),
        Row(name=f"{said}, store gone", value=sessions / without / 1000, unit="thousand sessions/s"),
        Row(name="kafka: resident after folding them", value=folding_mib, unit="MiB"),
    ]


def _after(sessions: int, partitions: int) -> Iterator[tuple[int, int]]:
    """The parts of one more session for each partition; ``n`` is chosen so that it is placed there."""
    found: dict[int, int] = {}
    n = 0
    while len(found) < partitions:
        found.setdefault(partition_of(load.key(sessions + n), partitions), n)
        n += 1
    for chosen in found.values():
        for part in range(len(PARTS)):
            yield chosen, part


def _ready_s(told: Arguments) -> float:
    began = time.monotonic()
    with peer(WORKER, told) as worker:
        took = worker.wait_ready() - began
    say(f"ready after {took:.1f} s")
    return took


def memory(bootstrap: str, folder: Path, *, minutes: float) -> list[Row]:
    """Resident memory while events arrive at a steady pace."""
    seconds = minutes * 60
    told = told_to(bootstrap, folder, sessions=int(seconds * EVENTS_A_SECOND) // len(PARTS))
    app = AppId(told.app)
    asyncio.run(load.prepare(bootstrap, app, partitions=told.partitions, configured=True))
    reader = load.CommandReader(bootstrap, app, partitions=told.partitions)
    with peer(WORKER, told) as worker:
        began = worker.wait_ready()
        sending = threading.Thread(target=_send, args=(told,), daemon=True)
        sending.start()
        samples = _samples(worker, reader, sending, began)
        seen = reader.read_all(told.sessions, idle_s=30.0)
    reader.close()
    wrong = seen.verdict(told.sessions)
    said = f"kafka: resident at {EVENTS_A_SECOND:,} events/s" + (f" [{wrong}]" if wrong else "")
    settled = next(mib for at, mib in samples if at >= min(_SETTLED_S, seconds / 2))
    return [
        Row(name=f"{said}, at the start", value=samples[0][1], unit="MiB"),
        Row(name=f"{said}, after {min(_SETTLED_S, seconds / 2):g} s", value=settled, unit="MiB"),
        *(
            Row(name=f"{said}, {what}", value=mib, unit="MiB", peer="after the first", ratio=mib / settled)
            for what, mib in (
                (f"after {seconds:g} s", samples[-1][1]),
                ("at most", max(mib for _, mib in samples)),
            )
        ),
    ]


def _samples(
    worker: PeerProcess, reader: load.CommandReader, sending: threading.Thread, began: float
) -> list[tuple[float, float]]:
    samples = [(0.0, worker.memory_mib())]
    while sending.is_alive():
        reader.read()
        at = time.monotonic() - began
        if at - samples[-1][0] >= _SAMPLE_S:
            samples.append((at, worker.memory_mib()))
            say(f"{at:.0f} s, {samples[-1][1]:.0f} MiB, {reader.seen.count:,} commands")
    return samples


def _send(told: Arguments) -> None:
    """Keep the pace: what is due is sent every 20 ms."""
    producer = Producer({"bootstrap.servers": told.bootstrap, "linger.ms": 5})
    due = load.events(told.sessions)
    began, sent, total = time.monotonic(), 0, told.sessions * len(PARTS)
    while sent < total:
        until = min(int((time.monotonic() - began) * EVENTS_A_SECOND), total)
        for _ in range(until - sent):
            key, value = next(due)
            place = partition_of(key, told.partitions)
            producer.produce(told.events, key=key, value=value, partition=place)
        sent = until
        producer.poll(0)
        time.sleep(_PACE_S)
    producer.flush()


def run(sessions: int = SESSIONS, *, minutes: float = MINUTES) -> list[Row]:
    """Recovery, then memory."""
    quiet()
    say_load()
    with TemporaryDirectory() as name:
        folder = Path(name)
        try:
            with cluster(folder) as bootstrap:
                return recovery(bootstrap, folder, sessions=sessions) + memory(
                    bootstrap, folder, minutes=minutes
                )
        except KafkaUnavailableError as exc:
            print(f"SKIPPED, nothing of Kafka is measured: {exc}", file=sys.stderr, flush=True)
            return []


if __name__ == "__main__":
    sessions, minutes = sys.argv[1:] or (str(SESSIONS), str(MINUTES))
    print(table(run(int(sessions), minutes=float(minutes))))
