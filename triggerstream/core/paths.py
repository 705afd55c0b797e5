"""Paths into an event's data as text: ``data.order.id``, ``data["order id"].x``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from triggerstream.core.conditions import Path

_ROOT: Final = "data"
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_STEP = re.compile(
    rf"""\.(?P<name>{_NAME})"""
    r"""|\[(?:"(?P<double>(?:[^"\\]|\\["'\\])*)"|'(?P<single>(?:[^'\\]|\\["'\\])*)')\]"""
)
_ESCAPED = re.compile(r"\\(.)")
_AS_NAME = re.compile(_NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class BadPath:
    """The reason why a text is no path, and the column in it, from 1."""

    message: str
    column: int


def parse_path(text: str) -> Path | BadPath:
    """The keys that the path ``text`` names."""
    if not re.match(rf"{_ROOT}(?![A-Za-z0-9_])", text):
        likely = f"{_ROOT}.{text}"
        hint = f"`{likely}`" if isinstance(parse_path(likely), tuple) else "`data.order.id`"
        return BadPath(message=f"a path begins with `{_ROOT}`: write {hint}", column=1)
    if text == _ROOT:
        message = f"`{_ROOT}` is all that an event brought: name a key in it, as in `data.id`"
        return BadPath(message=message, column=1)
    keys: list[str] = []
    at = len(_ROOT)
    while at < len(text):
        step = _STEP.match(text, at)
        if step is None:
            message = 'a path goes on with `.name` or `["name"]`, as in `data.order["line item"].id`'
            return BadPath(message=message, column=at + 1)
        name, double, single = step.group("name", "double", "single")
        quoted = double if double is not None else single
        keys.append(name if name is not None else _ESCAPED.sub(r"\1", quoted))
        at = step.end()
    return tuple(keys)


def format_path(path: Path) -> str:
    """The text of ``path``, as a tasks file has it."""
    steps = (
        f".{key}" if _AS_NAME.fullmatch(key) else '["' + re.sub(r'(["\\])', r"\\\1", key) + '"]'
        for key in path
    )
    return _ROOT + "".join(steps)
