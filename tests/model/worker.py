"""A worker: the requests of a take-over and of a hand-over."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model import transactions
from tests.model.kafka import append, claims, fence, fold
from tests.model.protocols import Protocol, Step
from tests.model.state import (
    AWAY,
    CLAIMED,
    FORGOTTEN,
    IDLE,
    JOINING,
    MEMBER,
    NOTHING,
    ONGOING,
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


def actions(state: State, protocol: Protocol) -> Iterator[Event]:
    """The next request of each worker; and, if it may hear that it loses its partitions, that it does."""
    for place, worker in enumerate(state.workers):
        if worker.at != MEMBER or not worker.partitions:
            continue
        if worker.closing == NOTHING and (worker.kicked or state.rebalancing):
            yield from _hear(state, place, worker, protocol)
        if worker.closing != NOTHING and protocol.hand_over[worker.closing] is Step.RELEASE:
            after = _release(state, worker, protocol)
            after = with_worker(after, place, worker._replace(closing=worker.closing + 1))
            yield Event("releases its id", after, worker=place, id=worker.id)
        elif worker.step == len(protocol.take_over):
            yield from transactions.work(state, place, worker, protocol)
        elif worker.closing == NOTHING:
            yield from _take_over(state, place, worker, protocol)


def _hear(state: State, place: int, worker: Worker, protocol: Protocol) -> Iterator[Event]:
    """It learns that it loses its partitions. A take-over is then given up, with or without a tombstone."""
    if worker.step == len(protocol.take_over):
        if not worker.taken or protocol.hand_over[0] is not Step.FINISH:
            after = with_worker(state, place, worker._replace(closing=0))
            yield Event("begins to hand over", after, worker=place)
        return
    yield Event("gives its take-over up", with_worker(state, place, _left(worker)), worker=place)
    if worker.id != NOTHING and claims(state, protocol, committed=False)[worker.id]:
        after = with_worker(_release(state, worker, protocol), place, _left(worker))
        yield Event("gives its take-over up and releases", after, worker=place, id=worker.id)


def _release(state: State, worker: Worker, protocol: Protocol) -> State:
    for own in (worker.id, worker.spare, worker.left):
        if own != NOTHING:
            state = forget(state, own, protocol)
    return state


def _left(worker: Worker) -> Worker:
    return Worker(at=AWAY if worker.kicked else JOINING)


def forget(state: State, target: int, protocol: Protocol) -> State:
    """``state`` with a tombstone for ``target``."""
    if not protocol.claims_in_changelog:
        return with_id(state, target, state.ids[target]._replace(claim=()))
    for partition in range(len(state.changelogs)):
        state = append(state, partition, Entry(FORGOTTEN, target))
    return state


def _take_over(state: State, place: int, worker: Worker, protocol: Protocol) -> Iterator[Event]:
    match protocol.take_over[worker.step]:
        case Step.INIT:
            yield from _init(state, place, worker, protocol)
        case Step.CLAIM:
            yield _claim(state, place, worker, protocol)
        case Step.READ:
            read = _read(state, worker, protocol)
            yield Event("reads the claims", with_worker(state, place, read), worker=place)
        case Step.FENCE:
            for target in worker.to_fence:
                transaction = state.ids[target].transaction
                if transaction in {IDLE, ONGOING}:
                    rest = tuple(other for other in worker.to_fence if other != target)
                    done = worker if transaction == ONGOING else worker._replace(to_fence=rest)
                    after = fence(with_worker(state, place, done), target)
                    yield Event("fences", after, worker=place, id=target)
        case Step.FORGET:
            for target in worker.to_forget:
                rest = tuple(other for other in worker.to_forget if other != target)
                after = forget(with_worker(state, place, worker._replace(to_forget=rest)), target, protocol)
                yield Event("forgets", after, worker=place, id=target)
        case Step.SETTLED:
            pending = {partition for one in state.ids for partition in one.partitions}
            if not any(offset_of(partition) in pending for partition in worker.partitions):
                after = with_worker(state, place, worker._replace(step=worker.step + 1))
                yield Event("finds no pending offset", after, worker=place)
        case Step.MEASURE:
            at = worker.ends.index(NOTHING)
            log = state.changelogs[worker.partitions[at]]
            end = 0 if protocol.end_is_stable else len(log.tail)
            marks = worker.marks if end else put(worker.marks, at, log.mark)
            after = with_worker(state, place, worker._replace(ends=put(worker.ends, at, end), marks=marks))
            measured = (worker.partitions[at],)
            yield Event("asks for the end of the changelog", after, worker=place, partitions=measured)


def _with_id(state: State, place: int, worker: Worker) -> tuple[State, Worker]:
    if worker.id != NOTHING:
        return state, worker
    worker = worker._replace(id=len(state.ids))
    return with_worker(state._replace(ids=(*state.ids, Id())), place, worker), worker


def _init(state: State, place: int, worker: Worker, protocol: Protocol) -> Iterator[Event]:
    if protocol.id_per_partition and state.ids:
        target = 0
        transaction = state.ids[target].transaction
        if transaction == ONGOING:
            yield Event("initialises, and so aborts,", fence(state, target), worker=place, id=target)
        if transaction != IDLE:
            return
        state, worker = fence(state, target), worker._replace(id=target)
    else:
        state, worker = _with_id(state, place, worker)
        if protocol.spare_id:
            worker = worker._replace(spare=len(state.ids))
            state = state._replace(ids=(*state.ids, Id()))
    worker = worker._replace(step=worker.step + 1, fenced=False)
    yield Event("initialises", with_worker(state, place, worker), worker=place, id=worker.id)


def _claim(state: State, place: int, worker: Worker, protocol: Protocol) -> Event:
    """Append the claim; and read, if that comes next.

    The claims before the own one change no more, so it makes no difference when they are read. A reader of
    committed records does not wait for its own claim to be readable, so it reads in a step of its own.
    """
    before, worker = _with_id(state, place, worker)
    worker = worker._replace(step=worker.step + 1)
    after = before
    if protocol.claims_in_changelog:
        for partition in worker.partitions:
            after = append(after, partition, Entry(CLAIMED, worker.id))
    else:
        if protocol.claim_per_partition:
            after = before._replace(ids=tuple(_without(one, worker.partitions) for one in before.ids))
        for own in (worker.id, worker.spare if protocol.spare_claimed else NOTHING):
            if own != NOTHING:
                after = with_id(after, own, after.ids[own]._replace(claim=worker.partitions))
    if protocol.take_over[worker.step : worker.step + 1] == (Step.READ,) and not protocol.claims_committed:
        worker = _read(before, worker, protocol)
    return Event("claims", with_worker(after, place, worker), worker=place, id=worker.id)


def _without(one: Id, partitions: tuple[int, ...]) -> Id:
    return one._replace(claim=tuple(claimed for claimed in one.claim if claimed not in partitions))


def _read(state: State, worker: Worker, protocol: Protocol) -> Worker:
    known = claims(state, protocol, committed=protocol.claims_committed)
    found = tuple(
        other
        for other, claim in enumerate(known)
        if other not in {worker.id, worker.spare} and not set(claim).isdisjoint(worker.partitions)
    )
    return worker._replace(step=worker.step + 1, to_fence=found, to_forget=found)


def settle(state: State, protocol: Protocol) -> State:
    """``state`` after all that needs no request: steps without one, and offsets that move by themselves."""
    state = fold(state)
    for place, worker in enumerate(state.workers):
        if worker.partitions and worker.at == MEMBER:
            passed = _passed(worker, protocol)
            if passed is not worker:
                state = with_worker(state, place, passed)
    return state


def _passed(worker: Worker, protocol: Protocol) -> Worker:
    while worker.closing == NOTHING and worker.step < len(protocol.take_over) and _is_done(worker, protocol):
        worker = worker._replace(step=worker.step + 1)
    while worker.closing != NOTHING:
        if worker.closing == len(protocol.hand_over):
            return _left(worker)
        if protocol.hand_over[worker.closing] is not Step.FINISH or worker.closing:
            break  # as the first step, FINISH is done: the worker hears only after its last transaction
        worker = worker._replace(closing=worker.closing + 1)
    return worker


def _is_done(worker: Worker, protocol: Protocol) -> bool:
    match protocol.take_over[worker.step]:
        case Step.FENCE:
            return not worker.to_fence
        case Step.FORGET:
            return not worker.to_forget
        case Step.MEASURE:
            return NOTHING not in worker.ends
        case Step.RECOVER:
            # As the last step it ends for each partition alone: the worker folds those that are read.
            return worker.step == len(protocol.take_over) - 1 or NOTHING not in worker.marks
        case _:
            return False
