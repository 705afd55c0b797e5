"""The owners topic and the coordinator of transactions, in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from triggerstream.adapters.memory.partition import MemoryPartition
from triggerstream.core.errors import LogError
from triggerstream.wire.claims import Claim, OwnerId


@dataclass(slots=True)
class MemoryOwnersTopic:
    """A :class:`triggerstream.engine.partitioned.claims.OwnersTopic`.

    ``records`` has the claims by offset, or None for a release; compaction leaves out what a later record of
    the same id replaces.
    """

    records: dict[int, tuple[OwnerId, Claim | None]] = field(default_factory=dict)
    end: int = 0

    async def append(self, claims: Sequence[Claim]) -> int:
        for claim in claims:
            self._append(claim.id, claim)
        return self.end

    async def read(self, end: int) -> Mapping[OwnerId, Claim]:
        newest = {id_: claim for offset, (id_, claim) in sorted(self.records.items()) if offset < end}
        return {id_: claim for id_, claim in newest.items() if claim is not None}

    async def forget(self, ids: Collection[OwnerId]) -> None:
        for id_ in ids:
            self._append(id_, None)

    def compact(self) -> None:
        """Keep the newest record of each id."""
        newest = {id_: offset for offset, (id_, _) in sorted(self.records.items())}
        self.records = {offset: self.records[offset] for offset in newest.values()}

    def _append(self, id_: OwnerId, claim: Claim | None) -> None:
        self.records[self.end] = (id_, claim)
        self.end += 1


class MemoryFencing:
    """A :class:`triggerstream.engine.partitioned.claims.Fencing` of the owners of ``partitions``."""

    def __init__(self, partitions: Mapping[int, MemoryPartition]) -> None:
        self._partitions = partitions

    async def fence(self, ids: Collection[OwnerId]) -> None:
        for id_ in ids:
            for partition in self._partitions.values():
                partition.transactions.initialise(id_)

    async def readable(self, partitions: Collection[int], *, within_s: float) -> Collection[int]:  # noqa: ARG002
        """Those of which everything is marked; nobody waits."""
        if away := set(partitions) - set(self._partitions):
            raise LogError(f"partitions {sorted(away)} do not answer")
        return {number for number in partitions if not self._partitions[number].unmarked}
