"""Ports of the engine of a shared log, and their errors."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import NewType, Protocol

from triggerstream.core.errors import LogError, TriggerstreamError, UsageError
from triggerstream.engine.background import TaskEndedError
from triggerstream.engine.checkpoint import DeadLetter, Decided
from triggerstream.engine.partitioned.claims import FormerOwner
from triggerstream.wire.claims import OwnerId
from triggerstream.wire.records import NewRecord


class FencedError(LogError):
    """Another owner has taken the partition over. This process must not continue."""


class TakeOverError(UsageError):
    """The partition cannot be taken over. The message has the repair."""


class UnreadableTakeOverError(LogError):
    """The partition cannot be taken over because of a record batch that another replica may have undamaged.

    The message has the repair if none has.
    """


class UnreadableEntriesError(LogError):
    """Entries of a changelog from ``offset`` on cannot be read. ``last``: the last offset, if known.

    ``fault`` says why; the message begins with ``place``. ``lasting``: no further attempt will read them.
    """

    def __init__(
        self, fault: str, *, place: str = "its changelog", offset: int, last: int | None, lasting: bool
    ) -> None:
        super().__init__(f"{place}: {fault}")
        self.fault = fault
        self.offset = offset
        self.last = last
        self.lasting = lasting


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """Everything that one transaction makes durable. ``marks`` are written to the changelog with the states.

    A key without a value is deleted from the changelog. ``offset``: the group offset for lag monitors, or
    None if it is not committed this time. The owner of the partition itself uses the marks, not this offset.
    """

    decided: Sequence[Decided]
    states: Mapping[bytes, bytes | None]
    dead_letters: Sequence[DeadLetter]
    marks: Mapping[bytes, bytes | None]
    offset: int | None


HighWatermark = NewType("HighWatermark", int)
"""The offset after a partition's last record, even if its transaction is still open.

The last stable offset would be wrong: it stays at the first open transaction, and for some milliseconds at
a committed one without markers. Records committed after it would be treated as missing.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """The changelog from ``begin`` to before ``end``; ``log_begin`` and ``log_end`` are the events'.

    ``unfinished``: the changelog offset from which on a transaction is still open although former owners
    were fenced; ``end`` if it is open in the commands or dead letters only; None if none is open, or the
    ledger was not started.
    ``ended``: True if the other partitions show that it was committed, False if they show that it was
    aborted; None if they show neither.
    """

    begin: int
    end: HighWatermark
    log_begin: int
    log_end: HighWatermark
    unfinished: int | None = None
    ended: bool | None = None


class Ledger(Protocol):
    """The partition's changelog, commands and dead letters: written by its owner alone, read once to recover.

    Any method raises LogError if it is unknown whether it succeeded. The owner must not continue after that.
    """

    async def start(self) -> None:
        """Initialise the transactional id under which it commits: an id that nobody has used before.

        A second call does nothing. Former owners have other ids:
        :mod:`triggerstream.engine.partitioned.claims` fences them.
        """

    async def fence_old_release(self) -> OwnerId:
        """Fence the id under which all releases before claims commit to the partition; the id."""

    async def extent(self) -> Extent:
        """The first and end offsets of the changelog and the log now.

        An owner calls it only once all former owners are fenced. Brokers may lose the end of a transaction:
        it is then reported as unfinished.
        """

    async def finish(self, former: Sequence[FormerOwner], *, commit: bool) -> None:
        """End all that ``former`` have left open in changelog, commands and dead letters.

        Raises:
            FencedError, LogError: as ``commit``.
        """

    async def is_undone(self, position: int) -> bool:
        """True if changelog entries before ``position`` are in a transaction that was aborted after it.

        Call it only for a position before ``Extent.end``, when nothing is unfinished. A copy of the changelog
        has such entries if its owner was told of a commit that brokers then lost.

        Raises:
            UnreadableEntriesError: the broker cannot read the entries at ``position``.
        """

    async def committed(self) -> int | None:
        """The group offset, as lag monitors see it; None if there is none."""

    def changelog(self, begin: int, end: int) -> AsyncGenerator[tuple[dict[bytes, bytes | None], int]]:
        """The committed entries from ``begin`` to before ``end``, in chunks with the position after each.

        Waits for an open transaction before ``end``. If it does not end in time, a LogError names it, because
        later entries are unknown.

        Raises:
            UnreadableEntriesError: some of them cannot be read. A rebuild that began after them makes them
                unneeded: see ``rebuilt``.
        """

    async def rebuilt(self, end: int) -> int:
        """The position at which the newest rebuild began, as the newest checkpoint before ``end`` says.

        The entries from there on are complete without earlier ones. -1: there was no rebuild, or no
        checkpoint, or an invalid one.

        Raises:
            UnreadableEntriesError: some entries after the newest readable checkpoint cannot be read. A newer
                one may be among them.
        """

    async def commit(self, commit: Commit) -> int:
        """Make ``commit`` durable, all or nothing; the changelog position after it, 0 without entries.

        Raises:
            FencedError: another owner has taken the partition over.
            LogError: it is unknown whether it is durable; or ``start`` was not called.
        """

    async def close(self) -> None:
        """Close the connections.

        Raises:
            LogError: they are closed, and a transaction may still be open: the claim must not be released.
        """


class ArchiveLedger(Ledger, Protocol):
    """The ledger of an archive, which goes on after entries that cannot be read."""

    async def salvage(
        self, begin: int, end: int
    ) -> Sequence[dict[bytes, bytes | None] | UnreadableEntriesError]:
        """The committed entries from ``begin`` to before ``end`` that can be read, in order, by key.

        An error stands for each batch between them that cannot be read. Each had as many attempts as
        ``changelog`` makes, at the same time as the others; in a later call it has one.
        """


class StateStore(Protocol):
    """Local copy of the changelog by key, with the position up to which it is complete.

    Its methods block, except those that are awaited.

    Opening a store that another process has open raises UsageError. ``position`` is called first, and wipes a
    copy of another changelog.
    """

    def position(self) -> int | None:
        """The position after the last entry written; None in a new store, or in that of another changelog."""

    def get(self, key: bytes) -> bytes | None:
        """The value under ``key``."""

    def write(self, entries: Mapping[bytes, bytes | None], *, position: int) -> None:
        """Write ``entries`` and ``position``, all or nothing. An entry without a value deletes its key.

        Await ``make_room`` before the next write.
        """

    async def make_room(self) -> None:
        """Wait until entries that are in no file yet are within the memory of all stores of the process."""

    async def restore(self, entries: Mapping[bytes, bytes | None], *, position: int) -> None:
        """Write as ``write`` does, but from the changelog and without blocking the event loop.

        When it returns or is cancelled, nothing is being written any more. Until ``end_restore`` returns, a
        crash may leave the store as it was at any earlier position.
        """

    async def end_restore(self) -> None:
        """Make what ``restore`` has written as durable as what ``write`` writes, without blocking."""

    def page(self, *, after: bytes, limit: int) -> Sequence[tuple[bytes, bytes]]:
        """Up to ``limit`` entries with keys greater than ``after``, in the order of keys."""

    def wipe(self) -> None:
        """Delete everything, including the position."""

    async def close(self) -> None:
        """Close the store. When it returns or is cancelled, another one may open it."""


class Appender(Protocol):
    """Appends to any partition of the log. At least once: never within a transaction."""

    async def append(self, partition: int, records: Sequence[NewRecord]) -> int:
        """Append ``records`` in order. Returns the offset after the last one, 0 if there are none.

        They are durable when this returns. Their keys do not decide the partition.

        Raises:
            LogError: it is unknown whether they are durable; or there is no such partition.
        """


def is_refusal(error: BaseException) -> bool:
    """True if ``error`` is something that a person must repair, not a failure that a restart may cure."""
    return isinstance(error, TriggerstreamError) and not isinstance(error, LogError | TaskEndedError)
