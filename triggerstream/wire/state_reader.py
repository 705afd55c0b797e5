"""Checks the rules of a stored state that types cannot express, and converts it to a session state."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import UNSET

from triggerstream.core.blocks import Column, InstanceBlock, OpenInstances, latest_ref
from triggerstream.core.by_place import CapturedByPlace, DigestsByPlace, MarkedTriggers
from triggerstream.core.errors import DecodeError
from triggerstream.core.held import Ref
from triggerstream.core.holders import Holders, inline_of
from triggerstream.core.ids import DIGEST_BYTES, TaskName, TriggerName
from triggerstream.core.lazy import Block, Piece
from triggerstream.core.number_ranges import are_valid, is_among
from triggerstream.core.slots import captured_refs
from triggerstream.core.state import RESOLVED, Arrival, Instance, SessionState, Status, TaskRecord
from triggerstream.wire import blocks
from triggerstream.wire.latest_events import read_captured, read_latest
from triggerstream.wire.stored_state import Lines, SeenColumns, StoredRecord, StoredState
from triggerstream.wire.timeline_lines import read_timeline


class StateReader:
    """Converts one stored state. ``lines`` are those after its head.

    Columns that are not long are checked here; the others, and lines, are decoded when they are looked at.
    """

    __slots__ = ("_by_place", "_captured", "_earlier", "_held", "_latest", "_lines", "_state", "_stored")

    def __init__(self, stored: StoredState, lines: Lines) -> None:
        self._stored = stored
        self._lines = lines
        self._state = SessionState(
            generation=stored.generation,
            offset=stored.offset,
            clock_us=stored.clock_us,
            due_us=stored.due_us,
            closed=stored.closed,
            unjudged=stored.unjudged,
            refused=stored.refused,
            seen=stored.seen,
            remembered=stored.remembered,
            timeouts=stored.timeouts,
            holds=stored.holds,
            positions=stored.positions,
            digests=stored.digests,
        )
        self._latest: dict[TriggerName, Ref] = {}
        self._earlier: dict[TriggerName, dict[Ref, Arrival]] = {}
        self._by_place: list[CapturedByPlace] = []
        self._captured: set[TriggerName] = set()
        """The triggers whose latest event an instance captured."""
        self._held: dict[TriggerName, set[Ref] | None] = {}
        """Events in lines: all that instances and leaves hold. None: a long column has some of them."""

    def read(self) -> SessionState:
        """The state.

        Raises:
            DecodeError: it breaks a rule.
        """
        stored, state = self._stored, self._state
        for digests in stored.digests.values():
            if len(digests) % DIGEST_BYTES:
                raise DecodeError("/digests: must be whole digests of 8 bytes")
        if stored.seen:
            self._latest = {name: arrival.offset for name, arrival in stored.seen.items()}
        if stored.kept:
            self._earlier = {
                name: {one.offset: one for one in arrivals} for name, arrivals in stored.kept.items()
            }
        if stored.seen_lines is not None:
            self._read_seen(stored.seen_lines)
        kept = self._take_kept() if stored.kept_lines else {}
        for name, record in stored.tasks.items():
            read = TaskRecord(
                next=record.next,
                removed=record.removed,
                retired=record.retired,
                undecided=record.undecided,
            )
            state.tasks[name] = read
            if record.retired and not are_valid(record.retired, below=record.next):
                where = "must be ranges in ascending order below `next`"
                raise DecodeError(f"/tasks/{name[:80]}/retired: {where}")
            found = self._read_blocks(name, record, read) if record.open_lines else []
            if record.sent is not None:
                for instance in (*record.open, *record.resolved):
                    if instance.sent is None and instance.decided_us is not None:
                        instance.sent = record.sent
            for instance in record.open:
                self._read_instance(name, read, instance)
                read.open[instance.number] = instance
            for instance in record.resolved:
                self._read_instance(name, read, instance, resolved=True)
                read.resolved[instance.number] = instance
            if found and (record.open or record.resolved or record.retired or len(found) > 1):
                _check_numbers(name, read, [one for one in found if isinstance(one.numbers, list)])
            if record.retired:
                for number in _twice(read):
                    where = f"instance {number} is among the `retired`, too"
                    raise DecodeError(f"/tasks/{name[:80]}: {where}")
            state.open_count += len(read.open)
        marked = frozenset(self._captured)
        by_place = tuple(self._by_place)
        state.latest_captured = MarkedTriggers(marked, by_place) if by_place else marked
        for name, remembered in stored.remembered.items():
            for trigger, ref in captured_refs(remembered.after):
                if not self._keep(trigger, ref):
                    place = f"/remembered/{name[:80]}"
                    raise DecodeError(f"{place}: `kept` has no `{trigger[:80]}` at offset {ref}")
        if not state.is_empty():
            if stored.config is UNSET:
                raise DecodeError("/config: must be an integer of at least -1, is missing")
            state.config = stored.config
        if kept:
            holders = Holders(state.tasks, state.remembered, state.seen)
            for trigger, lines in kept.items():
                state.kept[trigger] = blocks.read_kept(trigger, holders, lines, self._held[trigger])
        if stored.position_lines is not None:
            if stored.positions:
                raise DecodeError("/positionLines: cannot be there beside `positions`")
            state.positions = read_timeline(stored.position_lines, self._lines)
        self._lines.end()
        return state

    def _read_seen(self, columns: SeenColumns) -> None:
        """Read the latest events of triggers, which are lines."""
        if self._stored.seen:
            raise DecodeError("/seenLines: cannot be there beside `seen`")
        state = self._state
        state.seen = read_latest(columns, self._lines)
        state.digests = DigestsByPlace(state.seen.blocks[0], self._stored.digests)

    def _take_kept(self) -> dict[TriggerName, Piece]:
        """The lines of earlier events, by trigger."""
        kept = {}
        for name, length in self._stored.kept_lines.items():
            place = f"/keptLines/{name[:80]}"
            if name in self._earlier:
                raise DecodeError(f"{place}: cannot be there beside `kept`")
            kept[name] = self._lines.take_piece(length, place)
            self._held[name] = set()
        return kept

    def _read_blocks(self, name: TaskName, stored: StoredRecord, record: TaskRecord) -> list[InstanceBlock]:
        """Read the open instances of a task that are lines."""
        place = f"/tasks/{name[:80]}/openLines"
        found = [blocks.read_instances(columns, self._lines, place) for columns in stored.open_lines]
        record.open = OpenInstances(tuple(found))
        for block in found:
            if block.numbers[-1] >= record.next:
                raise DecodeError(f"{place}: a number is not below `next`")
            if block.status is Status.DELAYED and self._state.due_us is None:
                self._state.due_us = 0
            for leaf, refs in block.captured.items():
                self._keep_all(TriggerName(leaf), refs, place)
        return found

    def _keep_all(self, trigger: TriggerName, refs: Column, place: str) -> None:
        """Keep the events that a leaf of many instances holds."""
        latest = latest_ref(self._state.seen, trigger)
        if latest is not None and latest in refs:
            self._captured.add(trigger)
        if trigger in self._held:
            held = self._held[trigger]
            if held is None or not isinstance(refs, list):
                self._held[trigger] = None
                return
            held.update(refs)
            held.discard(latest)
            return
        for ref in {*refs}:
            if ref != latest and not self._keep(trigger, ref):
                event = f"`{trigger[:80]}` at offset {ref}"
                raise DecodeError(f"{place}: neither `seen` nor `kept` has {event}")

    def _read_instance(
        self, name: TaskName, record: TaskRecord, instance: Instance, *, resolved: bool = False
    ) -> None:
        """Check an instance in the head, and keep what it captured of earlier events."""
        number = instance.number
        # Whether it is in a line, too, is checked with the numbers of these.
        inline = record.open if isinstance(record.open, dict) else record.open.changed  # a call less
        if number >= record.next or number in inline or number in record.resolved:
            raise _error(name, instance, "is not below `next`, or stands twice")
        if (instance.status in RESOLVED) is not resolved:
            where = "resolved" if resolved else "open"
            raise _error(name, instance, f"cannot be {instance.status} among the {where}")
        if instance.status is Status.DELAYED:
            if instance.waits_from_us is None:
                raise _error(name, instance, "is delayed and does not say since when (`waitsFrom`)")
            if self._state.due_us is None:
                self._state.due_us = 0  # an earlier release stored no due time
        captured, is_dict = instance.captured, isinstance(self._state.seen, dict)
        if instance.captured_at:
            try:
                captured = read_captured(instance, self._state.seen)
            except DecodeError as exc:
                raise _error(name, instance, f"{exc} (`capturedAt`)") from exc
            instance.captured, instance.captured_at = captured, ()
            self._by_place.append(captured)
            captured = captured.others
            if not captured:
                return
        elif is_dict and captured.items() <= self._latest.items():
            # Mostly it holds the latest events: one comparison for all of them.
            self._captured.update(captured)  # type: ignore[arg-type]  # these leaves have their triggers' names
            return
        for trigger, ref in captured_refs(captured):
            if (self._latest.get(trigger) if is_dict else latest_ref(self._state.seen, trigger)) == ref:
                self._captured.add(trigger)
            elif not self._keep(trigger, ref):
                what = f"captured `{trigger[:80]}` at offset {ref}"
                raise _error(name, instance, f"{what}, which neither `seen` nor `kept` has")

    def _keep(self, trigger: TriggerName, ref: Ref) -> bool:
        """Keep an earlier event in the state; False if it is not there."""
        if trigger in self._held:
            held = self._held[trigger]
            if held is not None:
                held.add(ref)
            return True
        arrival = self._earlier.get(trigger, {}).get(ref)
        if arrival is None:
            return False
        self._state.kept.setdefault(trigger, {})[ref] = arrival
        return True


def _twice(record: TaskRecord) -> Iterator[int]:
    """The instances in a state whose numbers are among the retired."""
    last = record.retired[-1][1]
    for number in (*inline_of(record), *record.resolved):
        if number <= last and is_among(number, record.retired):
            yield number


def _check_numbers(name: TaskName, record: TaskRecord, found: Iterable[InstanceBlock]) -> None:
    """Check the numbers of blocks of open instances of a task, which are decoded.

    Raises:
        DecodeError: one stands twice, or is that of a retired instance.
    """
    numbers = {*inline_of(record), *record.resolved}
    for block in found:
        keys = block.keys
        if not numbers.isdisjoint(keys):
            raise DecodeError(f"/tasks/{name[:80]}/openLines: a number is not below `next`, or stands twice")
        numbers.update(keys)
        for first, last in record.retired:
            if among := keys[bisect_left(keys, first) : bisect_right(keys, last)]:
                raise DecodeError(f"/tasks/{name[:80]}: instance {among[0]} is among the `retired`, too")


def check_lines(state: SessionState) -> None:
    """Check the columns of open instances, and decode all lines.

    Raises:
        DecodeError: they break a rule, or do not agree.
    """
    for name, record in state.tasks.items():
        if isinstance(record.open, dict):
            continue
        for block in record.open.blocks:
            blocks.check_columns(block, f"/tasks/{name[:80]}/openLines")
        _check_numbers(name, record, record.open.blocks)
    for values in _blocks(state):
        for key in values.keys:
            values.get(key)


def _blocks(state: SessionState) -> Iterator[Block[Any, Any]]:
    """The blocks of a state, in the order of their lines."""
    for values in (state.seen, *state.kept.values(), *(record.open for record in state.tasks.values())):
        if not isinstance(values, dict):
            yield from values.blocks


def _error(task: TaskName, instance: Instance, what: str) -> DecodeError:
    return DecodeError(f"/tasks/{task[:80]}: instance {instance.number} {what}")
