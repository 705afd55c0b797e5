"""The consumer group: joins, assignments, and members that end, expire or are removed.

Assignment is eager, as Faust's: a member hands all of its partitions over before it joins again. Two
reductions lose no interleaving. A member without partitions joins as soon as it can, because until then it
does nothing; and it is never removed and never crashes, because that would only be a rebalance.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from tests.model.state import (
    AWAY,
    DEAD,
    JOINING,
    MEMBER,
    NOTHING,
    Event,
    State,
    Worker,
    with_worker,
)


def rebalance(state: State) -> State:
    """``state`` with a rebalance under way: all members have to join again."""
    workers = tuple(
        worker._replace(at=JOINING) if worker.at == MEMBER and not worker.partitions else worker
        for worker in state.workers
    )
    return state._replace(rebalancing=True, workers=workers)


def ended(worker: Worker) -> Worker:
    """``worker`` after its process has ended."""
    return Worker(at=AWAY if worker.kicked else DEAD)


def membership(state: State) -> Iterator[Event]:
    """Joins, expired sessions, faults, and the assignment once all have joined."""
    for place, worker in enumerate(state.workers):
        if worker.at == AWAY:
            yield Event("joins", rebalance(with_worker(state, place, Worker(at=JOINING))), worker=place)
        elif worker.at == DEAD:
            yield Event("is expired", rebalance(with_worker(state, place, Worker())), worker=place)
        elif worker.partitions:
            yield from _faults(state, place, worker)
    faults, members = state.faults, any(worker.at == MEMBER for worker in state.workers)
    if faults.rebalances and members and not state.rebalancing:
        fewer = state._replace(faults=faults._replace(rebalances=faults.rebalances - 1))
        yield Event("the group rebalances", rebalance(fewer), fault=True)
    yield from _assignments(state)


def _faults(state: State, place: int, worker: Worker) -> Iterator[Event]:
    faults = state.faults
    if faults.kicks and not worker.kicked:
        after = with_worker(state, place, worker._replace(kicked=True))
        after = after._replace(faults=faults._replace(kicks=faults.kicks - 1))
        yield Event("is removed from the group", rebalance(after), worker=place, fault=True)
    if faults.crashes:
        after = with_worker(state, place, ended(worker))
        after = after._replace(faults=faults._replace(crashes=faults.crashes - 1))
        yield Event("crashes", after, worker=place, fault=True)


def _assignments(state: State) -> Iterator[Event]:
    """Any assignment: which worker gets a partition is not decided by what it had."""
    waiting = [place for place, worker in enumerate(state.workers) if worker.at == JOINING]
    missing = any(
        worker.at == DEAD or (worker.at == MEMBER and not worker.kicked) for worker in state.workers
    )
    if not state.rebalancing or not waiting or missing:
        return
    for owners in product(waiting, repeat=len(state.changelogs)):
        workers = list(state.workers)
        for place in waiting:
            mine = tuple(partition for partition, owner in enumerate(owners) if owner == place)
            nothing = (NOTHING,) * len(mine)
            workers[place] = Worker(at=MEMBER, partitions=mine, ends=nothing, marks=nothing)
        after = state._replace(rebalancing=False, workers=tuple(workers))
        yield Event("the group assigns each partition to", after, partitions=owners)
