"""The trusted clock of a database: the log takes nothing while the machine's clock is far ahead of it.

A row of ``meta`` says when the machine started by the clock that was last trusted. ``dev`` keeps it; every
process that appends compares it with its own clock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from triggerstream.adapters.clock import SystemClock
from triggerstream.adapters.sqlite.database import connect, locate, transaction
from triggerstream.core.errors import ClockError, LogError
from triggerstream.engine.clock_step import LARGEST_STEP_US, ClockReading, describe_step, step_forward_us
from triggerstream.engine.ports import Clock

_TRUSTED = "SELECT value FROM meta WHERE name = 'clock'"
_TRUST = "INSERT OR REPLACE INTO meta VALUES ('clock', ?)"
_DRIFT_US = 1_000_000
"""The trusted clock follows smaller corrections than this only together with later ones: each is a write."""
_TIMEOUT_S = 10.0


def check_clock(connection: sqlite3.Connection, clock: Clock) -> int:
    """The time of the wall clock, for records to be appended within the transaction.

    Raises:
        ClockError: it was set forward too far since it was trusted.
    """
    now = clock.reading()
    if (refusal := _refusal(connection, now)) is not None:
        raise ClockError(refusal)
    return now.now_us


def _refusal(connection: sqlite3.Connection, now: ClockReading) -> str | None:
    trusted = _trusted(connection)
    step_us = 0 if trusted is None else step_forward_us(*trusted, now)
    return describe_step(step_us, now.now_us) if step_us > LARGEST_STEP_US else None


def _trusted(connection: sqlite3.Connection) -> tuple[str, int] | None:
    row = connection.execute(_TRUSTED).fetchone()
    if row is None:
        return None
    boot, _, started_us = str(row[0]).rpartition(" ")
    return boot, int(started_us)


class SqliteClockWatch:
    """Keeps the trusted clock of one database. Its methods block for as long as a write does."""

    def __init__(self, path: Path | str, *, clock: Clock | None = None) -> None:
        self._file = locate(path)
        self._clock = clock or SystemClock()

    def look(self) -> str | None:
        """Trust the clock if it was not set forward too far; else return the reason why nothing is accepted.

        Raises:
            LogError: the database cannot be used.
        """
        return self._in_database(self._trust_unless_stepped)

    def accept(self) -> None:
        """Trust the clock as it is.

        Raises:
            LogError: the database cannot be used.
        """
        self._in_database(self._trust)

    def describe_refusal(self) -> str | None:
        """Why nothing is accepted by the clock as it is now; None if events are. Changes nothing.

        Raises:
            LogError: the database cannot be used.
        """
        return self._in_database(_refusal, read_only=True)

    def _in_database(
        self, work: Callable[[sqlite3.Connection, ClockReading], str | None], *, read_only: bool = False
    ) -> str | None:
        try:
            connection = connect(self._file, read_only=read_only)
            try:
                return work(connection, self._clock.reading())
            finally:
                connection.close()
        except sqlite3.Error as exc:
            raise LogError(f"{self._file}: {exc}") from exc

    def _trust_unless_stepped(self, connection: sqlite3.Connection, now: ClockReading) -> str | None:
        refusal = _refusal(connection, now)
        if refusal is None:
            self._trust(connection, now)
        return refusal

    def _trust(self, connection: sqlite3.Connection, now: ClockReading) -> None:
        trusted = _trusted(connection)
        if trusted is None or trusted[0] != now.boot or abs(trusted[1] - now.started_us) > _DRIFT_US:
            with transaction(connection, timeout_s=_TIMEOUT_S):
                connection.execute(_TRUST, (f"{now.boot} {now.started_us}",))
