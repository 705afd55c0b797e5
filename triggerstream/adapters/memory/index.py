"""An index of sessions in memory."""

from __future__ import annotations

from collections.abc import Sequence

from triggerstream.core.ids import SessionId


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

    def put(self, entries: Sequence[tuple[SessionId, frozenset[str]]]) -> None:
        self._tags.update(entries)

    def find(
        self, wanted: Sequence[str], *, prefix: str, after: SessionId | None, limit: int
    ) -> Sequence[SessionId]:
        names = (name for name, tags in self._tags.items() if tags.issuperset(wanted))
        return sorted(n for n in names if n.startswith(prefix) and (after is None or n > after))[:limit]

    def clear(self) -> None:
        self._tags = {}
        self._stamps.clear()

    def close(self, stamp: str | None) -> None:
        if stamp is not None:
            self._stamps[stamp] = self._tags
