"""The facts of a log record, written after its message: ``(partition=2 offset=5 error='no leader')``."""

from __future__ import annotations

import logging
import re

from triggerstream.core.printable import escape

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_OURS = "triggerstream"
_BARE = re.compile(r"[\w.:/#@+-]+", re.ASCII)
"""Text that needs no quotes: it cannot look like another fact, or like the end of the facts."""


def facts_of(record: logging.LogRecord) -> str:
    """The fields that ``record`` was logged with, as the end of its line; empty if there are none.

    Only records of triggerstream have facts: libraries put any objects into their records. A field without a
    value is left out, and text that has more than one word is quoted. The result is one printable line.
    """
    if record.name != _OURS and not record.name.startswith(f"{_OURS}."):
        return ""
    facts = " ".join(
        f"{name}={_shown(value)}"
        for name, value in vars(record).items()
        if name not in _STANDARD and value is not None
    )
    return escape(f" ({facts})") if facts else ""


def _shown(value: object) -> str:
    return value if isinstance(value, str) and _BARE.fullmatch(value) else repr(value)
