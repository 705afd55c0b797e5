"""All stored sessions of a partition, read in pages: for questions about every session at once.

Memory is bounded whatever the number of sessions: :class:`ChangelogSnapshot` copies the changelog of a shared
log to a store on disk, which keeps the newest value of each key.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from triggerstream.core import advice
from triggerstream.core.errors import DecodeError, LogError
from triggerstream.core.ids import AppId
from triggerstream.core.tasks import Rules
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.engine.partitioned.ports import Extent, Ledger, StateStore, UnreadableEntriesError
from triggerstream.engine.partitioned.takeover import rebuilt_after
from triggerstream.engine.partitioned.versions import read_history
from triggerstream.engine.stored_states import SOMEWHERE, StateDecoder
from triggerstream.wire.marks import CHECKPOINT_KEY, RESERVED, Identity, check_identity, decode_checkpoint

PAGE = 64
"""Sessions in a page: 256 MiB of the longest states, and for short ones little time beside the fold."""
_READINGS = 2
"""The second reading of a changelog takes what was appended during the first. Otherwise a session would be
missing whose entry was removed meanwhile in favour of a newer one."""

OnRead = Callable[[int, int], None]
"""Progress callback: what is read so far, and in total."""


async def nothing_to_close() -> None:
    """Do nothing."""


def ignore_progress(_done: int, _total: int) -> None:
    """An :data:`OnRead` that shows nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotBegin:
    """The facts that are known before the sessions are read.

    ``rules`` has the configurations that some session may still have to meet. ``offset`` is the next one that
    the engine will fold, ``log_end`` the offset after the last event. ``sessions`` is their number, if it is
    known.
    """

    rules: Rules
    offset: int
    log_end: int
    sessions: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotPage:
    """Some sessions, each key with its stored state, that include all events below ``offset``."""

    entries: Sequence[tuple[bytes, bytes]]
    offset: int


class SessionSnapshot(Protocol):
    """The stored sessions of a partition. It changes nothing, and may be read while the engine runs.

    Any method raises LogError if the data cannot be read.
    """

    @property
    def number(self) -> int:
        """The number of the partition."""

    @property
    def decoder(self) -> StateDecoder:
        """The decoder for its states."""

    async def open(self, on_read: OnRead) -> SnapshotBegin:
        """Prepare ``pages``; called once. ``on_read`` is called if this takes long.

        Raises:
            UsageError: the data belongs to another log or app.
        """

    def pages(self) -> AsyncGenerator[SnapshotPage]:
        """Every session once, in pages of bounded size, in any order."""

    async def close(self) -> None:
        """Close the connections, and delete what was made for reading."""


@dataclass(slots=True, eq=False, kw_only=True)
class ChangelogSnapshot:
    """A :class:`triggerstream.engine.queries.snapshots.SessionSnapshot` of a partition of a shared log.

    ``identity`` is that of the log now. ``open_store`` opens an empty store, which ``close`` closes.
    ``has_events`` returns whether the log has an event from one offset to before another: the last offsets of
    a log may be transaction markers only. ``closed`` is called when it is closed; other snapshots
    may still be read afterwards.
    """

    app: AppId
    number: int
    identity: Identity
    ledger: Ledger
    open_store: Callable[[], StateStore]
    has_events: Callable[[int, int], Awaitable[bool]]
    decoder: StateDecoder = SOMEWHERE
    configurations: ConfigurationCache = field(default_factory=ConfigurationCache)
    closed: Callable[[], Awaitable[None]] = nothing_to_close
    _store: StateStore | None = None
    _offset: int = 0

    async def open(self, on_read: OnRead) -> SnapshotBegin:
        self._store = store = self.open_store()
        store.position()
        committed: int | None = None
        log_end = await self._copy_changelog(store, on_read)
        value = store.get(CHECKPOINT_KEY)
        if value is None and (committed := await self.ledger.committed()):
            # Its first checkpoint may have come meanwhile.
            log_end = await self._copy_changelog(store, on_read)
            value = store.get(CHECKPOINT_KEY)
        if value is not None:
            try:
                mark = decode_checkpoint(value)
                rules = read_history(store.get, self.configurations).rules(self.app)
            except DecodeError as exc:
                raise LogError(
                    f"partition {self.number}: its checkpoint cannot be read ({exc}); "
                    f"{advice.rebuild(self.decoder.address)}"
                ) from exc
            check_identity(mark, self.identity, place=f"partition {self.number}")
            self._offset = mark.offset
            if mark.offset < log_end and not await self.has_events(mark.offset, log_end):
                log_end = mark.offset
        elif committed:
            raise LogError(
                f"partition {self.number}: its group has read up to offset {committed}, its changelog has no "
                f"checkpoint; {advice.rebuild(self.decoder.address)}"
            )
        else:
            rules = Rules(app=self.app)
        return SnapshotBegin(rules=rules, offset=self._offset, log_end=log_end)

    async def _copy_changelog(self, store: StateStore, on_read: OnRead) -> int:
        """Copy the changelog to ``store``; the end of the log, measured with the changelog's."""
        position, log_end = 0, 0
        for _ in range(_READINGS):
            extent = await self.ledger.extent()
            log_end = extent.log_end
            begin = max(position, extent.begin)
            if begin < extent.end:
                await self._copy(store, begin, extent, on_read)
            position = extent.end
        return log_end

    async def _copy(self, store: StateStore, begin: int, extent: Extent, on_read: OnRead) -> None:
        try:
            async with aclosing(self.ledger.changelog(begin, extent.end)) as pieces:
                async for entries, after in pieces:
                    store.write(entries, position=after)
                    await store.make_room()
                    on_read(after - extent.begin, extent.end - extent.begin)
        except UnreadableEntriesError as exc:
            try:
                rebuilt = rebuilt_after(exc, await self.ledger.rebuilt(extent.end))
            except UnreadableEntriesError as needed:
                repair = advice.rebuild_unreadable(self.decoder.address, lasting=needed.lasting)
                raise LogError(f"{needed}; {repair}") from needed
            store.wipe()
            await self._copy(store, rebuilt, extent, on_read)

    async def pages(self) -> AsyncGenerator[SnapshotPage]:
        store = self._store
        if store is None:
            raise LogError("this snapshot is not open")
        after = RESERVED + b"\xff"  # beyond the keys of entries about the partition
        while entries := store.page(after=after, limit=PAGE):
            yield SnapshotPage(entries=entries, offset=self._offset)
            after = entries[-1][0]

    async def close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            await store.close()
        await self.ledger.close()
        await self.closed()
