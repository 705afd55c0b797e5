"""Rules of a leaf: which events it takes, when it is met, what it brings (docs/semantics.md, section 13).

Pure functions over values. They change no status and decide nothing: :mod:`triggerstream.core.fold` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import assert_never

from triggerstream.core.conditions import Leaf
from triggerstream.core.held import Holding, InSequence, Keyed, Members, One, Ref, Several
from triggerstream.core.ids import Json, JsonObject, LeafName, TriggerName


def hold_one(leaf: Leaf, ref: Ref) -> Holding:
    """What a plain leaf holds that took one event."""
    return ref if str(leaf.name) == leaf.trigger else One(of=leaf.trigger, ref=ref)


def refs(name: LeafName, held: Holding) -> Iterator[tuple[TriggerName, Ref]]:
    """The events that a leaf holds, each by trigger and ref."""
    match held:
        case int():
            yield TriggerName(name), held
        case One():
            yield held.of, held.ref
        case Several() | InSequence():
            for ref in held.at:
                yield held.of, ref
        case Keyed():
            for ref in held.by.values():
                yield held.of, ref
        case Members():
            for member in held.by.values():
                if member is not None:
                    yield held.of, member
        case _ as never:
            assert_never(never)


def captured_refs(captured: Mapping[LeafName, Holding]) -> Iterator[tuple[TriggerName, Ref]]:
    """The events that an instance has captured. An event that two leaves hold comes twice."""
    for name, held in captured.items():
        if type(held) is int:
            yield TriggerName(name), held
        else:
            yield from refs(name, held)


def brought(name: LeafName, held: Holding, data_of: Callable[[TriggerName, Ref], JsonObject]) -> Json:
    """The argument that a leaf passes with what it holds, complete or not (R5.3)."""
    match held:
        case int():
            return data_of(TriggerName(name), held)
        case One():
            return data_of(held.of, held.ref)
        case Several():
            return [data_of(held.of, ref) for ref in held.at]
        case Keyed():
            return [data_of(held.of, ref) for ref in held.by.values()]
        case Members():
            return {key: data_of(held.of, ref) for key, ref in held.by.items() if ref is not None}
        case InSequence(met=list() as met):
            return [data_of(held.of, ref) for ref in met]
        case InSequence(met=int() as met):
            return data_of(held.of, met)
        case InSequence():
            return None
        case _ as never:
            assert_never(never)
