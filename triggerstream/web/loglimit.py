"""A bound on the lines that strangers can have logged."""

from __future__ import annotations

import logging
import time

_LINES = 10
_WINDOW_S = 60.0


class LogLimit:
    """Writes to a log at most ``_LINES`` lines in ``_WINDOW_S``, and how many were left out."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._begun = -_WINDOW_S
        self._lines = 0
        self.left_out = 0

    def note(self, message: str, exc: object = None) -> None:
        """Log ``message``; the traceback of ``exc`` goes to a log that is as verbose as that."""
        now = time.monotonic()
        if now - self._begun >= _WINDOW_S:
            if self.left_out:
                self._logger.warning("%d more lines such as the last ones were left out", self.left_out)
            self._begun, self._lines, self.left_out = now, 0, 0
        self._lines += 1
        if self._lines > _LINES:
            self.left_out += 1
            return
        known = exc if isinstance(exc, BaseException) else None
        self._logger.warning("%s: %r", message, known, exc_info=known)
