"""Values and keys of a tasks file with their path and position, and the findings about them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal

from triggerstream.core.errors import Finding
from triggerstream.core.similar_names import invisible_characters
from triggerstream.wire.tasksfile.lexemes import Broken, place_in_string
from triggerstream.wire.tasksfile.tree import Array, Document, Object, Path, Scalar, Value, pointer


class Findings:
    """The findings about a document. ``errors`` is the number of those that are errors, not warnings."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._found: list[tuple[int, Finding]] = []
        self.errors = 0

    def add(
        self, code: str, at: int, path: Path, message: str, *, severity: Literal["error", "warning"] = "error"
    ) -> None:
        """Add a finding at a position."""
        line, column = self._document.position(at)
        self.errors += severity == "error"
        finding = Finding(
            severity=severity, code=code, line=line, column=column, path=pointer(path), message=message
        )
        self._found.append((at, finding))

    def where(self, at: int) -> str:
        """A position as ``line:column``."""
        return self._document.where(at)

    def inside(self, at: int, index: int) -> int:
        """The position of character ``index`` of the string that begins at ``at``."""
        return place_in_string(self._document.text, at, index)

    def add_warnings_of(self, other: Findings) -> None:
        """Add the findings of ``other``, which are about the same document, as warnings."""
        self._found.extend((at, replace(finding, severity="warning")) for at, finding in other._found)

    @property
    def document(self) -> Document:
        """The document that the findings are about."""
        return self._document

    def sorted(self) -> list[Finding]:
        """All findings, in the order of the file."""
        return [finding for _, finding in sorted(self._found, key=lambda pair: pair[0])]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedName:
    """A name of the file, a key or a trigger, with its path and position."""

    text: str
    at: int
    path: Path

    def error(self, findings: Findings, code: str, message: str) -> None:
        """Add an error about the name."""
        findings.add(code, self.at, self.path, message)

    def warn(self, findings: Findings, code: str, message: str) -> None:
        """Add a warning about the name."""
        findings.add(code, self.at, self.path, message, severity="warning")


class Node:
    """A value with its path and position, and the list to which findings about it are added."""

    __slots__ = ("findings", "path", "value")

    def __init__(self, value: Value, path: Path, findings: Findings) -> None:
        self.value = value
        self.path = path
        self.findings = findings

    @property
    def at(self) -> int:
        """The position of its first character."""
        return self.value.at

    def error(self, code: str, message: str) -> None:
        """Add an error about the value, unless it could not be read: that is a finding already."""
        if not self.is_broken:
            self.findings.add(code, self.value.at, self.path, message)

    def error_inside(self, code: str, message: str, *, column: int) -> None:
        """Add an error at a column, from 1, of the value, which is a string."""
        at = self.findings.inside(self.value.at, column - 1)
        self.findings.add(code, at, self.path, f"{message} (column {column} of the text)")

    def warn(self, code: str, message: str) -> None:
        """Add a warning about the value."""
        self.findings.add(code, self.value.at, self.path, message, severity="warning")

    @property
    def is_broken(self) -> bool:
        """True if the value could not be read."""
        return isinstance(self.value, Scalar) and isinstance(self.value.value, Broken)

    @property
    def is_null(self) -> bool:
        """True for ``null``."""
        return isinstance(self.value, Scalar) and self.value.value is None

    @property
    def is_object(self) -> bool:
        """True for an object."""
        return isinstance(self.value, Object)

    @property
    def is_list(self) -> bool:
        """True for a list."""
        return isinstance(self.value, Array)

    @property
    def is_whole(self) -> bool:
        """True if no syntax error can have hidden a part of the value."""
        return not self.is_broken if isinstance(self.value, Scalar) else self.value.whole

    @property
    def text(self) -> str | None:
        """The value of a string; None for any other type."""
        value = self.value
        return value.value if isinstance(value, Scalar) and isinstance(value.value, str) else None

    @property
    def number(self) -> int | float | None:
        """The value of a number; None for any other type. 5.0 equals 5, as in JSON Schema."""
        value = self.value.value if isinstance(self.value, Scalar) else None
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return int(value) if value == int(value) else value

    @property
    def flag(self) -> bool | None:
        """The value of ``true`` or ``false``; None for any other type."""
        value = self.value.value if isinstance(self.value, Scalar) else None
        return value if isinstance(value, bool) else None

    @property
    def kind(self) -> str:
        """The type of the value, in words for messages."""
        match self.value:
            case Array():
                return "a list"
            case Object():
                return "an object"
            case Scalar(value=bool(flag)):
                return "true" if flag else "false"
            case Scalar(value=None):
                return "null"
            case Scalar(value=str()):
                return "a string"
            case Scalar():
                return "a number"

    def members(self) -> Iterator[tuple[LocatedName, Node]]:
        """The keys and values of an object, repeated keys included; nothing for any other type."""
        if isinstance(self.value, Object):
            for member in self.value.members:
                path = (*self.path, member.key)
                yield (
                    LocatedName(text=member.key, at=member.at, path=path),
                    Node(member.value, path, self.findings),
                )

    def items(self) -> Iterator[Node]:
        """The values of a list; nothing for any other type."""
        if isinstance(self.value, Array):
            for index, item in enumerate(self.value.items):
                yield Node(item, (*self.path, index), self.findings)


def listed(names: Iterable[str]) -> str:
    """```a`, `b` and `c```."""
    *first, last = (f"`{name}`" for name in names)
    return f"{', '.join(first)} and {last}" if first else last


_NEAR = 0.66
"""Least ratio of equal letters of a key and the one that was meant: `rum` and `run` have two of three."""


def meant(key: str, known: Iterable[str]) -> str | None:
    """The known name that ``key`` probably stands for: it differs in case, style or by a typing error."""
    folded: Mapping[str, str] = {_fold(name): name for name in known}
    close = get_close_matches(_fold(key[:80]), folded, n=1, cutoff=_NEAR)
    return folded[close[0]] if close else None


def shown(name: str) -> str:
    """The first characters of ``name`` for a message, with invisible ones as ``<U+200B>``."""
    hidden = invisible_characters(name)
    text = name[:80]
    return "".join(f"<U+{ord(char):04X}>" if char in hidden and char != " " else char for char in text)


def unknown_key(key: str, known: Iterable[str], otherwise: str) -> str:
    """The message about a key that is none of ``known``."""
    likely = meant(key, known)
    return f"unknown key `{key[:80]}`: " + (f"did you mean `{likely}`?" if likely else otherwise)


def _fold(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())
