"""Limits for log lines that recur: written once, then after pauses that double, with the number left out.

Our own lines that a state of things outside can repeat (a full disk, a broker that is away, unknown clients)
are written through :class:`RecurringLines`. :class:`LibraryLimit` limits those of libraries.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

_FIRST_PAUSE_S = 10.0
_LONGEST_PAUSE_S = 600.0
"""A line that recurs is written at least this often: six lines an hour."""
_MOST_KEYS = 100
"""Kinds of lines that are told apart. Further ones share one pause, so that no input makes memory grow."""
_LINES = 10
"""Lines of all keys together before the pauses of :class:`LogLimit` begin."""
_LOGGER_LINES = 50
"""Lines of all templates together that a library's logger may write before its pauses begin."""
_OTHER_LINES = 5
"""Lines of one template below a warning that it may write: services of one kind report their start alike."""
_OURS = "triggerstream"

_passed = threading.local()
"""The last record that passed a :class:`LibraryLimit` in this thread: each record is counted once."""

_K = TypeVar("_K", bound=Hashable)


class Recurrence:
    """Decides when lines of one kind are written: ``most`` at once, then as many after each pause."""

    def __init__(self, most: int = 1) -> None:
        self._most = most
        self._begun = float("-inf")
        self._pause_s = 0.0
        self._written = 0
        self.left_out = 0
        """Lines left out since one was written."""

    def take(self, now: float) -> int | None:
        """Count a line. Returns the number left out before it, or None if it is left out itself."""
        since = now - self._begun
        if since >= self._pause_s:
            recurs = self.left_out > 0 or (self._most == 1 and since < 2 * self._pause_s)
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S) if recurs else _FIRST_PAUSE_S
            self._begun, self._written = now, 0
        if self._written >= self._most:
            self.left_out += 1
            return None
        self._written += 1
        left_out, self.left_out = self.left_out, 0
        return left_out


class Recurrences(Generic[_K]):
    """A :class:`Recurrence` for each key; keys beyond ``_MOST_KEYS`` share one."""

    def __init__(self) -> None:
        self._known: dict[_K | None, Recurrence] = {}

    def of(self, key: _K, *, most: int = 1) -> Recurrence:
        """The recurrence of ``key``; ``most`` lines of it are written at once."""
        full = len(self._known) >= _MOST_KEYS and key not in self._known
        return self._known.setdefault(None if full else key, Recurrence(most))


class RecurringLines:
    """Lines of ``logger`` that may recur, told apart by key.

    Any thread may write. There is no lock, which a fork could leave locked: of two lines at the same moment,
    both may be written.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._known: Recurrences[Hashable] = Recurrences()

    def write(
        self,
        message: str,
        *,
        key: Hashable = None,
        level: int = logging.WARNING,
        extra: Mapping[str, object] | None = None,
        exc_info: bool | BaseException = False,
    ) -> None:
        """Log ``message``, a constant, unless it was logged for ``key`` shortly before.

        The field ``left_out`` is the number of lines that were left out since then.
        """
        left_out = self._known.of((message, key)).take(self._clock())
        if left_out is not None:
            fields = dict(extra or {}) | ({"left_out": left_out} if left_out else {})
            self._logger.log(level, message, extra=fields, exc_info=exc_info)


class LogLimit:
    """Logs errors that unknown clients can cause: each message, and all together, with growing pauses."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._all = Recurrence(_LINES)
        self._known: Recurrences[str] = Recurrences()

    @property
    def left_out(self) -> int:
        """The number of lines left out since the last one was written."""
        return self._all.left_out

    def note(self, message: str, exc: object = None) -> None:
        """Log ``message``, with the traceback of ``exc`` if there is one."""
        now = self._clock()
        if self._known.of(message).take(now) is None:
            self._all.left_out += 1
            return
        left_out = self._all.take(now)
        if left_out is None:
            return
        known = exc if isinstance(exc, BaseException) else None
        more = f" ({left_out} more lines such as this were left out)" if left_out else ""
        self._logger.warning("%s: %r%s", message, known, more, exc_info=known)


class LibraryLimit(logging.Filter):
    """Filter of a handler or logger: limits the lines of libraries, and counts those left out.

    Our own lines always pass. A line that is written after others were left out says how many.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._known: Recurrences[tuple[str, str | None]] = Recurrences()

    def filter(self, record: logging.LogRecord) -> bool:
        """True if ``record`` is written."""
        if record.name == _OURS or record.name.startswith(f"{_OURS}."):
            return True
        if getattr(_passed, "record", None) is record:
            return True  # the limit of its logger has counted it already
        now = self._clock()
        text = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        most = 1 if record.levelno >= logging.WARNING else _OTHER_LINES
        with self._lock:
            logger = self._known.of((record.name, None), most=_LOGGER_LINES)
            such = self._known.of((record.name, text), most=most).take(now)
            if such is None:
                return False
            other = logger.take(now)
        if other is None:
            return False
        if left_out := such + other:
            # A new text, without arguments: those of the record belong to its template.
            record.msg = f"{record.getMessage()} ({left_out} more such lines were left out)"
            record.args = None
        _passed.record = record
        return True


LIMIT = LibraryLimit()
"""For a handler that the whole process shares: added again, it does not count twice."""


def limit_library(name: str) -> None:
    """Limit the lines of the library ``name`` in this process, whoever handles them.

    A filter of a logger does not see records of the loggers below it, so each of them gets it.
    """
    for known in [name, *logging.root.manager.loggerDict]:
        if known == name or known.startswith(f"{name}."):
            logging.getLogger(known).addFilter(LIMIT)
