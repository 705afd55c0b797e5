"""Tracebacks with the application's frames: without those of Celery and of triggerstream around them."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

import billiard
import celery
import kombu

_LOGGERS = ("celery.app.trace", "celery.worker.request")


def format_user_traceback(exc: BaseException) -> str:
    """The traceback of ``exc`` and its causes, without the frames of the machinery around the task."""
    found = traceback.TracebackException.from_exception(exc)
    pending, known = [found], set[int]()
    while pending:
        part = pending.pop()
        if id(part) in known:
            continue
        known.add(id(part))
        part.stack = traceback.StackSummary.from_list(
            [frame for frame in part.stack if not _is_around(frame.filename)]
        )
        pending += [one for one in (part.__cause__, part.__context__, *(part.exceptions or ())) if one]
    return "".join(found.format())


class UserTracebacks(logging.Filter):
    """Makes a log record show :func:`format_user_traceback` of its exception."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the record."""
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = format_user_traceback(record.exc_info[1]).rstrip("\n")
        return True


def show_user_tracebacks() -> None:
    """Have Celery log tracebacks of tasks with the application's frames only."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(one, UserTracebacks) for one in logger.filters):
            logger.addFilter(UserTracebacks())


_PACKAGE = Path(__file__).parents[2]
_DEMO = _PACKAGE / "demo"
"""The demonstration's tasks are an application."""
_DIRECTORIES = (
    _PACKAGE,
    *(Path(module.__file__ or "").absolute().parent for module in (celery, billiard, kombu)),
)


def _is_around(filename: str) -> bool:
    path = Path(filename)
    return any(path.is_relative_to(place) for place in _DIRECTORIES) and not path.is_relative_to(_DEMO)
