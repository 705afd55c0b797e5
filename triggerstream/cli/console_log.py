"""Console log format: each record begins a line, which ends with its facts.

Text inside a record cannot begin another line.
"""

from __future__ import annotations

import logging
from types import TracebackType
from typing import TypeAlias

from triggerstream.cli.printing import without_passwords
from triggerstream.core.printable import escape
from triggerstream.engine.logfacts import facts_of
from triggerstream.engine.loglimit import LibraryLimit

_ExcInfo: TypeAlias = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)
_INDENT = "    "


class ConsoleFormatter(logging.Formatter):
    """Formats time, level, logger, message and facts on one line, and an indented traceback below it."""

    def __init__(self, line: str = "%(asctime)s %(levelname)s %(name)s: %(message)s") -> None:
        super().__init__(line)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The first line."""
        return escape(without_passwords(super().formatMessage(record) + facts_of(record)))

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 - logging's name
        """The traceback, escaped: the text of an exception may contain data from outside."""
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - logging's name
        """The stack."""
        return _indented(stack_info)


def console_handler() -> logging.Handler:
    """A handler that writes to standard error; of libraries, a bounded number of lines."""
    handler = logging.StreamHandler()
    handler.addFilter(LibraryLimit())
    handler.setFormatter(ConsoleFormatter())
    return handler


def _indented(lines: str) -> str:
    return "\n".join(_INDENT + escape(line) for line in lines.split("\n"))
