"""Keeps the signal of Celery's soft time limit from interrupting the settling of an outcome."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from celery.exceptions import (
    SoftTimeLimitExceeded,
)


class Interrupts:
    """Blocks the signal of Celery's soft time limit, except while the task's own body runs."""

    def __init__(self, signum: int) -> None:
        self._signum = signum

    @contextmanager
    def allowed(self) -> Iterator[None]:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {self._signum})
        try:
            yield
        finally:
            # A signal that arrives during this call still counts as raised in the body.
            signal.pthread_sigmask(signal.SIG_BLOCK, {self._signum})


class _NoInterrupts(Interrupts):
    """Replacement for threads other than the main one, which signals do not reach."""

    @contextmanager
    def allowed(self) -> Iterator[None]:
        yield


@contextmanager
def uninterrupted() -> Iterator[Interrupts]:
    """Block the soft time limit, so that it cannot end a task between the record and its report."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGUSR1"):
        yield _NoInterrupts(0)
        return
    signum = signal.SIGUSR1
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signum})
    try:
        yield Interrupts(signum)
    finally:
        # A limit that was reached meanwhile came too late: the outcome is in the log.
        with suppress(SoftTimeLimitExceeded):
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
