"""Batches of a partition that are not durable yet: how many may be taken, folded and committed at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from triggerstream.core.tasks import Rules
from triggerstream.engine.checkpoint import Checkpoint, DeadLetter
from triggerstream.engine.processor import PART_BYTES
from triggerstream.wire.records import Record

IN_FLIGHT = 2
"""Batches of a partition between intake and durable: one is folded while the other is committed."""
SMALL_IN_FLIGHT = 32
"""The same while all of them are folded and small, as at a low rate: events of a session that follow one
another join the next transaction. While a partition has records that are not taken, aiokafka fetches nothing
from its broker for 0.1 s."""
SMALL_BYTES = 64 * 1024
"""Folded batches that are not durable are small up to this: some 50 events."""
SMALL_EVENTS = 10
"""Events that were taken, and that ``fold`` was not called for yet, are few up to this number."""
TRANSACTION_BYTES = 2 * PART_BYTES
"""Checkpoints of a partition go together into one transaction up to this."""
FULL_EVENTS = 100
"""A partition that may take no further batch, and has so many events to commit, does not wait for more: they
are some milliseconds of folding."""


@dataclass(slots=True)
class TakenBatch:
    """The rest of a batch, not folded yet; with ``lost``, the dead letter of a range before ``end``."""

    records: Sequence[Record]
    lost: DeadLetter | None = None
    end: int = 0
    scattered: bool = False
    """True if most events of the batch are of different sessions."""


@dataclass(slots=True)
class FoldedPart:
    """A batch, or a part of one, that is folded and not durable yet, and the rules after it.

    ``ends``: no part of its batch follows.
    """

    checkpoint: Checkpoint
    rules: Rules
    ends: bool


@dataclass(slots=True, eq=False)
class BatchesInFlight:
    """The batches of a partition from intake until they are durable, in the order of the log."""

    taken: int = 0
    """Their number."""
    to_fold: deque[TakenBatch] = field(default_factory=deque)
    """Batches that are not folded yet, or not wholly, because what is folded has too many bytes."""
    waiting: list[FoldedPart] = field(default_factory=list)
    """Folded parts that no transaction has taken yet."""
    _bytes: int = 0
    """The bytes of what is folded and not durable yet."""
    _coming: deque[int] = field(default_factory=deque)
    """The number of events of each batch that was taken and is not handed over yet."""

    def take(self, events: int) -> None:
        """Count a batch of so many events, which is handed over later."""
        self.taken += 1
        self._coming.append(events)

    def hand_over(self) -> None:
        """Note that the oldest of the batches that were taken is handed over now."""
        self._coming.popleft()

    def has_room(self) -> bool:
        """True if another batch may be taken."""
        return self.taken < IN_FLIGHT or (self.taken < SMALL_IN_FLIGHT and self._is_small())

    def _is_small(self) -> bool:
        """True if all that was taken is small, and nothing waits to be folded."""
        return not self.to_fold and self._bytes < SMALL_BYTES and sum(self._coming) <= SMALL_EVENTS

    def may_fold(self) -> bool:
        """True if a batch waits to be folded, and there is room for its decisions and changes."""
        return bool(self.to_fold) and self._bytes < PART_BYTES

    def add(self, part: FoldedPart) -> None:
        """Add what was folded."""
        self._bytes += part.checkpoint.size
        self.waiting.append(part)

    def is_full(self) -> bool:
        """True if no further batch may be taken or folded, and many events wait to be committed."""
        if self.has_room() and not self.to_fold:
            return False
        return self._bytes >= PART_BYTES or sum(one.checkpoint.records for one in self.waiting) >= FULL_EVENTS

    def take_waiting(self) -> list[FoldedPart]:
        """The parts for the next transaction: the first that waits, and more up to ``TRANSACTION_BYTES``."""
        waiting = self.waiting
        count = size = 0
        for part in waiting:
            size += part.checkpoint.size
            if count and size > TRANSACTION_BYTES:
                break
            count += 1
        self.waiting = waiting[count:]
        return waiting[:count]

    def make_durable(self, parts: Sequence[FoldedPart]) -> None:
        """Note that ``parts`` are durable, which makes room for folding."""
        self._bytes -= sum(part.checkpoint.size for part in parts)
