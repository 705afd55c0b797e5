"""Instants and durations as text."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from triggerstream.core.errors import DecodeError
from triggerstream.core.printable import shorten

_RFC3339 = re.compile(
    r"(\d{4}-(?:0[1-9]|1[0-2])-\d\d)[Tt ]((?:[01]\d|2[0-3]):[0-5]\d):(\d\d)(\.\d+)?"
    r"([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
"""Hours and minutes are checked here: Python 3.14 itself takes the hour 24, older ones do not."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND_US = 1_000_000
_FIRST_S = -62_135_596_800
_LAST_S = 253_402_300_799
"""The seconds of 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z: what an RFC 3339 year can say."""
_FIRST_US, _LAST_US = _FIRST_S * _SECOND_US, (_LAST_S + 1) * _SECOND_US - 1


def parse_instant(text: str, *, path: str = "/time") -> int:
    """Microseconds since the epoch of an RFC 3339 instant; digits beyond the microsecond are dropped.

    A leap second is the first second of the next minute, as POSIX clocks have it.

    Raises:
        DecodeError: not an instant with a time zone.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise DecodeError(_not_an_instant(text, path))
    day, minute, second, fraction, zone = match.groups()
    whole = _whole_s(day, minute, second, zone)
    if whole is None or not _FIRST_S <= whole <= _LAST_S:
        raise DecodeError(_not_an_instant(text, path))
    return whole * _SECOND_US + (int(fraction[1:7].ljust(6, "0")) if fraction else 0)


@lru_cache(maxsize=1_000)
def _whole_s(day: str, minute: str, second: str, zone: str) -> int | None:
    """The second that the parts of an instant name; None if there is none. Cached as ``_second`` is."""
    leap = second == "60"
    try:
        moment = datetime.fromisoformat(f"{day}T{minute}:{'59' if leap else second}{zone.upper()}")
    except ValueError:
        return None
    since = moment - _EPOCH
    return since.days * 86_400 + since.seconds + leap


def format_instant(instant_us: int) -> str:
    """RFC 3339 in UTC: ``2026-03-01T12:00:00.25Z``, without trailing zeros, in the years 1 to 9999."""
    if not _FIRST_US <= instant_us <= _LAST_US:
        instant_us = min(max(instant_us, _FIRST_US), _LAST_US)
    rest = instant_us % _SECOND_US
    second = _second(instant_us // _SECOND_US)
    # The digits of a second more than the rest are faster to make than zeros before it.
    return f"{second}.{str(_SECOND_US + rest)[1:].rstrip('0')}Z" if rest else f"{second}Z"


@lru_cache(maxsize=1_000)
def _second(since_s: int) -> str:
    """Format a second. Cached: consecutive events are often of the same second, and formatting takes 2 µs."""
    return (_EPOCH + timedelta(seconds=since_s)).replace(tzinfo=None).isoformat()


def _not_an_instant(text: str, path: str) -> str:
    return f"{path}: must be an RFC 3339 instant such as 2026-03-01T12:00:00Z, is `{shorten(text, 40)}`"
