"""Bounds on what libraries write to a log."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from triggerstream.engine import loglimit
from triggerstream.engine.loglimit import LibraryLimit, RecurringLines, limit_library


@pytest.fixture
def now() -> list[float]:
    """The time, which a test may set."""
    return [1_000.0]


@pytest.fixture
def written(now: list[float], monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What a handler with the limit writes of all loggers."""
    # A command that another test called in this process keeps aiokafka's lines from the root logger.
    monkeypatch.setattr(logging.getLogger("aiokafka"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("aiokafka"), "filters", [])
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s"))
    handler.addFilter(LibraryLimit(lambda: now[0]))
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


def lines(written: io.StringIO) -> list[str]:
    return written.getvalue().splitlines()


def test_a_line_of_a_library_that_recurs_is_written_once_then_after_growing_pauses_with_a_count(
    written: io.StringIO, now: list[float]
) -> None:
    log = logging.getLogger("aiokafka")
    for second in range(7_200):  # two hours, ten lines each second
        now[0] = 1_000.0 + second
        for port in range(10):
            log.error("Unable connect to %s", port)
    found = lines(written)
    assert found[:4] == [
        "aiokafka Unable connect to 0",
        "aiokafka Unable connect to 0 (99 more such lines were left out)",
        "aiokafka Unable connect to 0 (199 more such lines were left out)",
        "aiokafka Unable connect to 0 (399 more such lines were left out)",
    ]
    # At last every ten minutes.
    assert len(found) < 20
    log.error("Another one")
    assert lines(written)[-1] == "aiokafka Another one"


def test_a_line_that_comes_again_after_a_long_time_is_new(written: io.StringIO, now: list[float]) -> None:
    log = logging.getLogger("aiokafka")
    for _ in range(3):
        log.error("Unable connect")
    now[0] += 3_600
    log.error("Unable connect")
    now[0] += 3_600
    for _ in range(2):
        log.error("Unable connect")
    assert lines(written) == [
        "aiokafka Unable connect",
        "aiokafka Unable connect (2 more such lines were left out)",
        "aiokafka Unable connect",
    ]


def test_messages_that_are_formatted_before_they_are_logged_are_bounded_too(
    written: io.StringIO, now: list[float]
) -> None:
    for attempt in range(1_000):
        logging.getLogger("mode").error("attempt %d" % attempt)  # noqa: G002, UP031 - as libraries do
    assert len(lines(written)) == 50
    now[0] += 11
    logging.getLogger("mode").error("Something else")
    assert lines(written)[50] == "mode Something else (950 more such lines were left out)"


def test_a_record_that_a_logger_and_a_handler_limit_is_counted_once(
    written: io.StringIO, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loglimit, "LIMIT", LibraryLimit(lambda: now[0]))
    log = logging.getLogger("limited.library.part")
    limit_library("limited.library")
    limit_library("limited.library")
    for _ in range(30):
        log.error("the same")
        now[0] += 1
    assert lines(written) == [
        "limited.library.part the same",
        "limited.library.part the same (9 more such lines were left out)",
    ]


def test_a_logger_that_floods_does_not_take_the_place_of_others_or_of_its_own_other_lines(
    written: io.StringIO,
) -> None:
    for _ in range(1_000):
        logging.getLogger("aiokafka").error("the flood")
    logging.getLogger("aiokafka.consumer").error("the group")
    logging.getLogger("aiokafka").error("the certificate")
    assert lines(written)[-2:] == ["aiokafka.consumer the group", "aiokafka the certificate"]


def test_our_own_lines_always_pass(written: io.StringIO) -> None:
    for _ in range(1_000):
        logging.getLogger("triggerstream.engine.partitioned.partition").error("ours")
    assert len(lines(written)) == 1_000


def test_a_message_that_is_no_text_is_bounded(written: io.StringIO) -> None:
    for number in range(100):
        logging.getLogger("faust").error(ValueError(number))
    assert len(lines(written)) == 1


def test_lines_below_a_warning_may_come_from_several_services_at_once(
    written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logging.getLogger("mode.services")
    monkeypatch.setattr(log, "level", logging.INFO)
    for name in range(100):
        log.info("[^%s]: Starting...", name)
    assert len(lines(written)) == 5


def test_our_lines_that_recur_have_the_number_left_out(
    now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    recurring = RecurringLines(logging.getLogger("triggerstream.test"), lambda: now[0])
    for second in range(3_600):
        now[0] = 1_000.0 + second
        for _ in range(24):
            recurring.write("index is behind", extra={"reason": "disk full"})
    recurring.write("index is behind", key="another")
    left_out = [getattr(record, "left_out", 0) for record in caplog.records]
    assert left_out[:4] == [0, 239, 479, 959]
    assert left_out[-1] == 0
    assert len(left_out) < 20
    assert {record.getMessage() for record in caplog.records} == {"index is behind"}


def test_keys_beyond_a_bound_share_a_pause(now: list[float], caplog: pytest.LogCaptureFixture) -> None:
    recurring = RecurringLines(logging.getLogger("triggerstream.test"), lambda: now[0])
    for key in range(1_000):
        recurring.write("refused", key=key)
    assert len(caplog.records) == 101
