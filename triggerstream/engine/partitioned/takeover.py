"""Take-over of a partition of a shared log, once :mod:`triggerstream.engine.partitioned.claims` has fenced.

Its steps have this order, and no other is safe:

1. ``Ledger.extent``: the end of the changelog. No former owner can commit, so it is fixed
2. ``Ledger.finish``, only if a former owner's transaction is still open: see :func:`is_committed`
3. the store is restored up to that end. It is wiped first if it is not a prefix of this changelog, if it has
   entries of a transaction that was aborted, or if the mark after the store's position shows that the
   changelog was rebuilt. Entries that cannot be read are skipped only if a rebuild began after them:
   it has written every entry that counts once more
4. the checkpoint mark, read from the store, has the offset at which to continue. Only then is the log fetched

Owners of releases before claims have one transactional id for the partition. It is fenced, too, where a
transaction is open and where the mark is of such a release; then the steps begin again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from triggerstream.core import advice, tasks
from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import AppId
from triggerstream.core.tasks import Rules
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.engine.failpoints import failpoint
from triggerstream.engine.partitioned.claims import FormerOwner
from triggerstream.engine.partitioned.ports import (
    Extent,
    FencedError,
    Ledger,
    StateStore,
    TakeOverError,
    UnreadableEntriesError,
    UnreadableTakeOverError,
)
from triggerstream.engine.partitioned.versions import StoredHistory, read_history
from triggerstream.wire.marks import (
    CHECKPOINT_KEY,
    CLAIMED_MARK_VERSION,
    CheckpointMark,
    Identity,
    check_identity,
    decode_checkpoint,
    same_writing,
)

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Recovery:
    """The progress of a take-over, in changelog positions."""

    total: int = 0
    left: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenOver:
    """The result of a take-over, with which the owner continues."""

    store: StateStore
    mark: CheckpointMark
    rules: Rules
    history: StoredHistory


async def take_over(
    partition: int,
    *,
    app: AppId,
    identity: Identity,
    ledger: Ledger,
    open_store: Callable[[], Awaitable[StateStore]],
    recovery: Recovery,
    former: Sequence[FormerOwner],
    transactions: asyncio.Semaphore,
    bounded: Callable[[Coroutine[Any, Any, None], str], Awaitable[None]],
    configurations: ConfigurationCache,
    address: str = advice.ANY_APP,
) -> TakenOver:
    """Take ``partition`` over; ``recovery`` reports the progress. ``address`` is the app's address.

    ``former``: its former owners, which were fenced. ``transactions`` is held while a transaction of theirs
    is ended; ``bounded`` limits this wait.

    Raises:
        TakeOverError: something must be repaired before the partition can be taken over.
        FencedError: another owner has taken the partition over meanwhile.
        IdentityError: the log is not the one that the checkpoint belongs to.
        LogError: the log failed.
    """
    ending = _Ending(ledger=ledger, former=former, transactions=transactions, bounded=bounded)
    extent = await ledger.extent()
    failpoint("takeover.measured")
    store = await open_store()
    try:
        extent = await ending.end(partition, store, extent)
        await _recover(partition, ledger, store, extent, recovery, address=address)
        if not ending.old_release and is_of_old_release(store.get(CHECKPOINT_KEY)):
            await ending.fence_old_release()
            extent = await ending.end(partition, store, await ledger.extent())
            await _recover(partition, ledger, store, extent, recovery, address=address)
        failpoint("takeover.recovered")
        mark = await _mark(partition, ledger, store, extent, identity, address=address)
        history, rules = _history(partition, app, store, configurations, address=address)
    except BaseException:
        await store.close()
        raise
    return TakenOver(store=store, mark=mark, rules=rules, history=history)


@dataclass(slots=True, kw_only=True)
class _Ending:
    """Ends the transactions of former owners whose end the brokers have lost."""

    ledger: Ledger
    former: Sequence[FormerOwner]
    transactions: asyncio.Semaphore
    bounded: Callable[[Coroutine[Any, Any, Any], str], Awaitable[Any]]
    old_release: bool = False
    """True once the owners of releases before claims are fenced."""

    async def fence_old_release(self) -> None:
        """Fence the owners of releases before claims."""
        fenced = await self.bounded(self.ledger.fence_old_release(), "the fence of an older release")
        self.former, self.old_release = [*self.former, FormerOwner(id=fenced)], True

    async def end(self, partition: int, store: StateStore, extent: Extent) -> Extent:
        """End what is unfinished in ``extent``; the extent after that."""
        if extent.unfinished is not None and not self.old_release:
            await self.fence_old_release()
            extent = await self.ledger.extent()
        if extent.unfinished is None:
            return extent
        commit = _finish(partition, store, extent, extent.unfinished)
        async with self.transactions:
            ended = self.ledger.finish(self.former, commit=commit)
            await self.bounded(ended, "the end of a former owner's transaction")
        return await self.ledger.extent()


def is_of_old_release(mark: bytes | None) -> bool:
    """True if no owner with a claim has committed yet, as the newest ``mark`` says.

    Raises:
        DecodeError: it is invalid.
    """
    return mark is None or decode_checkpoint(mark).version < CLAIMED_MARK_VERSION


def _history(
    partition: int, app: AppId, store: StateStore, configurations: ConfigurationCache, *, address: str
) -> tuple[StoredHistory, Rules]:
    try:
        history = read_history(store.get, configurations)
        return history, history.rules(app)
    except DecodeError as exc:
        raise TakeOverError(
            f"partition {partition}: its configurations cannot be read ({exc}); {advice.rebuild(address)}"
        ) from exc


def is_committed(extent: Extent, *, position: int | None) -> bool:
    """Decide how a former owner's transaction ends whose end the brokers have lost; True: it is committed.

    ``position`` is that of a copy of the changelog; None if there is none. Brokers that return after a crash
    may drop the markers of a transaction that has ended. No reader gets past it then. One answer loses
    nothing:

    - the copy has all of its entries, and nothing follows: its owner was told that it is committed
    - markers in other partitions, or the newest checkpoint, show how it ended: it ends so everywhere
    - it is not open in the changelog, and its commands do not say their events: they count
    - otherwise it is undone, and its events are folded again
    """
    if position == extent.end and extent.unfinished != extent.end:
        return True
    return extent.unfinished == extent.end if extent.ended is None else extent.ended


def _finish(partition: int, store: StateStore, extent: Extent, unfinished: int) -> bool:
    """How the former owner's transaction ends; True: it is committed.

    A store with some of the entries that are undone is wiped first: nothing would show it afterwards if the
    changelog is compacted.
    """
    position = store.position()
    commit = is_committed(extent, position=position)
    logger.warning(
        "brokers have lost the end of a former owner's transaction",
        extra={"partition": partition, "position": unfinished, "end": extent.end, "commit": commit},
    )
    if not commit and position is not None and position > unfinished:
        store.wipe()
    return commit


async def _recover(
    partition: int,
    ledger: Ledger,
    store: StateStore,
    extent: Extent,
    recovery: Recovery,
    *,
    address: str,
    rebuilt: int = -1,
) -> None:
    """Restore the store up to the end of ``extent``. ``rebuilt``: no entry before it is needed."""
    position = store.position()
    if position is not None and not extent.begin <= position <= extent.end:
        logger.warning(
            "store is no part of this changelog: read again from the beginning",
            extra={"partition": partition, "position": position, "end": extent.end},
        )
        store.wipe()
        position = None
    try:
        if position is not None and position < extent.end and await ledger.is_undone(position):
            logger.warning(
                "store has a transaction that was undone: read again from the beginning",
                extra={"partition": partition, "position": position, "end": extent.end},
            )
            store.wipe()
            position = None
        start = max(extent.begin, rebuilt) if position is None else position
        recovery.total = recovery.left = extent.end - start
        if start >= extent.end or await _restore(
            ledger, store, start, extent, recovery, anew=position is None
        ):
            return
    except UnreadableEntriesError as exc:
        try:
            rebuilt = rebuilt_after(exc, await ledger.rebuilt(extent.end))
        except UnreadableEntriesError as needed:
            raise _unreadable(needed, address) from needed
        logger.warning(
            "entries before a rebuild of the changelog cannot be read: store is read again from the rebuild",
            extra={"partition": partition, "position": exc.offset, "rebuilt": rebuilt, "error": str(exc)},
        )
    else:
        logger.warning(
            "changelog was rebuilt: store is read again from the beginning",
            extra={"partition": partition, "position": position},
        )
    store.wipe()
    await _recover(partition, ledger, store, extent, recovery, address=address, rebuilt=rebuilt)


async def _restore(
    ledger: Ledger, store: StateStore, start: int, extent: Extent, recovery: Recovery, *, anew: bool
) -> bool:
    """Restore the store from ``start`` on; False if it is older than a rebuild. ``anew``: it was empty."""
    known = None if anew else store.get(CHECKPOINT_KEY)
    async with aclosing(ledger.changelog(start, extent.end)) as pieces:
        async for entries, after in pieces:
            mark = entries.get(CHECKPOINT_KEY)
            if not anew and mark is not None and not same_writing(mark, known):
                # Checked before it is written: after a crash here, the same check finds it again.
                return False
            await store.restore(entries, position=after)
            recovery.left = max(extent.end - after, 0)
            failpoint("takeover.recovering")
    await store.end_restore()
    return True


def rebuilt_after(unreadable: UnreadableEntriesError, rebuilt: int) -> int:
    """The position from which on a changelog is complete without the entries ``unreadable``.

    It is ``rebuilt``, where the newest rebuild began
    (:meth:`triggerstream.engine.partitioned.ports.Ledger.rebuilt`), if that rebuild has replaced them.

    Raises:
        UnreadableEntriesError: ``unreadable``, because no rebuild has replaced them.
    """
    if rebuilt <= unreadable.offset:
        raise unreadable
    return rebuilt


def _unreadable(error: UnreadableEntriesError, address: str) -> Exception:
    """The error of a take-over that needs entries which cannot be read; ``error`` names the partition."""
    text = f"{error}; {advice.rebuild_unreadable(address, lasting=error.lasting)}"
    return TakeOverError(text) if error.lasting else UnreadableTakeOverError(text)


async def _mark(
    partition: int,
    ledger: Ledger,
    store: StateStore,
    extent: Extent,
    identity: Identity,
    *,
    address: str,
) -> CheckpointMark:
    place, rebuild = f"partition {partition}", advice.rebuild(address)
    value = store.get(CHECKPOINT_KEY)
    if value is None:
        if committed := await ledger.committed():
            if (await ledger.extent()).end > extent.end:
                # This owner is fenced itself: a later one has made the first checkpoint in the meantime.
                raise FencedError(f"{place}: another process has taken over")
            raise TakeOverError(
                f"{place}: its group has read up to offset {committed}, but the changelog has no "
                f"checkpoint: everything would be decided again; {rebuild}"
            )
        mark = CheckpointMark(offset=0, identity=identity, fold=tasks.FOLD_VERSION)
    else:
        mark = decode_checkpoint(value)
        check_identity(mark, identity, place=place, repair=f"; {rebuild}")
        if identity.owners:  # an older release has not written it
            mark = replace(mark, identity=identity)
    if mark.offset > extent.log_end:
        raise TakeOverError(
            f"{place}: its checkpoint is at offset {mark.offset}, the log ends at {extent.log_end}: "
            f"records were lost; {rebuild}"
        )
    if mark.offset < extent.log_begin:
        raise TakeOverError(
            f"{place}: its checkpoint is at offset {mark.offset}, the log begins at "
            f"{extent.log_begin}: records were deleted before they were folded; "
            f"{advice.rebuild_from_rest(address)}"
        )
    return mark
