"""Expressions of a leaf's ``where``: a part of CEL, compiled to Python closures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from triggerstream.core.ids import Json, JsonObject

Matches: TypeAlias = Callable[[JsonObject, int, str, str | None], Json]
"""Arguments: an event's data, its time in microseconds, its session, the id that its producer gave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """An expression: its text, and the function that it was compiled to."""

    text: str
    matches: Matches = field(repr=False, compare=False)
