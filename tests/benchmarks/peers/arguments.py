"""Command line arguments of every peer."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

PARTS = ("t1", "t2", "t3", "t4")
"""The triggers that complete a session."""
Content: TypeAlias = Literal["lean", "same"]
"""Content of states and commands. ``lean``: the data of the events; ``same``: all that the worker's do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """``directory`` is the peer's own; ``commands_due`` is how many commands there will be.

    ``commit_ms`` is the time between commits; None: as the peer has it by default.
    """

    bootstrap: str
    app: str
    partitions: int
    directory: Path
    commands_due: int
    content: Content = "lean"
    commit_ms: int | None = None

    @property
    def events(self) -> str:
        """The topic to read."""
        return f"{self.app}.events"

    @property
    def commands(self) -> str:
        """The topic to write."""
        return f"{self.app}.commands"

    def words(self) -> list[str]:
        """The arguments as words of a command line."""
        commit = "default" if self.commit_ms is None else str(self.commit_ms)
        counts = [str(self.partitions), str(self.directory), str(self.commands_due)]
        return [self.bootstrap, self.app, *counts, self.content, commit]


def arguments() -> Arguments:
    """The arguments of this process."""
    bootstrap, app, partitions, directory, due, content, commit = sys.argv[1:]
    return Arguments(
        bootstrap=bootstrap,
        app=app,
        partitions=int(partitions),
        directory=Path(directory),
        commands_due=int(due),
        content="same" if content == "same" else "lean",
        commit_ms=None if commit == "default" else int(commit),
    )
