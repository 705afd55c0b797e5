from __future__ import annotations

from triggerstream.core.ids import Json, TaskName, TriggerName
from triggerstream.core.state import Arrival, Instance, SessionState, Status, TaskRecord
from triggerstream.wire import state
from triggerstream.wire.bounds import JSON_DEPTH


def deep(levels: int) -> Json:
    """Arrays in one another."""
    value: Json = 1
    for _ in range(levels):
        value = [value]
    return value


def test_what_the_deepest_event_brought_can_be_read_back() -> None:
    """In binary mode ``data`` is the whole value, so it may be as deep as JSON may be."""
    arrival = Arrival(data={"k": deep(JSON_DEPTH - 1)}, offset=1, time_us=1)
    instance = Instance(
        number=0,
        status=Status.UNSTARTED,
        created_us=1,
        changed_us=1,
        captured={TriggerName("a"): arrival},
        kwargs={"a": deep(JSON_DEPTH - 1)},
        result=deep(JSON_DEPTH - 1),
    )
    full = SessionState(config=0, tasks={TaskName("t"): TaskRecord(next=1, open={0: instance})}, open_count=1)
    assert state.decode(state.encode(full)) == full
