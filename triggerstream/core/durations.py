"""Durations as text: as a tasks file has them (``1h30m``), and in words (``1 h 30 min``)."""

from __future__ import annotations

from typing import Final

UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
"""The units of a duration, in their order, with their seconds."""
_WORDS: Final = {"m": "min"}
_READ: Final = 2
"""Units that people read at a glance: `3 d 4 h` needs no minutes."""


def format_duration(micros: int) -> str:
    """The text that a tasks file has for ``micros``, without fractions of a second."""
    return "".join(f"{count}{unit}" for count, unit in _counts(micros) if count) or "0s"


def duration_in_words(micros: int) -> str:
    """A duration of a tasks file for people: `1 d 2 h 30 min`, without fractions of a second."""
    return _join(_counts(micros)) or "less than 1 s"


def short_duration(micros: int) -> str:
    """A time that passes, for people: its largest unit and the next one, rounded down."""
    counts = _counts(micros)
    first = next((place for place, (count, _) in enumerate(counts) if count), len(counts))
    return _join(counts[first : first + _READ]) or "less than 1 s"


def describe_duration(duration_us: int) -> str:
    """A duration for people, in its largest unit: `400 days`, `6 minutes`."""
    seconds = duration_us / 1_000_000
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        count = round(seconds / length)
        if seconds >= 2 * length or length == 1:
            return f"{count:,} {unit}{'' if count == 1 else 's'}"
    raise AssertionError(seconds)


def _counts(micros: int) -> list[tuple[int, str]]:
    """The number of each unit, the largest unit first."""
    seconds = max(micros, 0) // 1_000_000
    counts: list[tuple[int, str]] = []
    for unit, factor in UNITS:
        count, seconds = divmod(seconds, factor)
        counts.append((count, unit))
    return counts


def _join(counts: list[tuple[int, str]]) -> str:
    return " ".join(f"{count:,} {_WORDS.get(unit, unit)}" for count, unit in counts if count)
