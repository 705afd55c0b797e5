"""What every peer is told, and what it says."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

PARTS = ("t1", "t2", "t3", "t4")
"""The triggers that complete a session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """``directory`` is the peer's own; ``sessions`` is how many commands there will be."""

    bootstrap: str
    app: str
    partitions: int
    directory: Path
    sessions: int

    @property
    def events(self) -> str:
        """The topic to read."""
        return f"{self.app}.events"

    @property
    def commands(self) -> str:
        """The topic to write."""
        return f"{self.app}.commands"

    def words(self) -> list[str]:
        """As a command line has them."""
        return [self.bootstrap, self.app, str(self.partitions), str(self.directory), str(self.sessions)]


def arguments() -> Arguments:
    """Those of this process."""
    bootstrap, app, partitions, directory, sessions = sys.argv[1:]
    return Arguments(
        bootstrap=bootstrap,
        app=app,
        partitions=int(partitions),
        directory=Path(directory),
        sessions=int(sessions),
    )


def say_ready() -> None:
    """Mark the beginning of the measurement."""
    print("ready: has the first record", file=sys.stderr, flush=True)
