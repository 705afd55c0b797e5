"""Decisions for the tests of the engine."""

from __future__ import annotations

from triggerstream.core.commands import Command, Decision, Revoke
from triggerstream.core.ids import CommandId, ConfigHash, InstanceId, SessionId, TaskName
from triggerstream.engine.checkpoint import Decided
from triggerstream.wire import commands


def command(number: int, *, attempt: int = 0) -> Command:
    """The command ``c<number>`` of session ``s<number>``."""
    return Command(
        id=CommandId(f"c{number}"),
        session=SessionId(f"s{number}"),
        task=TaskName("t"),
        instance=InstanceId("t#0"),
        run="app.run",
        kwargs={},
        config=ConfigHash("h"),
        causes=[],
        decided_us=1,
        attempt=attempt,
    )


def revoke(number: int) -> Revoke:
    """The revocation of that command."""
    one = command(number)
    return Revoke(id=one.id, session=one.session, task=one.task, instance=one.instance)


def decided(*decisions: Decision) -> tuple[Decided, ...]:
    """``decisions`` as a checkpoint has them."""
    return tuple(Decided(decision=one, value=commands.encode(one)) for one in decisions)
