"""Every line of a log begins with its time and level."""

from __future__ import annotations

import io
import logging
import re

import pytest

from triggerstream.cli.console_log import console_handler
from triggerstream.cli.dev.output import LogLines
from triggerstream.engine.process_output import write_process_line
from triggerstream.loglines import line_head

HEAD = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} "


def test_a_line_of_a_process_has_time_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    write_process_line("bridge", "ready: partitions 0")
    write_process_line("bridge", "ending with status 70", "ERROR")
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(HEAD + r"INFO triggerstream bridge \d+: ready: partitions 0", first)
    assert re.fullmatch(HEAD + r"ERROR triggerstream bridge \d+: ending with status 70", second)


def test_a_record_is_written_with_its_level() -> None:
    found: list[tuple[str, str]] = []
    lines = LogLines(lambda level, line: found.append((level, line)))
    lines.handle(logging.LogRecord("triggerstream.x", logging.ERROR, "file", 1, "no %s", ("disk",), None))
    assert found == [("ERROR", "no disk")]


def test_all_heads_have_one_form() -> None:
    """That of the supervisor and of processes is the one of the logging module."""
    stream = io.StringIO()
    handler = console_handler()
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream)
    handler.handle(logging.LogRecord("triggerstream.x", logging.WARNING, "file", 1, "text", None, None))
    assert re.match(HEAD + "WARNING ", stream.getvalue())
    assert re.fullmatch(HEAD + "WARNING", line_head("WARNING"))
