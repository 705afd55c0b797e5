"""A partition's ledger and an appender, in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from uuid import uuid4

from triggerstream.adapters.memory.clock import ManualClock
from triggerstream.adapters.memory.partition import MemoryPartition
from triggerstream.core.errors import LogError
from triggerstream.engine.partitioned.claims import FormerOwner
from triggerstream.engine.partitioned.ports import (
    Commit,
    Extent,
    FencedError,
    HighWatermark,
    UnreadableEntriesError,
)
from triggerstream.wire.claims import OwnerId
from triggerstream.wire.marks import CHECKPOINT_KEY, decode_checkpoint
from triggerstream.wire.records import NewRecord


class MemoryLedger:
    """A :class:`triggerstream.engine.partitioned.ports.Ledger` of one partition, with its own ``id_``."""

    def __init__(self, partition: MemoryPartition, id_: OwnerId | None = None) -> None:
        self.partition = partition
        self.id = id_ or OwnerId(f"memory-{uuid4().hex}")
        self._epoch: int | None = None

    async def start(self) -> None:
        if self._epoch is None:
            self._epoch = self.partition.transactions.initialise(self.id)

    async def fence_old_release(self) -> OwnerId:
        """No older release has written to memory."""
        id_ = OwnerId(f"memory-{self.partition.number}")
        self.partition.transactions.initialise(id_)
        return id_

    async def extent(self) -> Extent:
        return Extent(
            begin=0,
            end=HighWatermark(len(self.partition.changelog)),
            log_begin=0,
            log_end=HighWatermark(len(self.partition.log)),
        )

    async def finish(self, former: Sequence[FormerOwner], *, commit: bool) -> None:
        """Do nothing: no transaction stays open."""

    async def is_undone(self, position: int) -> bool:  # noqa: ARG002 - by the port
        """False: no transaction is aborted."""
        return False

    async def committed(self) -> int | None:
        return self.partition.group_offset

    async def changelog(self, begin: int, end: int) -> AsyncGenerator[tuple[dict[bytes, bytes | None], int]]:
        """The entries from ``begin`` to before ``end``, one in a chunk, with the position after each."""
        for at, (key, value) in enumerate(self.partition.changelog[begin:end], begin):
            yield {key: value}, at + 1

    async def salvage(
        self, begin: int, end: int
    ) -> Sequence[dict[bytes, bytes | None] | UnreadableEntriesError]:
        return [dict(self.partition.changelog[begin:end])]

    async def rebuilt(self, end: int) -> int:
        found = dict(self.partition.changelog[:end]).get(CHECKPOINT_KEY)
        return -1 if found is None else decode_checkpoint(found).rebuilt

    async def commit(self, commit: Commit) -> int:
        self._check()
        await self.sent()
        self._check()
        partition = self.partition
        entries = [*commit.states.items(), *commit.marks.items()]
        partition.changelog += entries
        partition.commands += [item.value for item in commit.decided]
        partition.dead_letters += commit.dead_letters
        if commit.offset is not None:
            partition.group_offset = commit.offset
        return len(partition.changelog) if entries else 0

    async def sent(self) -> None:
        """Wait between the records of a transaction and its end; a test pauses an owner here."""

    def _check(self) -> None:
        if self._epoch is None:
            raise LogError("this ledger was not started")
        if self._epoch != self.partition.transactions.epochs[self.id]:
            raise FencedError("another process has taken the partition over")

    async def close(self) -> None:
        """Do nothing."""


class MemoryAppender:
    """A :class:`triggerstream.engine.partitioned.ports.Appender` to ``partitions``, by their numbers."""

    def __init__(self, partitions: Sequence[MemoryPartition], *, clock: ManualClock | None = None) -> None:
        self._partitions = {partition.number: partition for partition in partitions}
        self._clock = clock or ManualClock()

    async def append(self, partition: int, records: Sequence[NewRecord]) -> int:
        target = self._partitions.get(partition)
        if target is None:
            raise LogError(f"the log has no partition {partition}")
        target.append(records, now_us=self._clock.now_us())
        return len(target.log) if records else 0
