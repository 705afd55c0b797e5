"""The brokers: transactional ids, their markers, and the ends of changelogs."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.protocols import Protocol
from tests.model.state import (
    ABORTED,
    ABORTING,
    CLAIMED,
    COMMITTED,
    COMMITTING,
    FORGOTTEN,
    IDLE,
    NOTHING,
    ONGOING,
    OPEN,
    Changelog,
    Entry,
    Event,
    State,
    Worker,
    put,
    with_id,
)


def fence(state: State, target: int) -> State:
    """The effect of InitProducerId on ``target``: its holder is fenced.

    An open transaction is aborted by it; the request then has to be repeated until all markers are written.
    """
    one = state.ids[target]
    if one.transaction == ONGOING:
        state = with_id(state, target, one._replace(transaction=ABORTING))
    return state._replace(workers=tuple(_fenced(worker, target) for worker in state.workers))


def _fenced(worker: Worker, target: int) -> Worker:
    if worker.id == target:
        return worker._replace(fenced=True)
    if worker.spare == target:
        return worker._replace(spare_fenced=True)
    if worker.left == target:
        return worker._replace(left_fenced=True)
    return worker


def append(state: State, partition: int, entry: Entry) -> State:
    """``state`` with ``entry`` at the end of the changelog of ``partition``."""
    log = state.changelogs[partition]
    return state._replace(changelogs=put(state.changelogs, partition, log._replace(tail=(*log.tail, entry))))


def claims(state: State, protocol: Protocol, *, committed: bool) -> list[tuple[int, ...]]:
    """The claim of each id. Claims behind a changelog's last stable offset are in it unless ``committed``."""
    found = [one.claim for one in state.ids]
    if protocol.claims_in_changelog and not committed:
        for partition, log in enumerate(state.changelogs):
            for entry in log.tail:
                if entry.kind == CLAIMED:
                    found[entry.id] = (*found[entry.id], partition)
                elif entry.kind == FORGOTTEN:
                    found[entry.id] = ()
    return found


def markers(state: State) -> Iterator[Event]:
    """The coordinator writes a marker of a decided transaction; those of offsets are written together."""
    for place, one in enumerate(state.ids):
        if one.transaction not in {COMMITTING, ABORTING}:
            continue
        kind = COMMITTED if one.transaction == COMMITTING else ABORTED
        for partition in {max(partition, -1) for partition in one.partitions}:
            rest = tuple(other for other in one.partitions if max(other, -1) != partition)
            changed = one._replace(partitions=rest, transaction=one.transaction if rest else IDLE)
            after = with_id(state, place, changed)
            if partition >= 0:
                after = _marked(after, partition, place, kind)
            yield Event("the coordinator writes a marker of", after, id=place, partitions=(partition,))


def _marked(state: State, partition: int, owner: int, kind: str) -> State:
    log = state.changelogs[partition]
    tail = tuple(
        entry._replace(kind=kind, id=NOTHING) if entry.kind == OPEN and entry.id == owner else entry
        for entry in log.tail
    )
    return state._replace(changelogs=put(state.changelogs, partition, log._replace(tail=tail)))


def timeouts(state: State) -> Iterator[Event]:
    """The coordinator aborts a transaction that takes too long."""
    for place, one in enumerate(state.ids):
        if one.transaction != ONGOING:
            continue
        owned = any(worker.id == place and not worker.fenced for worker in state.workers)
        left = state.faults.timeouts
        if owned and not left:
            continue
        after = fence(state, place)
        if owned:
            after = after._replace(faults=state.faults._replace(timeouts=left - 1))
        yield Event("the coordinator aborts, for it takes too long,", after, id=place, fault=owned)


def fold(state: State) -> State:
    """Move the last stable offset of each changelog to its first open entry.

    A reader whose end is reached gets its mark here. To read later would make no difference, because nothing
    changes below the last stable offset.
    """
    for partition, log in enumerate(state.changelogs):
        while log.tail and log.tail[0].kind != OPEN:
            first, rest = log.tail[0], log.tail[1:]
            log = Changelog(first.mark if first.kind == COMMITTED else log.mark, rest)  # noqa: PLW2901
            state = _passed(state, partition, first, log)
    return state


def _passed(state: State, partition: int, entry: Entry, log: Changelog) -> State:
    if entry.kind == CLAIMED:
        one = state.ids[entry.id]
        state = with_id(state, entry.id, one._replace(claim=(*one.claim, partition)))
    elif entry.kind == FORGOTTEN:
        state = with_id(state, entry.id, state.ids[entry.id]._replace(claim=()))
    workers = list(state.workers)
    for place, worker in enumerate(workers):
        if partition in worker.partitions:
            at = worker.partitions.index(partition)
            if worker.ends[at] > 0:
                left = worker.ends[at] - 1
                marks = worker.marks if left else put(worker.marks, at, log.mark)
                workers[place] = worker._replace(ends=put(worker.ends, at, left), marks=marks)
    return state._replace(workers=tuple(workers), changelogs=put(state.changelogs, partition, log))
