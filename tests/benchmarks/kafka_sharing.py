"""Comparison of transactions a second, sockets and latency with the worker of an earlier commit.

``python -m tests.benchmarks.kafka_sharing [COMMIT]``: 100 events/s in 12 partitions.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from tests.benchmarks import baseline, kafka_latency
from tests.benchmarks.kafka_cluster import measured, say
from tests.benchmarks.kafka_latency import EVENTS_A_SECOND, LATENCY_S, latencies
from tests.benchmarks.peers.arguments import PARTS
from tests.benchmarks.peers.contenders import WORKER, Contender
from tests.benchmarks.peers.process import PeerProcess, Program, running
from tests.benchmarks.rows import Row, table
from tests.support.supervised import at_work

_STATES = "__transaction_state"
_COMPLETE_COMMIT = 4
_STATE_AT = 16
"""Offset of a transaction's state in a value of the topic, after version, producer id, epoch and time-out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Figures of one run."""

    p50_ms: float
    p99_ms: float
    transactions_s: float
    sockets: int


def committed_transactions(bootstrap: str) -> int:
    """The number of transactions that the brokers have committed in all."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "bench-transactions", "enable.auto.commit": False}
    )
    try:
        if _STATES not in consumer.list_topics(timeout=30).topics:
            return 0  # no transaction has begun yet
        known = consumer.list_topics(_STATES, timeout=30).topics[_STATES].partitions
        ends = {n: consumer.get_watermark_offsets(TopicPartition(_STATES, n), timeout=30)[1] for n in known}
        left = {n: end for n, end in ends.items() if end}
        consumer.assign([TopicPartition(_STATES, n, OFFSET_BEGINNING) for n in left])
        count = 0
        while left:
            for message in consumer.consume(num_messages=10_000, timeout=5.0):
                value = message.value()
                count += value is not None and value[_STATE_AT] == _COMPLETE_COMMIT
            for at in consumer.position([TopicPartition(_STATES, n) for n in left]):
                if at.offset >= left[at.partition]:
                    del left[at.partition]
        return count
    finally:
        consumer.close()


def sockets_of(process: PeerProcess) -> int:
    """The established connections of the process at work."""
    pid = at_work(process.process.pid)
    links = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.append(str(descriptor.readlink()))
        except OSError:
            continue  # it was closed meanwhile
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    lines = [
        line.split()
        for family in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{family}").read_text().splitlines()[1:]
    ]
    return sum(fields[3] == "01" and fields[9] in inodes for fields in lines)


def measure(contender: Contender, bootstrap: str, folder: Path, *, seconds: int) -> Found:
    """One run of a worker."""
    sockets: list[int] = []

    @contextmanager
    def counted(program: Program) -> Iterator[PeerProcess]:
        with running(program) as process:
            yield process
            sockets.append(sockets_of(process))

    before = committed_transactions(bootstrap)
    with patch.object(kafka_latency, "running", counted):
        waits = latencies(contender, bootstrap, folder, sessions=seconds * EVENTS_A_SECOND // len(PARTS))
    found = Found(
        p50_ms=waits[49],
        p99_ms=waits[98],
        transactions_s=(committed_transactions(bootstrap) - before) / seconds,
        sockets=sockets[0],
    )
    say(f"{contender.name}: {found}")
    return found


def run(commit: str = "", *, seconds: int = LATENCY_S) -> list[Row]:
    """Rows of the worker, with that of ``commit`` as the peer; empty: the commit of the comparisons."""
    return measured(partial(_rows, commit=commit, seconds=seconds))


def _rows(bootstrap: str, folder: Path, *, commit: str, seconds: int) -> list[Row]:
    build = baseline.build(commit or baseline.base(), folder)
    before = measure(replace(WORKER, build=build), bootstrap, folder, seconds=seconds)
    now = measure(WORKER, bootstrap, folder, seconds=seconds)
    rows = []
    for field, said, unit in (
        ("p50_ms", "event to committed command, p50", "ms"),
        ("p99_ms", "event to committed command, p99", "ms"),
        ("transactions_s", "transactions", "1/s"),
        ("sockets", "connections", "sockets"),
    ):
        ours, theirs = getattr(now, field), getattr(before, field)
        rows.append(
            Row(
                name=f"kafka: {said}, at {EVENTS_A_SECOND} events/s",
                value=ours,
                unit=unit,
                peer=f"commit {build.commit[:12]}: {theirs:.1f}",
                ratio=ours / theirs if theirs else None,
            )
        )
    return rows


if __name__ == "__main__":
    print(table(run(*sys.argv[1:2])))
