"""What a redrive appends: nothing that only whoever can write dead letters has made."""

from __future__ import annotations

import pytest

from triggerstream.adapters.memory import MemoryDatabase, MemoryReader
from triggerstream.core.events import Body, Cancel, Close, Erase, Trigger
from triggerstream.core.ids import AppId, InstanceId, TriggerName
from triggerstream.engine.ports import DeadLetterRow
from triggerstream.engine.redrive import Ready, Redriven, prepare
from triggerstream.wire.events import encode


def left_out(body: Body) -> DeadLetterRow:
    return DeadLetterRow(
        number=1,
        at_us=1_750_000_000_000_000,
        offset=7,
        key=b"s",
        value=encode(body),
        headers=(),
        reason="left out",
        left_out=0,
    )


async def test_a_trigger_that_was_left_out_is_ready() -> None:
    letter = left_out(Trigger(name=TriggerName("t"), data={}))
    found = await prepare(MemoryReader(MemoryDatabase()), letter, app=AppId("app"), control=None)
    assert isinstance(found, Ready)
    assert (found.record.key, found.record.value) == (b"s", letter.value)


@pytest.mark.parametrize("body", [Erase(generation=0), Close(), Cancel(instance=InstanceId("t#0"))])
async def test_an_event_of_the_engines_own_is_never_a_trigger_that_was_left_out(body: Body) -> None:
    """With a control key, it would be signed when it is appended."""
    letter = left_out(body)
    found = await prepare(MemoryReader(MemoryDatabase()), letter, app=AppId("app"), control=None)
    assert isinstance(found, Redriven)
    assert (found.folded, found.offset) == (False, None)
