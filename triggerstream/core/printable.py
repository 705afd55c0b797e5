"""Escapes control characters in text from outside; holds the one list of such characters.

Session ids, trigger names, reasons and errors are untrusted. A line break in one would forge a line of a
log, an escape sequence would control a terminal, and a bidirectional mark would make one name look like
another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

STEERING = (
    r"\x00-\x1f\x7f-\x9f"  # control characters: line breaks, tabs, escape sequences
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional marks
    r"\u2028\u2029"  # line and paragraph separators
    r"\u200b-\u200d\u2060-\u2065\ufeff\ufff9-\ufffb"  # invisible characters and annotations
    r"\ud800-\udfff"  # surrogates: bytes of an argument that were not UTF-8, which no encoder accepts
)
"""Characters that are shown as ``\\uXXXX``, as the members of a character class."""

_STEERING = re.compile(f"[{STEERING}]")


def escape(text: str) -> str:
    """``text`` on one line, with every character of the list written as an escape."""
    return _STEERING.sub(_escaped, text)


def shorten(text: str, most: int = 80) -> str:
    """The first ``most`` characters of ``text``, with an ellipsis if there are more."""
    return text if len(text) <= most else text[:most] + "…"


def ranges(numbers: Iterable[int]) -> str:
    """``0-3, 7``."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][-1] == number - 1:
            parts[-1][-1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts) or "none"


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
