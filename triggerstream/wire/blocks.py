"""Blocks of a state: many open instances and events as columns in its head, and lines after it.

Columns have the values that the fold searches: the status, and the event that each leaf holds. The rest of an
instance or event is a line of JSON, which is decoded when it is looked at. Few of them stay in the head.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeAlias, TypeVar

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from triggerstream.core.blocks import Column, InstanceBlock, OpenInstances
from triggerstream.core.by_place import CapturedByPlace
from triggerstream.core.errors import DecodeError
from triggerstream.core.held import Holding, Ref, place_of
from triggerstream.core.holders import Holders, KeptBlock, KeptEvents
from triggerstream.core.ids import LeafName, TriggerName
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
from triggerstream.wire.changed_lines import MANY, ChangedLines, cut_line, joined_if_many
from triggerstream.wire.int_columns import IntColumn, read_column
from triggerstream.wire.stored_state import InstanceColumns, Lines

MOST_INLINE = 16
"""Open instances of a task, or events, up to which a state is one line. Decoding so many takes 40 µs."""

_LAST_REF = 2**63 - 1

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


class _Kept(KeptBlock):
    __slots__ = ("_last",)

    def __init__(
        self,
        trigger: TriggerName,
        holders: Holders,
        *,
        pieces: tuple[Piece, ...] = (),
        lines: list[bytes] | None = None,
    ) -> None:
        super().__init__([], pieces=pieces, lines=lines)
        self._trigger = trigger
        self._holders = holders
        self._last: Ref | None = None

    @property
    def length(self) -> int:
        return len(self.keys)

    @length.setter
    def length(self, _: int) -> None:
        """Nothing: the base class sets it to 0."""

    @property
    def first(self) -> Ref:
        text, start, end = self.pieces[0]
        return decode_line(_arrival_decoder, text[start : text.find(b"\n", start, end)]).offset

    @property
    def last(self) -> Ref:
        if self._last is None:
            text, start, end = self.pieces[-1]
            start = max(start, text.rfind(b"\n", start, end - 1) + 1)
            self._last = decode_line(_arrival_decoder, text[start : end - 1]).offset
        return self._last

    def is_longer_than(self, count: int) -> bool:
        if self._lines is not None:
            return len(self._lines) > count
        for text, start, end in self._pieces:
            # Mostly the first lines are enough.
            near = min(end, start + _NEAR)
            count -= text.count(b"\n", start, near)
            if count >= 0 and near < end:
                count -= text.count(b"\n", near, end)
            if count < 0:
                return True
        return False

    def __contains__(self, key: object) -> bool:
        if self._keys:
            return super().__contains__(key)
        if not isinstance(key, int) or place_of(key) > place_of(self.last):
            return False
        return self.locate(key, _UNKNOWN) is not None or key in self.keys

    def get(self, key: Ref) -> Arrival | None:
        if not self._keys and self._lines is None and key not in self._decoded:
            self._looked_up += 1
            found = self.locate(key, _UNKNOWN) if self._looked_up <= MANY else None
            if found is not None:
                number, start, end = found
                value = self._decoded[key] = decode_arrival(self._pieces[number].text[start : end - 1], key)
                return value
        return super().get(key)

    def find_line(self, pieces: Sequence[Piece], ref: Ref, at: int) -> tuple[int, int, int] | None:
        wanted = b',"offset":%d,"time":' % ref
        near = 0.0
        if len(pieces) == 1:
            near = self._part_before(ref) if at == _UNKNOWN else at / max(1, self.length)
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

    def _part_before(self, ref: Ref) -> float:
        """The part of the lines before the line of an event, from 0 to 1, as an estimate."""
        return max(
            [column.part_before(ref) for column in self._holders.columns.get(self._trigger, ())], default=0
        )

    def decode(self, key: Ref, line: bytes, _: int) -> Arrival:
        return decode_arrival(line, key)


_NEAR = 2048
"""Bytes of lines to count first."""
_UNKNOWN = -1
"""In place of a place that is not known."""


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
        refs = [column[at] for column in self.columns]
        instance.captured = dict(zip(self.captured, refs, strict=False))
        instance.noted = dict(zip(self.noted, refs[len(self.captured) :], strict=True))
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
        elif added or len(removed) < block.length:
            blocks.append(_changed_block(block, removed, added))
    for added in new.values():
        first = added[0]
        bare = _new_block(first.status, tuple(first.captured), tuple(first.noted), first.sent)
        blocks.append(_changed_block(bare, [], added))
    blocks.sort(key=lambda block: block.numbers[0])
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
    block = _Instances(IntColumn(values=[]), lines=[])
    block.status, block.sent = status, sent
    block.captured = {leaf: IntColumn(values=[]) for leaf in captured}
    block.noted = {leaf: IntColumn(values=[]) for leaf in noted}
    return block


def _changed_block(
    block: InstanceBlock, removed: list[tuple[int, int]], added: Sequence[Instance]
) -> InstanceBlock:
    """A block without the instances at ``removed``, with those ``added``, which have its shape."""
    lines = ChangedLines(block)
    numbers: Column = block.numbers
    columns: list[Column] = block.columns
    if len(removed) + len(added) > MANY:
        # Then each change takes less time in lists.
        numbers = IntColumn(values=numbers.values)
        columns = [IntColumn(values=column.values) for column in columns]
    for at, number in reversed(removed):
        lines.remove(at, number)
        numbers = numbers.without_value(number)
        columns = [column.without(at) for column in columns]
    if added and (not lines.length or numbers[-1] < added[0].number):
        lines.extend(len(added), encode_lines([_bare(one) for one in added]))
        numbers = numbers.extended([one.number for one in added])
        new = _columns(block.captured, block.noted, added)
        columns = [column.extended(more) for column, more in zip(columns, new, strict=True)]  # type: ignore[arg-type]  # all are plain
        added = ()
    for instance in added:
        at = bisect(numbers.values, instance.number)
        before = numbers[at] if at < len(numbers) else None
        lines.insert(at, encode_value(_bare(instance)), before)
        numbers = numbers.inserted(at, instance.number)
        refs = _plain_refs(instance)
        columns = [column.inserted(at, ref) for column, ref in zip(columns, refs, strict=True)]
    changed = _Instances(numbers, pieces=tuple(lines.pieces), lines=lines.lines)
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


def pack_kept(trigger: TriggerName, kept: EarlierEvents, holders: Holders) -> EarlierEvents:
    """The earlier events of one trigger in the form in which they are stored: in log order.

    They are those that ``holders`` hold.
    """
    if isinstance(kept, KeptEvents):
        return _pack_events(trigger, kept, holders)
    if len(kept) <= MOST_INLINE:
        return dict(kept.items())
    refs = sorted(kept, key=None if min(kept) >= 0 else place_of)
    lines = encode_lines([kept[ref] for ref in refs])
    return KeptEvents(_Kept(trigger, holders, pieces=(whole_piece(lines),)), holders)


def _pack_events(trigger: TriggerName, events: KeptEvents, holders: Holders) -> EarlierEvents:
    """Earlier events in one block, in log order; or few by ref."""
    (block,) = events.blocks
    changes = len(events.gone) + len(events.changed)
    if not changes:
        return KeptEvents(block, holders)
    has_many = not events.gone or (changes <= MANY and block.is_longer_than(MOST_INLINE + changes))
    if not has_many and len(events) <= MOST_INLINE:
        return dict(events.items())
    pieces = _with_events(block, events) if changes <= MANY else None
    if pieces is not None:
        return KeptEvents(_Kept(trigger, holders, pieces=tuple(pieces)), holders)
    # A key that was deleted and came again keeps its place.
    lines, keys = ChangedLines(block), [*block.keys]
    for ref in events.gone - events.changed.keys():
        at = keys.index(ref)
        lines.remove(at, ref)
        del keys[at]
    known = keys if len(events.changed) < MANY else set(keys)
    for ref, arrival in events.changed.items():
        line = encode_value(arrival)
        if ref in known:
            lines.split()[keys.index(ref)] = line
        else:
            at = bisect(keys, place_of(ref), key=place_of)
            lines.insert(at, line, keys[at] if at < len(keys) else None)
            keys.insert(at, ref)
    return KeptEvents(_Kept(trigger, holders, pieces=tuple(lines.pieces), lines=lines.lines), holders)


def _with_events(block: KeptBlock, events: KeptEvents) -> list[Piece] | None:
    """The lines of a block without the events that are gone and with later ones, not counted.

    None: a place is not known, or an event belongs before others.
    """
    last = place_of(block.last)
    pieces = [*block.pieces]
    for count, ref in enumerate(events.gone):
        # To see that it is there, it was mostly searched before.
        found = block.find_line(pieces, ref, _UNKNOWN) if count else block.locate(ref, _UNKNOWN)
        if found is None or ref in events.changed:
            return None
        cut_line(pieces, found)
    for ref, arrival in sorted(events.changed.items(), key=lambda item: place_of(item[0])):
        if place_of(ref) <= last:
            return None
        pieces.append(whole_piece(encode_value(arrival) + b"\n"))
    return joined_if_many(pieces)


def _length(block: Block[Any, Any]) -> int:
    return sum([piece.end - piece.start for piece in block.pieces])


def length_of_kept(kept: KeptEvents) -> int:
    """The length of the lines of packed earlier events."""
    return sum(map(_length, kept.blocks))


def columns_of_instances(instances: Instances) -> list[InstanceColumns]:
    """The columns of open instances that are packed."""
    if isinstance(instances, dict):
        return []
    return [
        InstanceColumns(
            status=block.status,
            numbers=Raw(block.numbers.text),
            bytes=_length(block),
            captured={leaf: Raw(column.text) for leaf, column in block.captured.items()},
            noted={leaf: Raw(column.text) for leaf, column in block.noted.items()},
            sent=block.sent,
        )
        for block in instances.blocks
    ]


# ---- to a state -----------------------------------------------------------------------------------


def read_kept(trigger: TriggerName, holders: Holders, lines: Piece) -> KeptEvents:
    """The earlier events of a trigger, which are those that ``holders`` hold."""
    return KeptEvents(_Kept(trigger, holders, pieces=(lines,)), holders)


def read_instances(columns: InstanceColumns, lines: Lines, place: str) -> InstanceBlock:
    """Open instances of one shape.

    Raises:
        DecodeError: columns and lines do not agree.
    """
    try:
        numbers = read_column(columns.numbers)
        captured: dict[LeafName, Column] = {leaf: read_column(raw) for leaf, raw in columns.captured.items()}
        noted: dict[LeafName, Column] = {leaf: read_column(raw) for leaf, raw in columns.noted.items()}
    except DecodeError as exc:
        raise DecodeError(f"{place}: {exc}") from exc
    block = _Instances(numbers, pieces=(lines.take_piece(columns.bytes, place),))
    if columns.status in RESOLVED or not block.length:
        raise DecodeError(f"{place}: must be open instances")
    block.status, block.sent = columns.status, columns.sent
    block.captured, block.noted = captured, noted
    return block


def check_columns(block: InstanceBlock, place: str) -> None:
    """Check the columns of a block, which are decoded.

    Raises:
        DecodeError: they break a rule.
    """
    if block.keys[0] < 0:
        raise DecodeError(f"{place}: an instance has a number of at least 0")
    for column in block.columns:
        if min(column) < -_LAST_REF or max(column) > _LAST_REF:
            raise DecodeError(f"{place}: an event has no such offset")
