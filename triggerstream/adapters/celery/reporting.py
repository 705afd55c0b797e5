"""An outcome is durable in the log, or the process ends and the broker delivers the message again."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime
from dataclasses import dataclass
from typing import NoReturn

from triggerstream.core.errors import ClockError, LogError
from triggerstream.core.ids import SessionId
from triggerstream.engine.loglimit import RecurringLines
from triggerstream.engine.ports import OutcomeLog

logger = logging.getLogger(__name__)

EXIT_STATUS = 75
"""EX_TEMPFAIL: the user is invited to try again later."""
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_GRACE_S = 1.0
"""Time after the deadline within which a call that hangs ends."""


@dataclass(slots=True)
class _Attempt:
    """An append under way. ``deadline`` moves on while the log takes nothing because of the clock."""

    deadline: float


class Reporter:
    """Reports outcomes through one log for each process, in one thread: a call that hangs can be left.

    The log is opened by the first report in a process: what was open before a fork is not used after it.
    """

    def __init__(self, open_log: Callable[[], OutcomeLog], *, timeout_s: float) -> None:
        self._open_log = open_log
        self._timeout_s = timeout_s
        self._lines = RecurringLines(logger)
        self._lock = threading.Lock()
        self._thread: ThreadPoolExecutor | None = None
        self._log: OutcomeLog | None = None
        os.register_at_fork(after_in_child=self._forget)

    def append(self, session: SessionId, value: bytes) -> None:
        """Append one event. It is durable when this returns.

        Raises:
            LogError: it is not known to be durable within the timeout.
        """
        attempt = _Attempt(deadline=time.monotonic() + self._timeout_s)
        future = self._executor().submit(self._until, session, value, attempt)
        while True:
            try:
                return future.result(timeout=max(attempt.deadline - time.monotonic(), 0) + _GRACE_S)
            except NotInTime as exc:
                if time.monotonic() > attempt.deadline:
                    raise LogError(f"no answer from the log within {self._timeout_s:g} s") from exc

    def report(self, session: SessionId, value: bytes) -> None:
        """Append one outcome. It is durable when this returns, else this process ends."""
        try:
            self.append(session, value)
        except Exception as exc:  # noqa: BLE001 - whatever it was, only the end of the process keeps the outcome
            give_up(exc)

    def _executor(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="triggerstream-outcomes")
            return self._thread

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._thread = None
        self._log = None

    def _until(self, session: SessionId, value: bytes, attempt: _Attempt) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                if self._log is None:
                    self._log = self._open_log()
                self._log.report(session, value)
            except ClockError as exc:
                # The log answers, and takes the outcome once the clock is right: the task need not run again.
                attempt.deadline = time.monotonic() + self._timeout_s
                self._lines.write("An outcome waits for the clock", extra={"error": str(exc)})
                time.sleep(_LONGEST_PAUSE_S)
            except LogError:
                if time.monotonic() + pause_s >= attempt.deadline:
                    raise
                self._lines.write("The log did not take an outcome; trying again", exc_info=True)
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                return


def give_up(exc: Exception) -> NoReturn:
    """End this process, since ``exc`` kept an outcome out of the log."""
    logger.critical("An outcome is not in the log: this process ends, its message comes again", exc_info=exc)
    end_process()


def end_process() -> NoReturn:
    """End this process now: no handler runs, nothing is acknowledged."""
    for handler in logging.getLogger().handlers:
        handler.flush()
    os._exit(EXIT_STATUS)
