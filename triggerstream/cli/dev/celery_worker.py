"""The Celery worker that `dev` runs as a child process."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence

from triggerstream import variables
from triggerstream.cli.dev.celery_app import (
    UNUSABLE,
)
from triggerstream.cli.dev.children import Child
from triggerstream.core.errors import UsageError
from triggerstream.engine.background import Background
from triggerstream.loglines import line_head
from triggerstream.settings import SqliteAddress

_WORKER_GRACE_S = 10.0
"""Time for running tasks to finish at a stop. Others are handed over again at the next start."""
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0


class Worker:
    """The Celery worker process. It is started again when it ends by itself, after a growing pause."""

    def __init__(
        self,
        spec: str,
        *,
        broker: str | None,
        address: SqliteAddress,
        concurrency: int,
        write_line: Callable[[str, str], None],
    ) -> None:
        self._spec = spec
        self._broker = broker
        self._address = address
        self._concurrency = concurrency
        self._write_line = write_line
        self._child: Child | None = None
        self._queues: tuple[str, ...] = ()
        self._background: Background | None = None
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def _fail(self, exc: BaseException) -> None:
        if not self._failed.done():
            self._failed.set_exception(exc)

    async def ended(self) -> None:
        """Wait without end; raise if the Celery worker cannot start, or is no longer watched."""
        await asyncio.shield(self._failed)

    async def consume(self, queues: Sequence[str]) -> None:
        """Start or restart the worker if it does not consume from all of ``queues`` yet."""
        if self._background is not None and set(queues) <= set(self._queues):
            return
        await self.stop()
        self._queues = tuple(dict.fromkeys((*self._queues, *queues)))
        self._child = await self._start()
        self._background = Background(self._fail)
        self._background.start("the Celery worker's process", self._keep())

    async def stop(self) -> None:
        """Let the worker finish its tasks within a time limit, and end it."""
        if self._background is not None:
            await self._background.close()
            self._background = None
        if self._child is not None:
            await self._child.stop()
            self._child = None

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        pause_s = _FIRST_PAUSE_S
        while self._child is not None:
            since = loop.time()
            status = await self._child.wait()
            await self._child.stop()
            if status == UNUSABLE:
                raise UsageError("the Celery worker cannot start; its reason is above")
            if loop.time() - since > _LONGEST_PAUSE_S:
                pause_s = _FIRST_PAUSE_S
            ended = f"ended with status {status}; it is started again in {pause_s:g} s"
            self._write_line("worker", f"{line_head('WARNING')} {ended}")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            self._child = await self._start()

    async def _start(self) -> Child:
        env = {
            **os.environ,
            variables.LOG: str(self._address),
            variables.DEV_QUEUES: ",".join(self._queues),
            "PYTHONUNBUFFERED": "1",
        }
        if self._broker is not None:
            env[variables.DEV_BROKER] = self._broker
        return await Child.start(
            [
                sys.executable,
                "-m",
                "triggerstream.cli.dev.celery_app",
                self._spec,
                "--loglevel=WARNING",
                f"--concurrency={self._concurrency}",
                "--without-gossip",
                "--without-mingle",
                "--hostname=triggerstream-dev@%h",
            ],
            env=env,
            output=lambda line: self._write_line("worker", line),
            grace_s=_WORKER_GRACE_S,
        )
