"""Operators' orders: appended as events, and followed until it is known what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from msgspec import structs

from triggerstream.core.errors import DecodeError
from triggerstream.core.events import Close, Erase, Event, Order, Resend
from triggerstream.core.ids import InstanceId, SessionId, split_instance_id
from triggerstream.core.state import SessionState
from triggerstream.engine.operations.following import PAGE, folded, offsets
from triggerstream.engine.ports import Log, Reader
from triggerstream.wire.events import check_session, decode, encode
from triggerstream.wire.records import NewRecord, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressed:
    """An order and the session it is for."""

    session: SessionId
    order: Order | Close | Erase

    @property
    def instance(self) -> InstanceId | None:
        """The instance that it is for; None where it is for the session."""
        return None if isinstance(self.order, Close | Erase) else self.order.instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of an order. ``status`` is the instance's afterwards; ``clone`` the instance made from it.

    ``applied`` is None where no engine has folded the order in time: it stays in the log, and is carried out
    once one does.
    """

    to: Addressed
    offset: int
    applied: bool | None
    reason: str | None = None
    status: str | None = None
    clone: str | None = None


def address(session: SessionId, order: Order | Close | Erase, state: SessionState | None) -> Addressed:
    """``order`` with the current generation and attempt of ``session``; it is refused if they change.

    ``state`` None: nothing is known of the session.
    """
    state = SessionState() if state is None else state
    if isinstance(order, Close | Erase):
        return Addressed(session=session, order=structs.replace(order, generation=state.generation))
    order = structs.replace(order, generation=state.instances_generation)
    if isinstance(order, Resend):
        task, number = split_instance_id(order.instance) or (None, 0)
        record = None if task is None else state.tasks.get(task)
        instance = None if record is None else record.find(number)
        order = structs.replace(order, attempt=0 if instance is None else instance.attempt)
    return Addressed(session=session, order=order)


async def give(log: Log, reader: Reader, orders: Sequence[Addressed], *, wait_s: float) -> list[Answer]:
    """Append ``orders`` and wait until they are folded, at most ``wait_s``; the answers in their order.

    Raises:
        LogError: not known to be durable, or the store cannot be read.
        DecodeError: an order can be no event.
    """
    deadline = asyncio.get_running_loop().time() + wait_s
    answers: list[Answer] = []
    for at in range(0, len(orders), PAGE):
        answers += await _give(log, reader, orders[at : at + PAGE], deadline)
    return answers


async def _give(log: Log, reader: Reader, orders: Sequence[Addressed], deadline: float) -> list[Answer]:
    ids = [str(uuid4()) for _ in orders]
    places = [await reader.partition(to.session) for to in orders]
    before = {place: (await reader.progress(partition=place)).end for place in set(places)}
    await log.append(
        [
            NewRecord(key=check_session(to.session), value=encode(to.order, id=order_id))
            for to, order_id in zip(orders, ids, strict=True)
        ]
    )
    stands: dict[str, int] = {}
    reached: dict[int, int] = {}
    for place, end in before.items():
        mine = {order_id for order_id, where in zip(ids, places, strict=True) if where == place}
        found = await offsets(reader, mine, _id_of, after=end - 1, partition=place)
        stands |= found
        reached[place] = await folded(reader, max(found.values()), partition=place, deadline=deadline)
    return [
        await _answer(reader, to, stands[order_id], reached=reached[place], partition=place)
        for to, order_id, place in zip(orders, ids, places, strict=True)
    ]


def _id_of(record: Record) -> str | None:
    try:
        event = decode(record)
    except DecodeError:
        return None
    return event.id if isinstance(event, Event) else None


async def _answer(reader: Reader, to: Addressed, offset: int, *, reached: int, partition: int) -> Answer:
    if reached <= offset:
        return Answer(to=to, offset=offset, applied=None)
    letter = await reader.dead_letter(offset, partition=partition)
    if letter is not None:
        return Answer(to=to, offset=offset, applied=False, reason=letter.reason)
    row = await reader.session(to.session)
    if row is None:
        return Answer(to=to, offset=offset, applied=False, reason="nothing is known of this session")
    state = row.known()
    refusal = state.refusal(offset)
    status, clone = _afterwards(state, to.instance)
    return Answer(
        to=to,
        offset=offset,
        applied=refusal is None,
        reason=refusal,
        status=status,
        clone=clone,
    )


def _afterwards(state: SessionState, instance: InstanceId | None) -> tuple[str | None, str | None]:
    parts = None if instance is None else split_instance_id(instance)
    record = None if parts is None else state.tasks.get(parts[0])
    if parts is None or record is None:
        return None, None
    found = record.find(parts[1])
    clones = [i.number for i in record.instances() if i.clone_of == parts[1]]
    return (
        None if found is None else found.status.value,
        f"{parts[0]}#{clones[-1]}" if clones else None,
    )
