"""Runs parts of a command in processes of their own, and adds up their progress."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, TypeVar

from triggerstream.core.errors import TriggerstreamError, UsageError

_T = TypeVar("_T")
_R = TypeVar("_R")

_EVERY_S = 0.1
"""Interval at which a part reports its progress."""


@dataclass(slots=True)
class Progress:
    """Progress of a part, or of all: things read, and things done, of ``total`` if that is known."""

    read: int = 0
    done: int = 0
    total: int | None = None


@dataclass(frozen=True, slots=True)
class _Result(Generic[_R]):
    value: _R


@dataclass(frozen=True, slots=True)
class _Failure:
    message: str


OnProgress = Callable[[Progress], None]
Work = Callable[[_T, OnProgress], _R]
"""A function of a module, so that another process can import it."""


def run_parts(parts: Sequence[_T], work: Work[_T, _R], on_progress: OnProgress) -> Sequence[_R]:
    """The result of ``work`` for each part, in their order; more than one part in parallel.

    Raises:
        TriggerstreamError: a part failed. All others are ended.
    """
    if len(parts) == 1:
        return [work(parts[0], _throttled(on_progress))]
    context = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    processes: list[SpawnProcess] = []
    try:
        for part in parts:
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_run_part, args=(theirs, work, part), daemon=True)
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        return _results(pipes, on_progress)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
        for pipe in pipes:
            pipe.close()


def _results(pipes: Sequence[Connection], on_progress: OnProgress) -> Sequence[Any]:
    found: dict[int, Any] = {}
    latest = [Progress() for _ in pipes]
    while len(found) < len(pipes):
        for pipe in wait([pipe for number, pipe in enumerate(pipes) if number not in found]):
            number = next(place for place, one in enumerate(pipes) if one is pipe)
            try:
                message = pipes[number].recv()
            except EOFError:
                raise UsageError(
                    "a process ended before its part was done: perhaps it had too little memory"
                ) from None
            match message:
                case Progress():
                    latest[number] = message
                    on_progress(_sum_of(latest))
                case _Failure():
                    raise UsageError(message.message)
                case _Result():
                    found[number] = message.value
    return [found[number] for number in range(len(pipes))]


def _sum_of(parts: Sequence[Progress]) -> Progress:
    totals = [part.total for part in parts]
    known = [total for total in totals if total is not None]
    return Progress(
        read=sum(part.read for part in parts),
        done=sum(part.done for part in parts),
        total=sum(known) if len(known) == len(totals) else None,
    )


def _throttled(on_progress: OnProgress) -> OnProgress:
    """``on_progress``, called ten times a second at most."""
    last_s = time.monotonic()

    def report(progress: Progress) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s >= _EVERY_S:
            last_s = now_s
            on_progress(progress)

    return report


def _run_part(pipe: Connection, work: Work[_T, _R], part: _T) -> None:
    # The terminal sends an interrupt to all; the first process ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from triggerstream.cli.opening import quiet

    quiet()
    try:
        result = work(part, _throttled(pipe.send))
    except TriggerstreamError as exc:
        pipe.send(_Failure(str(exc)))
    except BrokenPipeError:
        return  # the first process was killed
    else:
        pipe.send(_Result(result))
