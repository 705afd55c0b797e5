"""Hands commands to Celery's broker: the Dispatcher port.

One thread with one connection publishes commands in order. Waiting commands are published in one batch, which
takes one round trip with Redis. ``docs/celery.md`` has the figures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING

from triggerstream.adapters.celery.publisher import Job, Publisher
from triggerstream.adapters.celery.routes import destination_or_none
from triggerstream.core.commands import CELERY_PREFIX, Command, Decision
from triggerstream.core.errors import DecodeError, DispatchError, UndispatchableError
from triggerstream.wire.bounds import COMMAND_DEPTH
from triggerstream.wire.json import dumps
from triggerstream.wire.values import object_to_json

if TYPE_CHECKING:
    from celery import Celery

COMMAND_BYTES = 1024 * 1024
DEFAULT_TIMEOUT_S = 10.0


class CeleryDispatcher:
    """A :class:`triggerstream.engine.ports.Dispatcher` that publishes commands as JSON, under their ids.

    Args:
        app: the Celery app whose broker and routes are used. Its tasks need not be importable here.
        allow: names of Celery tasks that may be run; None: all but Celery's own.
        timeout_s: the time after which an unconfirmed command counts as not handed over.
    """

    def __init__(
        self, app: Celery, *, allow: Collection[str] | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> None:
        self._app = app
        self._allow = None if allow is None else frozenset(allow)
        self._timeout_s = timeout_s
        self._publisher: Publisher | None = None
        self._closed = False

    async def dispatch(self, decision: Decision) -> None:
        """Send one command, or ask workers to drop one. The broker has confirmed it on return.

        Raises:
            DispatchError: the broker did not confirm it. Safe to call again.
            DestinationError: the broker refuses its queue or exchange.
            UndispatchableError: it can never be accepted; the message is the reason.
        """
        if self._closed:
            raise DispatchError("the dispatcher is closed")
        if isinstance(decision, Command):
            self._check(decision)
        if self._publisher is None:
            self._publisher = Publisher(self._app, timeout_s=self._timeout_s)
        publisher = self._publisher
        loop = asyncio.get_running_loop()
        job = Job(decision, loop, loop.create_future())
        publisher.submit(job)
        try:
            async with asyncio.timeout(self._timeout_s):
                await job.done
        except TimeoutError as exc:
            # The thread hangs in the broker's connection. Abandon both; the next command makes new ones.
            publisher.leave()
            if self._publisher is publisher:
                self._publisher = None
            broker = self._app.connection_for_write().as_uri()  # without its password; it does not connect
            raise DispatchError(
                f"the Celery broker {broker} did not confirm within {self._timeout_s:g} s"
            ) from exc

    def destination(self, decision: Decision) -> str | None:
        """The queue or exchange that ``decision`` is sent to; None: its routes raise an error."""
        return destination_or_none(self._app, decision)

    async def close(self) -> None:
        """Close the connection. It is unknown whether unconfirmed commands were handed over."""
        self._closed = True
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.leave()
            await asyncio.to_thread(publisher.join, self._timeout_s)

    def _check(self, command: Command) -> None:
        if command.run.startswith(CELERY_PREFIX):
            raise UndispatchableError(
                f"{command.run}: tasks of Celery's own can run any other task; none is ever dispatched"
            )
        if self._allow is not None and command.run not in self._allow:
            raise UndispatchableError(f"{command.run} is not on the list of tasks that may be dispatched")
        try:
            size = len(dumps(object_to_json(command.kwargs, depth=COMMAND_DEPTH)))
        except DecodeError as exc:
            raise UndispatchableError(f"the arguments of {command.run} are no JSON: {exc}") from exc
        if size > COMMAND_BYTES:
            raise UndispatchableError(
                f"the arguments of {command.run} take {size:,} bytes; at most {COMMAND_BYTES:,} do"
            )
