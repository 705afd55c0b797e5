"""States of the model, their parts, and events between them.

A state is immutable and hashable: numbers, short texts and tuples. Workers and ids are referred to by their
place in ``State``.

Not in the model: the content of sessions (an event advances a counter), the local store (a take-over reads
its changelog as a whole), several brokers, and brokers that lose what they acknowledged.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

AWAY, JOINING, MEMBER, DEAD = "away", "joining", "member", "dead"
"""A worker's relation to the group.

AWAY: no member. JOINING: waits for an assignment. MEMBER: has one, of any number of partitions. DEAD: the
process has ended, but its session has not expired yet.
"""

IDLE, ONGOING, COMMITTING, ABORTING = "idle", "ongoing", "prepare-commit", "prepare-abort"
"""States of a transactional id in its coordinator. The last two are decided, with markers to be written."""

OPEN, COMMITTED, ABORTED, CLAIMED, FORGOTTEN = "open", "committed", "aborted", "claim", "tombstone"
"""An entry of a changelog: of a transaction without marker, with a marker, or a claim or its tombstone."""

NOTHING = -1
"""No id; a mark that was not read; an end that was not asked for."""


class Id(NamedTuple):
    """A transactional id, with its claim in the owners topic."""

    transaction: str = IDLE
    partitions: tuple[int, ...] = ()
    """Partitions of its transaction without a marker yet; ``offset_of(p)``: the group offset of p."""
    claim: tuple[int, ...] = ()
    """Partitions that its claim names; empty: it has not claimed, or there is a tombstone."""


class Entry(NamedTuple):
    """An entry of a changelog that is not the first one."""

    kind: str
    id: int
    """Its transactional id; NOTHING if it has a marker."""
    mark: int = 0
    """The number of events that are done according to it."""


class Changelog(NamedTuple):
    """A changelog. Its last stable offset is where ``tail`` begins, its high watermark where it ends."""

    mark: int = 0
    """The newest committed mark before ``tail``."""
    tail: tuple[Entry, ...] = ()


class Worker(NamedTuple):
    """A process, or several one after the other: one that is AWAY may be a restarted process."""

    at: str = AWAY
    kicked: bool = False
    """It holds an assignment but is no member any more, and goes on as long as it likes."""
    partitions: tuple[int, ...] = ()
    step: int = 0
    """The place in ``Protocol.take_over``; its length: the worker folds events."""
    closing: int = NOTHING
    """The place in ``Protocol.hand_over``; NOTHING: it has not heard that it loses its partitions."""
    id: int = NOTHING
    fenced: bool = False
    """Another has initialised its id. It learns this from its next request."""
    spare: int = NOTHING
    """A second id of its own, with which it goes on when it parts from a transaction."""
    spare_fenced: bool = False
    left: int = NOTHING
    """The id of the transaction from which it has parted. It is spare again once that is aborted."""
    left_fenced: bool = False
    to_fence: tuple[int, ...] = ()
    to_forget: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    """For each of its partitions, how many entries of the tail it must still wait for."""
    marks: tuple[int, ...] = ()
    """For each of its partitions, the number of events that it believes done."""
    taken: tuple[int, ...] = ()
    """Partitions of the transaction that it has begun."""
    sent: int = 0
    """How many of these have the transaction's records; one more: and the group has the offsets."""


class Faults(NamedTuple):
    """How many faults of each kind may still happen."""

    kicks: int = 0
    """A member that holds partitions is removed from the group; its process goes on."""
    crashes: int = 0
    """A process that holds partitions ends."""
    rebalances: int = 0
    """The group rebalances without cause. Joins and expired sessions cause rebalances besides."""
    parts: int = 0
    """An owner gives a transaction up that it has not asked to commit, because a broker is slow."""
    timeouts: int = 0
    """The coordinator aborts a living owner's transaction. That of a dead one may time out at any time."""


class State(NamedTuple):
    """The whole system."""

    rebalancing: bool
    workers: tuple[Worker, ...]
    ids: tuple[Id, ...]
    changelogs: tuple[Changelog, ...]
    decided: tuple[int, ...]
    """For each partition, how many events are decided by committed transactions."""
    events: int
    """How many events each partition has."""
    faults: Faults


class Event(NamedTuple):
    """A step between two states. ``worker`` and ``id`` are places in the state before it."""

    what: str
    state: State
    worker: int = NOTHING
    id: int = NOTHING
    partitions: tuple[int, ...] = ()
    fault: bool = False
    ended: bool = False
    """A process ended because it was fenced or refused."""
    violation: str = ""


def initial(*, workers: int, partitions: int, events: int, faults: Faults) -> State:
    """The first state: nobody has joined, and no event is decided."""
    return State(
        rebalancing=False,
        workers=(Worker(),) * workers,
        ids=(),
        changelogs=(Changelog(),) * partitions,
        decided=(0,) * partitions,
        events=events,
        faults=faults,
    )


def offset_of(partition: int) -> int:
    """The group offset of ``partition`` as a member of a transaction."""
    return -1 - partition


_T = TypeVar("_T")


def put(values: tuple[_T, ...], place: int, value: _T) -> tuple[_T, ...]:
    """``values`` with ``value`` at ``place``."""
    return (*values[:place], value, *values[place + 1 :])


def with_worker(state: State, place: int, worker: Worker) -> State:
    """``state`` with another worker at ``place``."""
    return state._replace(workers=put(state.workers, place, worker))


def with_id(state: State, place: int, changed: Id) -> State:
    """``state`` with another id at ``place``."""
    return state._replace(ids=put(state.ids, place, changed))
