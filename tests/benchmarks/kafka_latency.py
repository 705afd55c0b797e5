"""From an event to its committed command at 100 events a second: the worker, and the limit."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import quantiles

from confluent_kafka import Producer

from tests.benchmarks import kafka_load
from tests.benchmarks.command_reader import CommandReader
from tests.benchmarks.kafka_cluster import measured, new_app
from tests.benchmarks.loads import event, key
from tests.benchmarks.peers.arguments import PARTS, Arguments
from tests.benchmarks.peers.contenders import PLAIN, WORKER, Contender, Kind
from tests.benchmarks.peers.process import running
from tests.benchmarks.rows import Row
from triggerstream.adapters.kafka.topics import DEFAULT_PARTITIONS
from triggerstream.core.ids import AppId
from triggerstream.core.placement import partition_of

IDLE_S = 60.0
LATENCY_S = 30
EVENTS_A_SECOND = 100
_WARM_UP = 50
"""Sessions whose latency does not count: connections are made, the broker has not compiled its code yet."""


def run(seconds: int = LATENCY_S) -> list[Row]:
    """p50 and p99 of the worker, against the limit's; none where there is no Kafka."""
    return measured(partial(_rows, seconds=seconds))


def _rows(bootstrap: str, folder: Path, *, seconds: int) -> list[Row]:
    sessions = seconds * EVENTS_A_SECOND // len(PARTS)
    waits = {one.name: latencies(one, bootstrap, folder, sessions=sessions) for one in (PLAIN, WORKER)}
    return [
        Row(
            name=f"kafka: event to committed command at {EVENTS_A_SECOND} events/s, p{percent}",
            value=waits[WORKER.name][percent - 1],
            unit="ms",
            peer=PLAIN.name,
            ratio=waits[WORKER.name][percent - 1] / waits[PLAIN.name][percent - 1],
        )
        for percent in (50, 99)
    ]


def latencies(contender: Contender, bootstrap: str, folder: Path, *, sessions: int) -> list[float]:
    """Percentiles 1 to 99, in ms, from before the last event of a session is sent to its command.

    Raises:
        AssertionError: a command is missing, or came twice.
    """
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
        for program in contender.programs(told):
            stack.enter_context(running(program))
        heard = time.monotonic()
        while not reader.read() and time.monotonic() - heard < IDLE_S:
            pass
        sending = threading.Thread(target=_send, args=(told, sessions, sent), daemon=True)
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
    counted = [key(session) for session in range(min(_WARM_UP, sessions // 2), sessions)]
    return quantiles([(reader.seen.at[one] - sent[one]) * 1000 for one in counted], n=100)


def _send(told: Arguments, sessions: int, sent: dict[bytes, float]) -> None:
    producer = Producer({"bootstrap.servers": told.bootstrap, "linger.ms": 0})
    due = time.monotonic()
    for session in range(sessions):
        name = key(session)
        for part in range(len(PARTS)):
            due += 1 / EVENTS_A_SECOND
            time.sleep(max(due - time.monotonic(), 0))
            sent[name] = time.monotonic()
            place = partition_of(name, told.partitions)
            producer.produce(told.events, key=name, value=event(session, part), partition=place)
            producer.poll(0)
    producer.flush()


if __name__ == "__main__":
    print(run(*map(int, sys.argv[1:2])))
