"""A session's state as bytes. ``schemas/session-state.schema.json`` is the published form.

The version is in every state. An older version is upcast when it is read (:mod:`triggerstream.wire.upcasts`);
a newer one is refused. msgspec reads, checks and writes the types of ``core.state``. This module has the
rules that types cannot express.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from copy import copy

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from triggerstream.core.blocks import OpenInstances
from triggerstream.core.commands import Command
from triggerstream.core.errors import DecodeError
from triggerstream.core.held import Remembered, place_of
from triggerstream.core.holders import Holders, KeptEvents
from triggerstream.core.ids import JsonObject, TriggerName
from triggerstream.core.lazy import COPIED, Buffer
from triggerstream.core.retired import Retired
from triggerstream.core.state import Arrival, EarlierEvents, Instance, Instances, SessionState, TaskRecord
from triggerstream.wire import blocks, commands, latest_events, timeline_lines
from triggerstream.wire.blocks import encode_value
from triggerstream.wire.bounds import STATE_DEPTH
from triggerstream.wire.int_columns import LONG
from triggerstream.wire.json import as_object, loads
from triggerstream.wire.plain_states import (
    build_head,
    build_plain_head,
    read_plain,
    read_plain_of_many,
)
from triggerstream.wire.retired import encode as encode_retired
from triggerstream.wire.shared_sent import share_sent, shared_bytes
from triggerstream.wire.state_reader import StateReader, check_lines
from triggerstream.wire.stored_state import STATE_VERSION, Lines, LongState, StoredRecord, StoredState
from triggerstream.wire.upcasts import upcast

_SAME_FORM = 2
"""The oldest version that is read as it is: what later ones have more is absent in it."""


class _Version(Struct):
    version: int


_HEAD = re.compile(
    rb'\{"version":[1-%d],"generation":\d+,"offset":-?\d+(?:,"clock":\d+)?(?:(,"config":)(-?\d+))?(?:,"due":(\d+))?(?=[,}])'
    % STATE_VERSION
)
"""The beginning of an encoded state."""
_REPEATED_BYTES = 64
"""The names around an instance's leaves and its command, which stand in the columns of a block once."""
_DELAYED = b'"delayed"'
_UNJUDGED = b'"unjudged":true'
_MAY_BE_OPEN = b'"open'
"""The field of open instances that are lines begins as that of others does."""
HELD_MARK = b'"held"'
"""Bytes that a stored state has if an instance is held."""


class StateHeader(Struct, frozen=True):
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
_decoder = msgspec.json.Decoder(StoredState)
_long_decoder = msgspec.json.Decoder(LongState)
_LONG_HEAD = 4096
"""Bytes of a head from which on a column in it may be long (``int_columns.LONG``): it is that long with 200
open instances and more. In a shorter one, all columns are decoded with the rest."""
_version_decoder = msgspec.json.Decoder(_Version)


def encode(state: SessionState) -> bytes:
    """Encode ``state`` for the store.

    Raises:
        DecodeError: a value in it is not JSON.
    """
    return pack_and_encode(state)[1]


def pack_and_encode(state: SessionState) -> tuple[SessionState, bytes]:
    """The same state in the form in which it is stored (:func:`pack`), and its bytes.

    Raises:
        DecodeError: a value in it is not JSON.
    """
    head = build_plain_head(state)
    if head is not None:
        return state, encode_value(head)
    packed = pack(state)
    return packed, encode_packed(packed)


def pack(state: SessionState) -> SessionState:
    """The same state in the form in which it is stored, perhaps ``state`` itself.

    Events that nothing needs are dropped, and many open instances and events are in blocks. What was not
    changed since the state was read is not encoded again.

    Raises:
        DecodeError: a value in it is not JSON.
    """
    unpacked = state.tasks
    for record in unpacked.values():
        if not isinstance(record.open, dict) or len(record.open) > blocks.MOST_INLINE:
            state = copy(state)
            state.tasks = {name: _packed_record(one) for name, one in state.tasks.items()}
            break
    positions = timeline_lines.pack_timeline(state.positions)
    if not isinstance(state.seen, dict) or len(state.seen) > blocks.MOST_INLINE:
        state = latest_events.pack_latest(state, positions)
    if state.kept or state.recent:
        if state.open_count >= LONG:
            state, holders = state.collected_after(unpacked)
        else:
            state = state.collected()
            holders = Holders(state.tasks, state.remembered, state.seen)
        state.kept = _in_log_order(
            {name: blocks.pack_kept(name, arrivals, holders) for name, arrivals in state.kept.items()}
        )
    if positions is not state.positions:
        state = replace(state, positions=positions)
    return state


def _in_log_order(kept: dict[TriggerName, EarlierEvents]) -> dict[TriggerName, EarlierEvents]:
    """The same events, the triggers in the order of their first ones."""
    return dict(sorted(kept.items(), key=lambda item: _first_place(item[1]))) if len(kept) > 1 else kept


def _first_place(arrivals: EarlierEvents) -> int:
    # Packed ones are in log order.
    if isinstance(arrivals, KeptEvents):
        return place_of(arrivals.blocks[0].first)
    return min(map(place_of, arrivals))


def size_at_most(state: SessionState, length: int) -> int:
    """At least the size of a packed state whose bytes have ``length``, if each part stands by itself.

    It is no less than :meth:`EncodedSizes.state`, and than the sizes of its resolved instances together.
    """
    size = length + latest_events.most_in_head(state)
    for record in state.tasks.values():
        inline = record.open if isinstance(record.open, dict) else record.open.changed
        size += shared_bytes([*record.resolved.values(), *inline.values()])
        if not isinstance(record.open, dict):
            for block in record.open.blocks:
                leaves = [*block.captured, *block.noted]
                repeated = len(_encoder.encode((leaves, block.sent))) + len(leaves) + _REPEATED_BYTES
                size += block.length * repeated
    return size


def _packed_record(record: TaskRecord) -> TaskRecord:
    packed = blocks.pack_instances(record.open)
    if packed is record.open:
        return record
    record = copy(record)
    record.open = packed
    return record


def encode_packed(state: SessionState) -> bytes:
    """Encode a state that :func:`pack` has returned.

    Raises:
        DecodeError: a value in it is not JSON.
    """
    head = encode_value(_head(state, shares=True))
    pieces: list[Buffer] = [head, b"\n"]
    if not isinstance(state.seen, dict):
        pieces += latest_events.pieces_of(state.seen)
    for kept in state.kept.values():
        _add_pieces(pieces, kept)
    for record in state.tasks.values():
        if not isinstance(record.open, dict):
            _add_pieces(pieces, record.open)
    if not isinstance(state.positions, list):
        pieces.append(state.positions.lines)
    return b"".join(pieces) if len(pieces) > _HEAD_ALONE else head


_HEAD_ALONE = 2
"""Pieces of a state without lines: its head and a newline."""


def _add_pieces(pieces: list[Buffer], values: EarlierEvents | Instances) -> None:
    """Add the lines of packed earlier events, or of open instances."""
    if not isinstance(values, dict):
        for block in values.blocks:
            for text, start, end in block.pieces:  # a comprehension takes longer
                pieces.append(text[start:end] if end - start < COPIED else memoryview(text)[start:end])


def _head(state: SessionState, *, shares: bool = False) -> StoredState:
    """The head of a packed state. ``shares``: what instances of a task have alike is stored once."""
    seen, digests, positions = state.seen, state.digests, state.positions
    stored: Callable[[Iterable[Instance]], list[Instance]] = list
    if not isinstance(seen, dict):
        stored = latest_events.stored_instances
    tasks = {
        name: StoredRecord(
            record.next,
            stored(record.open.values()),
            stored(record.resolved.values()) if record.resolved else [],
            record.removed,
            [],
            record.retired,
            record.undecided,
        )
        if isinstance(record.open, dict)
        else _stored_lines(record, record.open, stored(record.resolved.values()))
        for name, record in state.tasks.items()
    }
    if shares:
        for one in tasks.values():
            if len(one.open) + len(one.resolved) > 1:
                share_sent(one)
    head = build_head(
        state,
        seen if isinstance(seen, dict) else {},
        tasks,
        digests if isinstance(digests, dict) else digests.others,
        positions if isinstance(positions, list) else [],
    )
    head.remembered = state.remembered
    if not isinstance(positions, list):
        head.position_lines = timeline_lines.columns_of(positions)
    if not isinstance(seen, dict):
        head.seen_lines = latest_events.columns_of(seen)
    for name, arrivals in state.kept.items():
        if isinstance(arrivals, dict):
            head.kept[name] = sorted(arrivals.values(), key=lambda one: place_of(one.offset))
        else:
            head.kept_lines[name] = blocks.length_of_kept(arrivals)
    return head


def _stored_lines(record: TaskRecord, instances: OpenInstances, resolved: list[Instance]) -> StoredRecord:
    """The record of a task that has many open instances."""
    columns = blocks.columns_of_instances(instances)
    inline = list(instances.changed.values())
    return StoredRecord(
        record.next, inline, resolved, record.removed, columns, record.retired, record.undecided
    )


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
        return len(encode_value(instance))

    def arrival(self, arrival: Arrival) -> int:
        """Size of an event as a session stores it."""
        return len(encode_value(arrival))

    def remembered(self, remembered: Remembered) -> int:
        """Size of what the leaves of a task remember."""
        return len(encode_value(remembered))

    def retired(self, retired: Retired) -> int:
        """Size of the entry of an instance that leaves the state."""
        return len(encode_retired(retired))

    def state(self, state: SessionState) -> int:
        """Size of a state without its resolved instances and the events that only they captured.

        It is measured with all in the head, so that a bound does not depend on what is stored as lines.
        """
        measured = copy(state)
        measured.due_us = None  # it is exact only where batches end
        measured.tasks = {
            name: replace(record, resolved={}, retired=(), undecided=False)
            for name, record in state.tasks.items()
        }
        return len(encode_value(_without_lines(measured)))


def read_header(value: bytes) -> StateHeader | None:
    """Read the header of a stored state without decoding the state, in 1 µs.

    None: the state must be decoded.
    """
    head = _HEAD.match(value)
    if head is None:
        return None
    config = None if head[1] is None else int(head[2])
    due_us = None if head[3] is None else int(head[3])
    # Not `in`: it first tries its operand as an integer, and that raises an exception each time.
    is_unsettled = value.find(_UNJUDGED) >= 0 or (due_us is None and value.find(_DELAYED) >= 0)
    return StateHeader(config, due_us, is_unsettled, value.find(_MAY_BE_OPEN) >= 0)


def trigger_marks(names: Iterable[TriggerName]) -> tuple[bytes, ...]:
    """Bytes of which a stored state has one if the session remembers an event of one of these triggers.

    Few events stand under their triggers' names, each as an object; the names of many are one list.
    """
    encoded = [_encoder.encode(name) for name in names]
    return tuple(name + end for name in encoded for end in (b":{", b",", b"]"))


def named_fields(value: bytes) -> JsonObject:
    """The fields of a state, with each instance under its id, open or resolved, and each event in place.

    Raises:
        DecodeError: it is no state.
    """
    fields = as_object(loads(encode_value(_without_lines(decode(value))), depth=STATE_DEPTH), "")
    tasks: JsonObject = {}
    for name, item in as_object(fields.get("tasks", {}), "/tasks").items():
        record = as_object(item, "/tasks")
        tasks[name] = {key: value for key, value in record.items() if key not in {"open", "resolved"}}
        for where in ("open", "resolved"):
            instances = record.get(where)
            for instance in instances if isinstance(instances, list) else ():
                found = as_object(instance, where)
                tasks[f"{name}#{found.get('number')}"] = found
    return fields | {"tasks": tasks}


def _without_lines(state: SessionState) -> StoredState:
    """A state of which all is in the head."""
    state = state.collected() if state.kept or state.recent else copy(state)
    state = _with_names(state)
    state.seen = dict(state.seen)
    if state.kept:
        state.kept = _in_log_order({name: dict(arrivals) for name, arrivals in state.kept.items()})
    state.tasks = {name: replace(record, open=dict(record.open)) for name, record in state.tasks.items()}
    if not isinstance(state.positions, list):
        state.positions = state.positions.entries()
    return _head(state)


def decode(value: bytes) -> SessionState:
    """Decode a state.

    Raises:
        DecodeError: it is not a state, or has a version that this release does not know.
    """
    state = decode_lazily(value)
    if value.find(b"\n") < 0:
        return state  # it has no lines
    check_lines(state)
    state = _with_names(state)
    if not isinstance(state.positions, list):
        state.positions = state.positions.entries()
    return state


def _with_names(state: SessionState) -> SessionState:
    """The same state, in which nothing names a trigger by its place among the latest events."""
    if isinstance(state.digests, dict) and isinstance(state.latest_captured, frozenset):
        return state
    state = copy(state)
    state.digests = dict(state.digests.items())
    state.latest_captured = frozenset(state.latest_captured)
    state.tasks = {name: record.with_names() for name, record in state.tasks.items()}
    return state


def decode_lazily(value: bytes) -> SessionState:
    """Decode a state, but its lines only when they are looked at.

    Whatever is done with the state may raise DecodeError: a line is damaged.

    Raises:
        DecodeError: its head is not that of a state, or has a version that this release does not know.
    """
    end = value.find(b"\n")
    if end < 0 or value[end - 1 : end] != b"}":
        # Also one that people have written in several lines.
        stored = _decode_stored(value)
        plain = read_plain(stored)
        return StateReader(stored, Lines(value, len(value))).read() if plain is None else plain
    stored = _decode_stored(value[:end])
    plain = read_plain_of_many(stored, Lines(value, end + 1))
    return StateReader(stored, Lines(value, end + 1)).read() if plain is None else plain


def _decode_stored(value: bytes) -> StoredState:
    """The stored form of a state; one that an earlier release wrote is upcast.

    Raises:
        DecodeError: it is from a later release, whatever else is wrong with it; or what is wrong with it.
    """
    try:
        stored = (_decoder if len(value) < _LONG_HEAD else _long_decoder).decode(value)
        version = stored.version
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        stored, version = None, _version_of(value, exc)
    if version > STATE_VERSION:
        raise DecodeError(
            f"/version: {version} is newer than this release, which reads up to {STATE_VERSION}"
        )
    if stored is not None and version >= _SAME_FORM:
        return stored
    try:
        return msgspec.convert(upcast(msgspec.json.decode(value), version), StoredState)
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
