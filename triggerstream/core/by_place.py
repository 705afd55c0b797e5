"""Parts of a state that name triggers by their places among its latest events, if these are many.

With hundreds of triggers, what an instance captured and the digests of events would repeat all their names,
and an event would decode, copy and encode them. All values here are never modified.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from collections.abc import Set as AbstractSet
from typing import Any, TypeAlias

from triggerstream.core.blocks import LatestBlock, LatestEvents, LazyLatest
from triggerstream.core.errors import DecodeError
from triggerstream.core.held import Holding, Ref
from triggerstream.core.ids import HEX_DIGITS, LeafName, TriggerName
from triggerstream.core.number_ranges import Numbers, count_of, each_of, is_among
from triggerstream.core.slots import captured_refs

NO_DIGEST = b"0" * HEX_DIGITS

# ---- digests --------------------------------------------------------------------------------------


class DigestsByPlace(Mapping[TriggerName, bytes]):
    """Digests by trigger: those of ``block``, unless ``others`` has the trigger."""

    __slots__ = ("block", "others")

    def __init__(self, block: LatestBlock, others: dict[TriggerName, bytes]) -> None:
        self.block = block
        self.others = others

    def get(self, name: TriggerName, default: bytes | None = None) -> bytes | None:  # type: ignore[override]
        """The digests of a trigger, or ``default``."""
        found = self.others.get(name)
        if found is None:
            at = self.block.place(name)
            if at is not None:
                digits = self.block.digests[at * HEX_DIGITS : (at + 1) * HEX_DIGITS]
                if digits != NO_DIGEST:
                    found = _digest(digits)
        return default if found is None else found

    def __getitem__(self, name: TriggerName) -> bytes:
        found = self.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[TriggerName]:
        for name in self.block.keys:
            if name not in self.others and self.get(name) is not None:
                yield name
        yield from self.others

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _digest(digits: bytes) -> bytes:
    try:
        return bytes.fromhex(digits.decode())
    except ValueError as exc:
        raise DecodeError(f"/seenLines: {digits!r} is no digest") from exc


Digests: TypeAlias = dict[TriggerName, bytes] | DigestsByPlace


def with_digests(digests: Digests, name: TriggerName, value: bytes) -> Digests:
    """A copy of ``digests`` in which ``name`` has ``value``."""
    if isinstance(digests, dict):
        changed = digests.copy()  # a copy and an assignment take two thirds of `{**digests, name: value}`
        changed[name] = value
        return changed
    return DigestsByPlace(digests.block, {**digests.others, name: value})


# ---- captured events ------------------------------------------------------------------------------


class CapturedByPlace(Mapping[LeafName, Holding]):
    """The events that the leaves of an instance hold: those of ``block`` at ``places``, in its order.

    ``others`` has the leaves at ``places`` that hold another event of their trigger, ``added`` those that
    took one since, and have no place. ``origin`` is the same object for all that were made from one by
    :func:`with_holding`.
    """

    __slots__ = ("_whole", "added", "block", "origin", "others", "places")

    def __init__(
        self,
        block: LatestBlock,
        places: Numbers,
        others: dict[LeafName, Holding],
        added: dict[LeafName, Holding] | None = None,
        *,
        origin: object | None = None,
    ) -> None:
        self.block = block
        self.places = places
        self.others = others
        self.added: dict[LeafName, Holding] = {} if added is None else added
        self.origin = object() if origin is None else origin
        self._whole: dict[LeafName, Holding] | None = None

    def whole(self) -> dict[LeafName, Holding]:
        """All leaves with their events, as a dict."""
        if self._whole is None:
            keys, refs = self.block.keys, self.block.refs
            whole: dict[LeafName, Holding] = {}
            for first, last in self.places:
                names = map(LeafName, keys[first : last + 1])
                whole.update(zip(names, refs[first : last + 1], strict=True))
            whole.update(self.others)
            whole.update(self.added)
            self._whole = whole
        return self._whole

    def holds_by_place(self, name: str) -> bool:
        """True if a leaf of this name holds the event that ``block`` has of its trigger."""
        return name not in self.others and self.place_of(name) is not None

    def place_of(self, name: str) -> int | None:
        """The place of a leaf of this name; None if it has none."""
        at = self.block.place(name)  # type: ignore[arg-type]  # equal names
        return None if at is None or not is_among(at, self.places) else at

    def beside_latest(self, seen: LatestEvents) -> Iterator[tuple[TriggerName, Ref]]:
        """The events that the leaves hold, except those that ``seen`` has in ``block``."""
        if not isinstance(seen, LazyLatest) or seen.blocks[0] is not self.block or seen.gone:
            yield from captured_refs(self.whole())
            return
        yield from captured_refs(self.others)
        yield from captured_refs(self.added)
        for name in seen.changed:
            at = self.place_of(name)
            if at is not None and str(name) not in self.others:
                yield name, self.block.refs[at]

    def __contains__(self, leaf: object) -> bool:
        if leaf in self.added:
            return True
        at = self.block.place(leaf)  # type: ignore[arg-type]  # keys are names
        return at is not None and is_among(at, self.places)

    def __getitem__(self, leaf: LeafName) -> Holding:
        return self.whole()[leaf]

    def __iter__(self) -> Iterator[LeafName]:
        return iter(self.whole())

    def __len__(self) -> int:
        return count_of(self.places) + len(self.added)

    def keys(self) -> KeysView[LeafName]:
        """The leaves."""
        return self.whole().keys()

    def values(self) -> ValuesView[Holding]:
        """The events of the leaves."""
        return self.whole().values()

    def items(self) -> ItemsView[LeafName, Holding]:
        """Leaves and their events."""
        return self.whole().items()

    def __repr__(self) -> str:
        return repr(self.whole())


def with_holding(
    captured: Mapping[LeafName, Holding], leaf: LeafName, holding: Holding
) -> Mapping[LeafName, Holding]:
    """A copy of captured events in which ``leaf``, which holds nothing there, holds ``holding``."""
    if isinstance(captured, dict):
        changed = captured.copy()
        changed[leaf] = holding
        return changed
    if isinstance(captured, CapturedByPlace):
        added = {**captured.added, leaf: holding}
        return CapturedByPlace(
            captured.block, captured.places, captured.others, added, origin=captured.origin
        )
    return {**captured, leaf: holding}


def whole(captured: Mapping[LeafName, Holding]) -> dict[LeafName, Holding]:
    """Captured events as a dict."""
    if isinstance(captured, dict):
        return captured
    return captured.whole() if isinstance(captured, CapturedByPlace) else dict(captured)


# ---- triggers whose latest event was captured -----------------------------------------------------


class MarkedTriggers(AbstractSet[TriggerName]):
    """A set of triggers: ``names``, and those whose event ``captured`` holds by its place.

    ``unmarked`` are triggers that ``captured`` may have, but that do not belong to the set.
    """

    __slots__ = ("captured", "names", "unmarked")

    def __init__(
        self,
        names: frozenset[TriggerName],
        captured: tuple[CapturedByPlace, ...],
        unmarked: frozenset[TriggerName] = frozenset(),
    ) -> None:
        self.names = names
        self.captured = captured
        self.unmarked = unmarked

    def __contains__(self, name: object) -> bool:
        if name in self.names:
            return True
        if name not in self.unmarked:
            for one in self.captured:
                if one.holds_by_place(name):  # type: ignore[arg-type]  # nothing else is equal to a name
                    return True
        return False

    def union(self, names: Iterable[TriggerName]) -> MarkedTriggers:
        """This set and ``names``."""
        return MarkedTriggers(self.names.union(names), self.captured, self.unmarked)

    def issuperset(self, names: Iterable[Any]) -> bool:
        """True if it has all of these."""
        return all(name in self for name in names)

    def without(self, name: TriggerName) -> MarkedTriggers:
        """This set without ``name``."""
        return MarkedTriggers(self.names - {name}, self.captured, self.unmarked | {name})

    def __iter__(self) -> Iterator[TriggerName]:
        found = set(self.names)
        for one in self.captured:
            keys = one.block.keys
            for at in each_of(one.places):
                if keys[at] not in self.unmarked and str(keys[at]) not in one.others:
                    found.add(keys[at])
        return iter(found)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __hash__(self) -> int:
        return hash(frozenset(self))


Marked: TypeAlias = frozenset[TriggerName] | MarkedTriggers


def mark(marked: Marked, name: TriggerName) -> Marked:
    """``marked`` and ``name``."""
    if isinstance(marked, frozenset):
        return marked if name in marked else marked.union((name,))
    return MarkedTriggers(marked.names.union((name,)), marked.captured, marked.unmarked)


def unmark(marked: Marked, name: TriggerName) -> Marked:
    """``marked`` without ``name``."""
    return marked - {name} if isinstance(marked, frozenset) else marked.without(name)
