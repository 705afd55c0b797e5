"""Adds the facts of triggerstream's log records to their lines in the log of a Celery worker."""

from __future__ import annotations

import copy
import logging

from celery.utils.log import ColorFormatter

from triggerstream.engine.logfacts import facts_of


class FactsFormatter(logging.Formatter):
    """Formats as ``formatter`` does, with the facts of a record of triggerstream after its message."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        """The lines of ``record``."""
        if facts := facts_of(record):
            # The record itself is not changed: other handlers may show its fields themselves.
            record = copy.copy(record)
            record.msg, record.args = record.getMessage() + facts, None
        return self._formatter.format(record)


def show_facts(*, logger: logging.Logger, **_: object) -> None:
    """Have those handlers of ``logger`` show facts that Celery made; receiver of ``after_setup_logger``.

    A handler with a formatter of the application is left as it is.
    """
    for handler in logger.handlers:
        if isinstance(handler.formatter, ColorFormatter):
            handler.setFormatter(FactsFormatter(handler.formatter))
