from __future__ import annotations

from triggerstream.core.commands import Command
from triggerstream.core.ids import CommandId, ConfigHash, InstanceId, Json, SessionId, TaskName
from triggerstream.wire import commands
from triggerstream.wire.bounds import JSON_DEPTH


def deep(levels: int) -> Json:
    """Arrays in one another."""
    value: Json = 1
    for _ in range(levels):
        value = [value]
    return value


def test_what_the_deepest_event_brought_can_be_handed_over() -> None:
    command = Command(
        id=CommandId("c"),
        session=SessionId("s"),
        task=TaskName("t"),
        instance=InstanceId("t#0"),
        run="app.t",
        kwargs={"a": {"k": deep(JSON_DEPTH - 1)}},
        config=ConfigHash("h"),
        causes=[],
        decided_us=0,
    )
    assert commands.decode(commands.encode(command)) == command
