"""Durations as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggerstream.core.durations import format_duration
from triggerstream.core.tasks import LONGEST_US
from triggerstream.wire.durations import parse_duration

SECOND = 1_000_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10),
        ("5m", 300),
        ("36h", 36 * 3600),
        ("40d", 40 * 86_400),
        ("1h30m", 5_400),
        ("1d2h3m4s", 93_784),
        ("090s", 90),
        ("36600d", 36_600 * 86_400),
        ("0" * 5_000 + "1s", 1),
    ],
)
def test_reads(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds * SECOND


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "0s",
            "0d0h",
            "-5m",
            "+5m",
            "5",
            "m",
            "1.5h",
            "5 m",
            " 5m",
            "5m\n",
            "30m1h",
            "1h1h",
            "5M",
            "5ms",
        ),
        *("٣s", "1y", "36600d1s", "9" * 5_000 + "s"),
    ],
)
def test_refuses(text: str) -> None:
    assert parse_duration(text) is None


@pytest.mark.laws
@given(st.integers(1, LONGEST_US // SECOND))
def test_what_is_written_is_read_back(seconds: int) -> None:
    assert parse_duration(format_duration(seconds * SECOND)) == seconds * SECOND


@pytest.mark.laws
@given(st.text())
def test_any_text_is_a_duration_or_none(text: str) -> None:
    micros = parse_duration(text)
    assert micros is None or 0 < micros <= LONGEST_US
