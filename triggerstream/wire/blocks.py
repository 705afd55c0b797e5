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
from msgspec import Raw, Struct
from msgspec.structs import replace

from triggerstream.core.blocks import Column, InstanceBlock, OpenInstances, is_ascending
from triggerstream.core.by_place import CapturedByPlace
from triggerstream.core.errors import DecodeError
from triggerstream.core.held import Holding, Ref, place_of
from triggerstream.core.holders import Holders, KeptBlock, KeptEvents, in_log_order
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
from triggerstream.wire.int_columns import LONG, IntColumn, is_long, read_column
from triggerstream.wire.stored_state import InstanceColumns, Lines, RawColumns

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
_column_decoder = msgspec.json.Decoder(list[Ref])
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
        refs: list[Ref] | None = None,
    ) -> None:
        """``refs``: those of the events, if they are known."""
        # Not with the base class: that takes twice as long.
        self._keys = refs or []
        self._pieces, self._lines = pieces, lines
        self._index = self._located = None
        self._looked_up, self._decoded = 0, {}
        self._trigger = trigger
        self._holders = holders
        self._last: Ref | None = None

    @property
    def length(self) -> int:  # type: ignore[override]  # it may not be counted yet
        return len(self._keys or self.keys)

    @property
    def first(self) -> Ref:
        if self._keys:
            return self._keys[0]
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
        if self._keys:
            return len(self._keys) > count
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
                value = self._decoded[key] = decode_arrival(self._pieces[number][0][start : end - 1], key)
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
            [
                column.part_before(ref)
                for column in self._holders.columns.get(self._trigger, ())
                if not isinstance(column, list)
            ],
            default=0,
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
        if self._columns is None:
            _ = self.columns  # checks them
        instance.captured = {leaf: column[at] for leaf, column in self.captured.items()}
        instance.noted = {leaf: column[at] for leaf, column in self.noted.items()}
        instance.sent = self.sent
        return instance


# ---- from a state ---------------------------------------------------------------------------------


def pack_instances(instances: Instances) -> Instances:
    """Open instances in the form in which they are stored: many plain ones in blocks."""
    if len(instances) <= MOST_INLINE:
        if isinstance(instances, dict):
            return instances
        return {number: instances[number] for number in instances}  # `items` takes longer
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
    block = _Instances([], lines=[])
    block.status, block.sent = status, sent
    block.captured = {leaf: [] for leaf in captured}
    block.noted = {leaf: [] for leaf in noted}
    return block


def _changed_block(
    block: InstanceBlock, removed: list[tuple[int, int]], added: Sequence[Instance]
) -> InstanceBlock:
    """A block without the instances at ``removed``, with those ``added``, which have its shape."""
    lines = ChangedLines(block)
    columns: list[Column] = [block.numbers, *block.columns]
    if isinstance(block.numbers, list) or len(removed) + len(added) > MANY:
        columns = [[*column] for column in columns]
    for at, number in reversed(removed):
        lines.remove(at, number)
        columns = [_without(column, at) for column in columns]
    if added and (not lines.length or columns[0][-1] < added[0].number):
        lines.extend(len(added), encode_lines([_bare(one) for one in added]))
        new = ([one.number for one in added], *_columns(block.captured, block.noted, added))
        columns = [_extended(column, more) for column, more in zip(columns, new, strict=True)]  # type: ignore[arg-type]  # all are plain
    elif added:
        lists = [column if isinstance(column, list) else [*column] for column in columns]
        for instance in added:
            at = bisect(lists[0], instance.number)
            before = lists[0][at] if at < len(lists[0]) else None
            lines.insert(at, encode_value(_bare(instance)), before)
            for column, value in zip(lists, (instance.number, *_plain_refs(instance)), strict=True):
                column.insert(at, value)
        columns = [*lists]
    if lines.length >= LONG:
        columns = [IntColumn(values=one) if isinstance(one, list) else one for one in columns]
    numbers, *columns = columns
    changed = _Instances(numbers, pieces=tuple(lines.pieces), lines=lines.lines)
    changed.status, changed.sent = block.status, block.sent
    changed.captured = dict(zip(block.captured, columns, strict=False))
    changed.noted = dict(zip(block.noted, islice(columns, len(block.captured), None), strict=True))
    return changed


def _without(column: Column, at: int) -> Column:
    """A column, or a list of ours that is changed, without the value at a place."""
    if not isinstance(column, list):
        return column.without(at)
    del column[at]
    return column


def _extended(column: Column, values: list[int]) -> Column:
    return [*column, *values] if isinstance(column, list) else column.extended(values)


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
    refs = in_log_order(kept)
    lines = encode_lines([kept[ref] for ref in refs])
    return KeptEvents(_Kept(trigger, holders, pieces=(whole_piece(lines),), refs=refs), holders)


def _pack_events(trigger: TriggerName, events: KeptEvents, holders: Holders) -> EarlierEvents:
    """Earlier events in one block, in log order; or few by ref."""
    (block,) = events.blocks
    changes = len(events.gone) + len(events.changed)
    if not changes:
        return KeptEvents(block, holders)
    if not block.is_read and changes <= MANY and block.is_longer_than(MOST_INLINE + len(events.gone)):
        pieces = _with_events(block, events)
        if pieces is not None:
            return KeptEvents(_Kept(trigger, holders, pieces=tuple(pieces)), holders)
    if len(events) <= MOST_INLINE:
        return dict(events.items())
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
    new = _Kept(trigger, holders, pieces=tuple(lines.pieces), lines=lines.lines, refs=keys)
    return KeptEvents(new, holders)


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
    length = 0
    for _, start, end in block.pieces:
        length += end - start
    return length


def length_of_kept(kept: KeptEvents) -> int:
    """The length of the lines of packed earlier events."""
    return sum(map(_length, kept.blocks))


def columns_of_instances(instances: Instances) -> list[InstanceColumns]:
    """The columns of open instances that are packed."""
    if isinstance(instances, dict):
        return []
    return [_columns_of(block) for block in instances.blocks]


def _columns_of(block: InstanceBlock) -> InstanceColumns:
    numbers, captured, noted = block.numbers, block.captured, block.noted
    if isinstance(numbers, list):
        return InstanceColumns(block.status, numbers, _length(block), captured, noted, block.sent)  # type: ignore[arg-type]  # all are lists
    return RawColumns(
        status=block.status,
        numbers=Raw(numbers.text),
        bytes=_length(block),
        captured={leaf: Raw(column.text) for leaf, column in captured.items()},  # type: ignore[union-attr]  # all are long
        noted={leaf: Raw(column.text) for leaf, column in noted.items()},  # type: ignore[union-attr]
        sent=block.sent,
    )


# ---- to a state -----------------------------------------------------------------------------------


def read_kept(
    trigger: TriggerName, holders: Holders, lines: Piece, refs: set[Ref] | None = None
) -> KeptEvents:
    """The earlier events of a trigger, which are those that ``holders`` hold: ``refs`` if they are known."""
    block = _Kept(trigger, holders, pieces=(lines,), refs=[] if refs is None else in_log_order(refs))
    return KeptEvents(block, holders)


def read_instances(columns: InstanceColumns, lines: Lines, place: str) -> InstanceBlock:
    """Open instances of one shape. Columns that are not long are checked.

    Raises:
        DecodeError: columns and lines do not agree.
    """
    numbers: Column = columns.numbers
    captured: dict[LeafName, Column] = columns.captured  # type: ignore[assignment]  # not modified
    noted: dict[LeafName, Column] = columns.noted  # type: ignore[assignment]
    if type(columns) is RawColumns:  # `isinstance` takes longer
        read = read_column if is_long(columns.numbers) else _column_decoder.decode
        try:
            numbers = read(columns.numbers)
            captured = {leaf: read(raw) for leaf, raw in columns.captured.items()}
            noted = {leaf: read(raw) for leaf, raw in columns.noted.items()}
        except (DecodeError, *_DAMAGED) as exc:
            raise DecodeError(f"{place}: {exc}") from exc
    block = _Instances(numbers, pieces=(lines.take_piece(columns.bytes, place),))
    block.status, block.captured, block.noted, block.sent = columns.status, captured, noted, columns.sent
    if columns.status in RESOLVED or not block.length:
        raise DecodeError(f"{place}: must be open instances")
    if isinstance(numbers, list):
        # As `check_columns`, with fewer calls.
        if numbers[0] < 0 or not all(map(lt, numbers, islice(numbers, 1, None))):
            raise DecodeError(f"{place}: must be open instances by number, each once")
        for column in (*captured.values(), *noted.values()):
            if len(column) != len(numbers):
                raise DecodeError(f"{place}: a column must have an offset for each number")
    return block


def check_columns(block: InstanceBlock, place: str) -> None:
    """Check the columns of a block, which are decoded.

    Raises:
        DecodeError: they break a rule.
    """
    numbers, columns = block.keys, block.columns
    if numbers[0] < 0 or not is_ascending(numbers):
        raise DecodeError(f"{place}: must be open instances by number, each once")
    if not isinstance(block.numbers, list):
        for column in columns:
            _ = [*column]
