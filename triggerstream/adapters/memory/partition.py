"""The durable side of a partition of a shared log, in memory: its log, its changelog, and who owns it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from triggerstream.engine.checkpoint import DeadLetter
from triggerstream.wire.claims import OwnerId
from triggerstream.wire.records import NewRecord, Record


@dataclass(slots=True)
class MemoryTransactions:
    """The coordinator of transactions: the epoch of each transactional id."""

    epochs: dict[OwnerId, int] = field(default_factory=dict)

    def initialise(self, id_: OwnerId) -> int:
        """Fence whoever has ``id_``, and return the new epoch."""
        self.epochs[id_] = self.epochs.get(id_, -1) + 1
        return self.epochs[id_]

    def fence_all(self) -> None:
        """Fence everybody, as one who claims all partitions does."""
        for id_ in self.epochs:
            self.initialise(id_)


@dataclass(slots=True)
class MemoryPartition:
    """Everything that outlasts the owner of a partition.

    ``changelog`` has the entries in the order in which they were committed; one without a value deletes its
    key. Only a ledger whose transactional id nobody has initialised after it may commit. ``unmarked``: the
    last entries of the changelog that are committed and cannot be read yet.
    """

    number: int = 0
    log: list[Record] = field(default_factory=list)
    changelog: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    commands: list[bytes] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    group_offset: int | None = None
    unmarked: int = 0
    transactions: MemoryTransactions = field(default_factory=MemoryTransactions)

    def append(self, records: Sequence[NewRecord], *, now_us: int) -> None:
        """Append ``records``; they arrive at ``now_us``, also if the clock stepped back."""
        for record in records:
            self.log.append(
                Record(
                    partition=self.number,
                    offset=len(self.log),
                    arrival_us=now_us,
                    key=record.key,
                    value=record.value,
                    headers=record.headers,
                )
            )
