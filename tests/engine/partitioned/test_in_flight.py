"""A partition takes, folds and commits a bounded number of batches at once."""

from __future__ import annotations

from triggerstream.core.ids import AppId
from triggerstream.core.tasks import Rules
from triggerstream.engine.checkpoint import Checkpoint
from triggerstream.engine.partitioned.in_flight import (
    FULL_EVENTS,
    IN_FLIGHT,
    SMALL_BYTES,
    BatchesInFlight,
    FoldedPart,
    TakenBatch,
)
from triggerstream.engine.processor import PART_BYTES


def part(*, size: int = 1, records: int = 1) -> FoldedPart:
    """A folded batch with these numbers of bytes and records."""
    checkpoint = Checkpoint(partition=0, offset=records, records=records, size=size)
    return FoldedPart(checkpoint=checkpoint, rules=Rules(app=AppId("test")), ends=True)


def in_flight(*parts: FoldedPart) -> BatchesInFlight:
    """As many batches as may be in flight, of which these parts are folded."""
    batches = BatchesInFlight()
    for _ in range(IN_FLIGHT):
        batches.take(1)
        batches.hand_over()
    for one in parts:
        batches.add(one)
    return batches


def test_what_is_folded_is_small_below_its_bound() -> None:
    assert in_flight(part(size=SMALL_BYTES - 1)).has_room()
    assert not in_flight(part(size=SMALL_BYTES)).has_room()


def test_a_partition_that_may_take_a_batch_is_not_full() -> None:
    batches = in_flight(part(records=FULL_EVENTS))
    assert batches.has_room()
    assert not batches.is_full()


def test_a_partition_that_has_a_batch_to_fold_is_full_of_many_events() -> None:
    batches = in_flight(part(records=FULL_EVENTS))
    batches.to_fold.append(TakenBatch(()))
    assert batches.is_full()


def test_a_partition_that_may_take_no_batch_is_full_of_many_events_or_bytes() -> None:
    assert in_flight(part(size=SMALL_BYTES, records=FULL_EVENTS)).is_full()
    assert not in_flight(part(size=SMALL_BYTES, records=FULL_EVENTS - 1)).is_full()
    assert in_flight(part(size=PART_BYTES)).is_full()
    assert not in_flight(part(size=PART_BYTES - 1)).is_full()
