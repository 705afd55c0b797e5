"""What a redrive appends: nothing that only whoever can write dead letters has made."""

from __future__ import annotations

from dataclasses import replace

import pytest

from triggerstream.adapters.memory import MemoryDatabase, MemoryReader
from triggerstream.core.events import Body, Cancel, Close, Erase, Trigger
from triggerstream.core.ids import AppId, InstanceId, SessionId, TaskName, TriggerName, command_id
from triggerstream.core.state import SessionState, TaskRecord
from triggerstream.engine.checkpoint import Stored
from triggerstream.engine.operations.redrive import Ready, Redriven, prepare
from triggerstream.engine.rows import DeadLetterRow
from triggerstream.wire import state
from triggerstream.wire.events import encode

APP, SESSION, TASK = AppId("app"), SessionId("s"), TaskName("t")
COMMAND = command_id(APP, SESSION, generation=2, task=TASK, number=4)


def database(generation: int, *, closed: bool = False) -> MemoryDatabase:
    """One session that has had five instances of its task in this generation."""
    known = SessionState(generation=generation, closed=closed, config=0, tasks={TASK: TaskRecord(next=5)})
    return MemoryDatabase(sessions={SESSION: Stored(state=state.encode(known), due_us=None, config=0)})


def left_out(body: Body) -> DeadLetterRow:
    return DeadLetterRow(
        number=1,
        at_us=1_750_000_000_000_000,
        offset=7,
        key=b"s",
        value=encode(body, id=COMMAND),
        headers=(),
        reason="left out",
        left_out=0,
    )


@pytest.mark.parametrize("name", ["t", "t.timeout"])
async def test_a_trigger_that_was_left_out_is_ready(name: str) -> None:
    letter = left_out(Trigger(name=TriggerName(name), data={}))
    found = await prepare(MemoryReader(database(2)), letter, app=APP, control=None)
    assert isinstance(found, Ready)
    assert (found.record.key, found.record.value) == (b"s", letter.value)


@pytest.mark.parametrize(
    "known", [database(3), database(3, closed=True), database(1), MemoryDatabase()], ids=lambda _: ""
)
async def test_a_trigger_of_another_generation_stays(known: MemoryDatabase) -> None:
    letter = left_out(Trigger(name=TriggerName("t"), data={}))
    found = await prepare(MemoryReader(known), letter, app=APP, control=None)
    assert isinstance(found, Redriven)
    assert "was closed or erased since then" in (found.reason or "")


async def test_a_trigger_without_its_data_stays() -> None:
    letter = replace(left_out(Trigger(name=TriggerName("t"), data={})), value=b"")
    found = await prepare(MemoryReader(database(2)), letter, app=APP, control=None)
    assert isinstance(found, Redriven)
    assert "its data was not kept" in (found.reason or "")


@pytest.mark.parametrize("body", [Erase(generation=0), Close(), Cancel(instance=InstanceId("t#0"))])
async def test_an_event_of_the_engines_own_is_never_a_trigger_that_was_left_out(body: Body) -> None:
    """With a control key, it would be signed when it is appended."""
    letter = left_out(body)
    found = await prepare(MemoryReader(database(2)), letter, app=APP, control=None)
    assert isinstance(found, Redriven)
    assert (found.folded, found.offset) == (False, None)
