"""The latest events of many triggers in a state: columns in its head, which stay bytes, and a line for each.

An event looks one trigger up and appends one, so both columns are searched and lengthened as bytes. Digests
and captured events name triggers by their places in the columns (:mod:`triggerstream.core.by_place`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from triggerstream.core.blocks import LatestBlock, LatestEvents, LazyLatest
from triggerstream.core.by_place import (
    NO_DIGEST,
    CapturedByPlace,
    DigestsByPlace,
    Marked,
    MarkedTriggers,
)
from triggerstream.core.errors import DecodeError
from triggerstream.core.held import Ref
from triggerstream.core.ids import DIGEST_BYTES, HEX_DIGITS, TriggerName
from triggerstream.core.number_ranges import are_valid
from triggerstream.core.state import Arrival, Instance, SessionState
from triggerstream.core.timeline_lines import Timeline
from triggerstream.wire import blocks
from triggerstream.wire.captured_places import CapturePacker
from triggerstream.wire.stored_state import Lines, SeenColumns

_FEW = 8
"""Triggers that are searched in the column as bytes: for more, decoding it takes less time."""
_MOST_PIECES = 16
"""Pieces of lines before they are joined: with each event, a state in memory may add one. All of them are
counted and joined when it is encoded: with 64 in place of 16, that takes 1 µs more on average."""

_UNKNOWN = -1
"""In place of a place that was not looked up."""
_BESIDE_NAME = 20
"""Most bytes of a digest in the head beside the name of its trigger."""

T = TypeVar("T")

_encoder = msgspec.json.Encoder()
_names_decoder = msgspec.json.Decoder(list[TriggerName])
_refs_decoder = msgspec.json.Decoder(list[Ref])


class _Latest(LatestBlock):
    """``names`` and ``offsets`` are the columns as JSON, neither of them empty.

    ``places`` are those of some triggers. ``_known`` has the places of all triggers, once more than a few
    were looked up. A block with one more trigger shares the dict and adds to it, so places from ``length`` on
    belong to such blocks.
    """

    __slots__ = ("_known", "_names_read", "_places", "_refs_read")

    _known: dict[TriggerName, int] | None
    _names_read: list[TriggerName] | None
    _refs_read: list[Ref] | None

    def __init__(
        self,
        names: bytes,
        offsets: bytes,
        digests: bytes,
        pieces: tuple[bytes, ...],
        length: int,
        *,
        places: dict[TriggerName, int | None] | None = None,
    ) -> None:
        # That of the base class is not called: each event makes two blocks, and it would be half of that.
        self.names = names
        self.offsets = offsets
        self.digests = digests
        self.length = length
        self.parts = pieces
        self._places = {} if places is None else places
        self._names_read = self._refs_read = self._lines = self._index = self._known = None
        self._looked_up = 0
        self._decoded = {}

    @property
    def keys(self) -> list[TriggerName]:
        if self._names_read is None:
            names = decode_column(_names_decoder, self.names)
            if len(names) != self.length or len(set(names)) != len(names):
                raise DecodeError("/seenLines: each trigger must be there once, with an offset")
            self._names_read = names
        return self._names_read

    @property
    def refs(self) -> list[Ref]:
        if self._refs_read is None:
            refs = decode_column(_refs_decoder, self.offsets)
            if len(refs) != self.length:
                raise DecodeError("/seenLines: each trigger must be there once, with an offset")
            self._refs_read = refs
        return self._refs_read

    def __contains__(self, key: object) -> bool:
        return self.place(key) is not None  # type: ignore[arg-type]  # nothing else is equal to a name

    def locate(self, key: TriggerName, at: int) -> None:
        """None: the lines of triggers are not searched."""

    def place(self, key: TriggerName) -> int | None:
        found = self._places.get(key, _UNKNOWN)
        return self._look_up(key) if found == _UNKNOWN else found

    def _look_up(self, key: TriggerName) -> int | None:
        self._looked_up += 1
        known = self._known
        if known is None:
            if self._looked_up <= _FEW:
                found = self._places[key] = self._find(key)
                return found
            known = self._known = {**self.index}
        # Names that are not there are not remembered: events may bring any number of them.
        found = known.get(key)
        return None if found is None or found >= self.length else found

    def extend(self, longer: _Latest, name: TriggerName) -> None:
        """Share the known places with ``longer``: this block with one more trigger, ``name``."""
        longer._looked_up = self._looked_up
        known = self._known
        if known is not None and len(known) == self.length:  # no other block has added to it
            known[name] = self.length
            longer._known = known

    def _find(self, name: TriggerName) -> int | None:
        """The place of a trigger, found in the bytes of its column if these have only one form.

        Without blanks and escapes, a quoted text after a comma is an element of the array, unless it is a
        comma between two others. And each ``","`` in it is between two elements.
        """
        names = self.names
        # Not `in`: it first tries its operand as an integer, and that raises an exception each time.
        if name == "," or names.find(b"\\") >= 0 or names.find(b" ") >= 0:
            return self.index.get(name)
        if names.find(b"\t") >= 0 or names.find(b"\r") >= 0:
            return self.index.get(name)
        wanted = _encoder.encode(name)
        if names.startswith(wanted, 1):
            return 0
        at = names.find(b"," + wanted)
        return None if at < 0 else names.count(b'","', 0, at + 2)

    def get(self, key: TriggerName) -> Arrival | None:
        found = self._decoded.get(key)
        if found is not None:
            return found  # a decision looks at all of them
        if self.place(key) is None:
            return None  # mostly the trigger is new
        if len(self._decoded) == _FEW:
            self._decode_all()
        return super().get(key)

    def _decode_all(self) -> None:
        """Decode all events together: one by one, it takes three times as long."""
        arrivals = blocks.decode_arrivals(b"".join(self.parts))
        if [arrival.offset for arrival in arrivals] != self.refs:
            raise DecodeError("the lines of events of the state are not those of their triggers")
        self._decoded = dict(zip(self.keys, arrivals, strict=True))

    def decode(self, _: TriggerName, line: bytes, at: int) -> Arrival:
        return blocks.decode_arrival(line, self.refs[at])


def decode_column(decoder: msgspec.json.Decoder[T], column: bytes) -> T:
    """Decode a column.

    Raises:
        DecodeError: it is damaged.
    """
    return blocks.decode_line(decoder, column, "/seenLines")


# ---- from a state ---------------------------------------------------------------------------------


def pack_latest(state: SessionState, positions: Timeline) -> SessionState:
    """``state`` with its many latest events in a block; ``state`` itself if nothing has to change.

    Digests and captured events name the triggers by their places. The timeline becomes ``positions``.
    """
    seen, digests = state.seen, state.digests
    appended = None
    if isinstance(seen, dict) or seen.gone:
        old, changed, block = None, _NOTHING, _new(seen)
    else:
        old, changed = seen.blocks[0], seen.changed
        block, appended = _changed(old, changed) if changed else (old, None)
    if isinstance(digests, DigestsByPlace) and digests.block is old:
        column, others = _split_digests(digests.others, block, block.digests)
    else:
        column, others = _split_digests(dict(digests.items()), block, NO_DIGEST * block.length)
    if block is not old:
        block.digests = column  # nothing shares the block yet
    elif column != block.digests:
        block = _Latest(block.names, block.offsets, column, block.parts, block.length)
    packer = CapturePacker(old, block, changed, appended)
    tasks = packer.packed(state.tasks)
    is_same = block is old and tasks is state.tasks and positions is state.positions
    if is_same and isinstance(digests, DigestsByPlace) and [*others] == [*digests.others]:
        return state
    return replace(
        state,
        seen=LazyLatest(block),
        digests=DigestsByPlace(block, others),
        tasks=tasks,
        positions=positions,
        latest_captured=_marked(state.latest_captured, packer, changed),
    )


_NOTHING: Mapping[TriggerName, Arrival] = {}


_origin_of = attrgetter("origin")


def _marked(marked: Marked, packer: CapturePacker, changed: Mapping[TriggerName, Arrival]) -> Marked:
    """The marked triggers, of which those that instances now hold by place are no longer marked by name."""
    captured = packer.captured
    if not captured:
        return frozenset(marked)
    if isinstance(marked, frozenset):
        names = new = marked
    elif not packer.origins.issuperset(map(_origin_of, marked.captured)):
        # An instance may be a line now, or name what it captured: what it marked would be lost.
        names = new = frozenset(marked)
    elif packer.has_appended:
        return MarkedTriggers(marked.names.difference(changed), tuple(captured))
    else:
        names = marked.names
        new = names.intersection(changed)
    for one in captured:
        names -= {name for name in new if one.holds_by_place(name)}
    return MarkedTriggers(names, tuple(captured))


def _split_digests(
    digests: dict[TriggerName, bytes], block: LatestBlock, column: bytes
) -> tuple[bytes, dict[TriggerName, bytes]]:
    """A block's column with those that are a trigger's only ones; and the others, in a fixed order."""
    left: dict[TriggerName, bytes] = {}
    for name, value in digests.items():
        at = block.place(name)
        if at is not None:
            digits = value.hex().encode() if len(value) == DIGEST_BYTES else NO_DIGEST
            at *= HEX_DIGITS
            column = column[:at] + digits + column[at + HEX_DIGITS :]
            if digits != NO_DIGEST:
                continue
        left[name] = value
    return column, dict(sorted(left.items())) if len(left) > 1 else left


def _new(seen: LatestEvents) -> LatestBlock:
    """A block of events that are in no block yet."""
    arrivals = [*seen.values()]
    names, offsets = _encoder.encode([*seen]), _encoder.encode([arrival.offset for arrival in arrivals])
    return _Latest(names, offsets, b"", (blocks.encode_lines(arrivals),), len(arrivals))


def _changed(
    block: LatestBlock, changed: Mapping[TriggerName, Arrival]
) -> tuple[LatestBlock, list[tuple[str, Ref]] | None]:
    """A block with the events that came since; and these with their refs if all are of new triggers."""
    names, offsets, pieces, length = block.names, block.offsets, block.parts, block.length
    if len(changed) == 1:  # with every event of a session that is not in memory
        ((name, arrival),) = changed.items()
        if block.place(name) is None:
            names = names[:-1] + b",%b]" % _encoder.encode(name)
            offsets = offsets[:-1] + b",%d]" % arrival.offset
            pieces = (*pieces, blocks.encode_value(arrival) + b"\n")
            if len(pieces) > _MOST_PIECES:
                pieces = (b"".join(pieces),)
            digests = block.digests + NO_DIGEST
            longer = _Latest(names, offsets, digests, pieces, length + 1, places={name: length})
            if isinstance(block, _Latest):
                block.extend(longer, name)
            return longer, [(name, arrival.offset)]
    added = [name for name in changed if block.place(name) is None]
    appended: list[tuple[str, Ref]] | None = None
    if len(added) < len(changed):
        refs, lines = [*block.refs], [*block.lines]
        for name, arrival in changed.items():
            at = block.place(name)
            if at is not None:
                refs[at], lines[at] = arrival.offset, blocks.encode_value(arrival)
        offsets, pieces = _encoder.encode(refs), (b"\n".join([*lines, b""]),)
    if added:
        arrivals = [changed[name] for name in added]
        new_refs = [one.offset for one in arrivals]
        names = names[:-1] + b"," + _encoder.encode(added)[1:]
        offsets = offsets[:-1] + b"," + _encoder.encode(new_refs)[1:]
        if len(added) == len(changed):
            appended = [*zip(added, new_refs, strict=True)]
        pieces = (*pieces, blocks.encode_lines(arrivals))
        if len(pieces) > _MOST_PIECES:
            pieces = (b"".join(pieces),)
    digests = block.digests + NO_DIGEST * len(added)
    places: dict[TriggerName, int | None] = {name: at for at, name in enumerate(added, length)}
    return _Latest(names, offsets, digests, pieces, length + len(added), places=places), appended


def columns_of(latest: LazyLatest) -> SeenColumns:
    """The columns of latest events that are packed."""
    (block,) = latest.blocks
    digests = len(_stored_digests(block)) + 3
    length = sum(map(len, block.parts))
    return SeenColumns(block.length, len(block.names) + 1, len(block.offsets) + 1, digests, length)


def pieces_of(latest: LazyLatest) -> tuple[bytes, ...]:
    """The lines of latest events that are packed, in pieces."""
    (block,) = latest.blocks
    digests = _stored_digests(block)
    return (block.names, b"\n", block.offsets, b'\n"', digests, b'"\n', *block.parts)


def _stored_digests(block: LatestBlock) -> bytes:
    return block.digests if block.digests.strip(b"0") else b""


def stored_instances(instances: Iterable[Instance]) -> list[Instance]:
    """Instances in the head of a packed state as they are stored."""
    return [*map(_stored, instances)]


def _stored(instance: Instance) -> Instance:
    captured = instance.captured
    if isinstance(captured, dict) or not isinstance(captured, CapturedByPlace):
        return instance
    return replace(instance, captured=captured.others, captured_at=captured.places)


def most_in_head(state: SessionState) -> int:
    """At least the bytes by which a packed state is longer if its parts name their triggers themselves."""
    if isinstance(state.seen, dict):
        return 0
    (block,) = state.seen.blocks
    marked = state.latest_captured
    by_place = 0 if isinstance(marked, frozenset) else len(marked.captured)
    return (by_place + 1) * (len(block.names) + len(block.offsets) + _BESIDE_NAME * block.length)


# ---- to a state -----------------------------------------------------------------------------------


def read_latest(columns: SeenColumns, lines: Lines) -> LazyLatest:
    """The latest events of triggers. Their columns are decoded when all of them are needed.

    Raises:
        DecodeError: columns and lines do not agree.
    """
    if columns.count > columns.triggers:  # before so many digests are made
        raise DecodeError("/seenLines: `triggers` is too short for `count`")
    after_names = columns.triggers
    after_offsets = after_names + columns.offsets
    value = lines.take(after_offsets + columns.digests, "/seenLines")
    digests = value[after_offsets + 1 : -2] or NO_DIGEST * columns.count
    if len(digests) != columns.count * HEX_DIGITS:
        raise DecodeError("/seenLines: each trigger must have 16 hexadecimal digits")
    block = _Latest(
        value[: after_names - 1],
        value[after_names : after_offsets - 1],
        digests,
        (lines.take(columns.bytes, "/seenLines"),),
        columns.count,
    )
    return LazyLatest(block)


def read_captured(instance: Instance, seen: LatestEvents) -> CapturedByPlace:
    """The captured events of an instance in the head, which are stored by places.

    Raises:
        DecodeError: these are not places of the latest events, or do not have its other leaves.
    """
    if isinstance(seen, dict) or not are_valid(instance.captured_at, below=seen.blocks[0].length):
        raise DecodeError("must be ranges of places in `seenLines`, ascending")
    captured = CapturedByPlace(seen.blocks[0], instance.captured_at, dict(instance.captured))
    for leaf, held in captured.others.items():
        if leaf not in captured or type(held) is not int:
            raise DecodeError("must have the place of each leaf in `captured`, which must be plain")
    return captured
