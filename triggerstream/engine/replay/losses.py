"""Losses of a rebuild: sessions that it would delete, and commands that would wrongly count as decided."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import CommandId, InstanceId, SessionId, split_instance_id
from triggerstream.core.number_ranges import is_among
from triggerstream.core.state import DECIDED, WAITING, Instance, SessionState
from triggerstream.engine.replay.refold import Kept, Refolded
from triggerstream.wire import state


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCommand:
    """A command that this release's fold decides, and the fold of the stored states did not."""

    session: SessionId
    instance: InstanceId
    command: CommandId


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Number of stored sessions that are not in the log, and of their commands that are not settled."""

    sessions: int = 0
    commands: int = 0

    def __add__(self, other: Losses) -> Losses:
        """The sum of both."""
        return Losses(sessions=self.sessions + other.sessions, commands=self.commands + other.commands)

    def __bool__(self) -> bool:
        """True if anything would be lost."""
        return bool(self.sessions)


def losses(refolded: Refolded, kept: Kept) -> Losses:
    """Count the stored sessions that ``refolded`` does not have."""
    found = Losses()
    for key, value in kept.states.items():
        try:
            if SessionId(key.decode()) in refolded.states:
                continue
            open_ = sum(one.status in DECIDED for one in _instances(state.decode(value)))
        except (DecodeError, UnicodeDecodeError):
            open_ = 0
        found += Losses(sessions=1, commands=open_)
    return found


def new_commands(refolded: Refolded, kept: Kept) -> Sequence[NewCommand]:
    """The open commands in ``refolded`` whose instances are waiting or missing in the stored states.

    Settled commands were decided by the first fold, so they are not new.
    """
    found = []
    known: dict[SessionId, SessionState | None] = {}
    for command, item in refolded.open.items():
        session, instance = item.decision.session, item.decision.instance
        if session not in known:
            known[session] = _readable(kept.states.get(session.encode()))
        if _is_undecided(known[session], instance):
            found.append(NewCommand(session=session, instance=instance, command=command))
    return found


def _readable(value: bytes | None) -> SessionState | None:
    try:
        return None if value is None else state.decode(value)
    except DecodeError:
        return None


def _instances(known: SessionState) -> Iterator[Instance]:
    for record in known.tasks.values():
        yield from record.instances()


def _is_undecided(known: SessionState | None, instance: InstanceId) -> bool:
    """True if an instance is missing in a state, or waits there."""
    parts = split_instance_id(instance)
    record = None if known is None or parts is None else known.tasks.get(parts[0])
    if record is None or parts is None:
        return True
    found = record.find(parts[1])
    return not is_among(parts[1], record.retired) if found is None else found.status in WAITING
