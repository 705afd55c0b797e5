"""A session's state as bytes. ``schemas/session-state.schema.json`` is the published form.

The version is in every state. An older version is upcast when it is read (:mod:`triggerstream.wire.upcasts`);
a newer one is refused. msgspec reads, checks and writes the types of ``core.state``. This module has the
rules that types cannot express.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, NamedTuple, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from triggerstream.core.commands import Command
from triggerstream.core.errors import DecodeError
from triggerstream.core.held import Ref, Remembered, place_of
from triggerstream.core.ids import DIGEST_BYTES, JsonObject, TaskName, TriggerName
from triggerstream.core.sizes import captured_by_resolved_alone
from triggerstream.core.slots import captured_refs
from triggerstream.core.state import (
    RESOLVED,
    Arrival,
    Count,
    Instance,
    SessionState,
    Status,
    StoredInstant,
    TaskRecord,
    TimelineEntry,
)
from triggerstream.wire import commands
from triggerstream.wire.bounds import STATE_DEPTH
from triggerstream.wire.json import as_object, loads
from triggerstream.wire.upcasts import upcast

STATE_VERSION = 2

_Offset: TypeAlias = Annotated[int, Meta(ge=-1, le=2**63 - 1)]
"""The offset of a record, or -1: before the first."""


class _Record(Struct, omit_defaults=True):
    """A task's instances, each group in the order in which they came into it."""

    next: Count
    open: list[Instance] = []
    resolved: list[Instance] = []
    removed: bool = False


class _State(Struct, omit_defaults=True, kw_only=True, rename={"clock_us": "clock", "due_us": "due"}):
    """A stored state. Fields without a value are left out: an erased session is three numbers."""

    version: Annotated[int, Meta(ge=1)]
    generation: Count
    offset: _Offset
    clock_us: StoredInstant = 0
    config: _Offset | UnsetType = UNSET
    due_us: StoredInstant | None = None
    closed: bool = False
    unjudged: bool = False
    refused: Count = 0
    seen: dict[TriggerName, Arrival] = {}
    tasks: dict[TaskName, _Record] = {}
    kept: dict[TriggerName, list[Arrival]] = {}
    remembered: dict[TaskName, Remembered] = {}
    digests: dict[TriggerName, bytes] = {}
    timeouts: Ref = 0
    holds: Count = 0
    positions: list[TimelineEntry] = []


class _Version(Struct):
    version: int


_HEAD = re.compile(
    rb'\{"version":[1-%d],"generation":\d+,"offset":-?\d+(?:,"clock":\d+)?(?:(,"config":)(-?\d+))?(?:,"due":(\d+))?(?=[,}])'
    % STATE_VERSION
)
"""The beginning of an encoded state."""
_DELAYED = b'"delayed"'
_LAST_US = 2**63 - 1
_UNJUDGED = b'"unjudged":true'
_MAY_BE_OPEN = b'"open":'
HELD_MARK = b'"held"'
"""Bytes that a stored state has if an instance is held."""


class StateHeader(NamedTuple):
    """Facts about a stored state that can be read without decoding it.

    ``config`` is the offset of the configuration that the session has met last; None for an empty state.
    ``due_us`` is the next due time under that configuration. ``is_unsettled``: only the decoded state tells
    the due time, or it may have to be judged. ``may_be_open``: it may have an open instance.
    """

    config: int | None
    due_us: int | None
    is_unsettled: bool
    may_be_open: bool


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_State)
_version_decoder = msgspec.json.Decoder(_Version)


def encode(state: SessionState) -> bytes:
    """Encode ``state`` for the store.

    Raises:
        DecodeError: a value in it is not JSON.
    """
    return _encoded(_stored(state))


def _stored(state: SessionState) -> _State:
    stored = _State(
        version=STATE_VERSION,
        generation=state.generation,
        offset=state.offset,
        clock_us=state.clock_us,
        config=UNSET if state.is_empty() else state.config,
        due_us=None if state.due_us is None else min(state.due_us, _LAST_US),
        closed=state.closed,
        unjudged=state.unjudged,
        refused=state.refused,
        seen=state.seen,
        tasks={
            name: _Record(
                record.next, list(record.open.values()), list(record.resolved.values()), record.removed
            )
            for name, record in state.tasks.items()
        },
        remembered=state.remembered,
        digests=state.digests,
        timeouts=state.timeouts,
        holds=state.holds,
        positions=state.positions,
    )
    if state.kept or state.recent:
        needed = {
            name: sorted(arrivals.values(), key=lambda one: place_of(one.offset))
            for name, arrivals in state.needed_events().items()
        }
        first = sorted(needed.items(), key=lambda item: place_of(item[1][0].offset))
        stored.kept = dict(first)
    return stored


def _encoded(value: Struct) -> bytes:
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise DecodeError(f"not a JSON value: {exc}") from exc


class EncodedSizes:
    """A :class:`triggerstream.core.sizes.Sizes`."""

    def text(self, text: str) -> int:
        """Size of a text."""
        return len(_encoder.encode(text))

    def command(self, command: Command) -> int:
        """Size of a command as a record's value."""
        return len(commands.encode(command))

    def instance(self, instance: Instance) -> int:
        """Size of an instance without the events that it captured."""
        return len(_encoded(instance))

    def arrival(self, arrival: Arrival) -> int:
        """Size of an event as a session stores it."""
        return len(_encoded(arrival))

    def remembered(self, remembered: Remembered) -> int:
        """Size of what the leaves of a task remember."""
        return len(_encoded(remembered))

    def state(self, state: SessionState) -> int:
        """Size of a state without its resolved instances and the events that only they captured."""
        stored = _stored(state)
        stored.due_us = None  # it is exact only where batches end
        for record in stored.tasks.values():
            record.resolved = []
        if over := captured_by_resolved_alone(state):
            needed = {
                name: [arrival for arrival in arrivals if (name, arrival.offset) not in over]
                for name, arrivals in stored.kept.items()
            }
            stored.kept = {name: arrivals for name, arrivals in needed.items() if arrivals}
        return len(_encoded(stored))


def read_header(value: bytes) -> StateHeader | None:
    """Read the header of a stored state without decoding the state, in 1 µs.

    None: the state must be decoded.
    """
    head = _HEAD.match(value)
    if head is None:
        return None
    config = None if head[1] is None else int(head[2])
    due_us = None if head[3] is None else int(head[3])
    is_unsettled = _UNJUDGED in value or (due_us is None and _DELAYED in value)
    return StateHeader(config, due_us, is_unsettled, _MAY_BE_OPEN in value)


def trigger_marks(names: Iterable[TriggerName]) -> tuple[bytes, ...]:
    """Bytes of which a stored state has one if the session remembers an event of one of these triggers."""
    return tuple(_encoder.encode(name) + b":{" for name in names)


def named_fields(value: bytes) -> JsonObject:
    """The fields of a state, with each instance under its id, open or resolved.

    Raises:
        DecodeError: it is no state.
    """
    fields = as_object(loads(value, depth=STATE_DEPTH), "")
    tasks: JsonObject = {}
    for name, item in as_object(fields.get("tasks", {}), "/tasks").items():
        record = as_object(item, "/tasks")
        tasks[name] = {"next": record.get("next")}
        for where in ("open", "resolved"):
            instances = record.get(where)
            for instance in instances if isinstance(instances, list) else ():
                found = as_object(instance, where)
                tasks[f"{name}#{found.get('number')}"] = found
    return fields | {"tasks": tasks}


def decode(value: bytes) -> SessionState:
    """Decode a state.

    Raises:
        DecodeError: it is not a state, or has a version that this release does not know.
    """
    stored = _decode_stored(value)
    state = SessionState(
        generation=stored.generation,
        offset=stored.offset,
        clock_us=stored.clock_us,
        due_us=stored.due_us,
        closed=stored.closed,
        unjudged=stored.unjudged,
        refused=stored.refused,
        seen=stored.seen,
        remembered=stored.remembered,
        digests=stored.digests,
        timeouts=stored.timeouts,
        holds=stored.holds,
        positions=stored.positions,
    )
    for digests in stored.digests.values():
        if len(digests) % DIGEST_BYTES:
            raise DecodeError("/digests: must be whole digests of 8 bytes")
    earlier = {name: {one.offset: one for one in arrivals} for name, arrivals in stored.kept.items()}
    captured: set[TriggerName] = set()
    for name, record in stored.tasks.items():
        state.tasks[name] = _read_record(state, name, record, earlier, captured)
    state.latest_captured = frozenset(captured)
    for name, remembered in stored.remembered.items():
        for trigger, ref in captured_refs(remembered.after):
            arrival = earlier.get(trigger, {}).get(ref)
            if arrival is None:
                raise DecodeError(f"/remembered/{name[:80]}: `kept` has no `{trigger[:80]}` at offset {ref}")
            state.kept.setdefault(trigger, {})[ref] = arrival
    if not state.is_empty():
        if stored.config is UNSET:
            raise DecodeError("/config: must be an integer of at least -1, is missing")
        state.config = stored.config
    return state


def _decode_stored(value: bytes) -> _State:
    """The stored form of a state; one that an earlier release wrote is upcast.

    Raises:
        DecodeError: it is from a later release, whatever else is wrong with it; or what is wrong with it.
    """
    try:
        stored = _decoder.decode(value)
        version = stored.version
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        stored, version = None, _version_of(value, exc)
    if version > STATE_VERSION:
        raise DecodeError(
            f"/version: {version} is newer than this release, which reads up to {STATE_VERSION}"
        )
    if stored is not None and version == STATE_VERSION:
        return stored
    try:
        return msgspec.convert(upcast(msgspec.json.decode(value), version), _State)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise DecodeError(_error_text(exc)) from exc


def _version_of(value: bytes, odd: Exception) -> int:
    """The version of a state that this release cannot decode as it is: an earlier or a later one.

    Raises:
        DecodeError: ``odd``: it has this release's version, or none.
    """
    try:
        version = _version_decoder.decode(value).version
    except (msgspec.MsgspecError, ValueError, RecursionError):
        version = STATE_VERSION
    if version < 1 or version == STATE_VERSION:
        raise DecodeError(_error_text(odd)) from odd
    return version


def _error_text(exc: Exception) -> str:
    """Msgspec's error, after the path as in other messages: ``/tasks/…/open/0/number: Expected `int```."""
    what, _, place = str(exc).partition(" - at `$")
    if not place:
        return f"not a session's state: {what}"
    for mark, slash in (("[...]", "/…"), ("[", "/"), ("]", ""), (".", "/"), ("`", "")):
        place = place.replace(mark, slash)
    return f"{place}: {what}"


def _read_record(
    state: SessionState,
    name: TaskName,
    stored: _Record,
    earlier: dict[TriggerName, dict[Ref, Arrival]],
    captured: set[TriggerName],
) -> TaskRecord:
    """Convert a task's instances, count them in ``state``, and keep there what they captured of ``earlier``.

    The triggers whose latest event they captured are added to ``captured``.
    """
    record = TaskRecord(next=stored.next, removed=stored.removed)
    for group, items, resolved in (
        (record.open, stored.open, False),
        (record.resolved, stored.resolved, True),
    ):
        for instance in items:
            number = instance.number
            if number >= record.next or number in record.open or number in record.resolved:
                raise _error(name, instance, "is not below `next`, or stands twice")
            if (instance.status in RESOLVED) is not resolved:
                where = "resolved" if resolved else "open"
                raise _error(name, instance, f"cannot be {instance.status} among the {where}")
            if instance.status is Status.DELAYED:
                if instance.waits_from_us is None:
                    raise _error(name, instance, "is delayed and does not say since when (`waitsFrom`)")
                if state.due_us is None:
                    state.due_us = 0  # an earlier release stored no due time
            for trigger, offset in captured_refs(instance.captured):
                latest = state.seen.get(trigger)
                if latest is not None and latest.offset == offset:
                    captured.add(trigger)
                    continue
                arrivals = earlier.get(trigger)
                if arrivals is None or offset not in arrivals:
                    what = f"captured `{trigger[:80]}` at offset {offset}"
                    raise _error(name, instance, f"{what}, which neither `seen` nor `kept` has")
                state.kept.setdefault(trigger, {})[offset] = arrivals[offset]
            group[number] = instance
    state.open_count += len(record.open)
    return record


def _error(task: TaskName, instance: Instance, what: str) -> DecodeError:
    return DecodeError(f"/tasks/{task[:80]}: instance {instance.number} {what}")
