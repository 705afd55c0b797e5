"""Timestamps and durations: sums, text both ways, parts (docs/semantics.md, R13.19)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Final

from triggerstream.core.where.values import (
    Duration,
    EvaluationError,
    Run,
    Timestamp,
    Value,
    fail,
    kind,
    shown,
    take,
)

SECOND_NS: Final = 1_000_000_000
_FIRST_NS: Final = -62_135_596_800 * SECOND_NS
_LAST_NS: Final = 253_402_300_800 * SECOND_NS - 1
"""0001-01-01T00:00:00Z and the last nanosecond of 9999."""
_LONGEST_NS: Final = 315_576_000_000 * SECOND_NS + SECOND_NS - 1
"""What a Duration of Protocol Buffers can hold."""
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()


def shifted(sign: str, left: Value, right: Value) -> Timestamp | Duration | None:
    """A sum or difference with timestamps and durations; None if there is none of these two."""
    match left, right:
        case Timestamp(), Timestamp() if sign == "-":
            return Duration(left.ns - right.ns)
        case Timestamp(), Duration():
            return timestamp(left.ns + right.ns if sign == "+" else left.ns - right.ns)
        case Duration(), Timestamp() if sign == "+":
            return timestamp(left.ns + right.ns)
        case Duration(), Duration():
            return duration(left.ns + right.ns if sign == "+" else left.ns - right.ns)
        case _:
            return None


def timestamp(ns: int) -> Timestamp:
    """The instant ``ns`` after 1970, or an error if no timestamp goes so far."""
    if _FIRST_NS <= ns <= _LAST_NS:
        return Timestamp(ns)
    raise fail("a timestamp outside of the years 1 to 9999")


def duration(ns: int) -> Duration:
    """The span ``ns``, or an error if no duration is so long."""
    if -_LONGEST_NS <= ns <= _LONGEST_NS:
        return Duration(ns)
    raise fail("a duration of more than 10,000 years")


def event_time(time_us: int) -> Timestamp:
    """``time``, of an event's time in microseconds."""
    return timestamp(time_us * 1_000)


_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt]((?:[01]\d|2[0-3]):[0-5]\d):(\d\d)(?:\.(\d+))?"
    r"([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
"""Hours and minutes are checked here: Python 3.14 itself takes the hour 24, older ones do not."""
_LEAP_SECOND: Final = "60"
_DIGITS: Final = 9
"""Digits of a fraction that count: the rest is dropped."""


def parse_timestamp(text: str) -> Timestamp:
    """Read an instant of RFC 3339. A leap second is the first second of the next minute."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise EvaluationError(_no_timestamp, text)
    day, minute, second, fraction, zone = match.groups()
    leap = second == _LEAP_SECOND
    try:
        moment = datetime.fromisoformat(f"{day}T{minute}:{'59' if leap else second}")
    except ValueError:
        raise EvaluationError(_no_timestamp, text) from None
    since = moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    shift = 0
    if zone not in "Zz":
        shift = int(zone[1:3]) * 3_600 + int(zone[4:6]) * 60
        shift = -shift if zone[0] == "-" else shift
    seconds = since.days * 86_400 + since.seconds + leap - shift
    nanoseconds = int(fraction[:_DIGITS].ljust(_DIGITS, "0")) if fraction else 0
    return timestamp(seconds * SECOND_NS + nanoseconds)


def _no_timestamp(text: str) -> str:
    return f"timestamp() needs a string such as 2026-03-01T12:00:00Z, not {shown(text)}"


_UNITS_NS: Mapping[str, int] = {
    "h": 3_600 * SECOND_NS,
    "m": 60 * SECOND_NS,
    "s": SECOND_NS,
    "ms": 1_000_000,
    "us": 1_000,
    "ns": 1,
}
_TERMS = re.compile(r"[-+]?(?:0|(?:(?:\d+(?:\.\d*)?|\.\d+)(?:h|ms|m|s|us|ns))+)", re.ASCII)
_TERM = re.compile(r"(\d*)\.?(\d*)([a-z]+)", re.ASCII)
"""A term of a text that has been found to have nothing else."""
_DIGITS_BELOW: Final = 20
"""Digits of a fraction of a nanosecond that count, so that fractions can make up whole ones."""
_DURATION_CHARACTERS: Final = 200
"""Code points of a duration: the longest one with every unit has a third of that."""


def parse_duration(text: str) -> Duration:
    """Read ``1h30m``, ``-1.5s`` or ``0``."""
    if len(text) > _DURATION_CHARACTERS or _TERMS.fullmatch(text) is None:
        raise EvaluationError(_no_duration, text)
    whole_ns, parts = 0, 0
    for whole, fraction, unit in _TERM.findall(text):
        if whole:
            whole_ns += int(whole) * _UNITS_NS[unit]
        if fraction:
            parts += int(fraction[:_DIGITS_BELOW].ljust(_DIGITS_BELOW, "0")) * _UNITS_NS[unit]
    ns = whole_ns + parts // 10**_DIGITS_BELOW
    return duration(-ns if text.startswith("-") else ns)


def _no_duration(text: str) -> str:
    return f'duration() needs a string such as "90s", "5m" or "1h30m", not {shown(text)}'


def _fraction_text(ns: int) -> str:
    """A fraction of a second with as many digits as CEL writes: none, three, six or nine."""
    if not ns:
        return ""
    digits = f"{ns:09}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f".{digits}"


def timestamp_text(ns: int) -> str:
    """RFC 3339 in UTC."""
    seconds, rest = divmod(ns, SECOND_NS)
    moment = datetime(1970, 1, 1) + timedelta(seconds=seconds)  # noqa: DTZ001 - in UTC throughout
    return f"{moment.isoformat()}{_fraction_text(rest)}Z"


def duration_text(ns: int) -> str:
    """In seconds: ``5400s``, ``-0.500s``."""
    seconds, rest = divmod(abs(ns), SECOND_NS)
    return f"{'-' if ns < 0 else ''}{seconds}{_fraction_text(rest)}s"


def _date(stamp: Timestamp) -> date:
    return date.fromordinal(_EPOCH_DAY + stamp.ns // (86_400 * SECOND_NS))


_GETTERS: Mapping[str, Callable[[Timestamp], int]] = {
    "getFullYear": lambda stamp: _date(stamp).year,
    "getMonth": lambda stamp: _date(stamp).month - 1,
    "getDayOfMonth": lambda stamp: _date(stamp).day - 1,
    "getDayOfWeek": lambda stamp: _date(stamp).isoweekday() % 7,
    "getHours": lambda stamp: stamp.ns // _UNITS_NS["h"] % 24,
    "getMinutes": lambda stamp: stamp.ns // _UNITS_NS["m"] % 60,
}
_SPANS: Mapping[str, int] = {"getHours": _UNITS_NS["h"], "getMinutes": _UNITS_NS["m"]}
"""Getters that a duration has, too: all of its hours, all of its minutes."""


def part_of_time(getter: str, value: Value, run: Run) -> int:
    """``value.getHours()`` and its kin."""
    if type(value) is Timestamp:
        return _GETTERS[getter](value)
    if type(value) is Duration and getter in _SPANS:
        hours = abs(value.ns) // _SPANS[getter]
        return -hours if value.ns < 0 else hours
    take(run, value)
    raise EvaluationError(_no_time, getter, value)


def _no_time(getter: str, value: Value) -> str:
    hint = ": write timestamp(…) around it" if type(value) is str else ""
    return f"`{getter}` needs a timestamp, not {kind(value)}{hint}"
