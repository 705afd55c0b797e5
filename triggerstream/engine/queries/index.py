"""Secondary index from tags to sessions. Disposable: it can be rebuilt from the store.

The engine only notes which sessions changed. :func:`keep` updates the index in slices of some milliseconds,
between which the event loop does more urgent work. The tags come from
:func:`triggerstream.core.listing.tags_of` under the current rules; after a change of the rules, the index is
rebuilt. A state that the engine has just folded is not decoded for it again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol

from triggerstream.core.errors import DecodeError, LogError, TriggerstreamError
from triggerstream.core.fold import next_due
from triggerstream.core.ids import SessionId
from triggerstream.core.listing import DuePlace, tags_of
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import Rules
from triggerstream.engine.loglimit import RecurringLines
from triggerstream.wire import state as states

logger = logging.getLogger(__name__)

SLICE_S = 0.003
"""Time for which the index may keep the event loop busy at once."""
LEAST_SHARE = 0.05
"""Minimum share of the event loop's time for indexes."""
MOST_SHARE = 0.3
_IDLE_S = 0.2
CHANGED = 100_000
"""Maximum number of changed sessions to remember. Beyond it, a rebuild is less work. 10 MB of ids."""
NO_TIMERS: Final[Mapping[SessionId, int]] = MappingProxyType({})
_NO_TAGS: Final = frozenset[str]()
_STEP = 16
"""Sessions indexed between two reads of the clock: about a millisecond."""


class States(Protocol):
    """Reads stored sessions while they are written. Raises LogError if the store fails."""

    async def page(
        self, *, prefix: str, after: SessionId | None, limit: int
    ) -> Sequence[tuple[SessionId, bytes]]:
        """Sessions whose id begins with ``prefix``, by id, beyond ``after``."""

    async def some(self, sessions: Sequence[SessionId]) -> Mapping[SessionId, bytes]:
        """The stored ones of ``sessions``."""


class Index(Protocol):
    """Sessions by tag. Blocking, for one event loop; each call takes some milliseconds at most.

    Its content may be lost at any time, but is never wrong after ``resume`` has returned True.
    """

    def resume(self, stamp: str) -> bool:
        """True if it was closed with ``stamp``. Otherwise it is emptied."""

    def put(
        self, entries: Sequence[tuple[SessionId, frozenset[str]]], due: Mapping[SessionId, int] = NO_TIMERS
    ) -> None:
        """Replace the tags of these sessions, and the due times of their next timers."""

    def find(
        self, wanted: Sequence[str], *, prefix: str, after: SessionId | None, limit: int
    ) -> Sequence[SessionId]:
        """Sessions with all of the tags, by id, beyond ``after``."""

    def find_due(
        self, wanted: Sequence[str], *, prefix: str, after: DuePlace | None, until_us: int, limit: int
    ) -> Sequence[DuePlace]:
        """Sessions with all of the tags and a timer due until ``until_us``, by due time and id."""

    def clear(self) -> None:
        """Delete everything."""

    def close(self, stamp: str | None) -> None:
        """Close the index. With a ``stamp``, its content is equal to the store."""


class Indexer:
    """Updates ``index`` from the store.

    ``changed``: the maximum number of changed sessions to remember. ``read`` returns a session's state that
    has the stored bytes, and raises DecodeError if they are none. The state may raise it, too.
    """

    def __init__(
        self,
        index: Index,
        rules: Callable[[], Rules],
        *,
        changed: int = CHANGED,
        read: Callable[[SessionId, bytes], SessionState] = lambda _, value: states.decode(value),
    ) -> None:
        self._index = index
        self._rules = rules
        self._read = read
        self._most = changed
        self._config_hash: str | None = None
        self._resuming: str | None = None
        """The stamp with which the index is opened once it is needed."""
        self._changed: dict[SessionId, None] = {}
        self._after: SessionId | None = None
        self._scanned = False
        self._rebuilds = 0
        self._lock = asyncio.Lock()

    def resume(self, stamp: str) -> None:
        """Reuse the content of the index if it was closed with ``stamp``, a position and a configuration.

        It is opened when it is first needed: that takes milliseconds, and a worker has hundreds of them.
        """
        self._config_hash = self._rules().current.config.hash
        self._resuming = f"{stamp} {self._config_hash}"

    def _open(self) -> None:
        stamp, self._resuming = self._resuming, None
        if stamp is not None:
            self._scanned = self._index.resume(stamp)

    def note(self, sessions: Iterable[SessionId]) -> None:
        """Note that sessions changed."""
        self._changed.update(dict.fromkeys(sessions))
        if len(self._changed) > self._most:
            self.rebuild()

    def rebuild(self) -> None:
        """Rebuild the index."""
        self._rebuilds += 1
        self._resuming = None
        self._changed.clear()
        self._scanned = False
        self._after = None
        self._index.clear()

    @property
    def complete(self) -> bool:
        """True if it is up to date with the store."""
        return self._scanned and not self._changed

    def find(
        self, wanted: Sequence[str], *, prefix: str, after: SessionId | None, limit: int
    ) -> Sequence[SessionId]:
        """Sessions with all of the tags, among those indexed so far."""
        self._open()
        try:
            return self._index.find(wanted, prefix=prefix, after=after, limit=limit)
        except LogError:
            self.rebuild()
            raise

    def find_due(
        self, wanted: Sequence[str], *, prefix: str, after: DuePlace | None, until_us: int, limit: int
    ) -> Sequence[DuePlace]:
        """Sessions with all of the tags and a timer due until ``until_us``, among those indexed so far."""
        self._open()
        try:
            return self._index.find_due(wanted, prefix=prefix, after=after, until_us=until_us, limit=limit)
        except LogError:
            self.rebuild()
            raise

    async def work(self, source: States, *, slice_s: float = SLICE_S) -> bool:
        """Update the index for a slice of time. False: nothing is left to do.

        Raises:
            TriggerstreamError: the store or the index failed. Safe to call again.
        """
        async with self._lock:
            self._open()
            rules = self._rules()
            if rules.current.config.hash != self._config_hash:
                self._config_hash = rules.current.config.hash
                self.rebuild()
            until = time.monotonic() + slice_s
            while not self.complete:
                if self._changed:
                    await self._index_changed(rules, source)
                else:
                    await self._index_next_page(rules, source)
                if time.monotonic() >= until:
                    return not self.complete
            return False

    async def _index_changed(self, rules: Rules, source: States) -> None:
        # The newest first: a dictionary finds its oldest key only by passing all deleted ones.
        names = [self._changed.popitem()[0] for _ in range(min(_STEP, len(self._changed)))]
        try:
            found = await source.some(names)
            self._put(rules, [(name, found.get(name)) for name in names])
        except BaseException:
            self._changed.update(dict.fromkeys(names))
            raise

    async def _index_next_page(self, rules: Rules, source: States) -> None:
        rebuilds = self._rebuilds
        rows = await source.page(prefix="", after=self._after, limit=_STEP)
        if rebuilds != self._rebuilds:
            return  # it was reset meanwhile, and begins again
        self._put(rules, rows)
        self._scanned = len(rows) < _STEP
        self._after = rows[-1][0] if rows else self._after

    def _put(self, rules: Rules, rows: Iterable[tuple[SessionId, bytes | None]]) -> None:
        entries: list[tuple[SessionId, frozenset[str]]] = []
        due: dict[SessionId, int] = {}
        for name, value in rows:
            tags, due_us = (_NO_TAGS, None) if value is None else self._tags(rules, name, value)
            entries.append((name, tags))
            if due_us is not None:
                due[name] = due_us
        try:
            self._index.put(entries, due)
        except LogError:
            self.rebuild()
            raise

    def _tags(self, rules: Rules, session: SessionId, value: bytes) -> tuple[frozenset[str], int | None]:
        """The tags and due time of a session; none if its state is unreadable, which its page reports."""
        try:
            state = self._read(session, value)
            # Parts that are decoded when they are looked at may be damaged, too.
            return tags_of(rules, session, state), next_due(rules, state)
        except DecodeError:
            return _NO_TAGS, None

    def close(self, stamp: str) -> None:
        """Close the index. It can be resumed if it is up to date with the store."""
        # One that was never opened keeps its stamp, which is that of the store if nothing has changed.
        self._index.close(f"{stamp} {self._config_hash}" if self.complete else None)


async def ended(task: asyncio.Task[None]) -> None:
    """Cancel ``task``, and wait until it has ended."""
    task.cancel()
    await asyncio.wait([task])


async def keep(following: Callable[[], Iterable[tuple[Indexer, States]]]) -> None:
    """Run indexers until cancelled. Together they take no more than their share of the time."""
    pacer, behind = _Pacer(), RecurringLines(logger)
    while True:
        worked, rested = 0.0, False
        for indexer, source in list(following()):
            begun = time.thread_time()
            try:
                await indexer.work(source)
            except TriggerstreamError as exc:
                behind.write("index of sessions is behind", extra={"reason": str(exc)})
            worked += time.thread_time() - begun
            # Not only after the last one: with hundreds of indexes, the event loop would do nothing else.
            if worked >= SLICE_S:
                await pacer.rest(worked)
                worked, rested = 0.0, True
            else:
                await asyncio.sleep(0)
        if worked > SLICE_S / 2:
            await pacer.rest(worked)
        elif not rested:
            await asyncio.sleep(_IDLE_S)


class _Pacer:
    """Leaves the event loop to other work after each slice: the busier the process, the longer."""

    def __init__(self) -> None:
        self._at, self._spent = time.monotonic(), time.thread_time()

    async def rest(self, worked: float) -> None:
        """Sleep after indexers have used ``worked`` seconds of processor time since the last call."""
        since, self._at = self._at, time.monotonic()
        before, self._spent = self._spent, time.thread_time()
        part = share((self._spent - before - worked) / (self._at - since))
        await asyncio.sleep(worked / part - worked)


def share(busy: float) -> float:
    """The share of an event loop's time for indexes, if other work keeps it ``busy`` for this share."""
    return min(max(LEAST_SHARE, (1 - busy) / 2), MOST_SHARE)
