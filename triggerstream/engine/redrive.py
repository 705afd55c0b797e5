"""Dead letters, appended to the log once more: what another release or another configuration can fold."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from triggerstream.core.errors import DecodeError
from triggerstream.core.events import Event
from triggerstream.engine.following import PAGE, folded, offsets
from triggerstream.engine.ports import DeadLetterRow, Log, Reader
from triggerstream.wire.events import ORIGIN_HEADER, decode, rehomed_headers
from triggerstream.wire.records import Headers, NewRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Redriven:
    """What became of dead letter ``number``. ``offset`` is where its record stands anew; None: nowhere.

    ``folded`` is None where no engine has come to it in time, and False, with a ``reason``, where it was not
    appended or became a dead letter again.
    """

    number: int
    folded: bool | None
    partition: int | None = None
    offset: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A dead letter whose record can be read now, as it is to be appended to ``partition``."""

    number: int
    partition: int
    record: NewRecord


async def prepare(reader: Reader, letter: DeadLetterRow) -> Ready | Redriven:
    """The record of ``letter`` as it was in the log, whole; or why it stays where it is.

    It keeps the identity, the time and the place of its origin, so that it counts once however often it is
    redriven, and as what it was when it arrived.
    """
    if letter.last is not None:
        return _stays(letter, "a range of the log that was lost: there is no record to append again")
    if letter.offset is None:
        return _stays(letter, "a command, no event: `triggerstream instances replay` runs its instance again")
    found = await reader.record(letter.offset, partition=letter.partition)
    if found is None:
        return _stays(letter, f"the log no longer holds offset {letter.offset} of {letter.partition}")
    try:
        event = decode(found)
    except DecodeError as exc:
        return _stays(letter, f"it would be refused again: {exc}")
    if not isinstance(event, Event):
        return _stays(letter, "a configuration: `triggerstream config apply` brings it into force")
    new = NewRecord(key=event.session.encode(), value=found.value or b"", headers=rehomed_headers(found))
    return Ready(number=letter.number, partition=await reader.partition(event.session), record=new)


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
    before = {
        place: (await reader.progress(partition=place)).end for place in {one.partition for one in ready}
    }
    await log.append([one.record for one in ready])
    stands: dict[tuple[int, bytes], int] = {}
    reached: dict[int, int] = {}
    for place, end in before.items():
        mine = {_origin(one.record.headers) for one in ready if one.partition == place}
        found = await offsets(
            reader, mine, lambda record: _origin(record.headers), after=end - 1, partition=place
        )
        stands |= {(place, origin): offset for origin, offset in found.items()}
        reached[place] = await folded(reader, max(found.values()), partition=place, deadline=deadline)
    return [
        await _answer(
            reader, one, stands[one.partition, _origin(one.record.headers)], reached=reached[one.partition]
        )
        for one in ready
    ]


async def _answer(reader: Reader, one: Ready, offset: int, *, reached: int) -> Redriven:
    letter = None
    if reached > offset:
        letter = await reader.dead_letter(offset, partition=one.partition)
    return Redriven(
        number=one.number,
        folded=None if reached <= offset else letter is None,
        partition=one.partition,
        offset=offset,
        reason=None if letter is None else letter.reason,
    )


def _origin(headers: Headers) -> bytes:
    return dict(headers).get(ORIGIN_HEADER) or b""


def _stays(letter: DeadLetterRow, reason: str) -> Redriven:
    return Redriven(number=letter.number, folded=False, reason=reason)
