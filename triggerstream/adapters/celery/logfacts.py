"""Lines of triggerstream in the log of a Celery worker: with their facts, in Celery's format."""

from __future__ import annotations

import copy
import logging
from typing import Any

from celery.utils.log import ColorFormatter

from triggerstream.engine.logfacts import facts_of


class FactsFormatter(logging.Formatter):
    """Formats as ``formatter`` does; a record of triggerstream ends with its facts."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        """The lines of ``record``, which is not changed: other handlers may show its fields themselves."""
        if facts := facts_of(record):
            record = copy.copy(record)
            record.msg, record.args = record.getMessage() + facts, None
        return self._formatter.format(record)


def show_facts(logger: Any = None, **_: object) -> None:  # noqa: ANN401 - Celery's signal sends a logger
    """Show facts where Celery has set its own format up; an application's format is left as it is.

    A receiver of Celery's signal ``after_setup_logger``.
    """
    for handler in logging.getLogger(None if logger is None else logger.name).handlers:
        if isinstance(handler.formatter, ColorFormatter):
            handler.setFormatter(FactsFormatter(handler.formatter))
