"""A process one of whose background tasks dies: ``python -m tests.support.dying TASK FILE worker …``.

The task dies once ``FILE`` is there. ``TASK`` is a key of :data:`DEATHS`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from triggerstream.adapters.faust import app
from triggerstream.adapters.faust import worker as worker_process
from triggerstream.adapters.faust.consumer_thread import ConsumerThread
from triggerstream.adapters.faust.recovery import TakeOver
from triggerstream.adapters.faust.transport import Consumer
from triggerstream.adapters.kafka import bridge
from triggerstream.cli import main
from triggerstream.engine.handover.shared_log import PartitionHandOver
from triggerstream.engine.partitioned.partition import Partition
from triggerstream.engine.partitioned.session_scans import SessionScans
from triggerstream.engine.queries import worker
from triggerstream.engine.timers.service import TimerService
from triggerstream.web import serving

_POLL_S = 0.02
FILE: Path


class Death(Exception):  # noqa: N818 - it is not one of ours
    """An error that no code of the project raises."""


async def death() -> None:
    while not FILE.exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(_POLL_S)


def dies(work: Callable[..., Awaitable[Any]], *, returns: bool = False) -> Callable[..., Awaitable[Any]]:
    """``work`` until the file is there: then it raises, or just ``returns``."""

    async def dying(*arguments: Any, **named: Any) -> None:  # noqa: ANN401 - those of `work`
        working = asyncio.ensure_future(work(*arguments, **named))
        waiting = asyncio.ensure_future(death())
        try:
            await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
                return
        finally:
            waiting.cancel()
            working.cancel()
        if not returns:
            raise Death("of this test")

    return dying


def replace(owner: Any, name: str, *, returns: bool = False) -> None:  # noqa: ANN401 - a class or a module
    setattr(owner, name, dies(getattr(owner, name), returns=returns))


def client_task(path: str) -> None:
    """Cancel a task of aiokafka's consumer: ``_fetcher._fetch_task``."""
    start = ConsumerThread.on_start

    async def started(self: ConsumerThread) -> None:
        await start(self)

        async def kill() -> None:
            await death()
            found: Any = self._ensure_consumer()
            for name in path.split("."):
                found = getattr(found, name)
            found.cancel()

        self._killing = asyncio.ensure_future(kill())  # type: ignore[attr-defined] # kept alive

    ConsumerThread.on_start = started  # type: ignore[method-assign] # a death


def agent() -> None:
    """End the agent that folds: its stream just stops."""
    faust: Any = app.faust  # type: ignore[attr-defined] # what the module imports
    make = faust.Agent

    def made(fold: Callable[[Any], Awaitable[None]], **named: Any) -> Any:  # noqa: ANN401 - Faust's
        async def folding(batches: AsyncIterator[Any]) -> None:
            async def until() -> AsyncIterator[Any]:
                async for batch in batches:
                    if FILE.exists():
                        return
                    yield batch

            await fold(until())

        return make(folding, **named)

    faust.Agent = made


DEATHS: dict[str, Callable[[], None]] = {
    "intake": partial(replace, Consumer, "_drain_messages"),
    "intake-returns": partial(replace, Consumer, "_drain_messages", returns=True),
    "take-overs": partial(replace, TakeOver, "_run_all"),
    "checkpoints": partial(replace, Partition, "_commit_all"),
    "timers": partial(replace, TimerService, "run", returns=True),
    "scans": partial(replace, SessionScans, "run"),
    "indexes": partial(replace, worker.WorkerInspector, "run"),
    "freed-memory": partial(replace, worker_process, "return_freed_memory"),
    "pages": partial(replace, serving, "_accept_for_ever"),
    "fetches-of-the-client": partial(client_task, "_fetcher._fetch_task"),
    "group-of-the-client": partial(client_task, "_coordinator._coordination_task"),
    "metadata-of-the-client": partial(client_task, "_client._sync_task"),
    "fold": agent,
    "hand-over": partial(replace, PartitionHandOver, "run", returns=True),
    "bridge-fetches": partial(replace, bridge.Bridge, "_fetch"),
    "bridge-commits": partial(replace, bridge.Bridge, "_commit_all"),
}

if __name__ == "__main__":
    FILE = Path(sys.argv[2])
    DEATHS[sys.argv[1]]()
    main(sys.argv[3:])
