"""Creates files and directories for states, events and indexes that only their owner can access.

Existing files keep their mode, so that an operator can share a database with another account by `chmod`.
"""

from __future__ import annotations

import os
from pathlib import Path

_FILE = 0o600
_DIRECTORY = 0o700


def make_private_directory(path: Path) -> None:
    """Create ``path`` if it is missing, and its parent directories; only its owner can enter ``path``.

    Raises:
        OSError: it cannot be created.
    """
    path.mkdir(mode=_DIRECTORY, parents=True, exist_ok=True)


def make_private_file(path: Path) -> None:
    """Create an empty file at ``path`` if there is none; only its owner can read or change it.

    Raises:
        OSError: it cannot be created.
    """
    os.close(open_private(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC))


def make_private_pipe(path: Path) -> None:
    """Create a named pipe at ``path``; only its owner can read or write it.

    Raises:
        OSError: it cannot be created, or ``path`` exists.
    """
    os.mkfifo(path, _FILE)


def open_private(path: Path | str, flags: int) -> int:
    """Opener for ``open``: only the owner can access a file that it creates."""
    return os.open(path, flags, _FILE)
