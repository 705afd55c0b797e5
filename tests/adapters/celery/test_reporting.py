"""Reporting of outcomes: what a worker does while the log does not take one."""

from __future__ import annotations

import time

import pytest

from triggerstream.adapters.celery import reporting
from triggerstream.adapters.celery.reporting import Reporter
from triggerstream.core.errors import ClockError, LogError
from triggerstream.core.ids import SessionId


class Refusing:
    """An outcome log that raises ``error`` for ``for_s``, and takes outcomes from then on."""

    def __init__(self, error: LogError, for_s: float) -> None:
        self._error = error
        self._until_s = time.monotonic() + for_s
        self.taken: list[bytes] = []

    def report(self, _session: SessionId, value: bytes) -> None:
        if time.monotonic() < self._until_s:
            raise self._error
        self.taken.append(value)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "_LONGEST_PAUSE_S", 0.02)
    monkeypatch.setattr(reporting, "_GRACE_S", 0.1)


def test_an_outcome_waits_for_the_clock_beyond_the_time_for_a_report() -> None:
    log = Refusing(ClockError("ahead"), for_s=0.5)
    Reporter(lambda: log, timeout_s=0.1).append(SessionId("s"), b"outcome")
    assert log.taken == [b"outcome"]


def test_an_outcome_that_the_log_does_not_take_in_time_is_an_error() -> None:
    log = Refusing(LogError("away"), for_s=60)
    with pytest.raises(LogError, match="away"):
        Reporter(lambda: log, timeout_s=0.1).append(SessionId("s"), b"outcome")
