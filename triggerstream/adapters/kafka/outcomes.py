"""Appends outcomes of Celery workers to the events topic. Blocking, and usable after a fork."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.log import KafkaLog
from triggerstream.core.errors import LogError, UsageError
from triggerstream.core.ids import AppId, SessionId
from triggerstream.wire.records import NewRecord

_MARGIN_S = 2.0
"""The log bounds its own time; this is for a thread that does not run at all."""


class KafkaOutcomeLog:
    """A :class:`triggerstream.engine.ports.OutcomeLog`. Any number of threads may report at once.

    From its first report on, each process has one thread with an event loop and a producer. Objects inherited
    through a fork are kept unused as long as the process lives: closing them would disturb the parent, which
    shares their sockets.
    """

    def __init__(self, connection: Connection, app: AppId, *, timeout_s: float = 10.0) -> None:
        self._connection = connection
        self._app = app
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._reporter: _Reporter | None = None
        self._inherited: list[_Reporter] = []
        # The lock may have been held by a thread that the child does not have.
        os.register_at_fork(after_in_child=self._forked)

    def report(self, session: SessionId, value: bytes) -> None:
        record = NewRecord(key=session.encode(), value=value)
        with self._lock:
            if self._reporter is None:
                self._reporter = _Reporter(KafkaLog(self._connection, self._app, timeout_s=self._timeout_s))
                atexit.register(self.close)
            reporter = self._reporter
        try:
            reporter.run(reporter.log.append([record]), within_s=self._timeout_s + _MARGIN_S)
        except UsageError as exc:
            # There is no events topic: for the worker, the log is not available.
            raise LogError(str(exc)) from exc

    def close(self) -> None:
        """End the thread and close its connections."""
        with self._lock:
            reporter, self._reporter = self._reporter, None
        if reporter is not None:
            atexit.unregister(self.close)
            reporter.close()

    def _forked(self) -> None:
        self._lock = threading.Lock()
        if self._reporter is not None:
            self._inherited.append(self._reporter)
            self._reporter = None


class _Reporter:
    """A thread with an event loop in which a log runs."""

    def __init__(self, log: KafkaLog) -> None:
        self.log = log
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="triggerstream-outcomes", daemon=True
        )
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, None], *, within_s: float) -> None:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            future.result(within_s)
        except FutureTimeoutError as exc:
            raise LogError(f"an outcome was not reported within {within_s:g} s") from exc
        finally:
            # If Celery's time limit ended the wait, cancel the report as well.
            future.cancel()

    def close(self) -> None:
        try:
            self.run(self.log.close(), within_s=10.0)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
