"""The memory of a worker while events arrive at a steady pace: flat over an hour at 2,000 events a second."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from confluent_kafka import Producer

from tests.benchmarks import kafka_load
from tests.benchmarks.command_reader import CommandReader
from tests.benchmarks.kafka_cluster import measured, new_app, say
from tests.benchmarks.loads import SESSIONS_AT_ONCE, in_bursts
from tests.benchmarks.peers.arguments import PARTS, Arguments
from tests.benchmarks.peers.contenders import WORKER
from tests.benchmarks.peers.process import PeerProcess, running
from tests.benchmarks.rows import Row
from triggerstream.adapters.kafka.topics import DEFAULT_PARTITIONS
from triggerstream.core.ids import AppId
from triggerstream.core.placement import partition_of

MINUTES = 60.0
EVENTS_A_SECOND = 2_000
_PACE_S = 0.02
_SAMPLE_S = 5.0
_IDLE_S = 60.0
_SETTLED = 1 / 4
"""The part of the time after which caches have filled up to their bounds; later memory is held against it."""

Sample = tuple[float, float]
"""Seconds since the start, MiB."""


def run(minutes: float = MINUTES) -> list[Row]:
    """Resident memory at the start, after a quarter of the time, at the end and at most, and its growth."""
    return measured(partial(memory, minutes=minutes))


def memory(bootstrap: str, folder: Path, *, minutes: float) -> list[Row]:
    """The rows of :func:`run`, on a running server."""
    seconds = minutes * 60
    sessions = max(int(seconds * EVENTS_A_SECOND) // len(PARTS), SESSIONS_AT_ONCE)
    told = Arguments(
        bootstrap=bootstrap,
        app=new_app(),
        partitions=DEFAULT_PARTITIONS,
        directory=folder / "memory",
        commands_due=sessions,
    )
    app = AppId(told.app)
    asyncio.run(kafka_load.prepare(bootstrap, app, partitions=told.partitions, configured=True))
    reader = CommandReader(bootstrap, app, partitions=told.partitions)
    with ExitStack() as stack:
        stack.callback(reader.close)
        (program,) = WORKER.programs(told)
        worker = stack.enter_context(running(program))
        began = worker.wait_ready()
        sending = threading.Thread(target=_send, args=(told, sessions), daemon=True)
        sending.start()
        samples = _samples(worker, reader, sending, began)
        spent = worker.cpu_s()
        seen = reader.read_all(sessions, idle_s=_IDLE_S)
    wrong = seen.verdict(sessions)
    said = f"kafka: resident at {EVENTS_A_SECOND:,} events/s" + (f" [{wrong}]" if wrong else "")
    return memory_rows(said, samples, cpu_s=spent)


def memory_rows(said: str, samples: Sequence[Sample], *, cpu_s: float | None) -> list[Row]:
    """The figures of samples in the order of time."""
    last_at, last = samples[-1]
    at, settled = next(one for one in samples if one[0] >= last_at * _SETTLED)
    most = max(mib for _, mib in samples)
    growth = (last - settled) / max((last_at - at) / 3_600, 1e-9)
    peer = f"after {at:.0f} s"
    return [
        Row(name=f"{said}, at the start", value=samples[0][1], unit="MiB"),
        Row(name=f"{said}, {peer}", value=settled, unit="MiB"),
        Row(
            name=f"{said}, after {last_at:.0f} s",
            value=last,
            unit="MiB",
            peer=peer,
            ratio=last / settled,
            cpu_s=cpu_s,
            wall_s=last_at,
        ),
        Row(name=f"{said}, at most", value=most, unit="MiB", peer=peer, ratio=most / settled),
        Row(name=f"{said}, growth from {peer} on", value=growth, unit="MiB an hour"),
    ]


def _samples(
    worker: PeerProcess, reader: CommandReader, sending: threading.Thread, began: float
) -> list[Sample]:
    samples = [(0.0, worker.memory_mib())]
    while sending.is_alive():
        reader.read()
        at = time.monotonic() - began
        if at - samples[-1][0] >= _SAMPLE_S:
            samples.append((at, worker.memory_mib()))
            say(f"{at:.0f} s, {samples[-1][1]:.0f} MiB, {reader.seen.count:,} commands")
    samples.append((time.monotonic() - began, worker.memory_mib()))
    return samples


def _send(told: Arguments, sessions: int) -> None:
    """Keep the pace: what is due is sent every 20 ms."""
    producer = Producer({"bootstrap.servers": told.bootstrap, "linger.ms": 5})
    due = in_bursts(range(sessions))
    began, sent, total = time.monotonic(), 0, sessions * len(PARTS)
    while sent < total:
        until = min(int((time.monotonic() - began) * EVENTS_A_SECOND), total)
        for _ in range(until - sent):
            name, value = next(due)
            place = partition_of(name, told.partitions)
            producer.produce(told.events, key=name, value=value, partition=place)
        sent = until
        producer.poll(0)
        time.sleep(_PACE_S)
    producer.flush()
