"""An index of sessions in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from triggerstream.core.ids import SessionId
from triggerstream.core.listing import DuePlace
from triggerstream.engine.queries.index import NO_TIMERS

_DUE = "\0due "
"""Begins the tag in which a due time is kept, so that it outlasts the index as the tags do."""


class MemoryIndex:
    """A :class:`triggerstream.engine.queries.index.Index`. ``stamps`` is what outlasts it, by stamp."""

    def __init__(self, stamps: dict[str, dict[SessionId, frozenset[str]]] | None = None) -> None:
        self._stamps = {} if stamps is None else stamps
        self._tags: dict[SessionId, frozenset[str]] = {}

    def resume(self, stamp: str) -> bool:
        known = self._stamps.get(stamp)
        self.clear()
        if known is not None:
            self._tags = known
        return known is not None

    def put(
        self, entries: Sequence[tuple[SessionId, frozenset[str]]], due: Mapping[SessionId, int] = NO_TIMERS
    ) -> None:
        self._tags.update(
            (name, tags | {f"{_DUE}{due[name]}"} if name in due else tags) for name, tags in entries
        )

    def find(
        self, wanted: Sequence[str], *, prefix: str, after: SessionId | None, limit: int
    ) -> Sequence[SessionId]:
        names = (name for name, tags in self._tags.items() if tags.issuperset(wanted))
        return sorted(n for n in names if n.startswith(prefix) and (after is None or n > after))[:limit]

    def find_due(
        self, wanted: Sequence[str], *, prefix: str, after: DuePlace | None, until_us: int, limit: int
    ) -> Sequence[DuePlace]:
        places = (
            DuePlace(int(tag.removeprefix(_DUE)), name)
            for name, tags in self._tags.items()
            if name.startswith(prefix) and tags.issuperset(wanted)
            for tag in tags
            if tag.startswith(_DUE)
        )
        found = (one for one in places if one.due_us <= until_us and (after is None or one > after))
        return sorted(found)[:limit]

    def clear(self) -> None:
        self._tags = {}
        self._stamps.clear()

    def close(self, stamp: str | None) -> None:
        if stamp is not None:
            self._stamps[stamp] = self._tags
