"""Blocks of open instances and of events: what the fold finds without decoding any of them.

A block of instances has those of one shape: the same status, and the same plain leaves that hold an event. So
an event that no instance of that shape can take costs one look at the block.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from operator import itemgetter, lt
from typing import TypeAlias, TypeVar

from triggerstream.core.errors import DecodeError
from triggerstream.core.held import Holding, Ref
from triggerstream.core.ids import LeafName, TriggerName
from triggerstream.core.instances import Arrival, Instance, Sent, Status
from triggerstream.core.lazy import FEW, Block, Buffer, LazyDict, Piece

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


class LongColumn(Sequence[int]):
    """Many whole numbers, which ``wire`` decodes when all of them are needed. Never modified."""

    __slots__ = ()

    @property
    @abstractmethod
    def text(self) -> bytes:
        """The column as JSON."""

    @property
    @abstractmethod
    def values(self) -> list[int]:
        """All values.

        Raises:
            DecodeError: the column is damaged.
        """

    @abstractmethod
    def place(self, value: int) -> int | None:
        """The place of a value of an ascending column; None if it has none."""

    @abstractmethod
    def part_before(self, value: int) -> float:
        """The part of the column before a value, from 0 to 1, as an estimate; 0 if it has no such value."""

    @abstractmethod
    def extended(self, values: Sequence[int]) -> LongColumn:
        """The column with more values at its end."""

    @abstractmethod
    def without(self, at: int) -> LongColumn:
        """The column without the value at a place."""

    @abstractmethod
    def without_value(self, value: int) -> LongColumn:
        """The ascending column without a value, which it has."""


Column: TypeAlias = list[int] | LongColumn
"""Whole numbers. A list was checked when it was read. The columns of a block are all lists or all long."""


class InstanceBlock(Block[int, Instance]):
    """Open instances of one task that have one shape, by number, ascending.

    ``captured`` and ``noted`` have a column for each leaf that holds an event: the refs, in the order of the
    ``numbers``. All leaves are plain and have their trigger's name. ``sent`` is that of each instance.
    """

    __slots__ = ("_columns", "_places", "captured", "noted", "numbers", "sent", "status")

    status: Status
    captured: dict[LeafName, Column]
    noted: dict[LeafName, Column]
    sent: Sent | None

    def __init__(
        self, numbers: Column, *, pieces: tuple[Piece, ...] = (), lines: list[bytes] | None = None
    ) -> None:
        """A list of ``numbers`` ascends."""
        # Not with the base class: that takes twice as long.
        self._keys = numbers if isinstance(numbers, list) else []
        self.numbers = numbers
        self.length = len(numbers)
        self._pieces, self._lines = pieces, lines
        self._index = self._located = None
        self._looked_up, self._decoded = 0, {}
        self._columns: list[Column] | None = None
        self._places: dict[int, int | None] = {}
        """Places that were looked up: an outcome asks for its instance a dozen times."""

    @property
    def keys(self) -> list[int]:
        if not self._keys:
            numbers = [*self.numbers]
            if not is_ascending(numbers):
                raise DecodeError("open instances of the state must be in lines by number, each once")
            self._keys = numbers
        return self._keys

    def __contains__(self, key: object) -> bool:
        return self.place(key) is not None  # type: ignore[arg-type]  # nothing else is equal to a number

    def place(self, key: int) -> int | None:
        places = self._places
        if key not in places:
            numbers = self.numbers
            at: int | None
            if isinstance(numbers, list):
                at = bisect_left(numbers, key)
                if at == len(numbers) or numbers[at] != key:
                    at = None
            else:
                at = numbers.place(key) if self._looked_up <= FEW else self.index.get(key)
            self._looked_up += at is not None
            places[key] = at
            return at
        return places[key]

    @property
    def columns(self) -> list[Column]:
        """The columns of ``captured`` and ``noted``.

        Raises:
            DecodeError: one is longer than the others, or shorter.
        """
        if self._columns is None:
            columns = [*self.captured.values(), *self.noted.values()]
            for column in columns:
                if len(column) != self.length:
                    raise DecodeError("a column of the state must have an offset for each number")
            self._columns = columns
        return self._columns


def is_ascending(numbers: Sequence[int]) -> bool:
    """True if each number is greater than the one before it."""
    return all(map(lt, numbers, islice(numbers, 1, None)))


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
                found.append((block.numbers[0], block, block.length))
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
        if len(self.blocks) > 1 and any(one.number == next_.number for one, next_ in pairwise(found)):
            raise DecodeError("an open instance of the state must be in one line")
        return found

    def count(self, test: Callable[[Shape], bool]) -> int:
        """The number of instances whose shape passes ``test``."""
        return sum(number for shape, number in self.shapes() if test(shape))

    def captured(self) -> Iterator[tuple[TriggerName, Sequence[Ref]]]:
        """The events that the plain leaves of instances in blocks hold, by trigger."""
        for block in self.blocks:
            is_intact = self.is_intact(block)
            for leaf, refs in block.captured.items():
                yield TriggerName(leaf), refs if is_intact else [refs[at] for at in self.left_in(block)]


Instances: TypeAlias = dict[int, Instance] | OpenInstances
"""Open instances of a task, by number. Many that were read from a store are decoded when looked at."""
LatestEvents: TypeAlias = dict[TriggerName, Arrival] | LazyLatest


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
