"""Files and directories that hold states, events and indexes: their owner's alone from the moment they exist.

What is there already keeps its mode: whoever shares a database with another account says so by `chmod`.
"""

from __future__ import annotations

import os
from pathlib import Path

_FILE = 0o600
_DIRECTORY = 0o700


def make_private_directory(path: Path) -> None:
    """Make ``path`` where it is not there, and the directories above it; only its owner can enter ``path``.

    Raises:
        OSError: it cannot be made.
    """
    path.mkdir(mode=_DIRECTORY, parents=True, exist_ok=True)


def make_private_file(path: Path) -> None:
    """Make an empty file at ``path`` where none is; only its owner can read or change it.

    Raises:
        OSError: it cannot be made.
    """
    os.close(open_private(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC))


def make_private_pipe(path: Path) -> None:
    """Make a named pipe at ``path``; only its owner can read or write it.

    Raises:
        OSError: it cannot be made, or something is there.
    """
    os.mkfifo(path, _FILE)


def open_private(path: Path | str, flags: int) -> int:
    """An opener for ``open``: a file that it makes is its owner's alone."""
    return os.open(path, flags, _FILE)
