"""Size of a step of the clock, in figures and in words."""

from __future__ import annotations

import pytest

from triggerstream.core.durations import describe_duration
from triggerstream.core.ids import Instant
from triggerstream.engine.clock_step import ClockReading, describe_step, step_forward_us
from triggerstream.present import time_words

SECOND = 1_000_000
NOW = 1_767_225_600 * SECOND


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (6 * 60, "6 minutes"),
        (2 * 3600, "2 hours"),
        (47 * 3600, "47 hours"),
        (400 * 86_400, "400 days"),
        (5_000 * 86_400, "5,000 days"),
    ],
)
def test_a_duration_is_in_the_largest_unit_of_which_it_has_two(seconds: int, says: str) -> None:
    assert describe_duration(seconds * SECOND) == says


def test_only_a_clock_that_was_set_forward_since_the_same_start_has_stepped() -> None:
    now = ClockReading(boot="b", since_boot_us=100, now_us=1_100)
    assert now.started_us == 1_000
    assert step_forward_us("b", 400, now) == 600
    assert step_forward_us("b", 1_500, now) == 0
    assert step_forward_us("another", 400, now) == 0


def test_the_reason_says_by_how_much_and_what_to_do() -> None:
    says = describe_step(400 * 86_400 * SECOND, NOW)
    assert says.startswith(
        "this machine's clock was set forward by 400 days and shows 2026-01-01T00:00:00Z: "
    )
    assert "`triggerstream dev TASKS.json --accept-clock`" in says


def test_a_session_is_shown_as_ahead_from_five_minutes_on() -> None:
    five = Instant(NOW + 300 * SECOND)
    more = Instant(NOW + 301 * SECOND)
    assert time_words.last_event(five, five, now_us=NOW) == "2026-01-01 00:05:00Z"
    assert time_words.ahead(five, now_us=NOW) is None
    assert time_words.last_event(five, more, now_us=NOW) == "2026-01-01 00:05:00Z (clock 5 minutes ahead)"
    assert (time_words.clock(five, more), time_words.clock(five, five)) == (
        "its clock: 2026-01-01 00:05:01Z",
        "",
    )
    assert "`triggerstream instances release`" in (time_words.ahead(more, now_us=NOW) or "")
    assert (time_words.last_event(None, None, now_us=NOW), time_words.ahead(None, now_us=NOW)) == (
        "erased",
        None,
    )
