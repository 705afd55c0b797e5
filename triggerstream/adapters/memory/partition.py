"""The durable side of a partition of a shared log, in memory: its log, its changelog, and who owns it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from triggerstream.engine.checkpoint import DeadLetter
from triggerstream.wire.records import NewRecord, Record


@dataclass(slots=True)
class MemoryPartition:
    """Everything that outlasts the owner of a partition.

    ``changelog`` has the entries in the order in which they were committed; one without a value deletes its
    key. ``epoch`` counts the take-overs: only the ledger that was fenced last may commit.
    """

    number: int = 0
    log: list[Record] = field(default_factory=list)
    changelog: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    commands: list[bytes] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    group_offset: int | None = None
    epoch: int = 0

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
