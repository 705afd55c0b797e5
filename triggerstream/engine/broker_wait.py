"""Waits for work that depends on brokers. It may take any time as long as brokers answer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from triggerstream.core.errors import LogError

_T = TypeVar("_T")

_TICKS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerWait:
    """Time limits for work that depends on brokers.

    ``answered_at``: monotonic time of the last answer of a broker. ``silence_s``: the time without an answer
    after which work is cancelled. ``longest_s``: the time limit even if brokers answer.
    """

    answered_at: Callable[[], float]
    silence_s: float
    longest_s: float

    async def wait(self, work: Coroutine[Any, Any, _T], *, place: str, what: str) -> _T:
        """The result of ``work``.

        ``place`` and ``what`` name it in messages. A cancellation first ends the work.

        Silence is counted in ticks. A process that was stopped misses one tick, not all, so the broker can
        still report that it was fenced meanwhile.

        Raises:
            LogError: a time limit is over.
        """
        task = asyncio.create_task(work)
        try:
            return await self._wait(task, place, what)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])  # what it holds is closed
            raise
        finally:
            task.cancel()
            task.add_done_callback(_seen)

    async def _wait(self, task: asyncio.Task[_T], place: str, what: str) -> _T:
        heard, silent = self.answered_at(), 0
        tick_s = self.silence_s / _TICKS
        for _ in range(math.ceil(self.longest_s / tick_s)):
            done, _pending = await asyncio.wait([task], timeout=tick_s)
            if done:
                return task.result()
            answered_at = self.answered_at()
            heard, silent = answered_at, 0 if answered_at > heard else silent + 1
            if silent >= _TICKS:
                raise LogError(f"{place}: no broker has answered for {self.silence_s:g} s during {what}")
        raise LogError(f"{place}: brokers answer, but {what} has not ended within {self.longest_s:g} s")


def _seen(task: asyncio.Task[Any]) -> None:
    """Prevent asyncio's report of an error in work that was cancelled."""
    if not task.cancelled():
        task.exception()
