"""The machine, the interpreter and the commit that a figure belongs to."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.support.interpreter import Interpreter, ask

ROOT = Path(__file__).parents[2]


@cache
def interpreter() -> Interpreter:
    """The Python that runs the benchmarks, and the worker in them.

    Raises:
        AssertionError: it does not answer.
    """
    found = ask(sys.executable)
    if found is None:
        raise AssertionError(f"{sys.executable} does not say how it was built")
    return found


@cache
def revision() -> str:
    """The commit; with the hash of what differs from it, if something does; empty outside a repository."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD").decode().strip()
        changed = _git("diff", "HEAD", "--", "triggerstream", "tests/benchmarks")
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f"{commit}+{hashlib.sha256(changed).hexdigest()[:8]}" if changed else commit


def _git(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True).stdout


def describe() -> str:
    """One line for people: processor, cores, system, interpreter, commit, load."""
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    parts = [
        f"{processor()}, {os.cpu_count()} cores, {platform.system()}",
        interpreter().describe(),
        f"commit {revision() or 'unknown'}",
        f"load average {load}",
    ]
    return "; ".join(parts)


@cache
def processor() -> str:
    """The name of the processor's model, or of its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def fields() -> dict[str, object]:
    """The same for programs, as every row has it."""
    own = interpreter()
    return {
        "interpreter": {"version": ".".join(map(str, own.version)), "build": own.build},
        "machine": {"processor": processor(), "cores": os.cpu_count()},
        "commit": revision(),
    }
