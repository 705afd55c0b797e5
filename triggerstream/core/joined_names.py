"""Joins names to a part of a sentence: ``a, b and c``."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def join_names(names: Collection[str], word: str = "and") -> str:
    """``a, b and c``."""
    *others, last = names or ["nothing"]
    return f"{', '.join(others)} {word} {last}" if others else last


def join_first(names: Sequence[str], most: int) -> str:
    """The first ``most`` names, and the number of the others: ``a, b, c and 4 more``."""
    more = len(names) - most
    return join_names([*names[:most], f"{more:,} more"] if more > 0 else names)
