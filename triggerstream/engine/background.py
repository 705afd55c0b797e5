"""Background tasks of a process: one that ends when it should not ends the process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from triggerstream.core.errors import TriggerstreamError

logger = logging.getLogger(__name__)


class TaskEndedError(TriggerstreamError):
    """Work that a process cannot do without has ended. A new process may succeed."""


class Background:
    """Tasks that run until they are closed. ``fail`` is called once for each that ends before.

    It is called with the task's own error where triggerstream raised it, as that says what repairs it, else
    with a :class:`TaskEndedError` that names the task.
    """

    def __init__(self, fail: Callable[[BaseException], None]) -> None:
        self._fail = fail
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ending = False

    def start(self, name: str, work: Coroutine[Any, Any, object]) -> asyncio.Task[Any]:
        """Run ``work``, which ends with an error or not at all. ``name`` says in messages what it does."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def end(self) -> None:
        """Allow the tasks to return, or to be cancelled, from now on; an error stays a failure."""
        self._ending = True

    async def close(self) -> None:
        """Cancel what still runs, and wait until it has ended."""
        self.end()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None or not self._ending:
            self._fail(end_of(task.get_name(), error, cancelled=task.cancelled()))


def end_of(name: str, error: BaseException | None, *, cancelled: bool = False) -> BaseException:
    """What the end of the background task ``name`` is as an error; it is logged as well."""
    logger.error("background task ended", extra={"task": name, "error": repr(error) if error else None})
    if isinstance(error, TriggerstreamError):
        return error
    how = f"{type(error).__name__}: {error}" if error else "it was cancelled" if cancelled else "it returned"
    ended = TaskEndedError(f"the background task `{name}` has ended: {how}")
    ended.__cause__ = error
    return ended
