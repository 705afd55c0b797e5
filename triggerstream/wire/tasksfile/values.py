"""Reads values of keys that are strings, numbers, words, flags and durations."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from triggerstream.core.durations import format_duration
from triggerstream.wire.durations import parse_duration
from triggerstream.wire.tasksfile.nodes import Node

_UNIT: Final = r"(?:[wdhms]|(?:wk|week|day|hr|hour|min|minute|sec|second)s?)"
_PART: Final = rf"[0-9]{{1,9}} ?{_UNIT}"
_PARTS: Final = re.compile(rf"{_PART}(?:(?:, ?| and | ?){_PART})*")
_ISO: Final = re.compile(r"p(?:[0-9]{1,9}[wd])*(?:t(?:[0-9]{1,9}[hms])+)?")
_FRACTION: Final = re.compile(rf"([0-9]{{1,9}})\.([0-9]{{1,9}}) ?({_UNIT})")
_DIGITS: Final = re.compile(r"[0-9]{1,18}")
_MONTHS: Final = re.compile(r"[0-9]{1,9} ?M")
"""Minutes or months: whoever writes ``1M`` may mean either."""
_DURATIONS: Final = (
    "write days, hours, minutes and seconds in order, as in `40d`, `1h30m` or `10s`; more than zero, and no "
    "more than a hundred years"
)
_SECONDS: Final = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}


def read_choice(node: Node, choices: Iterable[str]) -> str | None:
    """One of a few words."""
    words = [str(choice) for choice in choices]
    if node.text in words:
        return node.text
    shown = " or ".join(f'`"{word}"`' for word in words)
    if node.text is None:
        node.error("wrong-type", f"must be {shown}, not {node.kind}")
    else:
        node.error("wrong-value", f"must be {shown}, not `{node.text[:40]}`")
    return None


def read_text(node: Node, of: str) -> str | None:
    """A string that is not empty; ``of`` says what it is."""
    if node.text is None:
        node.error("wrong-type", f"must be a string, {of}, not {node.kind}")
    elif not node.text:
        node.error("wrong-value", f"must not be empty: {of}")
    return node.text or None


def read_integer(node: Node, *, least: int, most: int) -> int | None:
    """An integer within two bounds."""
    number = node.number
    if not isinstance(number, int):
        message = f"must be an integer from {least} to {most:,}, not {describe_number(node)}"
        node.error("wrong-type", message)
        return None
    if not least <= number <= most:
        node.error("wrong-value", f"must be from {least} to {most:,}, not {number:,}")
        return None
    return number


def read_flag(node: Node) -> bool:
    """``true`` or ``false``; False where it is neither."""
    if node.flag is None:
        node.error("wrong-type", f"must be true or false, not {node.kind}")
    return bool(node.flag)


def read_duration(node: Node) -> int | None:
    """A duration in microseconds."""
    if node.text is None:
        seconds = node.number
        hint = f': write `"{seconds}s"` for seconds' if isinstance(seconds, int) and seconds > 0 else ""
        message = f"must be a duration such as `10s`, `5m`, `36h`, `40d` or `1h30m`, not {node.kind}{hint}"
        node.error("wrong-type", message)
        return None
    micros = parse_duration(node.text)
    if micros is None:
        node.error("bad-duration", f"`{node.text[:40]}` is not a duration: {_instead_of(node.text)}")
    return micros


def _instead_of(text: str) -> str:
    """The hint for a text that is not a duration: the text to write instead."""
    words = text.strip()
    if _MONTHS.fullmatch(words):
        count = words.rstrip(" M")
        return f"write `{count}m` for minutes; there are no months: write days, such as `30d`"
    if _DIGITS.fullmatch(words) and parse_duration(f"{words}s") is not None:
        return f"write `{words}s` for seconds"
    meant = meant_duration(text)
    return _DURATIONS if meant is None else f"write `{meant}`"


def meant_duration(text: str) -> str | None:
    """The duration that ``text`` says in another way: `1d` for `1 day`, `24 hours`, `1.0d` or `P1D`.

    None if it says none, or one that is not a whole number of seconds.
    """
    stripped = text.strip()
    if _MONTHS.fullmatch(stripped):
        return None
    words = stripped.lower()
    if (fraction := _FRACTION.fullmatch(words)) is not None:
        whole, part, unit = fraction.groups()
        seconds, rest = divmod(int(whole + part) * _SECONDS[unit[0]], 10 ** len(part))
        if rest:
            return None
    elif (iso := _ISO.fullmatch(words)) is not None or _PARTS.fullmatch(words):
        words = words.removeprefix("p").replace("t", " ") if iso is not None else words
        seconds = sum(int(count) * _SECONDS[unit] for count, unit in re.findall("([0-9]+) ?([a-z])", words))
    else:
        return None
    meant = format_duration(seconds * 1_000_000)
    return None if parse_duration(meant) is None else meant


def describe_number(node: Node) -> str:
    """A number as it is, any other value by its type."""
    return node.kind if node.number is None else f"{node.number}"
