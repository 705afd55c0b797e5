"""Every line of a log begins with its time and level, and ends with its facts."""

from __future__ import annotations

import io
import logging
import re

import pytest

from triggerstream.cli.console_log import console_handler
from triggerstream.cli.dev.output import LogLines
from triggerstream.cli.opening import quiet
from triggerstream.core.errors import UsageError
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


def written_by_each(
    capsys: pytest.CaptureFixture[str],
    message: str,
    facts: dict[str, object],
    *,
    name: str = "triggerstream.x",
    cause: BaseException | None = None,
) -> dict[str, str]:
    """The line that a worker, dev or a bridge, and a command without a log write of one record."""
    record = logging.makeLogRecord({"name": name, "levelno": logging.WARNING, "levelname": "WARNING"} | facts)
    record.msg = message
    record.exc_info = None if cause is None else (type(cause), cause, None)
    stream, bridge = io.StringIO(), list[str]()
    worker = console_handler()
    assert isinstance(worker, logging.StreamHandler)
    worker.setStream(stream)
    worker.handle(record)
    LogLines(lambda _, line: bridge.append(line)).handle(record)
    quiet()
    assert logging.lastResort is not None
    logging.lastResort.handle(record)
    command = capsys.readouterr().err
    return {"worker": stream.getvalue(), "bridge": bridge[0], "command": command}


def test_each_line_ends_with_its_facts_in_one_form(capsys: pytest.CaptureFixture[str]) -> None:
    facts: dict[str, object] = {
        "partition": 2,
        "partitions": [1, 3],
        "command": "0f-1",
        "task": None,
        "error": "no leader",
    }
    lines = written_by_each(capsys, "range skipped", facts)
    said = "range skipped (partition=2 partitions=[1, 3] command=0f-1 error='no leader')"
    assert lines["worker"].endswith(f" WARNING triggerstream.x: {said}\n")
    assert (lines["bridge"], lines["command"]) == (said, f"{said}\n")
    assert written_by_each(capsys, "text", {"task": None})["bridge"] == "text"


def test_facts_are_printable_and_cannot_look_like_others(capsys: pytest.CaptureFixture[str]) -> None:
    evil = {"error": "x\n2026 ERROR\x1b[2J\u202e", "command": "a) (b=1", "names": ["\n"], "empty": ""}
    for line in written_by_each(capsys, "text", dict(evil)).values():
        assert line.rstrip("\n").endswith(
            r"text (error='x\n2026 ERROR\x1b[2J\u202e' command='a) (b=1' names=['\n'] empty='')"
        )
        assert line.rstrip("\n").isprintable()


def test_facts_show_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    lines = written_by_each(capsys, "text", {"error": "amqp://me:secret@host refuses"})
    assert "amqp://me:…@host" in lines["worker"]
    assert "secret" not in lines["worker"] + lines["command"]


def test_what_libraries_put_into_their_records_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    for line in written_by_each(capsys, "text", {"stack": object()}, name="mode.x").values():
        assert line.endswith(("text", "text\n"))


@pytest.mark.parametrize(
    ("cause", "says"),
    [
        (UsageError("no topic"), "text: no topic (partition=2)"),
        (ValueError("odd"), "text: ValueError: odd (partition=2)"),
    ],
)
def test_only_errors_of_others_are_named_by_their_class(
    cause: BaseException, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert written_by_each(capsys, "text", {"partition": 2}, cause=cause)["bridge"] == says
