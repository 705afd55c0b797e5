"""Comparison of transactions a second, sockets and latency with the worker of an earlier commit.

``python -m tests.benchmarks.kafka_sharing [COMMIT]``: 100 events/s in 12 partitions.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from tests.benchmarks import baseline
from tests.benchmarks.kafka_cluster import measured, say
from tests.benchmarks.kafka_latency import EVENTS_A_SECOND, LATENCY_S, WARM_UP_S, latencies
from tests.benchmarks.peers.contenders import WORKER, Contender
from tests.benchmarks.peers.process import PeerProcess
from tests.benchmarks.rows import Row, table
from tests.support.sockets import sockets_of
from tests.support.supervised import at_work

ROUNDS = 3
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


def measure(contender: Contender, bootstrap: str, folder: Path, *, seconds: int) -> Found:
    """One run of a worker."""
    sockets: list[int] = []
    transactions: list[int] = []

    @contextmanager
    def counted(processes: Sequence[PeerProcess]) -> Iterator[None]:
        transactions.append(committed_transactions(bootstrap))
        yield
        sockets.extend(sockets_of(at_work(one.process.pid)) for one in processes)
        transactions.append(committed_transactions(bootstrap))

    waits = latencies(contender, bootstrap, folder, seconds=seconds, watch=counted)
    shutil.rmtree(folder, ignore_errors=True)
    found = Found(
        p50_ms=waits[49],
        p99_ms=waits[98],
        transactions_s=(transactions[1] - transactions[0]) / (WARM_UP_S + seconds),
        sockets=sockets[0],
    )
    say(f"{contender.name}: {found}")
    return found


def run(commit: str = "", *, seconds: int = LATENCY_S, rounds: int = ROUNDS) -> list[Row]:
    """Rows of the worker, with that of ``commit`` as the peer; empty: the commit of the comparisons."""
    return measured(partial(_rows, commit=commit, seconds=seconds, rounds=rounds))


def _rows(bootstrap: str, folder: Path, *, commit: str, seconds: int, rounds: int) -> list[Row]:
    """Medians of ``rounds`` runs of each in turn. The order changes, so that none is always the first."""
    build = baseline.build(commit or baseline.base(), folder)
    earlier = replace(WORKER, build=build)
    found: dict[str, list[Found]] = {WORKER.name: [], earlier.name: []}
    for number in range(rounds):
        for contender in (earlier, WORKER) if number % 2 == 0 else (WORKER, earlier):
            one = measure(contender, bootstrap, folder / f"run-{number}", seconds=seconds)
            found[contender.name].append(one)
    rows = []
    for field, said, unit in (
        ("p50_ms", "event to committed command, p50", "ms"),
        ("p99_ms", "event to committed command, p99", "ms"),
        ("transactions_s", "transactions", "1/s"),
        ("sockets", "connections", "sockets"),
    ):
        ours, theirs = (median(getattr(one, field) for one in found[of.name]) for of in (WORKER, earlier))
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
