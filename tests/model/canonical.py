"""Canonical form of a state: one for all states that differ only by names.

Workers and ids are sorted. Ids that nothing refers to any more are dropped.
"""

from __future__ import annotations

from typing import Any

from tests.model.state import IDLE, NOTHING, Id, State, Worker

Order = tuple[int, ...]
"""The former place of each worker or id."""


def canonical(state: State) -> tuple[State, Order, Order]:
    """The representative of ``state``, and where its workers and its ids were in ``state``.

    The sort keys contain everything that a worker or an id is, and who refers to it. Where two keys are
    equal, the order of the two is left as it is: at worst a state is visited twice.
    """
    entries = _entries(state)
    keys = [_worker_key(state, worker, entries) for worker in state.workers]
    workers = tuple(sorted(range(len(keys)), key=keys.__getitem__))
    sorted_workers = tuple(state.workers[place] for place in workers)
    users = _users(sorted_workers, len(state.ids))
    ids = tuple(
        sorted(
            (
                place
                for place, one in enumerate(state.ids)
                if users[place] or one.claim or one.transaction != IDLE or entries[place]
            ),
            key=lambda place: (users[place], state.ids[place], entries[place]),
        )
    )
    if ids != tuple(range(len(state.ids))):
        names = {former: place for place, former in enumerate(ids)}
        names[NOTHING] = NOTHING
        return _renamed(state, sorted_workers, ids, names), workers, ids
    return state._replace(workers=sorted_workers), workers, ids


def _entries(state: State) -> list[tuple[tuple[int, int], ...]]:
    """For each id, where its entries stand in changelogs."""
    found: list[tuple[tuple[int, int], ...]] = [()] * len(state.ids)
    for partition, log in enumerate(state.changelogs):
        for place, entry in enumerate(log.tail):
            if entry.id != NOTHING:
                found[entry.id] = (*found[entry.id], (partition, place))
    return found


def _users(workers: tuple[Worker, ...], ids: int) -> list[tuple[tuple[int, int], ...]]:
    """For each id, the workers that refer to it, with a number that says how."""
    found: list[tuple[tuple[int, int], ...]] = [()] * ids
    for place, worker in enumerate(workers):
        for how, own in enumerate((worker.id, worker.spare, worker.left), start=3):
            if own != NOTHING:
                found[own] = (*found[own], (place, how))
        for target in worker.to_fence:
            found[target] = (*found[target], (place, 1))
        for target in worker.to_forget:
            found[target] = (*found[target], (place, 2))
    return found


def _worker_key(state: State, worker: Worker, entries: list[tuple[tuple[int, int], ...]]) -> tuple[Any, ...]:
    """Sort key that distinguishes ``worker`` from others, without the names of ids."""
    own: tuple[Any, ...] = ()
    if worker.id != NOTHING:
        meant = [
            (other.at, worker.id in other.to_fence, worker.id in other.to_forget) for other in state.workers
        ]
        more = [state.ids[target] for target in (worker.spare, worker.left) if target != NOTHING]
        own = (state.ids[worker.id], entries[worker.id], sorted(meant), more)
    rest = worker._replace(id=NOTHING, spare=NOTHING, left=NOTHING, to_fence=(), to_forget=())
    others = sorted((state.ids[target], entries[target]) for target in worker.to_fence)
    return (rest, len(worker.to_fence), len(worker.to_forget), own, others)


def _renamed(state: State, workers: tuple[Worker, ...], ids: Order, names: dict[int, int]) -> State:
    def named(targets: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(names[target] for target in targets))

    kept: tuple[Id, ...] = tuple(state.ids[place] for place in ids)
    return state._replace(
        ids=kept,
        workers=tuple(
            worker
            if worker.id == NOTHING
            else worker._replace(
                id=names[worker.id],
                spare=names[worker.spare],
                left=names[worker.left],
                to_fence=named(worker.to_fence),
                to_forget=named(worker.to_forget),
            )
            for worker in workers
        ),
        changelogs=tuple(
            log._replace(tail=tuple(entry._replace(id=names[entry.id]) for entry in log.tail))
            for log in state.changelogs
        ),
    )
