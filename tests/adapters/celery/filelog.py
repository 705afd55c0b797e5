"""An outcome log in a file, which many processes append to and tests read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from triggerstream.core.errors import LogError
from triggerstream.core.ids import SessionId


class FileLog:
    """One line for each event. Refuses while a file with its name and `.down` lies beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._down = path.with_name(path.name + ".down")

    def report(self, session: SessionId, value: bytes) -> None:
        if self._down.exists():
            raise LogError("the log is down")
        line = json.dumps({"session": session, "pid": os.getpid(), **json.loads(value)})
        with self._path.open("ab") as stream:
            stream.write(line.encode() + b"\n")

    def set_down(self, *, down: bool) -> None:
        if down:
            self._down.touch()
        else:
            self._down.unlink()

    def all(self) -> list[dict[str, Any]]:
        """Every event so far, in order."""
        if not self._path.exists():
            return []
        return [json.loads(line) for line in self._path.read_bytes().split(b"\n")[:-1]]

    def events(self, session: str) -> list[dict[str, Any]]:
        """The events of ``session`` so far, in order."""
        return [event for event in self.all() if event["session"] == session]

    def kinds(self, session: str) -> list[str]:
        """Their types, without what all outcomes begin with."""
        return [event["type"].removeprefix("triggerstream.task.") for event in self.events(session)]
