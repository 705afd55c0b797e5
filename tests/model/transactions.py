"""A worker's transactions: of one event of each of any of its partitions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from tests.model.group import ended
from tests.model.kafka import append
from tests.model.protocols import Protocol, Step
from tests.model.state import (
    ABORTING,
    COMMITTING,
    IDLE,
    NOTHING,
    ONGOING,
    OPEN,
    Entry,
    Event,
    Id,
    State,
    Worker,
    offset_of,
    put,
    with_id,
    with_worker,
)


def work(state: State, place: int, worker: Worker, protocol: Protocol) -> Iterator[Event]:
    """Transactions, each of one event of any of its partitions that are read and have one."""
    ready = [
        partition
        for partition, mark in zip(worker.partitions, worker.marks, strict=True)
        if NOTHING < mark < state.events
    ]
    # A worker that has released its id but not finished may begin a last transaction: it has folded records.
    finishing = worker.closing != NOTHING and protocol.hand_over[worker.closing] is Step.FINISH
    begins = not worker.taken and (worker.closing == NOTHING or finishing) and bool(ready)
    if finishing and not worker.taken:
        after = with_worker(state, place, worker._replace(closing=worker.closing + 1))
        yield Event("has finished", after, worker=place)
    yield from _part(state, place, worker, protocol)
    if worker.fenced:
        if worker.taken or begins:
            after = with_worker(state, place, ended(worker))
            yield Event("learns that it is fenced, and ends", after, worker=place, ended=True)
    elif begins:
        if state.ids[worker.id].transaction == IDLE:  # its last transaction has all of its markers
            for size in range(1, len(ready) + 1):
                for taken in combinations(ready, size):
                    yield _send(state, place, worker._replace(taken=taken))
    elif worker.sent < len(worker.taken):
        # After a transaction that was given up: once its records are aborted where they stand.
        if worker.sent or not any(state.changelogs[partition].tail for partition in worker.taken):
            yield _send(state, place, worker)
    elif worker.taken and worker.sent == len(worker.taken) and protocol.sends_offsets:
        yield _send_offsets(state, place, worker, protocol)
    elif worker.taken:
        yield _commit(state, place, worker)


def _part(state: State, place: int, worker: Worker, protocol: Protocol) -> Iterator[Event]:
    """Give the open transaction up, have it aborted, and go on under the spare id.

    The id of the transaction is initialised again, and is then the spare one. The coordinator refuses both
    requests if another owner has initialised it meanwhile.
    """
    left = state.faults.parts
    if left and worker.taken and worker.spare != NOTHING:
        goes_on = worker._replace(
            id=worker.spare,
            fenced=worker.spare_fenced,
            spare=NOTHING,
            spare_fenced=False,
            left=worker.id,
            left_fenced=worker.fenced,
            sent=0,
        )
        after = with_worker(state, place, goes_on)._replace(faults=state.faults._replace(parts=left - 1))
        yield Event("parts from its transaction", after, worker=place, id=worker.id, fault=True)
    if worker.left == NOTHING or (worker.left_fenced and not protocol.renews_fenced):
        return
    one = state.ids[worker.left]
    if one.transaction == ONGOING:
        after = with_id(state, worker.left, one._replace(transaction=ABORTING))
        yield Event("has aborted", after, worker=place, id=worker.left)
    elif one.transaction == IDLE:
        renewed = worker._replace(spare=worker.left, spare_fenced=False, left=NOTHING, left_fenced=False)
        yield Event("initialises anew", with_worker(state, place, renewed), worker=place, id=worker.left)


def _send(state: State, place: int, worker: Worker) -> Event:
    partition = worker.taken[worker.sent]
    mark = worker.marks[worker.partitions.index(partition)]
    one = state.ids[worker.id]
    after = with_id(state, worker.id, Id(ONGOING, (*one.partitions, partition), one.claim))
    after = append(after, partition, Entry(OPEN, worker.id, mark + 1))
    after = with_worker(after, place, worker._replace(sent=worker.sent + 1))
    return Event("sends records for", after, worker=place, id=worker.id, partitions=(partition,))


def _send_offsets(state: State, place: int, worker: Worker, protocol: Protocol) -> Event:
    if protocol.checks_generation and worker.kicked:
        after = with_worker(state, place, ended(worker))
        return Event("is refused by the group, and ends", after, worker=place, ended=True)
    one = state.ids[worker.id]
    offsets = tuple(map(offset_of, worker.taken))
    after = with_id(state, worker.id, one._replace(partitions=tuple(sorted((*offsets, *one.partitions)))))
    after = with_worker(after, place, worker._replace(sent=worker.sent + 1))
    return Event("sends offsets", after, worker=place, id=worker.id)


def _commit(state: State, place: int, worker: Worker) -> Event:
    """EndTxn. A late or lost answer is no step of its own: the next step is late, or the process crashes."""
    decided, marks, violation = state.decided, worker.marks, ""
    for partition in worker.taken:
        at = worker.partitions.index(partition)
        if marks[at] != decided[partition]:
            violation = (
                f"CHAIN: partition {partition} was at {decided[partition]}, is continued at {marks[at]}"
            )
        decided, marks = put(decided, partition, marks[at] + 1), put(marks, at, marks[at] + 1)
    after = with_id(state, worker.id, state.ids[worker.id]._replace(transaction=COMMITTING))
    after = with_worker(after, place, worker._replace(marks=marks, taken=(), sent=0))
    return Event(
        "commits",
        after._replace(decided=decided),
        worker=place,
        id=worker.id,
        partitions=worker.taken,
        violation=violation,
    )
