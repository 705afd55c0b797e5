"""Heap of sessions by due time.

It decides nothing: it selects sessions for which timer events are appended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush

from triggerstream.core.ids import SessionId

AGAIN_US = 1_000_000
"""Time after which a timer event is appended again if the state does not include it yet."""
_TAKEN = -1


class Timers:
    """The due times of a partition's sessions.

    A session leaves only when ``update`` says that its folded state no longer has that due time.
    """

    def __init__(self, due: Mapping[SessionId, int]) -> None:
        self._due = dict(due)
        self._wake = dict(due)
        self._heap = [(at_us, session) for session, at_us in due.items()]
        heapify(self._heap)

    def __len__(self) -> int:
        return len(self._due)

    def update(self, session: SessionId, due_us: int | None) -> bool:
        """Set the due time of ``session``, from its folded state. True if it is the earliest of all."""
        if due_us is None:
            if session in self._due:
                del self._due[session]
                del self._wake[session]
            return False
        if self._due.get(session) == due_us:
            return False
        self._due[session] = self._wake[session] = due_us
        heappush(self._heap, (due_us, session))
        return self.next_us() == due_us

    def next_us(self) -> int | None:
        """The time at which ``take`` will next return a session."""
        while self._heap:
            at_us, session = self._heap[0]
            if self._wake.get(session) == at_us:
                return at_us
            heappop(self._heap)
        return None

    def take(self, now_us: int, *, limit: int) -> list[SessionId]:
        """Up to ``limit`` sessions whose timers are due; they are not returned again before ``again``."""
        taken: list[SessionId] = []
        while len(taken) < limit:
            at_us = self.next_us()
            if at_us is None or at_us > now_us:
                break
            _, session = heappop(self._heap)
            self._wake[session] = _TAKEN
            taken.append(session)
        return taken

    def again(self, sessions: Iterable[SessionId], now_us: int) -> None:
        """Return those of ``sessions`` with an unchanged due time again, one second after ``now_us``."""
        for session in sessions:
            if self._wake.get(session) == _TAKEN:
                self._wake[session] = now_us + AGAIN_US
                heappush(self._heap, (now_us + AGAIN_US, session))
