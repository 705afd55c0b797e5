from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggerstream.core.errors import DecodeError
from triggerstream.wire.instants import format_instant, parse_instant

FIRST_US = -62_135_596_800_000_000
LAST_US = 253_402_300_799_999_999
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NEW_YEAR_2017_US = 1_483_228_800_000_000

INSTANTS = st.integers(min_value=FIRST_US, max_value=LAST_US)
OFFSETS = st.integers(min_value=-(24 * 60 - 1), max_value=24 * 60 - 1)


# ---- laws ---------------------------------------------------------------------------------------


@pytest.mark.laws
@given(INSTANTS)
def test_an_instant_comes_back_from_text(instant_us: int) -> None:
    assert parse_instant(format_instant(instant_us)) == instant_us


@pytest.mark.laws
@given(INSTANTS, OFFSETS, st.sampled_from("Tt "))
def test_an_offset_says_the_same_instant(instant_us: int, offset_min: int, between: str) -> None:
    local_us = instant_us + offset_min * 60_000_000
    if not FIRST_US <= local_us <= LAST_US:
        return
    hours, minutes = divmod(abs(offset_min), 60)
    sign = "-" if offset_min < 0 else "+"
    text = format_instant(local_us).removesuffix("Z").replace("T", between)
    assert parse_instant(f"{text}{sign}{hours:02}:{minutes:02}") == instant_us


@pytest.mark.laws
@given(
    st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)),  # noqa: DTZ001 - local times
    OFFSETS,
)
def test_an_instant_is_what_the_standard_library_says(local: datetime, offset_min: int) -> None:
    hours, minutes = divmod(abs(offset_min), 60)
    text = f"{local.isoformat()}{'-' if offset_min < 0 else '+'}{hours:02}:{minutes:02}"
    expected = (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)
    assert parse_instant(text) == expected


@pytest.mark.laws
@given(st.text() | st.text(alphabet="0123456789-:TZ.+ \n\u0661", min_size=15, max_size=30))
def test_text_is_an_instant_or_a_decode_error(text: str) -> None:
    try:
        instant_us = parse_instant(text)
    except DecodeError:
        return
    assert FIRST_US <= instant_us <= LAST_US
    assert parse_instant(format_instant(instant_us)) == instant_us


@given(st.integers())
def test_an_instant_beyond_the_years_is_shown_at_their_edge(instant_us: int) -> None:
    assert FIRST_US <= parse_instant(format_instant(instant_us)) <= LAST_US


# ---- examples -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "instant_us"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("2017-01-01t00:00:00z", NEW_YEAR_2017_US),
        ("2017-01-01 00:00:00Z", NEW_YEAR_2017_US),
        ("2017-01-01T00:00:00-00:00", NEW_YEAR_2017_US),
        ("2017-01-01T23:59:00+23:59", NEW_YEAR_2017_US),
        ("2016-12-31T18:30:00-05:30", NEW_YEAR_2017_US),
        ("2016-12-31T23:59:60Z", NEW_YEAR_2017_US),
        ("2016-12-31T15:59:60.5-08:00", NEW_YEAR_2017_US + 500_000),
        ("2017-01-01T00:00:00.1Z", NEW_YEAR_2017_US + 100_000),
        ("2017-01-01T00:00:00.000001Z", NEW_YEAR_2017_US + 1),
        ("2017-01-01T00:00:00.0000019Z", NEW_YEAR_2017_US + 1),
        ("2017-01-01T00:00:00." + "9" * 500 + "Z", NEW_YEAR_2017_US + 999_999),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000_000),
        ("0001-01-01T00:00:00Z", FIRST_US),
        ("9999-12-31T23:59:59.999999Z", LAST_US),
        ("9999-12-31T23:59:59.999999999Z", LAST_US),
    ],
)
def test_instants_of_rfc_3339(text: str, instant_us: int) -> None:
    assert parse_instant(text) == instant_us


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-03-01",
        "2026-03-01T12:00:00",
        "2026-03-01T12:00Z",
        "2026-03-01T12Z",
        "20260301T120000Z",
        "2026-W09-7T12:00:00Z",
        "2026-060T12:00:00Z",
        "2026-3-1T12:00:00Z",
        "2026-03-01T12:00:00+01",
        "2026-03-01T12:00:00+0100",
        "2026-03-01T12:00:00+24:00",
        "2026-03-01T12:00:00+01:60",
        "2026-03-01T12:00:00+01:00:00",
        "2026-03-01T12:00:00 Z",
        "2026-03-01T12:00:00.Z",
        "2026-03-01T12:00:00,5Z",
        "2026-03-01T24:00:00Z",
        "2026-03-01T12:60:00Z",
        "2026-03-01T12:00:61Z",
        "2026-13-01T12:00:00Z",
        "2026-00-01T12:00:00Z",
        "2026-02-30T12:00:00Z",
        "2025-02-29T12:00:00Z",
        "2026-03-00T12:00:00Z",
        "2026-03-01_12:00:00Z",
        "2026-03-01T12:00:00Z\n",
        " 2026-03-01T12:00:00Z",
        "٢٠٢٦-03-01T12:00:00Z",
        "12026-03-01T12:00:00Z",
        "-2026-03-01T12:00:00Z",
        "0000-12-31T12:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "9999-12-31T23:59:60Z",
    ],
)
def test_what_rfc_3339_does_not_allow_is_refused(text: str) -> None:
    with pytest.raises(DecodeError, match="/time: must be an RFC 3339 instant such as 2026-03-01T12:00:00Z"):
        parse_instant(text)


def test_a_refusal_names_the_place() -> None:
    with pytest.raises(DecodeError, match=r"^/decided: must be an RFC 3339 instant"):
        parse_instant("soon", path="/decided")


@pytest.mark.parametrize(
    ("instant_us", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1, "1970-01-01T00:00:00.000001Z"),
        (250_000, "1970-01-01T00:00:00.25Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
        (10_000_000, "1970-01-01T00:00:10Z"),
        (FIRST_US, "0001-01-01T00:00:00Z"),
        (LAST_US, "9999-12-31T23:59:59.999999Z"),
        (-(2**63), "0001-01-01T00:00:00Z"),
        (2**63 - 1, "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_instants_are_written_in_utc_without_trailing_zeros(instant_us: int, text: str) -> None:
    assert format_instant(instant_us) == text
