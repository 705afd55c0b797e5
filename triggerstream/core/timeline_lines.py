"""A long timeline of a session, whose entries stay encoded until they are looked at.

An event adds an entry and drops the oldest; it looks at no other. So the entries are lines of JSON.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Self, TypeAlias, overload

from triggerstream.core.instances import TimelineEntry


class TimelineLines(Sequence[TimelineEntry]):
    """Entries of a timeline, oldest first: ``lines``, and those ``added`` since. It is never modified."""

    __slots__ = ("_count", "_decoded", "added", "lines")

    def __init__(self, lines: bytes, count: int) -> None:
        """``lines``: ``count`` entries as JSON, each with a newline at its end."""
        self.lines = lines
        self.added: tuple[TimelineEntry, ...] = ()
        self._count = count
        self._decoded: list[TimelineEntry] | None = None

    @abstractmethod
    def decode(self, lines: bytes, count: int) -> list[TimelineEntry]:
        """Decode ``count`` entries.

        Raises:
            DecodeError: a line is damaged, or there are not as many as was said.
        """

    def with_entry(self, entry: TimelineEntry, limit: int) -> Self:
        """The newest ``limit`` entries of a timeline that goes on with ``entry``."""
        lines, count, added = self.lines, self._count, (*self.added, entry)
        while lines and count + len(added) > limit:
            lines, count = lines[lines.find(b"\n") + 1 :], count - 1
        longer = object.__new__(type(self))
        longer.lines, longer._count, longer._decoded = lines, count, None
        longer.added = added if lines else added[-limit:]
        return longer

    def entries(self) -> list[TimelineEntry]:
        """All entries, decoded."""
        if self._decoded is None:
            self._decoded = [*self.decode(self.lines, self._count), *self.added]
        return self._decoded

    def __len__(self) -> int:
        return self._count + len(self.added)

    def __iter__(self) -> Iterator[TimelineEntry]:
        return iter(self.entries())

    @overload
    def __getitem__(self, at: int) -> TimelineEntry: ...
    @overload
    def __getitem__(self, at: slice) -> list[TimelineEntry]: ...
    def __getitem__(self, at: int | slice) -> TimelineEntry | list[TimelineEntry]:
        if at == -1 and self.added:
            return self.added[-1]
        return self.entries()[at]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TimelineLines):
            other = other.entries()
        return self.entries() == other

    __hash__ = None  # type: ignore[assignment]  # it compares as a list does

    def __repr__(self) -> str:
        return repr(self.entries())


Timeline: TypeAlias = list[TimelineEntry] | TimelineLines
"""Entries, oldest first. Many that were read from a store are decoded when looked at."""


def with_entry(timeline: Timeline, entry: TimelineEntry, limit: int) -> Timeline:
    """The newest ``limit`` entries of a timeline that goes on with ``entry``."""
    if not isinstance(timeline, list):
        return timeline.with_entry(entry, limit)
    longer = [*timeline, entry]
    return longer if len(longer) <= limit else longer[-limit:]
