"""Results of the fold: declarations only, so that the modules that decide define no type.

The rules are in ``docs/semantics.md``.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from msgspec import Struct

from triggerstream.core.commands import Decision
from triggerstream.core.effects import (
    NOTHING,
    Effect,
)
from triggerstream.core.ids import (
    CommandId,
    JsonObject,
    TaskName,
    TriggerName,
)
from triggerstream.core.retired import Retired
from triggerstream.core.state import (
    SessionState,
)


class LeftOut(Struct, frozen=True, kw_only=True):
    """A trigger that follows from an outcome, an order or a timer, and was not folded because of a bound.

    ``id`` is the id of the command whose instance it follows from. ``data`` is None if there is too much of
    it to be kept (R10.10).
    """

    trigger: TriggerName
    data: JsonObject | None
    time_us: int
    id: CommandId
    reason: str


class Folded(Struct, frozen=True, kw_only=True):
    """The state after an event, what was decided, in order, and the commands that are over (R1.2).

    ``created`` counts new instances, ``resolved`` instances resolved or changed afterwards, ``taken``
    instances that took the event's kwargs or position; they limit how much the state can have grown.
    ``prevented`` counts instances and seeds that a bound prevented; the timeline names them.
    ``forgotten_ids`` counts identities of events that are no longer compared (R4.1).
    ``touched`` has the tasks whose instances may have changed.
    ``retired`` are the instances that have left the state, ``dropped`` the ones of an earlier event whose
    entries are to be deleted: before those of ``retired`` are written, which may have the same numbers in
    another generation.
    """

    state: SessionState
    effect: Effect = NOTHING
    decisions: tuple[Decision, ...] = ()
    settled: tuple[CommandId, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    created: int = 0
    resolved: int = 0
    taken: int = 0
    prevented: int = 0
    forgotten_ids: int = 0
    touched: AbstractSet[TaskName] = frozenset()
    retired: tuple[Retired, ...] = ()
    dropped: tuple[tuple[TaskName, int], ...] = ()


class Rejected(Struct, frozen=True, kw_only=True):
    """Result for a trigger that would break a bound: it is not folded, the state is unchanged (R10.3)."""

    reason: str


class Unknown(Struct, frozen=True, kw_only=True):
    """Result for an outcome, order or timer of a session of which nothing is known: it gets no state (R2.6).

    ``settled`` has the command of an outcome.
    """

    settled: tuple[CommandId, ...] = ()


class TooLong(Struct, frozen=True, kw_only=True):
    """Why a command is too long: ``reason`` with figures, ``error`` without, for the instance."""

    reason: str
    error: str


class Follows(Struct, frozen=True, kw_only=True):
    """The trigger that follows from an outcome or an order; it fires after that event is folded."""

    trigger: TriggerName
    data: JsonObject
    command: CommandId
