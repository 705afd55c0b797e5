"""Bounds on what libraries write to a log."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from triggerstream.engine.loglimit import LibraryLimit


@pytest.fixture
def now() -> list[float]:
    """The time, which a test may set."""
    return [1_000.0]


@pytest.fixture
def written(now: list[float], monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What a handler with the limit writes of all loggers."""
    # A command that another test called in this process keeps aiokafka's lines from the root logger.
    monkeypatch.setattr(logging.getLogger("aiokafka"), "propagate", True)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s"))
    handler.addFilter(LibraryLimit(lambda: now[0]))
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


def lines(written: io.StringIO) -> list[str]:
    return written.getvalue().splitlines()


def test_lines_of_one_template_are_few_and_those_left_out_are_counted(
    written: io.StringIO, now: list[float]
) -> None:
    log = logging.getLogger("aiokafka")
    for port in range(1_000):
        log.error("Unable connect to %s", port)
    log.error("Another one")
    first = [f"aiokafka Unable connect to {port}" for port in range(5)]
    assert lines(written) == [*first, "aiokafka Another one"]
    now[0] += 61
    log.error("Unable connect to %s", "x")
    told, after = lines(written)[6:]
    assert told.endswith(": 995 more lines were left out within a minute such as: Unable connect to %s")
    assert after == "aiokafka Unable connect to x"


def test_messages_that_are_formatted_before_they_are_logged_are_bounded_too(
    written: io.StringIO, now: list[float]
) -> None:
    for attempt in range(1_000):
        logging.getLogger("mode").error("attempt %d" % attempt)  # noqa: G002, UP031 - as libraries do
    assert len(lines(written)) == 50
    now[0] += 61
    logging.getLogger("faust").error("Something else")
    assert lines(written)[50] == (
        "triggerstream.engine.loglimit mode: 950 more lines were left out within a minute"
    )


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
    assert len(lines(written)) == 5
