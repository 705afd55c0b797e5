"""One run of the worker or of a peer through a full log on Kafka.

All contenders are measured in the same way, from outside. The first half of the events is in the log when a
process starts. *Ready* is its first committed command. When the first half is done, the process is stopped
(SIGSTOP) while the second half is appended. The time measured is from SIGCONT to the last command that is
due, as a reader of committed records sees it. A run that loses or doubles commands says so.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from tests.benchmarks import kafka_load
from tests.benchmarks.command_reader import CommandReader
from tests.benchmarks.journal import Fields
from tests.benchmarks.kafka_cluster import new_app, say
from tests.benchmarks.loads import Load
from tests.benchmarks.peers.arguments import Arguments
from tests.benchmarks.peers.contenders import Contender, Kind
from tests.benchmarks.peers.process import PeerProcess, running
from triggerstream.core.ids import AppId

IDLE_S = 60.0
"""Time without a command after which the others count as lost."""
START_S = 900.0
"""Time for the first command: among much other work, a JVM starts for more than a minute, and 2,000,000
events before the first command take more than five."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """``wall_s`` and ``cpu_s`` are of the measured half; ``start_cpu_s`` is that of all before it.

    ``load`` is the machine's load average before the run.
    """

    ready_s: float
    wall_s: float
    cpu_s: float
    start_cpu_s: float
    wrong: str
    load: float

    def fields(self) -> Fields:
        """As a journal keeps it."""
        return asdict(self)

    @classmethod
    def of(cls, fields: Fields) -> Self:
        """From what a journal kept."""
        return cls(**fields)


def run_once(contender: Contender, load: Load, *, bootstrap: str, folder: Path, partitions: int) -> Run:
    """Run ``contender`` through both halves of ``load``, in topics that are deleted afterwards."""
    told = Arguments(
        bootstrap=bootstrap,
        app=new_app(),
        partitions=partitions,
        directory=folder / "state",
        commands_due=load.warm_up_commands + load.commands,
        content=contender.content,
        commit_ms=contender.commit_ms,
    )
    app = AppId(told.app)
    busy = os.getloadavg()[0]
    asyncio.run(_prepare(contender, told, load))
    reader = CommandReader(bootstrap, app, partitions=partitions)
    try:
        with ExitStack() as stack:
            return _measure(contender, load, told, reader, stack, busy=busy)
    finally:
        reader.close()
        asyncio.run(kafka_load.remove(bootstrap, app))


async def _prepare(contender: Contender, told: Arguments, load: Load) -> None:
    app = AppId(told.app)
    is_worker = contender.kind is Kind.WORKER
    await kafka_load.prepare(told.bootstrap, app, partitions=told.partitions, configured=is_worker)
    await kafka_load.append(told.bootstrap, app, load.warm_up(), partitions=told.partitions)


def _measure(
    contender: Contender, load: Load, told: Arguments, reader: CommandReader, stack: ExitStack, *, busy: float
) -> Run:
    started = time.monotonic()
    processes = [stack.enter_context(running(program)) for program in contender.programs(told)]
    _read_until(reader, 1, processes, within_s=START_S)
    ready_s = time.monotonic() - started
    _read_until(reader, load.warm_up_commands, processes)
    if contender.processes > 1:
        for process in processes:
            process.wait_ready()

    def stop_all() -> None:
        for process in processes:
            process.find_working()
            process.signal_working(signal.SIGSTOP)

    try:
        second = load.measured()
        append = kafka_load.append(
            told.bootstrap, AppId(told.app), second, partitions=told.partitions, before_sending=stop_all
        )
        asyncio.run(append)
        cpu_before, began = _cpu_s(processes), time.monotonic()
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                process.signal_working(signal.SIGCONT)
    _read_until(reader, told.commands_due, processes)
    ended, cpu_after = time.monotonic(), _cpu_s(processes)
    reader.read_doubles()
    wrong = reader.seen.verdict(told.commands_due)
    if wrong:
        say("\n".join(process.said() for process in processes))
    return Run(
        ready_s=ready_s,
        wall_s=ended - began,
        cpu_s=cpu_after - cpu_before,
        start_cpu_s=cpu_before,
        wrong=wrong,
        load=busy,
    )


def _read_until(
    reader: CommandReader, commands: int, processes: list[PeerProcess], *, within_s: float = IDLE_S
) -> None:
    """Read until ``commands`` sessions have a command, or no command came for ``within_s``.

    Raises:
        AssertionError: a process has failed, or there was no command at all.
    """
    heard = time.monotonic()
    while len(reader.seen.at) < commands and time.monotonic() - heard < within_s:
        if reader.read():
            heard = time.monotonic()
        elif any(process.has_failed() for process in processes):
            break
    if not reader.seen.at:
        raise AssertionError("\n".join(process.said() for process in processes))


def _cpu_s(processes: list[PeerProcess]) -> float:
    return sum(process.cpu_s() or 0.0 for process in processes)
