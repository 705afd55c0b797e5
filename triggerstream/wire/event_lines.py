"""Lists of events as files hold them, one JSON value a line or one JSON array, with the place of each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from triggerstream.core.errors import DecodeError
from triggerstream.wire.events import REHOMED_FROM
from triggerstream.wire.json import BYTE_ORDER_MARK

EXPORT_ATTRIBUTES = frozenset({"app", "generation", "offset", "received", "session", REHOMED_FROM})
"""Attributes that an export adds to an event; the record's key is the session."""
_DECODER = json.JSONDecoder()
_SPACE = " \t\n\r"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLocation:
    """A place that messages name: in a file with ``line`` and ``column``, else only by ``name``."""

    name: str
    line: int | None = None
    column: int = 1

    def __str__(self) -> str:
        """``events.jsonl:3:14``."""
        return self.name if self.line is None else f"{self.name}:{self.line}:{self.column}"

    def moved(self, *, line: int = 1, column: int = 1) -> SourceLocation:
        """The place of a line and column, both from 1, of a text that begins here."""
        if self.line is None:
            return self
        start = self.column if line == 1 else 1
        return replace(self, line=self.line + line - 1, column=start + column - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """A value of a list of events, as it is written."""

    place: SourceLocation
    text: bytes


def read_elements(lines: Iterable[bytes], *, name: str) -> Iterator[Element]:
    """The values of ``lines``: one a line, or all in one array, which begins with ``[``.

    Raises:
        DecodeError: the array is not JSON: ``events.json:3:14: …``. The values of lines are not parsed.
    """
    numbered = enumerate(lines, start=1)
    first = True
    for number, text in numbered:
        line = text.removeprefix(BYTE_ORDER_MARK)
        if not line.strip():
            continue
        if first and line.lstrip().startswith(b"["):
            rest = (line, *(text for _, text in numbered))
            whole = b"".join(part if part.endswith(b"\n") else part + b"\n" for part in rest)
            yield from _read_array(whole, SourceLocation(name=name, line=number))
            return
        first = False
        yield Element(place=SourceLocation(name=name, line=number), text=line)


def _read_array(whole: bytes, start: SourceLocation) -> Iterator[Element]:
    try:
        text = whole.decode()
    except UnicodeDecodeError as exc:
        before = whole[: exc.start].decode()
        raise DecodeError(f"{_place(before, len(before), start)}: not UTF-8") from exc
    at = _skip_space(text, text.index("[") + 1)
    known_at, known = 0, start
    while not text.startswith("]", at):
        known = _place(text[known_at:at], at - known_at, known)
        known_at = at
        end = _end_of_value(text, at, start)
        yield Element(place=known, text=text[at:end].encode())
        at = _skip_space(text, end)
        if text.startswith(",", at):
            at = _skip_space(text, at + 1)
            if text.startswith("]", at):
                raise DecodeError(f"{_place(text, at, start)}: not JSON: no `,` may stand before `]`")
        elif not text.startswith("]", at):
            raise DecodeError(f"{_place(text, at, start)}: not JSON: `,` or `]` is due")
    after = _skip_space(text, at + 1)
    if after < len(text):
        raise DecodeError(f"{_place(text, after, start)}: nothing may follow the array")


def _end_of_value(text: str, at: int, start: SourceLocation) -> int:
    try:
        return _DECODER.raw_decode(text, at)[1]
    except json.JSONDecodeError as exc:
        raise DecodeError(f"{_place(text, exc.pos, start)}: not JSON: {exc.msg}") from exc
    except (RecursionError, ValueError) as exc:
        raise DecodeError(f"{_place(text, at, start)}: not JSON that an event can hold") from exc


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _place(text: str, at: int, start: SourceLocation) -> SourceLocation:
    before = text[:at]
    return start.moved(line=before.count("\n") + 1, column=at - (before.rfind("\n") + 1) + 1)
