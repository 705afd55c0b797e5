"""The captured events of instances in a packed state, by places among the latest events of many triggers."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from triggerstream.core.blocks import LatestBlock
from triggerstream.core.by_place import CapturedByPlace, whole
from triggerstream.core.held import Holding, Ref
from triggerstream.core.ids import LeafName, TaskName, TriggerName
from triggerstream.core.number_ranges import ranges_of
from triggerstream.core.state import Arrival, Instance, TaskRecord
from triggerstream.wire import blocks


class CapturePacker:
    """Stores the captured events of instances by places in ``block``, which replaces ``old``.

    ``changed`` are the events that came since, ``appended`` the same with their refs if all are of new
    triggers. ``captured`` lists all that is stored by places, ``origins``
    the ``origin`` that each had before. ``has_appended``: one of them holds all that is ``appended``.
    """

    def __init__(
        self,
        old: LatestBlock | None,
        block: LatestBlock,
        changed: Mapping[TriggerName, Arrival],
        appended: list[tuple[str, Ref]] | None,
    ) -> None:
        self._old = old
        self._block = block
        self._changed = changed
        self._appended = appended
        self.captured: list[CapturedByPlace] = []
        self.origins: set[object] = set()
        self.has_appended = False

    def packed(self, tasks: dict[TaskName, TaskRecord]) -> dict[TaskName, TaskRecord]:
        """Records with the instances that are in the head in the form in which they are stored."""
        found: dict[TaskName, TaskRecord] = {}
        for name, record in tasks.items():
            open_, resolved = record.open, record.resolved
            if open_ and isinstance(open_, dict):
                open_ = self._instances(open_)
            if resolved:
                resolved = self._instances(resolved)
            if open_ is not record.open or resolved is not record.resolved:
                found[name] = replace(record, open=open_, resolved=resolved)
        return tasks | found if found else tasks

    def _instances(self, instances: dict[int, Instance]) -> dict[int, Instance]:
        found: dict[int, Instance] = {}
        for number, instance in instances.items():
            captured = instance.captured
            stored: Mapping[LeafName, Holding] | None = None
            if isinstance(captured, CapturedByPlace):
                if captured.block is self._block and not captured.added:
                    stored = captured
                elif captured.block is self._old:
                    stored = self._moved(captured)
            elif len(captured) <= blocks.MOST_INLINE:
                continue
            if stored is None:
                named = whole(captured)
                stored = self._by_place(named) or named
            if isinstance(stored, CapturedByPlace):
                self.captured.append(stored)
                if isinstance(captured, CapturedByPlace):
                    self.origins.add(captured.origin)
            if stored is not captured:
                found[number] = replace(instance, captured=stored)
        return instances | found if found else instances

    def _moved(self, captured: CapturedByPlace) -> CapturedByPlace | None:
        """The same by places in the new block; None if it must be written anew."""
        others, places, added = captured.others, captured.places, captured.added
        first, last = places[-1]
        if [*added.items()] == self._appended and last + 1 == captured.block.length:
            self.has_appended = True
            places = (*places[:-1], (first, self._block.length - 1))
            return CapturedByPlace(self._block, places, others)
        leaf: LeafName
        for leaf in self._changed:  # type: ignore[assignment]  # plain leaves have their triggers' names
            if leaf in added or leaf in others:
                continue
            at = captured.place_of(leaf)
            if at is not None:
                others = {**others, leaf: captured.block.refs[at]}
        if added:
            ranges = [*places]
            for leaf, held in added.items():
                name: TriggerName = leaf  # type: ignore[assignment]  # plain leaves have their triggers' names
                at = self._block.place(name)
                first, last = ranges[-1]
                if at is None or at <= last:
                    return None
                if at == last + 1:
                    ranges[-1] = first, at
                else:
                    ranges.append((at, at))
                latest = self._changed.get(name)
                if held != (self._block.refs[at] if latest is None else latest.offset):
                    others = {**others, leaf: held}
            places = tuple(ranges)
        if others is not captured.others:
            others = {leaf: others[leaf] for leaf in sorted(others, key=self._place)}
        if others and not all(type(held) is int for held in others.values()):
            return None
        return CapturedByPlace(self._block, places, others)

    def _place(self, leaf: LeafName) -> int:
        return self._block.place(TriggerName(leaf)) or 0

    def _by_place(self, captured: dict[LeafName, Holding]) -> CapturedByPlace | None:
        """Captured events by places; None if they are not events of plain leaves in the block's order."""
        index, refs = self._block.index, self._block.refs
        places: list[int] = []
        others: dict[LeafName, Holding] = {}
        for leaf, held in captured.items():
            at = index.get(TriggerName(leaf))
            if at is None or type(held) is not int or (places and at <= places[-1]):
                return None
            places.append(at)
            if refs[at] != held:
                others[leaf] = held
        return CapturedByPlace(self._block, ranges_of(places), others)
