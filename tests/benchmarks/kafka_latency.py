"""From an event to its committed command at 100 and 1,000 events a second: the worker, and the limit."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from random import Random
from statistics import quantiles

from confluent_kafka import Producer

from tests.benchmarks import kafka_load
from tests.benchmarks.command_reader import CommandReader
from tests.benchmarks.kafka_cluster import measured, new_app, say
from tests.benchmarks.loads import event, key
from tests.benchmarks.peers.arguments import PARTS, Arguments
from tests.benchmarks.peers.contenders import PLAIN, WORKER, Contender, Kind
from tests.benchmarks.peers.process import PeerProcess, running
from tests.benchmarks.rows import Row
from triggerstream.adapters.kafka.topics import DEFAULT_PARTITIONS
from triggerstream.core.ids import AppId
from triggerstream.core.placement import partition_of

IDLE_S = 60.0
LATENCY_S = 30
WARM_UP_S = 10
"""Load before the measurement, in which connections are made and caches filled."""
EVENTS_A_SECOND = 100
MANY_EVENTS_A_SECOND = 1_000
_SLOWEST = 3

Watch = Callable[[Sequence[PeerProcess]], AbstractContextManager[None]]
"""Entered with the processes before the first event of the load is sent, left after its last command."""


def run(seconds: int = LATENCY_S) -> list[Row]:
    """p50 and p99 of the worker, against the limit's; none where there is no Kafka."""
    return measured(partial(_rows, seconds=seconds))


def _rows(bootstrap: str, folder: Path, *, seconds: int) -> list[Row]:
    rows = []
    for rate in (EVENTS_A_SECOND, MANY_EVENTS_A_SECOND):
        waits = {
            one.name: latencies(one, bootstrap, folder / str(rate), seconds=seconds, rate=rate)
            for one in (PLAIN, WORKER)
        }
        rows += [
            Row(
                name=f"kafka: event to committed command at {rate:,} events/s, p{percent}",
                value=waits[WORKER.name][percent - 1],
                unit="ms",
                peer=PLAIN.name,
                ratio=waits[WORKER.name][percent - 1] / waits[PLAIN.name][percent - 1],
            )
            for percent in (50, 99)
        ]
    return rows


def latencies(
    contender: Contender,
    bootstrap: str,
    folder: Path,
    *,
    seconds: int,
    rate: int = EVENTS_A_SECOND,
    warm_up_s: int = WARM_UP_S,
    watch: Watch | None = None,
) -> list[float]:
    """Percentiles 1 to 99, in ms, from before the last event of a session is sent to its command.

    ``rate`` events are sent in each of ``seconds``, and in each second of the warm-up before them.

    Raises:
        AssertionError: a command is missing, or came twice.
    """
    warm_up, sessions = (rate * time_s // len(PARTS) for time_s in (warm_up_s, warm_up_s + seconds))
    told = Arguments(
        bootstrap=bootstrap,
        app=new_app(),
        partitions=DEFAULT_PARTITIONS,
        directory=folder / "latency" / contender.kind.name,
        commands_due=sessions + 1,
    )
    app = AppId(told.app)
    configured = contender.kind is Kind.WORKER
    asyncio.run(kafka_load.prepare(bootstrap, app, partitions=told.partitions, configured=configured))
    # A session whose command says that the process is at work.
    first = [(key(sessions), event(sessions, part)) for part in range(len(PARTS))]
    asyncio.run(kafka_load.append(bootstrap, app, first, partitions=told.partitions))
    reader = CommandReader(bootstrap, app, partitions=told.partitions)
    sent: dict[bytes, float] = {}
    with ExitStack() as stack:
        stack.callback(reader.close)
        processes = [stack.enter_context(running(program)) for program in contender.programs(told)]
        heard = time.monotonic()
        while not reader.read() and time.monotonic() - heard < IDLE_S:
            pass
        with nullcontext() if watch is None else watch(processes):
            sending = threading.Thread(target=_send, args=(told, sessions, sent, rate), daemon=True)
            sending.start()
            heard = time.monotonic()
            while len(reader.seen.at) < told.commands_due and time.monotonic() - heard < IDLE_S:
                before = reader.seen.count
                reader.read_next()
                if reader.seen.count > before:
                    heard = time.monotonic()
            sending.join()
    if wrong := reader.seen.verdict(told.commands_due):
        raise AssertionError(f"{contender.name}: {wrong}")
    begun = sent[key(warm_up)]
    waits = [
        (reader.seen.at[one] - sent[one], sent[one] - begun) for one in map(key, range(warm_up, sessions))
    ]
    slowest = ", ".join(f"{wait * 1000:.0f} ms at {at:.1f} s" for wait, at in sorted(waits)[-_SLOWEST:])
    say(f"{contender.name}, {rate:,} events/s: slowest {slowest}")
    return quantiles([wait * 1000 for wait, _ in waits], n=100)


def _send(told: Arguments, sessions: int, sent: dict[bytes, float], rate: int) -> None:
    producer = Producer({"bootstrap.servers": told.bootstrap, "linger.ms": 0})
    due, chance = time.monotonic(), Random(rate)
    for session in range(sessions):
        name = key(session)
        for part in range(len(PARTS)):
            # Not at equal distances: they could keep step with what a contender does at such.
            due += chance.expovariate(rate)
            time.sleep(max(due - time.monotonic(), 0))
            sent[name] = time.monotonic()
            place = partition_of(name, told.partitions)
            producer.produce(told.events, key=name, value=event(session, part), partition=place)
            producer.poll(0)
    producer.flush()


if __name__ == "__main__":
    print(run(*map(int, sys.argv[1:2])))
