"""Answers to questions about sessions, the same for the command line, pages and programs.

Fields are named as in the JSON that users see, but for units; :mod:`triggerstream.wire.answers` converts
them. Fields with a default are left out of the JSON where they have no value; all others are always there.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from triggerstream.core.condition_tree import ConditionTree
from triggerstream.core.ids import (
    CommandId,
    ConfigHash,
    InstanceId,
    Instant,
    Json,
    JsonObject,
    SessionId,
    TaskName,
    TriggerName,
)
from triggerstream.core.places import HeldFor
from triggerstream.core.state import Status
from triggerstream.core.timers import DueOf


class Origin(Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"time_us": "time"}):
    """The event of a trigger. ``offset`` None: a timer fired it, at ``time_us``."""

    offset: int | None = None
    time_us: Instant
    id: str | None = None
    source: str | None = None


class HandOverState(StrEnum):
    """Progress of the hand-over of a command to the executor.

    ``UNCONFIRMED``: it may be published, and the broker has not confirmed it.
    """

    DECIDED = "decided"
    UNCONFIRMED = "unconfirmed"
    HANDED_OVER = "handed over"
    UNKNOWN = "not known"


class HandOver(Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"at_us": "at"}):
    """Progress of a hand-over, with the time since when, if known. ``why``: why ``state`` is not known."""

    state: HandOverState
    at_us: Instant | None = None
    why: str | None = None


class ReasonToDecide(Struct, frozen=True, kw_only=True):
    """A trigger that a decided command includes, and its event."""

    trigger: TriggerName
    by: Origin


class ExplainedInstance(
    Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={
        "created_us": "created",
        "changed_us": "changed",
        "due_us": "due",
        "due_of": "dueOf",
        "held_for": "heldFor",
        "completed_by": "completedBy",
        "repeat_of": "repeatOf",
        "clone_of": "cloneOf",
        "max_retries": "maxRetries",
        "retried_as": "retriedAs",
        "replayed_as": "replayedAs",
        "decided_us": "decided",
        "decided_at": "decidedAt",
        "started_us": "started",
        "ended_us": "ended",
        "hand_over": "handOver",
    },
):
    """An instance; ``says`` describes its status in one sentence, ``advice`` says what to look for.

    ``command`` to ``attempt``: it has a command. ``hand_over``: no worker has reported about it yet.

    ``clone_of``: it was made to run that instance again; by a retry if ``retries`` is not 0, else by an
    operator. ``retried_as`` and ``replayed_as``: such an instance took its place.

    ``max_retries`` is the most retries that its task may have.

    ``round`` is its number among the ``rounds`` of a task with ``repeat``, and ``repeat_of`` the instance of
    the round before. ``rounds`` and ``max_retries`` are those of the file in force.

    ``held_for``: why it is held; None for one that is decided at the session's next event.

    ``due_us``: when its timer fires, which follows from ``due_of``. ``decided_at``: the offset of the event
    that decided its command. ``completed_by``: the included event with which its condition was satisfied.
    """

    instance: InstanceId
    status: Status
    says: str
    after: ConditionTree
    created_us: Instant
    changed_us: Instant
    unless: ConditionTree | None = None
    command: CommandId | None = None
    run: str | None = None
    kwargs: JsonObject | None = None
    config: ConfigHash | None = None
    attempt: int | None = None
    retries: int | None = None
    max_retries: int | None = None
    round: int | None = None
    rounds: int | None = None
    repeat_of: InstanceId | None = None
    hand_over: HandOver | None = None
    advice: str | None = None
    due_us: Instant | None = None
    due_of: DueOf | None = None
    held_for: HeldFor | None = None
    completed_by: ReasonToDecide | None = None
    clone_of: InstanceId | None = None
    retried_as: InstanceId | None = None
    replayed_as: InstanceId | None = None
    decided_us: Instant | None = None
    decided_at: int | None = None
    started_us: Instant | None = None
    ended_us: Instant | None = None
    reason: str | None = None
    note: str | None = None
    result: Json = None
    error: str | None = None
    metadata: JsonObject | None = None


class ExplainedTask(
    Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={"in_force": "inForce", "and_every": "andEvery"},
):
    """A task and its instances. ``says``: why it has none; ``forgotten``: how many are not kept any more."""

    task: TaskName
    in_force: bool
    run: str | None = None
    after: list[TriggerName] | None = None
    and_every: TriggerName | None = None
    unless: list[TriggerName] | None = None
    instances: list[ExplainedInstance]
    says: str | None = None
    forgotten: int | None = None


class SeenTrigger(Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"used_by": "usedBy"}):
    """A trigger that has arrived, and the tasks that use it.

    ``unused``: no task uses it, no kept instance did, and it is no task's result, which need not be used.
    ``nearest``: the used trigger that was perhaps meant.
    """

    trigger: TriggerName
    by: Origin
    used_by: list[TaskName]
    unused: bool = False
    nearest: TriggerName | None = None


class ConfigurationsMet(Struct, frozen=True, kw_only=True, rename={"in_force": "inForce"}):
    """The configuration that a session met last, and the one in force; None if there is none."""

    met: ConfigHash | None
    in_force: ConfigHash | None


_OF_ROWS = {"time_us": "time", "due_of": "dueOf"}


class TimelineRow(Struct, frozen=True, kw_only=True, omit_defaults=True, rename=_OF_ROWS):
    """An event, with its ``type``; or a decision, with its ``instance``, ``run``, ``command``, ``because``.

    ``what`` is one of arrived, reported, ordered, decided, fired, expired, abandoned, refused, ignored;
    ``why`` is the code of the reason for the last two. ``because`` has the first 100 of the ``included``
    events. ``due_of``: a timer did it, which follows from this key.

    ``fired``: a timer fired the trigger ``type``. ``expired``: the ``instance`` was not satisfied in time.
    Neither has an ``offset``, because no record of the log says it.
    """

    offset: int | None = None
    time_us: Instant
    what: str
    type: str | None = None
    why: str | None = None
    note: str | None = None
    instance: InstanceId | None = None
    run: str | None = None
    due_of: DueOf | None = None
    command: CommandId | None = None
    because: list[ReasonToDecide] | None = None
    included: int | None = None


class ExplainedSession(
    Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={
        "clock_us": "clock",
        "last_event_us": "lastEvent",
        "waits_for": "waitsFor",
        "folded_to": "foldedTo",
    },
):
    """A session: its conditions leaf by leaf, and its timeline; ``partition`` is where it is, if known.

    ``folded_to``: it is shown as it was after this offset of its log. ``last_event_us``: the time of its last
    event; ``clock_us`` is its greatest arrival so far, also that of an event that only lets timers fire.
    """

    session: SessionId
    generation: int
    closed: bool
    clock_us: Instant | None
    offset: int
    config: ConfigurationsMet
    waits_for: list[TriggerName]
    tasks: list[ExplainedTask]
    seen: list[SeenTrigger]
    refused: int
    timeline: list[TimelineRow]
    partition: int | None = None
    folded_to: int | None = None
    last_event_us: Instant | None = None

    @property
    def instances_generation(self) -> int:
        """The generation that the instances belong to."""
        return self.generation - 1 if self.closed else self.generation

    def find(self, instance: InstanceId) -> ExplainedInstance | None:
        """The instance of that id."""
        return next((one for task in self.tasks for one in task.instances if one.instance == instance), None)


class StoredInstance(
    Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={
        "created_us": "created",
        "decided_us": "decided",
        "started_us": "started",
        "ended_us": "ended",
        "changed_us": "changed",
        "due_us": "due",
        "due_of": "dueOf",
        "retried_as": "retriedAs",
    },
):
    """A stored instance, without its conditions. ``retried_as``: a retry took its place.

    ``due_us``: when its timer fires under the file that the session met last; ``due_of`` is the key.
    ``repeats`` counts the rounds before this one.
    """

    status: Status
    kwargs: JsonObject
    result: Json = None
    error: str | None = None
    reason: str | None = None
    note: str | None = None
    metadata: JsonObject | None = None
    attempt: int
    retries: int
    created_us: Instant
    decided_us: Instant | None = None
    started_us: Instant | None = None
    ended_us: Instant | None = None
    changed_us: Instant
    due_us: Instant | None = None
    due_of: DueOf | None = None
    repeats: int = 0
    retried_as: InstanceId | None = None


_TIMES = {"clock_us": "clock", "last_event_us": "lastEvent"}


class StoredSession(Struct, frozen=True, kw_only=True, rename=_TIMES):
    """A stored session: the triggers that it has seen, and its instances by id."""

    session: SessionId
    generation: int
    closed: bool
    offset: int
    clock_us: Instant | None
    last_event_us: Instant | None
    refused: int
    seen: list[TriggerName]
    instances: dict[str, StoredInstance]


class CountedSession(Struct, frozen=True, kw_only=True, rename=_TIMES):
    """The numbers of instances of a session that wait, run, failed and are done, its clock and last event."""

    session: SessionId
    waiting: int
    running: int
    failed: int
    done: int
    closed: bool
    clock_us: Instant | None
    last_event_us: Instant | None = None


class FailedInstance(Struct, frozen=True, kw_only=True, rename={"changed_us": "changed"}):
    """A failed instance."""

    instance: InstanceId
    error: str | None
    reason: str | None
    changed_us: Instant


class ListedSession(
    CountedSession, frozen=True, kw_only=True, rename={**_TIMES, "waits_for": "waitsFor", "due_us": "due"}
):
    """A session in a list. ``due_us``: when its next timer is due."""

    waits_for: list[TriggerName]
    failures: list[FailedInstance]
    due_us: Instant | None = None


class TimedSession(CountedSession, frozen=True, kw_only=True, rename={**_TIMES, "due_us": "due"}):
    """A session with the time of its next timer."""

    due_us: Instant | None


class SessionsPage(Struct, frozen=True, kw_only=True):
    """A page of sessions, by id or by due time.

    ``after``: the next page comes after it; None: this is the last one. It is an id, or in a list by due time
    what :func:`triggerstream.core.listing.due_cursor` makes.

    ``missing`` names the workers whose sessions the list lacks, and why. ``complete`` false: it may lack
    sessions, because the index is not there yet.
    """

    missing: list[str] = []
    sessions: list[ListedSession]
    after: SessionId | None
    complete: bool


class OwnerRow(Struct, frozen=True, kw_only=True, rename={"since_us": "since"}):
    """A process that has claimed ``partitions`` and not released them, since its take-over.

    ``generation``: that of its group at the take-over; None: it belongs to no group, like a rebuild.
    """

    host: str
    pid: int
    since_us: Instant
    generation: int | None
    partitions: list[int]
