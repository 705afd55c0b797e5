"""The tree of a JSON text, with the position of every value."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import TypeAlias

from triggerstream.core.errors import Finding
from triggerstream.core.ids import Json
from triggerstream.wire.tasksfile.lexemes import Broken, ScalarValue

Path: TypeAlias = "tuple[str | int, ...]"

_LINE_END = re.compile(r"\r\n|\n|\r")


# The tree is of plain slotted classes: a 1,000-task file has 25,000 values, and frozen dataclasses would
# double the time that reading takes. Nothing writes to them once `parse` has returned.
class Scalar:
    """A string, number, boolean, null, or a value that could not be made out. ``at`` is its place."""

    __slots__ = ("at", "value")

    def __init__(self, at: int, value: ScalarValue) -> None:
        self.at = at
        self.value = value


class Array:
    """A list. ``whole`` is false where a mistake may have hidden some of it."""

    __slots__ = ("at", "items", "whole")

    def __init__(self, at: int) -> None:
        self.at = at
        self.items: list[Value] = []
        self.whole = True


class Member:
    """A key and its value; ``at`` is the key's place."""

    __slots__ = ("at", "key", "value")

    def __init__(self, at: int, key: str, value: Value) -> None:
        self.at = at
        self.key = key
        self.value = value


class Object:
    """An object with its members in the file's order, repeated keys included. ``end``: its last character."""

    __slots__ = ("at", "end", "members", "whole")

    def __init__(self, at: int) -> None:
        self.at = at
        self.end = -1
        self.members: list[Member] = []
        self.whole = True


Value: TypeAlias = "Scalar | Array | Object"


class Document:
    """The result of parsing a text: ``root`` is None if there was no value at all."""

    __slots__ = ("_starts", "findings", "root", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.root: Value | None = None
        self.findings: list[Finding] = []
        self._starts: list[int] | None = None

    def position(self, at: int) -> tuple[int, int]:
        """The line and column of a position, both from 1. Columns count characters, without a BOM."""
        if self._starts is None:
            first = 1 if self.text.startswith("\ufeff") else 0
            self._starts = [first, *(m.end() for m in _LINE_END.finditer(self.text))]
        line = max(bisect_right(self._starts, at), 1)
        return line, max(at - self._starts[line - 1], 0) + 1

    def where(self, at: int) -> str:
        """``line:column`` of a place."""
        line, column = self.position(at)
        return f"{line}:{column}"


def pointer(path: Path) -> str:
    """``path`` as a JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def plain(value: Value) -> Json:
    """``value`` without places; of a repeated key the last one counts, what is broken is null."""
    match value:
        case Scalar(value=scalar):
            return None if isinstance(scalar, Broken) else scalar
        case Array(items=items):
            return [plain(item) for item in items]
        case Object(members=members):
            return {member.key: plain(member.value) for member in members}
