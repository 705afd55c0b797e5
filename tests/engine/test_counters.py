"""Figures of a partition for metrics."""

from __future__ import annotations

from dataclasses import fields

from triggerstream.core.commands import Revoke
from triggerstream.core.ids import CommandId, InstanceId, SessionId, TaskName
from triggerstream.engine.checkpoint import Checkpoint, DeadLetter, Decided
from triggerstream.engine.counters import Counters
from triggerstream.wire.records import NewRecord, Record

RECORD = Record(partition=0, offset=0, arrival_us=0, key=None, value=None)
DECIDED = Decided(
    decision=Revoke(
        id=CommandId("c"), session=SessionId("s"), task=TaskName("t"), instance=InstanceId("t#0")
    ),
    value=b"",
)


def test_each_figure_is_the_sum_over_all_checkpoints() -> None:
    one = Checkpoint(
        partition=0,
        offset=9,
        events=2,
        decided=(DECIDED,) * 3,
        dead_letters=(
            *(DeadLetter(record=RECORD, reason="left out", left_out=number) for number in range(2)),
            DeadLetter(record=RECORD, reason="bad"),
            DeadLetter(record=RECORD, reason="bad"),
        ),
        prevented=5,
        unused=8,
        forgotten_ids=7,
        unknown=4,
        rehomed=(NewRecord(key=None, value=b""),) * 6,
    )
    counters = Counters()
    for count, times in ((1, 1), (2, 3), (3, 6)):
        counters.note([one] * count, batches=7)
        assert counters.events == 2 * times
        assert counters.decided == 3 * times
        assert counters.dead_letters == 4 * times
        assert counters.left_out == 2 * times
        assert counters.prevented == 5 * times
        assert counters.unused == 8 * times
        assert counters.forgotten_ids == 7 * times
        assert counters.unknown == 4 * times
        assert counters.rehomed == 6 * times
    assert (counters.checkpoints, counters.batches) == (3, 21)
    fresh = Counters()
    still = {one.name for one in fields(Counters) if getattr(counters, one.name) == getattr(fresh, one.name)}
    assert still == {"took", "timers", "touches"}  # counted elsewhere
