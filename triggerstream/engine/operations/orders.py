"""Operators' orders, from the command line and from pages: appended as events, and followed to their outcome.

Both entrances address an order to the session as it is (:func:`address`), append it, and find its outcome
(:func:`outcomes`) through a :class:`SessionSource`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias
from uuid import uuid4

from msgspec import structs

from triggerstream.core.errors import LogError, UsageError
from triggerstream.core.events import Close, Erase, Order, Resend
from triggerstream.core.ids import InstanceId, SessionId, instance_id, split_instance_id
from triggerstream.core.orders import ORDERS
from triggerstream.core.state import Instance, SessionState
from triggerstream.engine.operations.following import (
    Appended,
    LogPosition,
    append,
    last_positions,
    wait_until_folded,
)
from triggerstream.engine.ports import Log, Reader
from triggerstream.engine.rows import SessionRow
from triggerstream.wire.events import check_session, decode, encode
from triggerstream.wire.records import NewRecord, Record

UNKNOWN_SESSION = "nothing is known of this session"
_NO_LONGER_LISTED = (
    "it was processed, but is no longer in the session's timeline: "
    "look at the session to see whether it applied"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The session that an order is for, as it is now, and the ``attempt`` of the instance."""

    generation: int = 0
    instances_generation: int = 0
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressedOrder:
    """An order and the session it is for."""

    session: SessionId
    order: Order | Close | Erase

    @property
    def instance(self) -> InstanceId | None:
        """The instance that it is for; None if it is for the session."""
        return None if isinstance(self.order, Close | Erase) else self.order.instance


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionAfter:
    """The state of a session in its engine after an order.

    ``offset`` is the last record that it includes. ``listed``: its timeline has the order. ``refusal`` is
    then the reason if the order was refused. ``status`` is that of the order's instance, ``clone`` the last
    instance made from it.
    """

    offset: int
    generation: int
    listed: bool
    refusal: str | None = None
    status: str | None = None
    clone: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The outcome of an order. ``status`` is the instance's afterwards; ``clone`` the instance made from it.

    The order is in the log at ``position`` in any case. Unless it is ``folded``, the engine carries it out
    later. ``applied`` None: not folded, or not known; ``reason`` then says why, if there is anything to say.
    """

    to: AddressedOrder
    position: LogPosition
    folded: bool
    applied: bool | None
    reason: str | None = None
    status: str | None = None
    clone: str | None = None


Given: TypeAlias = tuple[AddressedOrder, LogPosition]
"""An order that is in the log, and its position."""


class SessionSource(Protocol):
    """Port: where the outcomes of orders are read. Any method raises LogError or UsageError if it fails."""

    async def progress(self, partition: int) -> int:
        """The next offset of ``partition`` that its engine will fold."""

    async def after(self, given: Sequence[Given]) -> list[SessionAfter | str | None]:
        """The session of each order after it, in their order.

        None: the session is not known; a text says why it cannot be read.
        """

    async def dead_letters(self, positions: Sequence[LogPosition]) -> Mapping[LogPosition, str]:
        """The records at ``positions`` that became dead letters, each with the reason."""


def named_order(name: str, instance: InstanceId, *, reason: str, by: str) -> Order:
    """The order of that name.

    Raises:
        UsageError: there is no such order, or the reason is empty.
    """
    kind = ORDERS.get(name)
    if kind is None:
        raise UsageError(f"{name!r}: the orders are {', '.join(ORDERS)}")
    if not reason.strip():
        raise UsageError("an order needs a reason: say why; it is kept in the log")
    return kind(instance=instance, reason=reason.strip(), by=by)


def target_in(state: SessionState | None, instance: InstanceId | None = None) -> Target:
    """The target of an order for ``instance``, or for the session; ``state`` None: nothing is known of it."""
    if state is None:
        return Target()
    found = None if instance is None else _instance_in(state, instance)
    return Target(
        generation=state.generation,
        instances_generation=state.instances_generation,
        attempt=0 if found is None else found.attempt,
    )


def _instance_in(state: SessionState, instance: InstanceId) -> Instance | None:
    task, number = split_instance_id(instance) or (None, 0)
    record = None if task is None else state.tasks.get(task)
    return None if record is None else record.find(number)


def address(session: SessionId, order: Order | Close | Erase, target: Target) -> AddressedOrder:
    """``order`` for ``target``: it is refused if the session's generation or the attempt has changed."""
    if isinstance(order, Close | Erase):
        return AddressedOrder(session=session, order=structs.replace(order, generation=target.generation))
    order = structs.replace(order, generation=target.instances_generation)
    if isinstance(order, Resend):
        order = structs.replace(order, attempt=target.attempt)
    return AddressedOrder(session=session, order=order)


def order_record(to: AddressedOrder) -> NewRecord:
    """The event of an order, with an id of its own.

    Raises:
        DecodeError: it is not a valid event.
    """
    key, value = check_session(to.session), encode(to.order, id=str(uuid4()))
    decode(Record(partition=0, offset=0, arrival_us=0, key=key, value=value))
    return NewRecord(key=key, value=value)


async def append_orders(log: Log, reader: Reader, orders: Sequence[AddressedOrder]) -> list[LogPosition]:
    """Append ``orders``; their positions, in their order.

    Raises:
        LogError: not known to be durable, or the log cannot be read.
        DecodeError: an order is not a valid event.
    """
    made = [(await reader.partition(to.session), order_record(to)) for to in orders]
    return await append(
        log,
        reader,
        [Appended(partition=number, record=record, identity=record.value) for number, record in made],
        _value_of,
    )


def _value_of(record: Record) -> bytes | None:
    return record.value


async def give(log: Log, reader: Reader, orders: Sequence[AddressedOrder], *, wait_s: float) -> list[Answer]:
    """Append ``orders`` and wait until they are folded, at most ``wait_s``; the answers in their order.

    Raises:
        LogError: not known to be durable, or the log cannot be read.
        DecodeError: an order is not a valid event.
    """
    deadline = asyncio.get_running_loop().time() + wait_s
    positions = await append_orders(log, reader, orders)
    given = list(zip(orders, positions, strict=True))
    return await outcomes(ReaderSource(reader), given, deadline=deadline)


async def outcomes(source: SessionSource, given: Sequence[Given], *, deadline: float) -> list[Answer]:
    """The outcomes of orders that are in the log, in their order, once folded or after ``deadline``.

    The sessions, and the dead letters, of each partition are read once, however many orders there are. The
    orders are durable, so an error of ``source`` is part of an answer and not raised.
    """
    last = last_positions(position for _, position in given)
    answers: dict[LogPosition, Answer] = {}
    for number, position in last.items():
        here = [one for one in given if one[1].partition == number]
        reached = await _reach(source, position, deadline)
        if isinstance(reached, str):
            answers |= {at: _unfolded(to, at, reason=reached) for to, at in here}
            continue
        answers |= {at: _unfolded(to, at) for to, at in here if at.offset >= reached}
        for answer in await _folded(source, [one for one in here if one[1].offset < reached]):
            answers[answer.position] = answer
    return [answers[position] for _, position in given]


async def _reach(source: SessionSource, position: LogPosition, deadline: float) -> int | str:
    """The result of :func:`wait_until_folded`, or a text that says why it is unknown."""
    try:
        return await wait_until_folded(source.progress, position, deadline=deadline)
    except (LogError, UsageError) as exc:
        return str(exc)


def _unfolded(to: AddressedOrder, position: LogPosition, *, reason: str | None = None) -> Answer:
    return Answer(to=to, position=position, folded=False, applied=None, reason=reason)


async def _folded(source: SessionSource, given: Sequence[Given]) -> list[Answer]:
    """The outcomes of orders of one partition that are folded."""
    try:
        sessions = await source.after(given)
        # A dead letter is in no timeline.
        unlisted = [
            position
            for (_, position), after in zip(given, sessions, strict=True)
            if after is None or (isinstance(after, SessionAfter) and not after.listed)
        ]
        letters = await source.dead_letters(unlisted) if unlisted else {}
    except (LogError, UsageError) as exc:
        return [
            Answer(to=to, position=position, folded=True, applied=None, reason=str(exc))
            for to, position in given
        ]
    return [
        _answer(to, position, after, letters.get(position))
        for (to, position), after in zip(given, sessions, strict=True)
    ]


def _answer(
    to: AddressedOrder,
    position: LogPosition,
    after: SessionAfter | str | None,
    dead_letter_reason: str | None,
) -> Answer:
    if isinstance(after, str):
        return Answer(to=to, position=position, folded=True, applied=None, reason=after)
    applied, reason = _outcome(to, after, dead_letter_reason)
    return Answer(
        to=to,
        position=position,
        folded=True,
        applied=applied,
        reason=reason,
        status=None if after is None else after.status,
        clone=None if after is None else after.clone,
    )


def _outcome(
    to: AddressedOrder, after: SessionAfter | None, dead_letter_reason: str | None
) -> tuple[bool | None, str | None]:
    """The outcome of a folded order: whether it applied, and why not. A reason: it is a dead letter."""
    if after is not None and after.listed:
        return after.refusal is None, after.refusal
    if dead_letter_reason is not None:
        return False, dead_letter_reason
    if after is None:
        return False, UNKNOWN_SESSION
    if isinstance(to.order, Erase) and to.order.generation is not None:
        # An erase also removes its own entry from the timeline.
        return (True, None) if after.generation > to.order.generation else (None, _NO_LONGER_LISTED)
    return None, _NO_LONGER_LISTED


class ReaderSource:
    """A :class:`SessionSource` on the stored states."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def progress(self, partition: int) -> int:
        return (await self._reader.progress(partition=partition)).offset

    async def after(self, given: Sequence[Given]) -> list[SessionAfter | str | None]:
        rows = await self._reader.some({to.session for to, _ in given})
        return [_after_row(rows.get(to.session), to, position) for to, position in given]

    async def dead_letters(self, positions: Sequence[LogPosition]) -> Mapping[LogPosition, str]:
        found: dict[LogPosition, str] = {}
        for number in {position.partition for position in positions}:
            offsets = {position.offset for position in positions if position.partition == number}
            letters = await self._reader.dead_letters_at(offsets, partition=number)
            found |= {LogPosition(number, offset): letter.reason for offset, letter in letters.items()}
        return found


def _after_row(
    row: SessionRow | None, to: AddressedOrder, position: LogPosition
) -> SessionAfter | str | None:
    if row is None:
        return None
    try:
        return after_in(row.known(), to.instance, position.offset)
    except (LogError, UsageError) as exc:
        return str(exc)


def after_in(state: SessionState, instance: InstanceId | None, offset: int) -> SessionAfter:
    """A session after the order at ``offset``, which is for ``instance`` or for the session."""
    found = None if instance is None else _instance_in(state, instance)
    clone = None
    if found is not None and instance is not None and (parts := split_instance_id(instance)) is not None:
        task, number = parts
        clones = [one.number for one in state.tasks[task].instances() if one.clone_of == number]
        clone = instance_id(task, clones[-1]) if clones else None
    return SessionAfter(
        offset=state.offset,
        generation=state.generation,
        listed=any(position[0] == offset for position in state.positions),
        refusal=state.refusal(offset),
        status=None if found is None else found.status.value,
        clone=clone,
    )
