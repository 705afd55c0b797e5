"""Facts of log records in the lines of a Celery worker."""

from __future__ import annotations

import logging

from celery.utils.log import ColorFormatter

from triggerstream.adapters.celery.logfacts import show_facts


def lines_of(formatter: logging.Formatter, *, name: str) -> list[str]:
    """The lines of two handlers with ``formatter``, for a record of the logger ``name`` with a fact."""
    logger = logging.getLogger("tests.show_facts")
    logger.handlers = [logging.StreamHandler(), logging.StreamHandler()]
    for handler in logger.handlers:
        handler.setFormatter(formatter)
    show_facts(logger=logger, signal=None, sender=None)
    fields = {"name": name, "msg": "command %s", "args": ("put back",), "partition": 2}
    record = logging.makeLogRecord(fields)
    return [handler.format(record) for handler in logger.handlers]


def test_a_line_of_ours_in_celerys_format_ends_with_its_facts_in_each_handler() -> None:
    celery = ColorFormatter("[%(name)s] %(message)s", use_color=False)
    line = "[triggerstream.a] command put back (partition=2)"
    assert lines_of(celery, name="triggerstream.a") == [line, line]


def test_other_lines_and_formats_of_an_application_are_left_as_they_are() -> None:
    celery = ColorFormatter("%(message)s", use_color=False)
    assert set(lines_of(celery, name="kombu")) == {"command put back"}
    own = logging.Formatter("%(message)s %(partition)s")
    assert set(lines_of(own, name="triggerstream.a")) == {"command put back 2"}
