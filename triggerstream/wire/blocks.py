"""Blocks of a state: many open instances and events as columns in its head, and lines after it.

Columns have the values that the fold searches: the status, and the event that each leaf holds. The rest of an
instance or event is a line of JSON, which is decoded when it is looked at. Few of them stay in the head.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import lt
from typing import Any, TypeAlias, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from triggerstream.core.blocks import EventBlock, InstanceBlock, LazyEvents, OpenInstances
from triggerstream.core.by_place import CapturedByPlace
from triggerstream.core.errors import DecodeError
from triggerstream.core.held import Holding, Ref, place_of
from triggerstream.core.ids import LeafName
from triggerstream.core.lazy import Block, Piece, find_near, whole_piece
from triggerstream.core.state import (
    RESOLVED,
    Arrival,
    EarlierEvents,
    Instance,
    Instances,
    Sent,
    Status,
)
from triggerstream.wire.changed_lines import MANY, ChangedLines
from triggerstream.wire.stored_state import InstanceColumns, Lines

MOST_INLINE = 16
"""Open instances of a task, or events, up to which a state is one line. Decoding so many takes 40 µs."""

K = TypeVar("K")
V = TypeVar("V")


def _encode_captured(value: object) -> object:
    if isinstance(value, CapturedByPlace):
        return value.whole()
    raise TypeError(f"{type(value).__name__} is no JSON value")


_encoder = msgspec.json.Encoder(enc_hook=_encode_captured)
_instance_decoder = msgspec.json.Decoder(Instance)
_arrival_decoder = msgspec.json.Decoder(Arrival)
_A_LINE = "a line of the state"
_DAMAGED = (msgspec.MsgspecError, ValueError, RecursionError)


def encode_value(value: Struct) -> bytes:
    """A part of a state as JSON.

    Raises:
        DecodeError: a value in it is not JSON.
    """
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise DecodeError(f"not a JSON value: {exc}") from exc


def encode_lines(values: Sequence[Struct]) -> bytes:
    """Values as JSON, each with a newline at its end.

    Raises:
        DecodeError: a value in one of them is not JSON.
    """
    try:
        return _encoder.encode_lines(values)
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise DecodeError(f"not a JSON value: {exc}") from exc


def decode_line(decoder: msgspec.json.Decoder[V], line: bytes, place: str = _A_LINE) -> V:
    """Decode a line of a state. ``place`` names it in errors.

    Raises:
        DecodeError: it is damaged.
    """
    try:
        return decoder.decode(line)
    except _DAMAGED as exc:
        raise DecodeError(f"{place}: {exc}") from exc


def decode_lines(decoder: msgspec.json.Decoder[V], lines: bytes, place: str = _A_LINE) -> list[V]:
    """Decode lines of a state. ``place`` names them in errors.

    Raises:
        DecodeError: one is damaged.
    """
    try:
        return decoder.decode_lines(lines)
    except _DAMAGED as exc:
        raise DecodeError(f"{place}: {exc}") from exc


def decode_arrivals(lines: bytes) -> list[Arrival]:
    """Decode events, each a line.

    Raises:
        DecodeError: one is damaged.
    """
    return decode_lines(_arrival_decoder, lines)


def decode_arrival(line: bytes, ref: Ref) -> Arrival:
    """Decode the line of the event ``ref``.

    Raises:
        DecodeError: it is damaged, or that of another event.
    """
    arrival = decode_line(_arrival_decoder, line)
    if arrival.offset != ref:
        raise DecodeError(f"the line of event {ref} of the state is that of {arrival.offset}")
    return arrival


class _Arrivals(EventBlock[Ref]):
    """Earlier events of one trigger. The keys are their refs."""

    __slots__ = ()

    def __init__(
        self,
        refs: list[Ref],
        *,
        pieces: tuple[Piece, ...] = (),
        lines: list[bytes] | None = None,
    ) -> None:
        super().__init__(refs, pieces=pieces, lines=lines)
        self._refs = refs

    def find_line(self, pieces: Sequence[Piece], ref: Ref, at: int) -> tuple[int, int, int] | None:
        wanted = b',"offset":%d,"time":' % ref
        near = at / max(1, self.length) if len(pieces) == 1 else 0
        for number, piece in enumerate(pieces):
            found = find_near(piece, wanted, near)
            if found >= 0:
                text, first, last = piece
                start = max(first, text.rfind(b"\n", first, found) + 1)
                end = text.find(b"\n", found, last) + 1
                # The data of an event may have such fields, too. Then the lines are split.
                is_of_ref = decode_line(_arrival_decoder, text[start:end]).offset == ref
                return (number, start, end) if is_of_ref else None
        return None

    def decode(self, _: Ref, line: bytes, at: int) -> Arrival:
        return decode_arrival(line, self.refs[at])


class _Instances(InstanceBlock):
    __slots__ = ()

    def begin(self, number: int, /) -> bytes:
        return b'{"number":%d,' % number

    def decode(self, key: int, line: bytes, at: int) -> Instance:
        instance = decode_line(_instance_decoder, line)
        if (
            instance.number != key
            or instance.status is not self.status
            or (instance.status is Status.DELAYED and instance.waits_from_us is None)
            or instance.captured_at
        ):
            raise DecodeError(f"the line of instance {key} of the state is that of another, or lacks a part")
        instance.captured = {leaf: refs[at] for leaf, refs in self.captured.items()}
        instance.noted = {leaf: refs[at] for leaf, refs in self.noted.items()}
        instance.sent = self.sent
        return instance


# ---- from a state ---------------------------------------------------------------------------------


def pack_instances(instances: Instances) -> Instances:
    """Open instances in the form in which they are stored: many plain ones in blocks."""
    if len(instances) <= MOST_INLINE:
        return instances if isinstance(instances, dict) else dict(instances.items())
    if isinstance(instances, dict):
        instances = OpenInstances((), instances)
    inline, new = _by_shape(instances.changed)
    if not new and not instances.gone and all(map(instances.is_intact, instances.blocks)):
        return instances
    blocks: list[InstanceBlock] = []
    for block in instances.blocks:
        added = new.pop(_shape_key(block), [])
        removed = instances.changed_in(block)
        if not added and not removed:
            blocks.append(block)
        elif added or len(removed) < len(block.keys):
            blocks.append(_changed_block(block, removed, added))
    for added in new.values():
        first = added[0]
        bare = _new_block(first.status, tuple(first.captured), tuple(first.noted), first.sent)
        blocks.append(_changed_block(bare, [], added))
    blocks.sort(key=lambda block: block.keys[0])
    return OpenInstances(tuple(blocks), inline)


def _by_shape(instances: dict[int, Instance]) -> tuple[dict[int, Instance], dict[_ShapeKey, list[Instance]]]:
    """Those of the instances that stay inline, and the others by shape; each by number."""
    alike: list[Instance] = []
    by_shape: dict[_ShapeKey, list[Instance]] = {}
    captured: tuple[LeafName, ...] = ()
    noted: tuple[LeafName, ...] = ()
    status: Status | None = None
    sent: Sent | None = None
    for _, instance in sorted(instances.items()):
        # Mostly it has the shape of the one before it: a comparison takes less time than making a key.
        if (
            instance.status is not status
            or not (instance.sent is sent or _are_alike(instance.sent, sent))
            or (*instance.captured,) != captured
            or (*instance.noted,) != noted
        ):
            status, sent = instance.status, instance.sent
            captured, noted = tuple(instance.captured), tuple(instance.noted)
            alike = by_shape.setdefault(_shape_key(instance), [])
        alike.append(instance)
    inline: dict[int, Instance] = {}
    new: dict[_ShapeKey, list[Instance]] = {}
    for key, alike in by_shape.items():
        if all(_is_plain(column) for column in _columns(key[1], key[2], alike)):
            new[key] = alike
            continue
        for instance in alike:
            if _is_plain(instance.captured.values()) and _is_plain(instance.noted.values()):
                new.setdefault(key, []).append(instance)
            else:
                inline[instance.number] = instance
    return dict(sorted(inline.items())), new


_ShapeKey: TypeAlias = tuple[Status, tuple[LeafName, ...], tuple[LeafName, ...], bytes]


def _shape_key(shape: Instance | InstanceBlock) -> _ShapeKey:
    sent = b"" if shape.sent is None else encode_value(shape.sent)
    return shape.status, tuple(shape.captured), tuple(shape.noted), sent


def _are_alike(one: Sent | None, other: Sent | None) -> bool:
    """True if both have the same bytes for sure. Equal params need not: 1 is equal to 1.0."""
    if one is None or other is None:
        return one is other
    return (one.params is other.params or not (one.params or other.params)) and one == other


def _is_plain(held: Iterable[Holding]) -> bool:
    return {*map(type, held)} <= _PLAIN


_PLAIN = {int}


def _columns(
    captured: Iterable[LeafName], noted: Iterable[LeafName], instances: Sequence[Instance]
) -> Iterator[list[Holding]]:
    """What the leaves of instances of one shape hold, leaf by leaf."""
    for leaf in captured:
        yield [one.captured[leaf] for one in instances]
    for leaf in noted:
        yield [one.noted[leaf] for one in instances]


def _new_block(
    status: Status, captured: Iterable[LeafName], noted: Iterable[LeafName], sent: Sent | None
) -> InstanceBlock:
    block = _Instances([], lines=[])
    block.status, block.sent = status, sent
    block.captured = {leaf: [] for leaf in captured}
    block.noted = {leaf: [] for leaf in noted}
    return block


def _changed_block(block: InstanceBlock, removed: list[int], added: Sequence[Instance]) -> InstanceBlock:
    """A block without the instances at ``removed``, with those ``added``, which have its shape."""
    lines = ChangedLines(block)
    columns = [[*one] for one in (*block.captured.values(), *block.noted.values())]
    for at in reversed(removed):
        lines.remove(at)
        for column in columns:
            del column[at]
    if added and (not lines.keys or lines.keys[-1] < added[0].number):
        lines.extend([one.number for one in added], encode_lines([_bare(one) for one in added]))
        for column, more in zip(columns, _columns(block.captured, block.noted, added), strict=True):
            column.extend(more)  # type: ignore[arg-type]  # all are plain
        added = ()
    for instance in added:
        at = bisect(lines.keys, instance.number)
        lines.insert(at, instance.number, encode_value(_bare(instance)))
        for column, ref in zip(columns, _plain_refs(instance), strict=True):
            column.insert(at, ref)
    changed = _Instances(lines.keys, pieces=tuple(lines.pieces), lines=lines.lines)
    changed.status, changed.sent = block.status, block.sent
    changed.captured = dict(zip(block.captured, columns, strict=False))
    changed.noted = dict(zip(block.noted, islice(columns, len(block.captured), None), strict=True))
    return changed


def _bare(instance: Instance) -> Instance:
    """An instance without what the columns of its block have."""
    return replace(instance, captured={}, noted={}, sent=None)


def _plain_refs(instance: Instance) -> Iterator[Ref]:
    for held in (instance.captured, instance.noted):
        for ref in held.values():
            if isinstance(ref, int):
                yield ref


def pack_kept(kept: EarlierEvents) -> EarlierEvents:
    """The earlier events of one trigger in the form in which they are stored: in log order."""
    if isinstance(kept, dict):
        if len(kept) <= MOST_INLINE:
            return kept
        return _new_events(sorted(kept, key=None if min(kept) >= 0 else place_of), kept)
    if len(kept) <= MOST_INLINE:
        return dict(kept.items())
    return _pack_events(kept)


def _new_events(refs: list[Ref], events: dict[Ref, Arrival]) -> LazyEvents[Ref]:
    """Events in one block, in the order of ``refs``."""
    lines = encode_lines([events[ref] for ref in refs])
    return LazyEvents((_Arrivals(refs, pieces=(whole_piece(lines),)),))


def _pack_events(events: LazyEvents[Ref]) -> LazyEvents[Ref]:
    """Earlier events in one block, in log order."""
    if not events.changed and not events.gone:
        return events
    (block,) = events.blocks
    # A key that was deleted and came again keeps its place.
    lines = ChangedLines(block)
    for ref in events.gone - events.changed.keys():
        lines.remove(lines.keys.index(ref))
    known = lines.keys if len(events.changed) < MANY else set(lines.keys)
    for ref, arrival in events.changed.items():
        line = encode_value(arrival)
        if ref in known:
            lines.split()[lines.keys.index(ref)] = line
        else:
            lines.insert(bisect(lines.keys, place_of(ref), key=place_of), ref, line)
    return LazyEvents((_Arrivals(lines.keys, pieces=tuple(lines.pieces), lines=lines.lines),))


def _length(block: Block[Any, Any]) -> int:
    return sum([piece.end - piece.start for piece in block.pieces])


def length_of_kept(kept: LazyEvents[Ref]) -> int:
    """The length of the lines of packed earlier events."""
    return sum(map(_length, kept.blocks))


def columns_of_instances(instances: Instances) -> list[InstanceColumns]:
    """The columns of open instances that are packed."""
    if isinstance(instances, dict):
        return []
    return [
        InstanceColumns(
            status=block.status,
            numbers=block.keys,
            bytes=_length(block),
            captured=block.captured,
            noted=block.noted,
            sent=block.sent,
        )
        for block in instances.blocks
    ]


# ---- to a state -----------------------------------------------------------------------------------


def read_kept(refs: set[Ref], lines: Piece) -> LazyEvents[Ref]:
    """The earlier events of a trigger, which are those at ``refs``."""
    in_order = sorted(refs, key=None if min(refs, default=0) >= 0 else place_of)
    return LazyEvents((_Arrivals(in_order, pieces=(lines,)),))


def read_instances(columns: InstanceColumns, lines: Lines, place: str) -> InstanceBlock:
    """Open instances of one shape.

    Raises:
        DecodeError: columns and lines do not agree.
    """
    numbers = columns.numbers
    if columns.status in RESOLVED or not _is_ascending(numbers) or not numbers:
        raise DecodeError(f"{place}: must be open instances, by number, each once")
    for column in (*columns.captured.values(), *columns.noted.values()):
        if len(column) != len(numbers):
            raise DecodeError(f"{place}: a column must have an offset for each number")
    block = _Instances(numbers, pieces=(lines.take_piece(columns.bytes, place),))
    block.status, block.sent = columns.status, columns.sent
    block.captured, block.noted = columns.captured, columns.noted
    return block


def _is_ascending(numbers: Sequence[int]) -> bool:
    """True if each number is greater than the one before it."""
    return all(map(lt, numbers, islice(numbers, 1, None)))
