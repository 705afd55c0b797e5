"""Durations as text: ``10s``, ``5m``, ``36h``, ``40d``, ``1h30m``."""

from __future__ import annotations

import re

from triggerstream.core.durations import UNITS
from triggerstream.core.tasks import LONGEST_US

_DURATION = re.compile(r"(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?")
_DIGITS = 18


def parse_duration(text: str) -> int | None:
    """Microseconds; None if ``text`` is not a duration: days, hours, minutes, seconds, in this order.

    Zero, and more than a hundred years, are not durations either.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    seconds = 0
    for digits, (_, factor) in zip(match.groups(), UNITS, strict=True):
        if digits is not None:
            if len(digits) > _DIGITS and len(digits.lstrip("0")) > _DIGITS:
                return None
            seconds += int(digits[-_DIGITS:]) * factor
    micros = seconds * 1_000_000
    return micros if 0 < micros <= LONGEST_US else None
