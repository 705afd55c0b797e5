"""Archive of a partition of a shared log: reads its changelog, and writes it again after a rebuild.

Old entries are superseded in one transaction: each existing key gets its new value, or none. The mark names
the position where the rebuild began, so that a worker recognises a local copy from before it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from triggerstream.core import advice, tasks
from triggerstream.core.errors import DecodeError, LogError
from triggerstream.core.ids import AppId
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.engine.partitioned.claims import Claims, FormerOwner
from triggerstream.engine.partitioned.ports import ArchiveLedger, Commit, Extent, UnreadableEntriesError
from triggerstream.engine.partitioned.takeover import is_committed, rebuilt_after
from triggerstream.engine.partitioned.versions import StoredHistory, history_entries, history_texts
from triggerstream.engine.replay.archive import DurableDecisions, RecordReader
from triggerstream.engine.replay.refold import Kept, Refolded
from triggerstream.engine.rows import ConfigurationText
from triggerstream.wire.marks import (
    CHECKPOINT_KEY,
    RESERVED,
    CheckpointMark,
    Identity,
    IdentityError,
    check_identity,
    decode_checkpoint,
    encode_checkpoint,
    in_force,
)
from triggerstream.wire.records import Record, offsets
from triggerstream.wire.retired import RETIRED_PREFIX, encode_key
from triggerstream.wire.signature import ControlKeys

logger = logging.getLogger(__name__)

_SKEW_US = 300_000_000
"""A command's time is its worker's, an event's the broker's: their clocks may differ by this much."""


async def _nothing() -> None:
    """Do nothing."""


@dataclass(slots=True, eq=False)
class ChangelogArchive:
    """An :class:`triggerstream.engine.replay.archive.Archive`. ``identity`` is that of the log now.

    ``fence_s``, ``commit_s``: the time limits for a fence and for writing the changelog, after which the
    operator can repeat the rebuild. ``control``: the keys that sign the engine's own events in the log, if
    they are signed.
    """

    app: AppId
    number: int
    identity: Identity
    ledger: ArchiveLedger
    log: RecordReader
    commands: RecordReader
    claims: Claims | None = None
    """The claim of this partition alone, for ``fence``; None: the partition is only read."""
    address: str = advice.ANY_APP
    control: ControlKeys | None = None
    configurations: ConfigurationCache = field(default_factory=ConfigurationCache)
    fence_s: float = 30.0
    commit_s: float = 300.0
    closed: Callable[[], Awaitable[None]] = _nothing
    """Called when it is closed."""
    _keys: frozenset[bytes] = frozenset()
    """The keys of sessions that the changelog has a value for."""
    _scanned: int = -1
    _marks: frozenset[bytes] = frozenset()
    """Keys with a value that are not keys of sessions."""
    _end: int = 0
    """End of the changelog when it was read."""
    _in_doubt: bool = False
    """True from the begin of a transaction until it is known to be committed."""

    @property
    def partitions(self) -> int:
        return self.identity.partitions

    async def fence(self) -> None:
        """Fence every worker: it claims the partition as a worker does. One that starts later fences it."""
        if self.claims is None:
            raise LogError(f"partition {self.number}: this archive is only read")
        try:
            async with asyncio.timeout(self.fence_s):
                await self.ledger.start()
                former = list((await self.claims.take()).get(self.number, ()))
                former.append(FormerOwner(id=await self.ledger.fence_old_release()))
                extent = await self.ledger.extent()
                if extent.unfinished is not None:
                    # As a take-over without a store does.
                    await self.ledger.finish(former, commit=is_committed(extent, position=None))
        except TimeoutError as exc:
            raise LogError(
                f"partition {self.number}: its owner was not fenced within {self.fence_s:g} s: repeat this"
            ) from exc

    async def kept(self) -> Kept:
        """The stored data at the current end of the changelog."""
        extent = await self.ledger.extent()
        self._end = extent.end
        entries, unreadable = await self._entries(extent)
        lost = None if unreadable is None else f"in its changelog, {unreadable.fault}"
        lasting = unreadable is not None and unreadable.lasting
        mark, why = self._mark(entries.get(CHECKPOINT_KEY))
        states = {
            key: value for key, value in entries.items() if value is not None and not key.startswith(RESERVED)
        }
        retired = {
            key: value
            for key, value in entries.items()
            if value is not None and key.startswith(RETIRED_PREFIX)
        }
        self._keys = frozenset(states)
        self._marks = frozenset(key for key, value in entries.items() if value is not None) - self._keys
        if mark is None or why is not None:
            self._scanned = -1
            return Kept(
                offset=None,
                why=why or lost or "its changelog has no checkpoint",
                group=None if why is not None else await self.ledger.committed(),
                partitions=None if mark is None else mark.identity.partitions,
                log_begin=extent.log_begin,
                log_end=extent.log_end,
                states=states,
                retired=retired,
                lost=lost,
                lost_lasting=lasting,
            )
        self._scanned = mark.scanned
        return Kept(
            offset=mark.offset,
            partitions=mark.identity.partitions,
            log_begin=extent.log_begin,
            log_end=extent.log_end,
            states=states,
            retired=retired,
            configurations=_texts(entries),
            scanned=mark.scanned,
            fold=mark.fold,
            lost=lost,
            lost_lasting=lasting,
        )

    async def _entries(
        self, extent: Extent
    ) -> tuple[dict[bytes, bytes | None], UnreadableEntriesError | None]:
        """The entries by key; and the error of some that no rebuild has replaced and that cannot be read.

        The unreadable ones may include the newest checkpoint, so only a checkpoint after them counts.
        """
        parts = await self.ledger.salvage(extent.begin, extent.end)
        first = lost = _first_error(parts)
        if first is not None:
            try:
                rebuilt = rebuilt_after(first, await self.ledger.rebuilt(extent.end))
                parts = await self.ledger.salvage(rebuilt, extent.end)
                lost = _first_error(parts)
            except UnreadableEntriesError as needed:
                lost = needed
        entries = dict[bytes, bytes | None]()
        for part in parts:
            if isinstance(part, UnreadableEntriesError):
                entries.pop(CHECKPOINT_KEY, None)
            else:
                entries.update(part)
        return entries, lost

    def _mark(self, value: bytes | None) -> tuple[CheckpointMark | None, str | None]:
        """The checkpoint, if there is one, and the reason if it does not belong to this log."""
        if value is None:
            return None, None
        try:
            mark = decode_checkpoint(value)
        except DecodeError as exc:
            return None, f"its checkpoint cannot be read ({exc})"
        try:
            check_identity(mark, self.identity, place="its changelog", repair="")
        except IdentityError as exc:
            return mark, str(exc)
        return mark, None

    def records(self, begin: int, end: int) -> AsyncGenerator[Sequence[Record]]:
        return self.log.records(begin, end)

    async def decided(self, arrival_us: int) -> DurableDecisions:
        """The commands in the commands topic from a little before that time on."""
        begin, end = await self.commands.since(arrival_us - _SKEW_US)
        positions: dict[bytes, int] = {}
        lost: tuple[int, str] | None = None
        async with aclosing(self.commands.records(begin, end)) as pieces:
            async for records in pieces:
                for record in records:
                    if record.unreadable is not None:
                        unreadable = record.unreadable
                        span = f"the commands at {offsets(unreadable.first, record.offset)}"
                        if lost is None or lost[0] < record.offset:
                            lost = record.offset, f"{span} cannot be read: {unreadable.reason}"
                    elif record.value is not None:
                        positions[record.value] = max(record.offset, positions.get(record.value, -1))
        return DurableDecisions(positions=positions, lost=lost)

    async def replace(self, refolded: Refolded, *, offset: int) -> None:
        """Write the changelog again, in one transaction that also sets the group offset to ``offset``."""
        entries: dict[bytes, bytes | None] = dict.fromkeys(self._keys)
        entries.update({session.encode(): stored.state for session, stored in refolded.states.items()})
        mark = CheckpointMark(
            offset=offset,
            identity=self.identity,
            configuration=in_force(refolded.rules),
            scanned=self._scanned,
            rebuilt=self._end,
            fold=tasks.FOLD_VERSION,
        )
        marks: dict[bytes, bytes | None] = dict.fromkeys(self._marks)
        marks[CHECKPOINT_KEY] = encode_checkpoint(mark)
        marks.update(history_entries(refolded.rules, StoredHistory()))
        marks.update({encode_key(key): entry for key, entry in refolded.retired.items()})
        commit = Commit(decided=(), states=entries, dead_letters=(), marks=marks, offset=offset)
        self._in_doubt = True
        try:
            async with asyncio.timeout(self.commit_s):
                await self.ledger.commit(commit)
            self._in_doubt = False
        except TimeoutError as exc:
            raise LogError(
                f"partition {self.number}: its changelog was not written within {self.commit_s:g} s: "
                "repeat this"
            ) from exc

    async def close(self) -> None:
        """Close the connections, and release the claim unless the result of a transaction is unknown."""
        await self.ledger.close()
        if self.claims is not None and not self._in_doubt:
            try:
                await self.claims.release()
            except LogError as exc:
                # The next owner fences it.
                logger.warning("claim is not released", extra={"partition": self.number, "error": str(exc)})
        await self.closed()


def _first_error(
    parts: Sequence[dict[bytes, bytes | None] | UnreadableEntriesError],
) -> UnreadableEntriesError | None:
    return next((part for part in parts if isinstance(part, UnreadableEntriesError)), None)


def _texts(entries: Mapping[bytes, bytes | None]) -> Sequence[ConfigurationText]:
    """The stored configurations; none if they cannot be read."""
    try:
        return history_texts(entries.get)
    except DecodeError:
        return ()
