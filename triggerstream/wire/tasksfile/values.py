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
        meant = meant_duration(node.text)
        hint = f"write `{meant}`" if meant is not None else _DURATIONS
        node.error("bad-duration", f"`{node.text[:40]}` is not a duration: {hint}")
    return micros


def meant_duration(text: str) -> str | None:
    """The duration that ``text`` says in another way: `1d` for `1 day`, `24 hours` or `P1D`; else None."""
    words = text.strip().lower()
    if _ISO.fullmatch(words):
        words = words.removeprefix("p").replace("t", " ")
    elif not _PARTS.fullmatch(words):
        return None
    seconds = sum(int(count) * _SECONDS[unit] for count, unit in re.findall("([0-9]+) ?([a-z])", words))
    meant = format_duration(seconds * 1_000_000)
    return None if parse_duration(meant) is None else meant


def describe_number(node: Node) -> str:
    """A number as it is, any other value by its type."""
    return node.kind if node.number is None else f"{node.number}"
