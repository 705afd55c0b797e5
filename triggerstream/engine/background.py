"""Background tasks of a process: if one ends unexpectedly, the process ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from triggerstream.core.errors import TriggerstreamError, describe_error

logger = logging.getLogger(__name__)


async def wait_to_end(work: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Return once ``work`` has ended, even if the caller is cancelled.

    Returns the cancellation that came meanwhile, which the caller must raise; None if there was none.
    """
    cancelled = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as exc:
            cancelled = exc
    return cancelled


class TaskEndedError(TriggerstreamError):
    """A background task that the process needs has ended. A new process may succeed."""


class Background:
    """Tasks that run until they are closed. ``fail`` is called for each task that ends earlier.

    The argument of ``fail`` is the task's own error if it is one of triggerstream's, because its message
    names the repair; otherwise a :class:`TaskEndedError` that names the task.
    """

    def __init__(self, fail: Callable[[BaseException], None]) -> None:
        self._fail = fail
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ending = False

    def start(self, name: str, work: Coroutine[Any, Any, object]) -> asyncio.Task[Any]:
        """Run ``work``, which must not return by itself. ``name`` names the task in messages."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def end(self) -> None:
        """Allow the tasks to return or to be cancelled from now on; an error is still a failure."""
        self._ending = True

    async def close(self) -> None:
        """Cancel the tasks that still run, and wait until they have ended."""
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
    """The error for the end of the background task ``name``, which is also logged."""
    why = describe_error(error) if error else None
    logger.error("background task ended", extra={"task": name, "error": why})
    if isinstance(error, TriggerstreamError):
        return error
    how = describe_error(error) if error else "it was cancelled" if cancelled else "it returned"
    ended = TaskEndedError(f"the background task `{name}` has ended: {how}")
    ended.__cause__ = error
    return ended
