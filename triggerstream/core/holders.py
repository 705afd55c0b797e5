"""Index of the earlier events of triggers that instances and leaves of a state hold.

An event is kept as long as something holds it. A stored state does not repeat what it keeps: its earlier
events are those that its instances and leaves hold. With hundreds of open instances, an event changes one of
them. So only what the changed ones held is looked up again, in the columns of all others.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from typing import Protocol, Self, TypeAlias

from triggerstream.core.blocks import (
    Column,
    EventBlock,
    InstanceBlock,
    Instances,
    LatestEvents,
    LazyEvents,
    OpenInstances,
    latest_ref,
)
from triggerstream.core.by_place import CapturedByPlace
from triggerstream.core.held import Ref, Remembered, place_of
from triggerstream.core.ids import LeafName, TaskName, TriggerName
from triggerstream.core.instances import Arrival, Instance
from triggerstream.core.slots import captured_refs

FEW = 16
"""Events to look up in columns. For more, a set of all that is held takes less time."""


def add_captured(
    found: dict[TriggerName, set[Ref]],
    instances: dict[int, Instance],
    seen: LatestEvents,
    by_place: list[CapturedByPlace] | None,
) -> None:
    """Add the events that instances hold to ``found``, but for those of ``seen`` that they hold by place.

    ``by_place`` gets what is held by place.
    """
    for instance in instances.values():
        captured = instance.captured
        if isinstance(captured, dict) or not isinstance(captured, CapturedByPlace):
            held = captured_refs(captured)  # as `_captured_refs`, with a call less
        else:
            held = captured.beside_latest(seen)
            if by_place is not None:
                by_place.append(captured)
        for name, ref in held:
            known = found.get(name)
            if known is None:
                found[name] = {ref}
            else:
                known.add(ref)


def _captured_refs(instance: Instance, seen: LatestEvents) -> Iterator[tuple[TriggerName, Ref]]:
    """The events that an instance holds, but for those of ``seen`` that it holds by place."""
    captured = instance.captured
    if isinstance(captured, dict) or not isinstance(captured, CapturedByPlace):
        return captured_refs(captured)
    return captured.beside_latest(seen)


class _Record(Protocol):
    @property
    def open(self) -> Instances: ...
    @property
    def resolved(self) -> dict[int, Instance]: ...


def inline_of(record: _Record) -> dict[int, Instance]:
    """The open instances of a task that are in no block."""
    return record.open if isinstance(record.open, dict) else record.open.changed


class Holders:
    """The instances and leaves of a state that is packed, or as it was read: no value of a block is changed.

    ``by_place`` are the captured events that instances hold by their places among the latest ones.
    """

    __slots__ = ("_columns", "_instances", "_leaves", "_remembered", "_seen", "_tasks", "by_place")

    def __init__(
        self,
        tasks: Mapping[TaskName, _Record],
        remembered: Mapping[TaskName, Remembered],
        seen: LatestEvents,
    ) -> None:
        self._tasks, self._remembered, self._seen = tasks, remembered, seen
        self._instances: dict[TriggerName, set[Ref]] | None = None
        self._leaves: dict[TriggerName, set[Ref]] | None = None
        self._columns: dict[TriggerName, list[Column]] | None = None
        self.by_place: list[CapturedByPlace] = []

    @property
    def instances(self) -> dict[TriggerName, set[Ref]]:
        """The events that instances outside of blocks hold, but for latest ones that they hold by place."""
        if self._instances is None:
            found: dict[TriggerName, set[Ref]] = {}
            for record in self._tasks.values():
                add_captured(found, inline_of(record), self._seen, self.by_place)
                add_captured(found, record.resolved, self._seen, self.by_place)
            self._instances = found
        return self._instances

    @property
    def leaves(self) -> dict[TriggerName, set[Ref]]:
        """The events that leaves of ``after`` remember."""
        if self._leaves is None:
            self._leaves = {}
            for remembered in self._remembered.values():
                for name, ref in captured_refs(remembered.after):
                    self._leaves.setdefault(name, set()).add(ref)
        return self._leaves

    @property
    def columns(self) -> dict[TriggerName, list[Column]]:
        """The columns of the events that instances in blocks hold, by trigger."""
        if self._columns is None:
            self._columns = {}
            for block in self.blocks():
                for leaf, column in block.captured.items():
                    self._columns.setdefault(TriggerName(leaf), []).append(column)
        return self._columns

    def is_captured(self, name: TriggerName, ref: Ref) -> bool:
        """True if an instance holds an event, but for a latest one that it holds by place."""
        if ref in self.instances.get(name, ()):
            return True
        for column in self.columns.get(name, ()):  # noqa: SIM110 - `any` takes twice as long
            if ref in column:
                return True
        return False

    def holds(self, name: TriggerName, ref: Ref) -> bool:
        """True if an instance or a leaf holds an event."""
        return self.is_captured(name, ref) or ref in self.leaves.get(name, ())

    def blocks(self) -> list[InstanceBlock]:
        """The blocks of open instances."""
        found: list[InstanceBlock] = []
        for record in self._tasks.values():
            if not isinstance(record.open, dict):
                found += record.open.blocks
        return found

    def captured_latest(self) -> frozenset[TriggerName]:
        """The triggers whose latest event an instance holds, but for those that all hold by place."""
        found = []
        for name in {**self.instances, **self.columns}:
            latest = latest_ref(self._seen, name)
            if latest is not None and self.is_captured(name, latest):
                found.append(name)
        return frozenset(found)

    def refs(self, name: TriggerName) -> set[Ref]:
        """The events of a trigger that are held, but for latest ones that are held by place."""
        none: Collection[Ref] = ()
        inline = {*self.instances.get(name, none), *self.leaves.get(name, none)}
        return inline.union(*self.columns.get(name, ()))

    def earlier_refs(self, name: TriggerName) -> list[Ref]:
        """The events of a trigger that are held and are not its latest, in log order."""
        refs = self.refs(name)
        refs.discard(latest_ref(self._seen, name))
        return in_log_order(refs)

    def let_go(
        self, before: Holders, name: TriggerName, changed: Mapping[TaskName, _Record]
    ) -> set[Ref] | None:
        """The events of a trigger that some holder held ``before``, and perhaps none does now.

        ``changed``: the tasks before they were packed, with the changes since ``before``. None: too much has
        changed.
        """
        found: set[Ref] = set()
        now: dict[int, OpenInstances] = {}
        for record in changed.values():
            if not isinstance(record.open, dict):
                now.update((id(block), record.open) for block in record.open.blocks)
        for block in before.blocks():
            column = block.captured.get(LeafName(name))
            if column is not None:
                open_ = now.get(id(block))
                if open_ is None or len(open_.changed) + len(open_.gone) > FEW:
                    return None
                if open_.changed or open_.gone:
                    found.update([column[at] for at, _ in open_.changed_in(block)])
        for instance in self._inline_of(before):
            found.update([ref for of, ref in _captured_refs(instance, before._seen) if of == name])
        if before.leaves:
            found |= before.leaves.get(name, set()) - self.leaves.get(name, set())
        return found

    def _inline_of(self, before: Holders) -> Iterator[Instance]:
        """The instances outside of blocks that are no longer as they were ``before``."""
        for name, record in before._tasks.items():
            now = self._tasks.get(name)
            for instances, left in (
                (record.resolved, {} if now is None else now.resolved),
                (inline_of(record), {} if now is None else inline_of(now)),
            ):
                if instances is not left:
                    for number, instance in instances.items():
                        if left.get(number) is not instance:
                            yield instance


def in_log_order(refs: Collection[Ref]) -> list[Ref]:
    """The refs in the order of their events in the log."""
    return sorted(refs, key=None if min(refs, default=0) >= 0 else place_of)


class KeptBlock(EventBlock[Ref]):
    """Earlier events of a trigger in log order: those that ``holders`` of the state hold."""

    __slots__ = ("_holders", "_trigger")

    _holders: Holders
    _trigger: TriggerName

    @property
    def is_read(self) -> bool:
        """True if the refs of the events are known, without a look at what holds them."""
        return bool(self._keys)

    @property
    def keys(self) -> list[Ref]:
        if not self._keys:
            self._keys = self._holders.earlier_refs(self._trigger)
        return self._keys

    @property
    def refs(self) -> list[Ref]:
        return self.keys

    @property
    @abstractmethod
    def first(self) -> Ref:
        """The ref of the first event, which is decoded."""

    @property
    @abstractmethod
    def last(self) -> Ref:
        """The ref of the last event, which is decoded."""

    @abstractmethod
    def is_longer_than(self, count: int) -> bool:
        """True if there are more events; without counting all of them."""


class KeptEvents(LazyEvents[Ref]):
    """Many earlier events of a trigger. Those of its only block were held by ``holders``."""

    __slots__ = ("holders",)

    blocks: tuple[KeptBlock]

    def __init__(self, block: KeptBlock, holders: Holders) -> None:
        self.blocks = (block,)
        self.changed = {}
        self.gone = set()
        self.holders = holders
        self._count = 0  # beside those of the block, which may not be counted yet

    def copy(self) -> Self:
        copied = super().copy()
        copied.holders = self.holders
        return copied

    def __len__(self) -> int:
        return self.blocks[0].length + self._count

    def __bool__(self) -> bool:
        return bool(self.changed) or self.blocks[0].is_longer_than(len(self.gone))

    def drop(self, ref: Ref) -> None:
        """Delete an event that is there."""
        if ref in self.changed:
            del self[ref]
        else:
            self.gone.add(ref)
            self._count -= 1

    def needed(
        self,
        name: TriggerName,
        recent: dict[Ref, Arrival],
        holders: Holders,
        changed: Mapping[TaskName, _Record],
    ) -> KeptEvents | None:
        """Those of these events and of ``recent`` ones that ``holders`` hold.

        None: so much has changed that it takes less time to look all of them up.
        """
        let_go = holders.let_go(self.holders, name, changed)
        if let_go is None or len(let_go) + len(recent) + len(self.changed) > FEW:
            return None
        dropped = [ref for ref in {*let_go, *self.changed} if not holders.holds(name, ref) and ref in self]
        added = {ref: one for ref, one in recent.items() if holders.holds(name, ref)}
        if not dropped and not added:
            return self
        needed = self.copy()
        for ref in dropped:
            needed.drop(ref)
        for ref, one in added.items():
            needed[ref] = one
        return needed


EarlierEvents: TypeAlias = dict[Ref, Arrival] | KeptEvents
