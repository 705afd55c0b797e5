"""Blocks of open instances and of events: what the fold finds without decoding any of them.

A block of instances has those of one shape: the same status, and the same plain leaves that hold an event. So
an event that no instance of that shape can take costs one look at the block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import TypeAlias, TypeVar

from triggerstream.core.held import Holding, Ref
from triggerstream.core.ids import LeafName, TriggerName
from triggerstream.core.instances import Arrival, Instance, Sent, Status
from triggerstream.core.lazy import Block, Buffer, LazyDict

K = TypeVar("K")


class EventBlock(Block[K, Arrival]):
    """Events of a state."""

    __slots__ = ("_refs",)

    _refs: list[Ref]

    @property
    def refs(self) -> list[Ref]:
        """The ref of each event, in the order of the keys."""
        return self._refs


class LazyEvents(LazyDict[K, Arrival]):
    """Many events of a state."""

    __slots__ = ()

    blocks: tuple[EventBlock[K], ...]


class LatestBlock(EventBlock[TriggerName]):
    """The latest events of triggers.

    ``names`` and ``offsets`` are the triggers and the refs of their events as JSON. ``digests`` has 16
    hexadecimal digits for each: the trigger's only digest; zeros if it has none or several. ``parts`` have
    the lines of the events.
    """

    __slots__ = ("digests", "names", "offsets", "parts")

    names: bytes
    offsets: bytes
    digests: bytes
    parts: tuple[bytes, ...]

    @property
    def views(self) -> Sequence[Buffer]:
        return self.parts


class LazyLatest(LazyEvents[TriggerName]):
    """The latest events of many triggers: one block, and those that came since."""

    __slots__ = ()

    blocks: tuple[LatestBlock]

    def __init__(self, block: LatestBlock) -> None:
        self.blocks = (block,)
        self.changed = {}
        self.gone = set()
        self._count = block.length

    def get(  # type: ignore[override]  # no other default
        self, key: TriggerName, default: Arrival | None = None
    ) -> Arrival | None:
        """The event of ``key``, or ``default``."""
        value = self.changed.get(key)
        if value is None and key not in self.gone:
            value = self.blocks[0].get(key)
        return default if value is None else value

    def __setitem__(self, key: TriggerName, value: Arrival) -> None:
        if key not in self.changed and (self.blocks[0].place(key) is None or key in self.gone):
            self._count += 1
        self.changed[key] = value


class InstanceBlock(Block[int, Instance]):
    """Open instances of one task that have one shape, by number, ascending.

    ``captured`` and ``noted`` have a column for each leaf that holds an event: the refs, in the order of the
    numbers. All leaves are plain and have their trigger's name. ``sent`` is that of each instance.
    """

    __slots__ = ("captured", "noted", "sent", "status")

    status: Status
    captured: dict[LeafName, list[Ref]]
    noted: dict[LeafName, list[Ref]]
    sent: Sent | None


Shape: TypeAlias = Instance | InstanceBlock
"""An instance, or a block that stands for several: ``status``, and ``captured`` and ``noted`` by leaf."""


class OpenInstances(LazyDict[int, Instance]):
    """Many open instances of a task by number, ascending."""

    __slots__ = ()

    blocks: tuple[InstanceBlock, ...]

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(super().__iter__()))

    def shapes(self) -> Iterator[tuple[Shape, int]]:
        """The shapes of the instances with the number of instances of each, without decoding any.

        They are in the order of their first instances. A shape may come several times.
        """
        found: list[tuple[int, Shape, int]] = [(number, one, 1) for number, one in self.changed.items()]
        for block in self.blocks:
            left = None if self.is_intact(block) else self.left_in(block)
            if left is None:
                found.append((block.keys[0], block, len(block.keys)))
            elif left:
                found.append((block.keys[left[0]], block, len(left)))
        found.sort(key=itemgetter(0))
        return ((shape, number) for _, shape, number in found)

    def where(self, test: Callable[[Shape], bool]) -> list[Instance]:
        """The instances whose shape passes ``test``, by number. The others are not decoded."""
        found = [instance for instance in self.changed.values() if test(instance)]
        for block in self.blocks:
            if test(block):
                found += [self[block.keys[at]] for at in self.left_in(block)]
        found.sort(key=lambda instance: instance.number)
        return found

    def count(self, test: Callable[[Shape], bool]) -> int:
        """The number of instances whose shape passes ``test``."""
        return sum(number for shape, number in self.shapes() if test(shape))

    def captured(self) -> Iterator[tuple[TriggerName, list[Ref]]]:
        """The events that the plain leaves of instances in blocks hold, by trigger."""
        for block in self.blocks:
            is_intact = self.is_intact(block)
            for leaf, refs in block.captured.items():
                yield TriggerName(leaf), refs if is_intact else [refs[at] for at in self.left_in(block)]


Instances: TypeAlias = dict[int, Instance] | OpenInstances
"""Open instances of a task, by number. Many that were read from a store are decoded when looked at."""
LatestEvents: TypeAlias = dict[TriggerName, Arrival] | LazyLatest
EarlierEvents: TypeAlias = dict[Ref, Arrival] | LazyEvents[Ref]


def instances_where(instances: Instances, test: Callable[[Shape], bool]) -> list[Instance]:
    """The open instances whose shape passes ``test``, by number."""
    if isinstance(instances, dict):
        return [instance for instance in instances.values() if test(instance)]
    return instances.where(test)


def counted_shapes(instances: Instances) -> Iterator[tuple[Shape, int]]:
    """The shapes of open instances with the number of instances of each; one may come several times."""
    if isinstance(instances, dict):
        return ((instance, 1) for instance in instances.values())
    return instances.shapes()


def shapes_of(instances: Instances) -> Iterator[Shape]:
    """The shapes of open instances; one may come several times."""
    if isinstance(instances, dict):
        return iter(instances.values())
    return (shape for shape, _ in instances.shapes())


def holdings_of(shape: Shape) -> Mapping[LeafName, Holding]:
    """Holdings of ``after`` that meet the same leaves as those of every instance of the shape."""
    if isinstance(shape, InstanceBlock):
        return {leaf: refs[0] for leaf, refs in shape.captured.items()}
    return shape.captured


def latest_ref(seen: LatestEvents, name: TriggerName) -> Ref | None:
    """The ref of a trigger's latest event; None if there is none."""
    if isinstance(seen, dict) or name in seen.changed:
        arrival = seen.get(name)
        return None if arrival is None else arrival.offset
    (block,) = seen.blocks
    at = block.place(name)
    return None if at is None else block.refs[at]
