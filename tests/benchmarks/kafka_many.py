"""A worker with many partitions: how soon it is ready, its connections, and a backlog on a busy machine.

``python -m tests.benchmarks.kafka_many``: ready at 200 partitions, 8,000 waiting events in 96.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.benchmarks import kafka_load
from tests.benchmarks.command_reader import CommandReader
from tests.benchmarks.kafka_cluster import measured, new_app, say
from tests.benchmarks.kafka_runs import IDLE_S
from tests.benchmarks.loads import in_bursts
from tests.benchmarks.peers.arguments import Arguments
from tests.benchmarks.peers.contenders import WORKER
from tests.benchmarks.peers.process import PeerProcess, running
from tests.benchmarks.rows import Row, table
from tests.support.busy import busy
from tests.support.sockets import sockets_of
from triggerstream.core.ids import AppId

PARTITIONS = 200
SESSIONS = 10_000
BACKLOG_PARTITIONS = 96
BACKLOG_SESSIONS = 2_000
LOAD = 20
_BUSY_IDLE_S = 300.0


def run() -> list[Row]:
    """Rows of the worker; none where there is no Kafka."""
    return measured(lambda bootstrap, folder: [*readiness(bootstrap, folder), *backlog(bootstrap, folder)])


def readiness(
    bootstrap: str, folder: Path, *, partitions: int = PARTITIONS, sessions: int = SESSIONS
) -> list[Row]:
    """From the start of the process until it says that it is ready, and its connections at work."""
    told = _told(bootstrap, folder / "ready", partitions=partitions, sessions=sessions)
    of = f"kafka: {partitions} partitions"
    _append(told, range(1))
    reader = CommandReader(bootstrap, AppId(told.app), partitions=partitions)
    rows = []
    try:
        with _started(told) as (process, began):
            rows.append(_row(f"{of}, start to ready, no states", process.wait_ready() - began))
            _read(reader, 1, idle_s=IDLE_S)
            rows.append(_row(f"{of}, start to first command, no states", time.monotonic() - began))
            _append(told, range(1, sessions))
            _read(reader, sessions, idle_s=IDLE_S)
            sockets = sockets_of(process.find_working())
        rows.append(Row(name=f"{of}, connections", value=sockets, unit="sockets"))
        with _started(told) as (process, began):
            rows.append(
                _row(f"{of}, start to ready, {sessions:,} sessions, store kept", process.wait_ready() - began)
            )
        elsewhere = replace(told, directory=folder / "ready" / "elsewhere")  # to delete files takes disk time
        with _started(elsewhere) as (process, began):
            rows.append(
                _row(f"{of}, start to ready, {sessions:,} sessions, store gone", process.wait_ready() - began)
            )
    finally:
        reader.close()
        asyncio.run(kafka_load.remove(bootstrap, AppId(told.app)))
    return rows


def backlog(
    bootstrap: str,
    folder: Path,
    *,
    partitions: int = BACKLOG_PARTITIONS,
    sessions: int = BACKLOG_SESSIONS,
    load: int = LOAD,
) -> list[Row]:
    """From the start to the last command of a backlog, beside ``load`` processes that take all they get."""
    told = _told(bootstrap, folder / "backlog", partitions=partitions, sessions=sessions)
    _append(told, range(sessions))
    reader = CommandReader(bootstrap, AppId(told.app), partitions=partitions)
    try:
        with busy(load), _started(told) as (process, began):
            process.wait_ready()
            working = process.find_working()
            _read(reader, sessions, idle_s=_BUSY_IDLE_S)
            took_s = time.monotonic() - began
            ends = process.find_working() != working
        reader.read_doubles()
        wrong = [found] if (found := reader.seen.verdict(sessions)) else []
        wrong += ["THE PROCESS ENDED"] if ends else []
        said = (
            f"kafka: {sessions * 4:,} waiting events in {partitions} partitions, beside {load} busy processes"
        )
        return [_row(said + "".join(f" [{one}]" for one in wrong), took_s)]
    finally:
        reader.close()
        asyncio.run(kafka_load.remove(bootstrap, AppId(told.app)))


def _told(bootstrap: str, folder: Path, *, partitions: int, sessions: int) -> Arguments:
    told = Arguments(
        bootstrap=bootstrap,
        app=new_app(),
        partitions=partitions,
        directory=folder / "state",
        commands_due=sessions,
    )
    asyncio.run(kafka_load.prepare(bootstrap, AppId(told.app), partitions=partitions, configured=True))
    return told


def _append(told: Arguments, sessions: range) -> None:
    events = in_bursts(sessions)
    asyncio.run(kafka_load.append(told.bootstrap, AppId(told.app), events, partitions=told.partitions))


@contextmanager
def _started(told: Arguments) -> Iterator[tuple[PeerProcess, float]]:
    """A worker, and the time at which it was started; it is stopped at the end."""
    (program,) = WORKER.programs(told)
    began = time.monotonic()
    with running(program) as process:
        yield process, began


def _read(reader: CommandReader, sessions: int, *, idle_s: float) -> None:
    heard = time.monotonic()
    while len(reader.seen.at) < sessions and time.monotonic() - heard < idle_s:
        if reader.read():
            heard = time.monotonic()


def _row(name: str, value: float) -> Row:
    say(f"{name}: {value:.1f} s")
    return Row(name=name, value=value, unit="s")


if __name__ == "__main__":
    print(table(run()))
