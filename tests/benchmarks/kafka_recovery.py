"""Recovery with a million sessions: start to ready with the store and without it, and a fail-over."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from tests.benchmarks import kafka_load
from tests.benchmarks.command_reader import CommandReader
from tests.benchmarks.kafka_cluster import measured, new_app, say
from tests.benchmarks.loads import Pair, event, key, last_of_each_partition
from tests.benchmarks.peers.arguments import Arguments
from tests.benchmarks.peers.contenders import WORKER
from tests.benchmarks.peers.process import running
from tests.benchmarks.rows import Row
from triggerstream.adapters.kafka.topics import DEFAULT_PARTITIONS
from triggerstream.core.ids import AppId

SESSIONS = 1_000_000
AIM_KEPT_S = 2.0
AIM_GONE_S = 5.0
_FOLD_S = 600.0
_APART = 1_000
"""Distance of the numbers of later sessions, so that the search for the first ones has not reached them."""
SESSION_TIMEOUT_S = 30
"""The default of `--session-timeout`: the group notices a killed worker only then."""


def run(sessions: int = SESSIONS) -> list[Row]:
    """Recovery, then fail-over; none where there is no Kafka."""
    return measured(
        lambda bootstrap, folder: [
            *recovery(bootstrap, folder, sessions=sessions),
            *failover(bootstrap, folder, sessions=sessions),
        ]
    )


def prepared(bootstrap: str, folder: Path, *, sessions: int) -> Arguments:
    """Arguments for a worker whose log has so many sessions with one event each."""
    told = Arguments(
        bootstrap=bootstrap,
        app=new_app(),
        partitions=DEFAULT_PARTITIONS,
        directory=folder / "workers",
        commands_due=DEFAULT_PARTITIONS,
    )
    app = AppId(told.app)
    asyncio.run(kafka_load.prepare(bootstrap, app, partitions=told.partitions, configured=True))
    asyncio.run(kafka_load.append(bootstrap, app, _begun(sessions), partitions=told.partitions))
    return told


def _begun(sessions: int) -> Iterator[Pair]:
    return ((key(session), event(session, 0)) for session in range(sessions))


def recovery(bootstrap: str, folder: Path, *, sessions: int) -> list[Row]:
    """Seconds from the start of a process to its being ready, with its store gone and with it."""
    told = prepared(bootstrap, folder, sessions=sessions)
    reader = CommandReader(bootstrap, AppId(told.app), partitions=told.partitions)
    (program,) = WORKER.programs(told)
    with running(program) as worker:
        worker.wait_ready()
        # A session behind the others in every partition: once its command is there, all is folded.
        last = last_of_each_partition(sessions, told.partitions)
        asyncio.run(kafka_load.append(bootstrap, AppId(told.app), last, partitions=told.partitions))
        seen = reader.read_all(told.commands_due, idle_s=_FOLD_S)
        folding_mib = worker.memory_mib()
    reader.close()
    kept_s, kept_cpu_s = _ready(told)
    shutil.rmtree(told.directory)
    gone_s, gone_cpu_s = _ready(told)
    asyncio.run(kafka_load.remove(bootstrap, AppId(told.app)))
    wrong = seen.verdict(told.commands_due)
    said = f"kafka: start to ready, {sessions:,} sessions" + (f" [{wrong}]" if wrong else "")
    return [
        Row(
            name=f"{said}, store {what}",
            value=took_s,
            unit="s",
            peer=f"aim {aim_s:g} s",
            ratio=took_s / aim_s,
            cpu_s=cpu_s,
            wall_s=took_s,
        )
        for what, took_s, cpu_s, aim_s in (
            ("kept", kept_s, kept_cpu_s, AIM_KEPT_S),
            ("gone", gone_s, gone_cpu_s, AIM_GONE_S),
        )
    ] + [Row(name="kafka: resident after folding them", value=folding_mib, unit="MiB")]


def _ready(told: Arguments) -> tuple[float, float | None]:
    """Seconds, and CPU seconds, until a worker is ready."""
    (program,) = WORKER.programs(told)
    began = time.monotonic()
    with running(program) as worker:
        took = worker.wait_ready() - began
        spent = worker.cpu_s()
    say(f"ready after {took:.1f} s")
    return took, spent


def failover(bootstrap: str, folder: Path, *, sessions: int) -> list[Row]:
    """Seconds from `kill -9` of one of two workers until the other has decided in each of its partitions.

    All sessions are folded before. The events that complete one more in each partition arrive with the kill.
    """
    told = prepared(bootstrap, folder, sessions=sessions)
    app, due = AppId(told.app), 2 * told.partitions
    folded = list(last_of_each_partition(sessions, told.partitions))
    after = list(last_of_each_partition(sessions + len(folded) * _APART, told.partitions))
    reader = CommandReader(bootstrap, app, partitions=told.partitions)
    with ExitStack() as stack:
        stack.callback(reader.close)
        pair = replace(WORKER, processes=2).programs(told)
        first, second = (stack.enter_context(running(program)) for program in pair)
        for worker in (first, second):
            worker.wait_ready()
        asyncio.run(kafka_load.append(bootstrap, app, folded, partitions=told.partitions))
        _read_until(reader, told.partitions)
        first.kill()
        killed = time.monotonic()
        asyncio.run(kafka_load.append(bootstrap, app, after, partitions=told.partitions))
        _read_until(reader, due)
    asyncio.run(kafka_load.remove(bootstrap, app))
    took_s = max(reader.seen.at.values()) - killed
    wrong = reader.seen.verdict(due)
    said = f"kafka: fail-over, {sessions:,} sessions, 2 workers" + (f" [{wrong}]" if wrong else "")
    return [
        Row(name=f"{said}, kill -9 to the last command", value=took_s, unit="s"),
        Row(
            name=f"{said}, beyond the session timeout of {SESSION_TIMEOUT_S} s",
            value=took_s - SESSION_TIMEOUT_S,
            unit="s",
        ),
    ]


def _read_until(reader: CommandReader, commands: int) -> None:
    began = time.monotonic()
    while len(reader.seen.at) < commands and time.monotonic() - began < _FOLD_S:
        reader.read()
