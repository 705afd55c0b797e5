"""Clients that fire triggers: :class:`Client` for asyncio code, :class:`SyncClient` for all other code."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import uuid4

from triggerstream import bootstrap
from triggerstream.core.errors import DecodeError, LogError, UsageError
from triggerstream.engine.operations.submit import trigger_record
from triggerstream.engine.ports import Log
from triggerstream.settings import parse_address
from triggerstream.wire.records import NewRecord

_T = TypeVar("_T")

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


class Client:
    """Fires triggers at ``address``: ``kafka://host:9092/app``, ``http://127.0.0.1:8777``, ``sqlite:///path.db``.

    Use it as an async context manager, or call :meth:`close`. One client serves any number of tasks of one
    event loop. ``source`` names the application in its events; with ``id`` it makes an event idempotent.
    In a test, ``address`` may be a log, such as :class:`triggerstream.adapters.memory.MemoryLog`.
    """

    def __init__(self, address: str | Log, *, source: str | None = None, timeout_s: float = 10.0) -> None:
        self._log: Log = bootstrap.log(address, timeout_s=timeout_s) if isinstance(address, str) else address
        self._source = source
        self._timeout_s = timeout_s

    async def fire(
        self,
        session: str,
        trigger: str,
        data: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,  # noqa: A002 - the attribute's name in CloudEvents
        time: datetime | str | None = None,
    ) -> str:
        """Fire ``trigger`` for ``session``, with ``data`` as kwargs. The event is durable when this returns.

        Returns the event's id: ``id``, or a random one that is the same in every retry made here. ``time`` is
        when it happened (RFC 3339, or a datetime with a time zone). Default: the time of its arrival.

        Raises:
            UsageError: the event would not be accepted; the message has the reason.
            LogError: not known to be durable within ``timeout_s``. Safe to call again with the same ``id``.
        """
        event_id = str(uuid4()) if id is None else id
        try:
            record = trigger_record(session, trigger, data, id=event_id, source=self._source, time=time)
            await self._append(record)
        except DecodeError as exc:
            raise UsageError(str(exc)) from exc
        return event_id

    async def _append(self, record: NewRecord) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return await self._log.append([record])
            except LogError:
                if loop.time() + pause_s >= deadline:
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def close(self) -> None:
        """Close the connection. All fired events are durable already."""
        await self._log.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class SyncClient:
    """:class:`Client` for code without an event loop; any number of threads may share one.

    Use it as a context manager, or call :meth:`close`. A process that was forked after the client was made
    gets a connection of its own at its first ``fire``.
    """

    def __init__(self, address: str, *, source: str | None = None, timeout_s: float = 10.0) -> None:
        parse_address(address)
        self._address = address
        self._source = source
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._loop: _Loop | None = None
        self._client: Client | None = None
        self._pid = os.getpid()
        self._closed = False

    def fire(
        self,
        session: str,
        trigger: str,
        data: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,  # noqa: A002 - the attribute's name in CloudEvents
        time: datetime | str | None = None,
    ) -> str:
        """Fire a trigger, like :meth:`Client.fire`. The event is durable when this returns."""
        loop, client = self._connected()
        return loop.run(client.fire(session, trigger, data, id=id, time=time))

    def close(self) -> None:
        """Close the connection. All fired events are durable already."""
        with self._lock:
            self._closed = True
            loop, client = self._loop, self._client
            self._loop = self._client = None
        if loop is not None and client is not None:
            loop.run(client.close())
            loop.stop()

    def _connected(self) -> tuple[_Loop, Client]:
        with self._lock:
            if self._closed:
                raise UsageError("the client is closed: make another one")
            if self._loop is None or self._client is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._loop = _Loop()
                self._client = Client(self._address, source=self._source, timeout_s=self._timeout_s)
            return self._loop, self._client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Loop:
    """An event loop in its own thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="triggerstream", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
