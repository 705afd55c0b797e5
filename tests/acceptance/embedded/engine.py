"""The embedded engine with an executor that writes each command's id into a file and finishes it at once."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from triggerstream.adapters.clock import SystemClock
from triggerstream.adapters.sqlite import SqliteLog, SqliteStore
from triggerstream.core.commands import Command, Decision
from triggerstream.core.events import Finished
from triggerstream.core.ids import AppId
from triggerstream.engine.embedded.engine import EmbeddedEngine
from triggerstream.wire.events import encode
from triggerstream.wire.records import NewRecord

APP = AppId("crashing")
TASKS = """{
    "t_report": {"after": ["t0", "t1", "t2"], "run": "app.report"},
    "t_next": {"after": ["t_report"], "run": "app.next"},
}"""


class Executor:
    """Hands over by a line in a file, which outlives the process, as a broker does."""

    def __init__(self, file: Path, log: SqliteLog) -> None:
        self._fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._log = log

    async def dispatch(self, decision: Decision) -> None:
        """Write the line, then report the outcome: a death between has the command handed over again."""
        assert isinstance(decision, Command)
        os.write(self._fd, f"{decision.id} {decision.session} {decision.instance}\n".encode())
        finished = Finished(instance=decision.instance, command=decision.id)
        await self._log.append([NewRecord(key=decision.session.encode(), value=encode(finished))])

    def destination(self, decision: Decision) -> str | None:  # noqa: ARG002 - the port's signature
        """None is ever refused."""
        return None

    async def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


async def _run(directory: Path) -> None:
    log = SqliteLog(directory, create=True)
    engine = EmbeddedEngine(
        app=APP,
        log=log,
        store=SqliteStore(directory, app=APP, log=log),
        dispatcher=Executor(directory / "handed.txt", log),
        clock=SystemClock(),
    )
    running = asyncio.create_task(engine.run())
    applying = asyncio.create_task(engine.apply(TASKS))
    await asyncio.wait([running, applying], return_when=asyncio.FIRST_COMPLETED)
    await running


if __name__ == "__main__":
    asyncio.run(_run(Path(sys.argv[1])))
