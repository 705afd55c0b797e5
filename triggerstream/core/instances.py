"""The values that a session's state consists of: instances, events, entries of its timeline.

They are mutable; the rule that keeps them safe is in :mod:`triggerstream.core.state`. A ``Struct`` is stored
as it is, under the names in its ``rename``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import Annotated, Final, TypeAlias, assert_never

from msgspec import Meta, Struct

from triggerstream.core.effects import Reason, Why
from triggerstream.core.held import EventTime, Holding, Ref
from triggerstream.core.ids import ConfigHash, Json, JsonObject, LeafName


class Status(StrEnum):
    """The status of an instance (R1.6). Open: up to and with FAILED; the others are resolved."""

    UNSTARTED = "unstarted"
    DELAYED = "delayed"
    HELD = "held"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    FAILED = "failed"
    FINISHED = "finished"
    SKIPPED = "skipped"
    REPLAYED = "replayed"
    ABANDONED = "abandoned"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


UNSTARTED: Final = Status.UNSTARTED
"""For code that an event executes: looking a member up in its class takes as long as two calls."""


class Stage(Enum):
    """Part of an instance's life that its status belongs to (R1.6). Open: all but RESOLVED."""

    WAITING = "waiting"
    DECIDED = "decided"
    FAILED = "failed"
    RESOLVED = "resolved"


def stage_of(status: Status) -> Stage:
    """The stage of a status."""
    match status:
        case Status.UNSTARTED | Status.DELAYED | Status.HELD:
            return Stage.WAITING
        case Status.SCHEDULED | Status.RUNNING:
            return Stage.DECIDED
        case Status.FAILED:
            return Stage.FAILED
        case (
            Status.FINISHED
            | Status.SKIPPED
            | Status.REPLAYED
            | Status.ABANDONED
            | Status.EXPIRED
            | Status.CANCELLED
        ):
            return Stage.RESOLVED
        case _ as never:
            assert_never(never)


WAITING, DECIDED, RESOLVED = (
    frozenset(status for status in Status if stage_of(status) is stage)
    for stage in (Stage.WAITING, Stage.DECIDED, Stage.RESOLVED)
)

Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
StoredInstant: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""Microseconds since the Unix epoch."""
Text: TypeAlias = Annotated[str, Meta(min_length=1)]


class NoEffect(StrEnum):
    """Kind of an event that changed nothing in its session."""

    REFUSED = "refused"
    IGNORED = "ignored"


StoredEffect: TypeAlias = str | tuple[NoEffect, Why, str] | None
"""Effect of an event if its type is not enough: text for people; or why the event changed nothing, and that
as text."""
TimelineEntry: TypeAlias = tuple[Count, str, EventTime, StoredEffect]
"""An entry of a session's timeline: offset, type, event time, effect. A bare tuple, as on the wire: 50
objects would cost 7 µs to encode."""


class Arrival(Struct, omit_defaults=True, kw_only=True, rename={"time_us": "time"}):
    """An event of a trigger as a session keeps it: its kwargs, position, event time, and id if it had one."""

    data: JsonObject
    offset: Ref
    time_us: EventTime
    id: str | None = None
    source: str | None = None


class Sent(
    Struct,
    omit_defaults=True,
    kw_only=True,
    rename={"expires_us": "expires", "per_element": "perElement", "per_member": "perMember"},
):
    """The parts of an instance's command, so that a resend is the same whatever changed since."""

    run: Text
    config: Annotated[ConfigHash, Meta(min_length=1)]
    params: JsonObject = {}
    per_element: tuple[LeafName, ...] = ()
    """The leaves whose ``params`` are merged under each element of their list."""
    per_member: tuple[LeafName, ...] = ()
    """The leaves whose ``params`` are merged under each member of their object."""
    queue: str | None = None
    priority: Count | None = None
    expires_us: Annotated[int, Meta(ge=1, le=2**63 - 1)] | None = None


class Instance(
    Struct,
    omit_defaults=True,
    kw_only=True,
    rename={
        "created_us": "created",
        "changed_us": "changed",
        "clone_of": "cloneOf",
        "waits_from_us": "waitsFrom",
        "waits_us": "waits",
        "decided_us": "decided",
        "decided_at": "decidedAt",
        "started_us": "started",
        "ended_us": "ended",
        "made_by": "madeBy",
        "opened_us": "opened",
        "satisfied_us": "satisfied",
        "repeat_of": "repeatOf",
        "held_no": "heldNo",
        "captured_at": "capturedAt",
    },
):
    """One execution record of a task in a session.

    ``captured`` holds the events that the leaves of ``after`` took, ``noted`` those of ``unless``.
    ``kwargs`` replaces the captured data if an operator or the task gave it. ``waits_from_us`` is the start
    instant of the wait of a delayed instance; the wait is ``waits_us`` where the task named it, else derived
    from the configuration. ``decided_at`` is the offset of the event in whose fold the command was decided.
    ``reason`` is the engine's, ``note`` an operator's, with the name. ``made_by`` is the offset of the event
    or configuration that made it, or its first origin; None if it can be derived (R4.13).

    ``opened_us`` is the instant of the first event of ``after``, if an event of ``unless`` made the instance;
    0: there was none yet. ``satisfied_us`` is the instant at which the condition was satisfied, if a wait
    followed. ``repeats`` counts the rounds before this one, ``repeat_of`` is the instance of the round
    before. ``held_no`` gives the order in which instances were held. ``captured_at``, where it is stored, has
    the places of captured events among the latest ones of a session with many triggers.
    """

    number: Count
    status: Status
    created_us: StoredInstant
    changed_us: StoredInstant
    captured: Mapping[LeafName, Holding] = {}
    noted: dict[LeafName, Holding] = {}
    kwargs: JsonObject | None = None
    attempt: Count = 0
    retries: Count = 0
    clone_of: Count | None = None
    waits_from_us: StoredInstant | None = None
    waits_us: Count | None = None
    decided_us: StoredInstant | None = None
    decided_at: Count | None = None
    started_us: StoredInstant | None = None
    ended_us: StoredInstant | None = None
    sent: Sent | None = None
    reason: Reason | None = None
    note: str | None = None
    result: Json = None
    error: str | None = None
    metadata: JsonObject | None = None
    made_by: Ref | None = None
    opened_us: StoredInstant | None = None
    satisfied_us: StoredInstant | None = None
    repeats: Count = 0
    repeat_of: Count | None = None
    held_no: Count | None = None
    captured_at: tuple[tuple[Count, Count], ...] = ()
