"""A session as it was at an earlier moment of its log: the partition's records, folded up to there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from msgspec import structs

from triggerstream.core.answers import ExplainedSession
from triggerstream.core.errors import DecodeError, UsageError
from triggerstream.core.events import ConfigApplied, Event, Trigger
from triggerstream.core.ids import AppId, SessionId, TaskName
from triggerstream.core.projections import explain
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import Rules
from triggerstream.engine.checkpoint import keep_retired
from triggerstream.engine.configuration_cache import ConfigurationCache, unload_past
from triggerstream.engine.ports import Reader
from triggerstream.engine.processor import Processor
from triggerstream.engine.whole_sessions import add_retired
from triggerstream.wire import state as states
from triggerstream.wire.events import check_session, decode
from triggerstream.wire.instants import format_instant, parse_instant
from triggerstream.wire.records import Record
from triggerstream.wire.retired import RetiredKey

PAGE_S = 20.0
"""Time within which a page reads a log: some hundred thousand records."""
_PAGE = 500
_DIGITS = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class AtOffset:
    """After the event at ``offset``."""

    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AtTime:
    """After the last event that arrived at ``time_us`` or before."""

    time_us: int


Moment: TypeAlias = AtOffset | AtTime
"""A moment in a partition's log, after which a session is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastSession:
    """A session as it was. ``offset`` is the last record that was folded, of the session or a tasks file.

    ``state`` None: the session was unknown.
    """

    rules: Rules
    offset: int
    state: SessionState | None


MOMENT_FORMS = "write the number of an event, or an instant such as 2026-03-01T12:00:00Z"


def parse_moment(text: str) -> Moment | None:
    """The moment that ``text`` names: an offset, or an instant; None if it names neither."""
    if text.isascii() and text.isdigit() and len(text) <= _DIGITS:
        return AtOffset(offset=int(text))
    try:
        return AtTime(time_us=parse_instant(text))
    except DecodeError:
        return None


def format_moment(moment: Moment) -> str:
    """The text that :func:`parse_moment` reads."""
    match moment:
        case AtOffset(offset=offset):
            return str(offset)
        case AtTime(time_us=time_us):
            return format_instant(time_us)
        case _ as never:
            assert_never(never)


class PastSessions:
    """Explains sessions as they were, for pages: one at a time, and within a time limit.

    A page that asks again and again must not keep a worker from folding.
    """

    def __init__(
        self, reader: Reader, *, app: AppId, configurations: ConfigurationCache | None = None
    ) -> None:
        self._reader = reader
        self._app = app
        self._configurations = configurations
        self._one = asyncio.Lock()

    async def explain(
        self, session: SessionId, at: Moment, *, task: TaskName | None
    ) -> ExplainedSession | None:
        """The session as it was; None if it was unknown then.

        Raises:
            UsageError: as :func:`explain_past`; or the log is too long for a page.
            LogError: the log cannot be read.
        """
        try:
            async with asyncio.timeout(PAGE_S), self._one:
                return await explain_past(
                    self._reader,
                    session,
                    at,
                    app=self._app,
                    task=task,
                    configurations=self._configurations,
                )
        except TimeoutError as exc:
            raise UsageError(
                f"the log could not be read within {PAGE_S:g} s: `sessions explain` on a command line, with "
                f"`--at {format_moment(at)}` has no such limit"
            ) from exc


async def explain_past(
    reader: Reader,
    session: SessionId,
    at: Moment,
    *,
    app: AppId,
    task: TaskName | None = None,
    configurations: ConfigurationCache | None = None,
) -> ExplainedSession | None:
    """A session explained as it was, under the tasks file of then; None if it was unknown then.

    Raises:
        UsageError: the log does not reach back to its beginning.
        LogError: the log cannot be read.
        DecodeError: ``session`` is not a valid session id.
    """
    past = await past_session(reader, session, at, app=app, configurations=configurations)
    if past.state is None:
        return None
    found = explain(past.rules, session, past.state, task=task)
    partition = await reader.partition(session)
    return structs.replace(found, partition=partition, folded_to=past.offset)


async def past_session(
    reader: Reader,
    session: SessionId,
    moment: Moment,
    *,
    app: AppId,
    configurations: ConfigurationCache | None = None,
) -> PastSession:
    """Fold the events of ``session`` and the tasks files of its partition, up to ``moment``.

    The partition is read once, for an instant up to its end: a clock that was set back may have given later
    records earlier times.

    Raises:
        UsageError: the log does not reach back to its beginning.
        LogError: the log cannot be read.
        DecodeError: ``session`` is not a valid session id.
    """
    records = [record async for record in _records(reader, session, moment)]
    if isinstance(moment, AtTime):
        while records and records[-1].arrival_us > moment.time_us:
            records.pop()
    processor = Processor(app=app, configurations=configurations)
    rules, state = Rules(app=app), None
    retired: dict[RetiredKey, bytes] = {}
    for begin in range(0, len(records), _PAGE):
        checkpoint = processor.process(rules, records[begin : begin + _PAGE], lambda _: state)  # noqa: B023
        rules = unload_past(checkpoint.rules or rules, processor.configurations)
        stored = checkpoint.states.get(session)
        state = state if stored is None else stored.state
        keep_retired(retired, checkpoint.retired)
        await asyncio.sleep(0)
    return PastSession(
        rules=rules,
        offset=records[-1].offset if records else -1,
        state=None if state is None else add_retired(session, states.decode(state), retired),
    )


async def _records(reader: Reader, session: SessionId, moment: Moment) -> AsyncIterator[Record]:
    """The session's events and the partition's tasks files that took effect, in log order."""
    key = check_session(session)
    partition = await reader.partition(session)
    after, until = -1, moment.offset if isinstance(moment, AtOffset) else None
    while until is None or after < until:
        records = await reader.records(after=after, limit=_PAGE, partition=partition)
        if after < 0 and (begin := await _first_offset(reader, records, partition=partition)) > 0:
            raise UsageError(
                f"the log of partition {partition} begins at event {begin}: earlier events are "
                "deleted, so what a session was at an earlier event is not known any more"
            )
        if not records:
            return
        after = records[-1].offset
        found = [one for one in records if until is None or one.offset <= until]
        for record in await _records_of_session(reader, session, found, key=key, partition=partition):
            yield record
        await asyncio.sleep(0)  # a worker folds while its pages read


async def _first_offset(reader: Reader, first: Sequence[Record], *, partition: int) -> int:
    """The first offset of the log; its end if the log has no records. ``first``: its first records."""
    return first[0].offset if first else (await reader.progress(partition=partition)).end


async def _records_of_session(
    reader: Reader, session: SessionId, records: Sequence[Record], *, key: bytes, partition: int
) -> list[Record]:
    """The records of the session and of tasks files, without the engine's own that became dead letters.

    ``key`` is that of the session's records.
    """
    found: list[Record] = []
    own: set[int] = set()
    for record in records:
        if record.key and record.key != key:
            continue
        try:
            event = decode(record)
        except DecodeError:
            continue
        if isinstance(event, Event) and event.session != session:
            continue
        found.append(record)
        if isinstance(event, ConfigApplied) or not isinstance(event.body, Trigger):
            own.add(record.offset)
    letters = await reader.dead_letters_at(own, partition=partition) if own else {}
    return [record for record in found if record.offset not in letters]
