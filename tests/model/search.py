"""Breadth-first search over all states, and the properties that are checked.

CHAIN: each committed transaction continues exactly where the last one of the partition ended. Otherwise an
    event is decided twice, or never, or on an old state.
END: in a state in which nothing but faults can happen, all events are decided.

If no path leads back to where it came from, every run ends, so that END says that every run ends well.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from tests.model import group, kafka, worker
from tests.model.canonical import canonical
from tests.model.protocols import Protocol
from tests.model.state import Event, Faults, State, initial


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The size of a configuration. The search is complete within these bounds."""

    workers: int = 2
    partitions: int = 1
    events: int = 1
    """Number of events in each partition."""
    kicks: int = 0
    crashes: int = 0
    rebalances: int = 0
    parts: int = 0
    timeouts: int = 0

    def initial(self) -> State:
        """The first state."""
        return initial(
            workers=self.workers,
            partitions=self.partitions,
            events=self.events,
            faults=Faults(self.kicks, self.crashes, self.rebalances, self.parts, self.timeouts),
        )

    def __str__(self) -> str:
        pairs = zip("WPEKCRST", self._figures(), strict=True)
        return " ".join(f"{name}{figure}" for name, figure in pairs if figure)

    def _figures(self) -> tuple[int, ...]:
        return (
            self.workers,
            self.partitions,
            self.events,
            self.kicks,
            self.crashes,
            self.rebalances,
            self.parts,
            self.timeouts,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Result of a search. Without a violation and ``complete``, both properties hold within the bounds."""

    violation: str
    """Empty: none."""
    trace: tuple[State, ...]
    """The states up to the violation, by the shortest way; the last one is not canonical."""
    complete: bool
    states: int
    edges: int
    depth: int
    """The number of steps of the longest of all shortest ways to a state."""
    cyclic: int
    """States on a cycle, or behind one; 0: every run ends."""


def events_of(state: State, protocol: Protocol) -> Iterator[Event]:
    """Everything that can happen next. The states are not canonical."""
    happening = chain(
        group.membership(state), worker.actions(state, protocol), kafka.markers(state), kafka.timeouts(state)
    )
    for event in happening:
        yield event._replace(state=worker.settle(event.state, protocol))


def search(protocol: Protocol, bounds: Bounds, *, nobody_ends: bool = False, limit: int = 10**9) -> Result:
    """Visit every state within ``bounds``, or ``limit`` of them, up to the first violation.

    ``nobody_ends``: it is a violation, too, if a process ends because it was fenced or refused.
    """
    first = canonical(bounds.initial())[0]
    places, states, parents = {first: 0}, [first], array("l", [-1])
    # The edges of a state are together in `targets`: from `begins` of its place on.
    targets, begins = array("l"), array("l")
    shared: dict[object, object] = {}
    level, depth = [0], 0

    def result(violation: str = "", *, place: int = -1, last: State | None = None) -> Result:
        trace = [] if last is None else [last]
        while place >= 0:
            trace.append(states[place])
            place = parents[place]
        return Result(
            violation=violation,
            trace=tuple(reversed(trace)),
            complete=not violation and not level,
            states=len(states),
            edges=len(targets),
            depth=depth + (last is not None),
            cyclic=0 if violation or level else _cyclic(len(states), begins, targets),
        )

    while level and len(states) < limit:
        following = []
        for place in level:
            state, only_faults = states[place], True
            begins.append(len(targets))
            for event in events_of(state, protocol):
                if event.violation or (nobody_ends and event.ended):
                    reason = event.violation or f"NOBODY ENDS: a worker {event.what}"
                    return result(reason, place=place, last=event.state)
                only_faults = only_faults and event.fault
                after = canonical(event.state)[0]
                known = places.get(after)
                if known is None:
                    after = _sharing(after, shared)
                    known = places[after] = len(states)
                    states.append(after)
                    parents.append(place)
                    following.append(known)
                targets.append(known)
            if only_faults and any(done < state.events for done in state.decided):
                return result("END: nothing happens any more, and events are undecided", place=place)
        if following:
            depth += 1
        level = following
    return result()


def _sharing(state: State, shared: dict[Any, Any]) -> State:
    """``state`` with parts that other states have, too: that takes a fraction of the memory."""
    return state._replace(
        workers=tuple(shared.setdefault(one, one) for one in state.workers),
        ids=shared.setdefault(state.ids, state.ids),
        changelogs=shared.setdefault(state.changelogs, state.changelogs),
        decided=shared.setdefault(state.decided, state.decided),
        faults=shared.setdefault(state.faults, state.faults),
    )


def _cyclic(states: int, begins: array[int], targets: array[int]) -> int:
    """The number of states on or behind a cycle: the rest after states without predecessor are taken away."""
    predecessors = [0] * states
    for target in targets:
        predecessors[target] += 1
    free = [place for place, count in enumerate(predecessors) if not count]
    taken = 0
    while free:
        place = free.pop()
        taken += 1
        until = begins[place + 1] if place + 1 < states else len(targets)
        for target in targets[begins[place] : until]:
            predecessors[target] -= 1
            if not predecessors[target]:
                free.append(target)
    return states - taken
