"""The states of a partition's sessions: those in its store, and newer ones that are not durable yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from triggerstream.core.ids import SessionId
from triggerstream.engine.checkpoint import Stored
from triggerstream.engine.partitioned.ports import StateStore

FIRST = b"\x01"
"""No session's key is less; keys of entries about the partition itself are."""


class PartitionStates:
    """A store, and an overlay of states that are folded and not in the store yet."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._overlay: dict[bytes, bytes] = {}
        self.stored = store.get
        """The durable value of a key."""
        self.page = store.page
        """Durable entries in the order of keys."""
        self.make_room = store.make_room
        self.close = store.close

    def load(self, session: SessionId) -> bytes | None:
        """The newest state of a session, durable or not."""
        return self.newest(session.encode())

    def newest(self, key: bytes) -> bytes | None:
        """The newest value of a key, durable or not."""
        value = self._overlay.get(key)
        return self.stored(key) if value is None else value

    def add(self, states: Mapping[SessionId, Stored]) -> None:
        """Keep states that are folded and not durable yet."""
        overlay = self._overlay
        for session, stored in states.items():
            overlay[session.encode()] = stored.state

    def write(
        self, entries: Mapping[bytes, bytes], marks: Mapping[bytes, bytes | None], *, position: int
    ) -> None:
        """Store states and entries about the partition that the changelog has up to ``position``."""
        self._store.write({**entries, **marks}, position=position)
        overlay = self._overlay
        for key, value in entries.items():
            if overlay.get(key) is value:
                del overlay[key]

    def not_durable(self) -> list[tuple[bytes, bytes]]:
        """The states that are not in the store yet."""
        return list(self._overlay.items())

    def pages(self, *, after: bytes = FIRST, limit: int) -> Iterator[list[tuple[bytes, bytes]]]:
        """The newest states of all sessions in the store, page by page in the order of keys."""
        while page := self.page(after=after, limit=limit):
            yield [(key, self._overlay.get(key, value)) for key, value in page]
            after = page[-1][0]

    def sessions(
        self, *, prefix: str, after: SessionId | None, limit: int
    ) -> Sequence[tuple[SessionId, bytes]]:
        """The durable states of sessions whose id begins with ``prefix``, by id, beyond ``after``."""
        begin = prefix.encode()
        found: list[tuple[bytes, bytes]] = []
        if (after is None or after < prefix) and begin:
            value = self.stored(begin)
            found = [] if value is None else [(begin, value)]
        start = FIRST if after is None and not begin else max(begin, (after or "").encode())
        found += self.page(after=start, limit=limit - len(found))
        return [(SessionId(key.decode()), value) for key, value in found if key.startswith(begin)]
