"""The steps of a trace in words, with names for workers and ids that stay the same from step to step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from tests.model.canonical import canonical
from tests.model.protocols import Protocol
from tests.model.search import events_of
from tests.model.state import NOTHING, Event, State


def lines(trace: Sequence[State], protocol: Protocol) -> Iterator[str]:
    """One line for each step. ``trace`` is that of a search with ``protocol``."""
    workers = [f"worker {number}" for number in range(len(trace[0].workers))]
    ids: list[str] = []
    named = 0
    for before, after in pairwise(trace):
        event, order, id_order = _between(before, after, protocol)
        while len(ids) < len(event.state.ids):
            ids.append(f"id {named}")
            named += 1
        yield _line(event, workers, ids)
        workers = [workers[place] for place in order]
        ids = [ids[place] for place in id_order]


def _between(
    before: State, after: State, protocol: Protocol
) -> tuple[Event, tuple[int, ...], tuple[int, ...]]:
    for event in events_of(before, protocol):
        found, workers, ids = canonical(event.state)
        if after in {found, event.state}:  # the last state of a violation is not canonical
            return event, workers, ids
    raise AssertionError("not a trace of this protocol")


def _line(event: Event, workers: Sequence[str], ids: Sequence[str]) -> str:
    parts = []
    if event.worker != NOTHING:
        parts.append(workers[event.worker])
    parts.append(event.what)
    if event.id != NOTHING:
        parts.append(ids[event.id])
    if event.worker == NOTHING and event.id == NOTHING and event.partitions:
        parts.append(", ".join(workers[owner] for owner in event.partitions))
    elif event.partitions:
        parts.append("in " + ", ".join(_partition(partition) for partition in event.partitions))
    if event.violation:
        parts.append(f"← {event.violation}")
    return " ".join(parts)


def _partition(partition: int) -> str:
    return f"partition {partition}" if partition >= 0 else "the group's offsets"
