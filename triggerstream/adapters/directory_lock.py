"""The lock on a directory that one process at a time may use."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from triggerstream.core.errors import UsageError
from triggerstream.engine.private_files import open_private


def lock_directory(file: Path, *, taken: str = "another engine{by} runs on this directory") -> IO[str]:
    """The lock on the directory of ``file``, held until it is closed or the process ends.

    Raises:
        UsageError: another process holds it. ``taken`` says so; ``{by}`` is that process.
    """
    path = file.with_suffix(".lock")
    lock = open(path, "a+", opener=open_private)  # noqa: SIM115 - Path.open takes no opener; kept open
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
