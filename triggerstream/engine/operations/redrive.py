"""Dead letters, appended to the log once more: what another release or another configuration can fold."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from triggerstream.core import advice
from triggerstream.core.errors import DecodeError
from triggerstream.core.events import Event, Trigger
from triggerstream.core.ids import TIMEOUT_SUFFIX, AppId, TaskName, command_id
from triggerstream.core.state import SessionState
from triggerstream.engine.operations.following import (
    PAGE,
    Appended,
    append,
    last_positions,
    wait_until_folded,
)
from triggerstream.engine.ports import Log, Reader
from triggerstream.engine.rows import DeadLetterRow
from triggerstream.engine.stored_states import UnreadableStateError
from triggerstream.wire.events import ORIGIN_HEADER, decode, rehomed_headers
from triggerstream.wire.records import NewRecord, Record
from triggerstream.wire.signature import ControlKeys


@dataclass(frozen=True, slots=True, kw_only=True)
class Redriven:
    """The result for dead letter ``number``. ``offset`` is that of its new record; None: there is none.

    ``folded`` is None if no engine has reached it in time. It is False, with a ``reason``, if the record was
    not appended, or became a dead letter again.
    """

    number: int
    folded: bool | None
    partition: int | None = None
    offset: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A dead letter whose record can be folded now, and the record to append to ``partition``."""

    number: int
    partition: int
    record: NewRecord


async def prepare(
    reader: Reader, letter: DeadLetterRow, *, app: AppId, control: ControlKeys | None
) -> Ready | Redriven:
    """The complete original record of ``letter``; or the reason why it cannot be redriven.

    The copy keeps the identity, the time and the position of its original, so that it counts once even if it
    is redriven several times. A trigger that was left out is a separate event with the id of its command. An
    engine event is signed again when it is appended, so an event with an invalid signature is not redriven.
    """
    if letter.last is not None:
        return _not_redriven(letter, "a range of the log that was lost: there is no record to append again")
    if letter.offset is None:
        # The dead letter of a lost range of commands does not have their bytes.
        return _not_redriven(letter, advice.replay_instance() if letter.value else advice.resend_stuck())
    if letter.left_out is not None:
        return await _prepare_left_out(reader, letter, app=app)
    found = await reader.record(letter.offset, partition=letter.partition)
    if found is None:
        return _not_redriven(letter, f"the log no longer holds offset {letter.offset} of {letter.partition}")
    try:
        event = decode(found)
        if control is not None:
            event = control.authenticate(app, found, event)
    except DecodeError as exc:
        return _not_redriven(letter, f"it would be refused again: {exc}")
    if not isinstance(event, Event):
        return _not_redriven(letter, f"a configuration: {advice.apply_file()}")
    new = NewRecord(key=event.session.encode(), value=found.value or b"", headers=rehomed_headers(found))
    return Ready(number=letter.number, partition=await reader.partition(event.session), record=new)


async def _prepare_left_out(reader: Reader, letter: DeadLetterRow, *, app: AppId) -> Ready | Redriven:
    """The trigger that was left out. In a session that was closed since then, it would begin the next one."""
    value = letter.value
    if not value:
        return _not_redriven(letter, "its data was not kept: fire the trigger with the data that is needed")
    record = Record(
        partition=letter.partition, offset=0, arrival_us=letter.at_us, key=letter.key, value=value
    )
    try:
        event = decode(record)
    except DecodeError as exc:
        return _not_redriven(letter, f"it would be refused: {exc}")
    if not isinstance(event, Event) or not isinstance(event.body, Trigger):
        # Otherwise a program that can write dead letters could make the next redrive sign an engine event.
        return _not_redriven(letter, "only a trigger is left out, and this is none")
    row = await reader.session(event.session)
    try:
        state = None if row is None else row.known()
    except UnreadableStateError as exc:
        return _not_redriven(letter, str(exc))
    if state is None or state.closed or not _is_of_now(app, event, state):
        return _not_redriven(
            letter,
            f"session {event.session} was closed or erased since then: the trigger would begin it anew",
        )
    new = NewRecord(key=letter.key, value=value)
    return Ready(number=letter.number, partition=await reader.partition(event.session), record=new)


def _is_of_now(app: AppId, event: Event, state: SessionState) -> bool:
    """True if ``event``, a trigger with its command's id, follows from an instance of this generation."""
    tasks = (TaskName(event.type), TaskName(event.type.removesuffix(TIMEOUT_SUFFIX)))
    return any(
        event.id == command_id(app, event.session, generation=state.generation, task=task, number=number)
        for task in dict.fromkeys(tasks)
        if task in state.tasks
        for number in range(state.tasks[task].next)
    )


async def redrive(log: Log, reader: Reader, ready: Sequence[Ready], *, wait_s: float) -> list[Redriven]:
    """Append ``ready`` and wait until they are folded, at most ``wait_s``; the answers in their order.

    Raises:
        LogError: not known to be durable, or the store cannot be read. Safe to call again.
    """
    deadline = asyncio.get_running_loop().time() + wait_s
    answers: list[Redriven] = []
    for at in range(0, len(ready), PAGE):
        answers += await _redrive(log, reader, ready[at : at + PAGE], deadline)
    return answers


async def _redrive(log: Log, reader: Reader, ready: Sequence[Ready], deadline: float) -> list[Redriven]:
    positions = await append(
        log,
        reader,
        [Appended(partition=one.partition, record=one.record, identity=_mark(one.record)) for one in ready],
        _mark,
    )

    async def progress(number: int) -> int:
        return (await reader.progress(partition=number)).offset

    reached = {
        number: await wait_until_folded(progress, position, deadline=deadline)
        for number, position in last_positions(positions).items()
    }
    letters = {
        number: await reader.dead_letters_at(
            {offset for at, offset in positions if at == number and offset < after}, partition=number
        )
        for number, after in reached.items()
    }
    return [
        _answer(one, offset, reached=reached[number], letter=letters[number].get(offset))
        for one, (number, offset) in zip(ready, positions, strict=True)
    ]


def _answer(one: Ready, offset: int, *, reached: int, letter: DeadLetterRow | None) -> Redriven:
    return Redriven(
        number=one.number,
        folded=None if reached <= offset else letter is None,
        partition=one.partition,
        offset=offset,
        reason=None if letter is None else letter.reason,
    )


Mark: TypeAlias = "bytes | tuple[bytes | None, bytes | None]"


def _mark(record: Record | NewRecord) -> Mark:
    """Identity of a redriven record: its origin; for a trigger that was left out, its bytes."""
    origin = dict(record.headers).get(ORIGIN_HEADER) if record.headers else None
    return (record.key, record.value) if origin is None else origin


def _not_redriven(letter: DeadLetterRow, reason: str) -> Redriven:
    return Redriven(number=letter.number, folded=False, reason=reason)
