"""The lock on a directory that one process at a time may use."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import IO

from triggerstream.core.errors import UsageError
from triggerstream.engine.private_files import open_private

_ASKING_S = 0.2
"""The longest time for which :func:`is_directory_locked` should hold the lock: it does nothing meanwhile."""


def lock_directory(file: Path, *, taken: str = "another engine{by} runs on this directory") -> IO[str]:
    """The lock on the directory of ``file``, held until it is closed or the process ends.

    Raises:
        UsageError: another process holds it. ``taken`` says so; ``{by}`` is that process.
    """
    path = file.with_suffix(".lock")
    lock = open(path, "a+", opener=open_private)  # noqa: SIM115 - Path.open takes no opener; kept open
    try:
        _lock(lock)
    except OSError as exc:
        lock.seek(0)
        holder = lock.read().strip()
        lock.close()
        by = f" (process {holder})" if holder else ""
        raise UsageError(f"{file.parent}: {taken.format(by=by)}") from exc
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def is_directory_locked(file: Path) -> bool:
    """True while a process holds the lock on the directory of ``file``. Nothing is created.

    Raises:
        OSError: the lock's file cannot be read.
    """
    try:
        lock = file.with_suffix(".lock").open()
    except FileNotFoundError:
        return False
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that ask do not see each other
        except BlockingIOError:
            return True
    return False


def _lock(lock: IO[str]) -> None:
    """Lock the file; wait as long as a process may take that only asks whether it is locked."""
    until = time.monotonic() + _ASKING_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise
            time.sleep(_ASKING_S / 20)
        else:
            return
