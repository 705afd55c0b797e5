"""The events of the log: an :class:`Event` is the envelope, its ``body`` one of a closed set of kinds.

Instants are whole microseconds since the Unix epoch, UTC (``…_us``); durations are microseconds too.

Objects created per event are msgspec Structs: 0.3 µs each, where a frozen dataclass of nine fields takes
2 µs. The classes of the engine's own events also declare their data on the wire, which
:mod:`triggerstream.wire.engine_events` reads.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeAlias, final, get_args

from msgspec import Meta, Struct

from triggerstream.core.ids import (
    CommandId,
    ConfigHash,
    InstanceId,
    Json,
    JsonObject,
    SessionId,
    TriggerName,
)

ENGINE_PREFIX = "triggerstream."
"""Types that begin so are the engine's own; no application may fire them."""


SHOWN = {"shown": True}
"""Mark of a type of text: a message shows the text that is not as it must be."""
_Text: TypeAlias = Annotated[str, Meta(description="a string")]
_Flag: TypeAlias = Annotated[bool, Meta(description="true or false")]
_Object: TypeAlias = Annotated[JsonObject, Meta(description="an object")]
_Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1, description="an integer of at least 0")]
_Number: TypeAlias = Annotated[int, Meta(ge=1, le=2**63 - 1, description="an integer of at least 1")]
_FullText: TypeAlias = Annotated[str, Meta(min_length=1, description="a non-empty string")]
_Command: TypeAlias = Annotated[CommandId, Meta(min_length=1, description="a non-empty string")]
_Hash: TypeAlias = Annotated[ConfigHash, Meta(min_length=1, description="a non-empty string")]
_Instance: TypeAlias = Annotated[
    InstanceId,
    Meta(
        pattern=r"\A(?s:.+)#(?:0|[1-9][0-9]*)\Z",
        description="task#number",
        extra=SHOWN,
    ),
]
"""Types of fields on the wire; a message says that a field must be what its description is."""


class Trigger(Struct, frozen=True, kw_only=True):
    """A named fact that an application fired."""

    name: TriggerName
    data: JsonObject


class Started(Struct, frozen=True, kw_only=True, tag="triggerstream.task.started"):
    """A worker began to run ``command``."""

    instance: _Instance
    command: _Command
    metadata: _Object | None = None


class Finished(Struct, frozen=True, kw_only=True, tag="triggerstream.task.finished"):
    """A worker ran ``command`` to its end; ``result`` is what the task returned."""

    instance: _Instance
    command: _Command
    result: Json = None
    metadata: _Object | None = None


class FailureReason(StrEnum):
    """Why a command failed, if the cause is not an exception that the task raised."""

    NOT_DISPATCHABLE = "not dispatchable"
    """The command can never be handed over: not on the list of allowed tasks, too long, or not JSON."""
    TASK_UNKNOWN = "task unknown"
    """The worker that received the message has no task of that name."""
    MESSAGE_REJECTED = "message rejected"
    """The worker that received the message could not decode it."""
    WORKER_LOST = "worker lost"
    """Processes that ran the command ended without an outcome, too often to try again."""
    TIME_LIMIT = "time limit"
    TERMINATED = "terminated"
    RESULT_NOT_REPORTABLE = "result not reportable"
    """The task returned a value that no event can hold. It has done its work, so it is never retried."""


_FailureReason: TypeAlias = Annotated[
    FailureReason,
    Meta(
        description=f"one of {', '.join(f'`{reason}`' for reason in FailureReason)}",
        extra=SHOWN,
    ),
]


class Failed(Struct, frozen=True, kw_only=True, tag="triggerstream.task.failed"):
    """``command`` ended with an error, or could never be handed over.

    ``reason`` is None if the task itself raised an error. ``attempt``: see :class:`Revoked`; it counts only
    if ``reason`` says that no worker ran the task to its end.
    """

    instance: _Instance
    command: _Command
    error: _Text = ""
    reason: _FailureReason | None = None
    attempt: _Count | None = None
    metadata: _Object | None = None


class Skipped(Struct, frozen=True, kw_only=True, tag="triggerstream.task.skipped"):
    """The task itself reported that there was nothing to do."""

    instance: _Instance
    command: _Command
    metadata: _Object | None = None


class Retried(
    Struct, frozen=True, kw_only=True, tag="triggerstream.task.retried", rename={"after_us": "after"}
):
    """The task asked to be run again ``after_us`` later, with ``kwargs`` in place of its own if given."""

    instance: _Instance
    command: _Command
    kwargs: _Object | None = None
    after_us: _Count = 0
    metadata: _Object | None = None


class Revoked(Struct, frozen=True, kw_only=True, tag="triggerstream.task.revoked"):
    """The executor dropped ``command`` before it ran: expired there, or revoked.

    ``attempt``: that of the message which was dropped. Refused where the command was sent again since then:
    that message is still to be run. None: the newest.
    """

    instance: _Instance
    command: _Command
    attempt: _Count | None = None
    metadata: _Object | None = None


class Skip(Struct, frozen=True, kw_only=True, tag="triggerstream.instance.skip"):
    """An operator passes over a failed instance; with ``cascade`` as if it had returned ``result``.

    ``generation``, in every order: the generation of the session when the order was given. In another
    generation the order is refused, because the same id names another instance. None: any.
    """

    instance: _Instance
    generation: _Count | None = None
    cascade: _Flag = False
    result: Json = None
    reason: _Text | None = None
    by: _Text | None = None


class Replay(Struct, frozen=True, kw_only=True, tag="triggerstream.instance.replay"):
    """An operator runs a failed instance again, as a new one."""

    instance: _Instance
    generation: _Count | None = None
    kwargs: _Object | None = None
    force: _Flag = False
    reason: _Text | None = None
    by: _Text | None = None


class Cancel(Struct, frozen=True, kw_only=True, tag="triggerstream.instance.cancel"):
    """An operator ends an instance that waits or runs."""

    instance: _Instance
    generation: _Count | None = None
    reason: _Text | None = None
    by: _Text | None = None


class Resend(Struct, frozen=True, kw_only=True, tag="triggerstream.instance.resend"):
    """An operator orders a second hand-over of an instance's command, under the same id.

    ``attempt``: the instance's attempt when the order was given; at another attempt it is refused. None: any.
    """

    instance: _Instance
    generation: _Count | None = None
    attempt: _Count | None = None
    reason: _Text | None = None
    by: _Text | None = None


class Release(Struct, frozen=True, kw_only=True, tag="triggerstream.instance.release"):
    """An operator decides a delayed or held instance now."""

    instance: _Instance
    generation: _Count | None = None
    reason: _Text | None = None
    by: _Text | None = None


class Close(Struct, frozen=True, kw_only=True, tag="triggerstream.session.close"):
    """Ends the session; later triggers start anew.

    ``generation``: the session's generation when the order was given; in another it is refused. None: any.
    """

    generation: _Count | None = None
    reason: _Text | None = None
    by: _Text | None = None


class Erase(Struct, frozen=True, kw_only=True, tag="triggerstream.session.erase"):
    """Forgets the session; only its generation stays. ``generation``: see :class:`Close`."""

    generation: _Count | None = None
    reason: _Text | None = None
    by: _Text | None = None


class Touch(Struct, frozen=True, kw_only=True, tag="triggerstream.session.touch"):
    """Makes the session meet configurations that it missed."""

    reason: _Text | None = None
    by: _Text | None = None


class Timer(Struct, frozen=True, kw_only=True, tag="triggerstream.timer"):
    """Lets time pass when no other event arrives. It decides nothing by itself."""


@final
class ConfigApplied(Struct, frozen=True, kw_only=True, tag="triggerstream.config"):
    """A tasks file takes force from this position of the partition on. It belongs to no session.

    ``number`` is one more than the number of the configuration in force; ``replaces`` is the hash of that
    configuration. Without a number, neither is checked.
    """

    text: _FullText
    hash: _Hash
    replaces: Annotated[ConfigHash, Meta(description="a string")] | None = None
    fold: _Number
    number: _Number | None = None


Outcome: TypeAlias = Started | Finished | Failed | Skipped | Retried | Revoked
Order: TypeAlias = Skip | Replay | Cancel | Resend | Release
SessionEvent: TypeAlias = Close | Erase | Touch | Timer
Body: TypeAlias = Trigger | Outcome | Order | SessionEvent

EngineEvent: TypeAlias = Outcome | Order | SessionEvent | ConfigApplied
"""The engine's own events."""

TYPES: dict[type[EngineEvent], str] = {kind: kind.__struct_config__.tag for kind in get_args(EngineEvent)}
"""The wire's ``type`` of every kind but :class:`Trigger`, whose type is its name."""
OUTCOME_TYPES = frozenset(TYPES[kind] for kind in get_args(Outcome))
"""The types of outcomes."""

ORIGIN_SOURCE = "triggerstream-origin"
"""Source in the identity of a copy of a record without an id (docs/semantics.md, R11.2); it is not shown."""


class Event(Struct, frozen=True, kw_only=True):
    """One entry of a session's log.

    ``offset`` is its position in the partition, ``arrival_us`` the time at which the log received it,
    ``time_us`` the time at which it happened (its ``time``, else its arrival). ``id`` and ``source`` make it
    idempotent; without ``id`` every record counts. Copies of one record without an ``id`` count once: they
    have its position in common, ``origin``, as ``partition:offset``.
    """

    session: SessionId
    offset: int
    arrival_us: int
    time_us: int
    type: str
    body: Body
    id: str | None = None
    source: str | None = None
    traceparent: str | None = None
    origin: str | None = None

    def identity(self) -> tuple[str | None, str] | None:
        """Source and id by which a repetition of this event is recognised; None: it is always a new one."""
        if self.id is not None:
            return self.source, self.id
        return None if self.origin is None else (ORIGIN_SOURCE, self.origin)
