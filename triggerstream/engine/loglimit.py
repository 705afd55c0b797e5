"""Limits for log lines that unknown clients, or libraries without a broker, can cause."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

_LINES = 10
_WINDOW_S = 60.0
_SAME_LINES = 5
"""Lines of one template that a library's logger may write in a window."""
_LOGGER_LINES = 50
"""Lines in all that it may write: where messages are formatted before they are logged, no template recurs."""
_OURS = "triggerstream"

_K = TypeVar("_K", bound=Hashable)


class Allowance(Generic[_K]):
    """Counts lines by key, in windows of a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = -_WINDOW_S
        self.written: Counter[_K] = Counter()
        """Lines written in this window, by key."""
        self.left_out: Counter[_K] = Counter()
        """Lines left out in this window, by key."""

    def turn(self) -> Mapping[_K, int]:
        """Begin a new window if the last one is over. Returns the number of lines left out in that one."""
        now = self._clock()
        if now - self._begun < _WINDOW_S:
            return {}
        left_out, self.left_out = self.left_out, Counter()
        self._begun, self.written = now, Counter()
        return left_out

    def take(self, most: Mapping[_K, int]) -> bool:
        """Count a line; True if it may be written, because no key has reached its maximum."""
        for key, lines in most.items():
            if self.written[key] >= lines:
                self.left_out[key] += 1
                return False
        self.written.update(most.keys())
        return True


class LogLimit:
    """Logs at most ``_LINES`` lines in ``_WINDOW_S``, and the number of lines left out."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._allowance: Allowance[None] = Allowance()

    @property
    def left_out(self) -> int:
        """The number of lines left out in this window."""
        return self._allowance.left_out[None]

    def note(self, message: str, exc: object = None) -> None:
        """Log ``message``, with the traceback of ``exc`` if there is one."""
        if left_out := self._allowance.turn().get(None):
            self._logger.warning("%d more lines such as the last ones were left out", left_out)
        if not self._allowance.take({None: _LINES}):
            return
        known = exc if isinstance(exc, BaseException) else None
        self._logger.warning("%s: %r", message, known, exc_info=known)


class LibraryLimit(logging.Filter):
    """Filter of a handler: limits the lines of libraries in a minute, and counts those left out.

    Our own lines always pass. The first line of a library in a new minute is preceded by the counts.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._allowance: Allowance[tuple[str, str | None]] = Allowance(clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """True if ``record`` is written."""
        if record.name == _OURS or record.name.startswith(f"{_OURS}."):
            return True
        with self._lock:
            left_out = self._allowance.turn()
            template = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
            most = {(record.name, None): _LOGGER_LINES, (record.name, template): _SAME_LINES}
            passes = self._allowance.take(most)
        for (name, such), count in left_out.items():
            more = "" if such is None else f" such as: {such}"
            logger.warning("%s: %d more lines were left out within a minute%s", name, count, more)
        return passes


LIMIT = LibraryLimit()
"""For a handler that the whole process shares: added again, it does not count twice."""
