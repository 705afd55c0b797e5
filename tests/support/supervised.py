"""Processes of ours that are supervisors, and those that work below them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from tests.support.descendants import descendants


def at_work(pid: int) -> int:
    """The process that works below the supervisor ``pid``: it has the same command line.

    ``pid`` itself where there is none, be it that ``pid`` is no supervisor or that its child has ended.
    """
    with suppress(OSError):
        command = (Path("/proc") / str(pid) / "cmdline").read_text().replace("\0", " ")
        for child, line in descendants(pid).items():
            if line == command:
                return child
    return pid


def lives(pid: int) -> bool:
    """Whether there is such a process, zombies aside."""
    return state(pid) not in {None, "Z"}


def state(pid: int) -> str | None:
    """The state of a process as ``/proc`` has it: ``T`` is stopped, ``Z`` a zombie; None: it is gone."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None
