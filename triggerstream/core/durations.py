"""Durations as text: ``10s``, ``5m``, ``36h``, ``40d``, ``1h30m``."""

from __future__ import annotations

from typing import Final

UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
"""The units of a duration, in their order, with their seconds."""


def format_duration(micros: int) -> str:
    """The text that a tasks file has for ``micros``, without fractions of a second."""
    seconds = micros // 1_000_000
    parts: list[str] = []
    for unit, factor in UNITS:
        count, seconds = divmod(seconds, factor)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
