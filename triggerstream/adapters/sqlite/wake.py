"""Signal to the engine in another process after an append: one byte through a FIFO beside the database.

A byte may be lost: the engine also polls every ``POLL_S``.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from triggerstream.engine.private_files import make_private_pipe

POLL_S = 0.02
"""How often an idle engine polls. Over some network file systems, no byte of a FIFO reaches it."""


class WakeSignal:
    """A FIFO, opened for reading and writing: opening it never waits, and a write never raises SIGPIPE."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_suffix(".wake")
        self._fd: int | None = None

    def open(self, *, create: bool = False) -> int | None:
        """The file descriptor; None if there is no FIFO."""
        if self._fd is None:
            with suppress(OSError):
                if create:
                    with suppress(FileExistsError):
                        make_private_pipe(self._path)
                self._fd = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        return self._fd

    def send(self) -> None:
        """Wake the listener. If the FIFO is full, it was woken already."""
        fd = self.open()
        if fd is not None:
            with suppress(OSError):
                os.write(fd, b"\0")

    def clear(self) -> None:
        """Read all bytes, so that the next one wakes again."""
        if self._fd is not None:
            with suppress(OSError):
                os.read(self._fd, 4096)

    def close(self) -> None:
        """Close the FIFO."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
