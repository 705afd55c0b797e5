"""The port that answers pages and programs while an engine runs, with JSON values.

An :class:`Inspector` answers for the sessions of its process. If several processes share the work, a query
for a session of another one raises :class:`ElsewhereError`, and the caller asks that process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import structs

from triggerstream.core.answers import ExplainedSession, ListedSession, SessionsPage
from triggerstream.core.errors import LogError, UsageError
from triggerstream.core.fold import next_due
from triggerstream.core.hold_sentences import place_keys
from triggerstream.core.ids import InstanceId, Instant, SessionId, TaskName
from triggerstream.core.listing import DuePlace, Filter, count, due_cursor, failures, read_due_cursor
from triggerstream.core.projections import explain, waits_for
from triggerstream.core.state import NoEffect
from triggerstream.core.tasks import AppliedConfiguration, Rules, Task
from triggerstream.core.time_sentences import time_keys
from triggerstream.engine.operations.following import LogPosition
from triggerstream.engine.operations.orders import (
    AddressedOrder,
    Answer,
    Given,
    SessionAfter,
    Target,
    outcomes,
)
from triggerstream.engine.ports import Reader
from triggerstream.engine.queries.answers import (
    DeadLettersPage,
    Overview,
    ShownConfiguration,
    ShownDeadLetter,
    TaskRow,
)
from triggerstream.engine.queries.hand_overs import seen_beside
from triggerstream.engine.queries.past import Moment
from triggerstream.engine.rows import DeadLetterRow
from triggerstream.engine.stored_states import SOMEWHERE, StateDecoder
from triggerstream.engine.whole_sessions import RetiredSource, whole_session
from triggerstream.wire.tasksfile import encode_after, encode_list

ORDER_WAIT_S = 5.0
"""Maximum time that a page waits for the outcome of an order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A page of sessions: those whose id begins with ``prefix``, beyond ``after``.

    They come by id; with ``due_by_us`` of the filter by due time.
    """

    prefix: str = ""
    after: SessionId | None = None
    limit: int = 50
    filter: Filter = field(default_factory=Filter)


class ElsewhereError(UsageError):
    """Another process owns the session's partition, which is ``partition``."""

    def __init__(self, partition: int) -> None:
        super().__init__(f"partition {partition} is not here: ask the worker that has it")
        self.partition = partition


class Inspector(Protocol):
    """Port: queries about the sessions of a process, and appending orders.

    Any method raises LogError if the log or the store fails. ``complete`` is false in a list that may lack
    sessions because the index is not up to date.
    """

    async def overview(self) -> Overview:
        """The app's workers and partitions, with their figures."""

    async def session(
        self, session: SessionId, *, task: TaskName | None = None, at: Moment | None = None
    ) -> ExplainedSession | None:
        """A session, explained; None if it is unknown.

        ``task``: only that task, even without an instance. ``at``: as the session was then.

        Raises:
            ElsewhereError: another process has it.
            UsageError: its partition is changing hands; or the log does not reach back to its beginning.
        """

    async def sessions(self, query: Query) -> SessionsPage:
        """A page of sessions."""

    async def configuration(self) -> ShownConfiguration | None:
        """The configuration in force; None if there is none, or this process has no partition."""

    async def dead_letters(self, *, after: int, limit: int) -> DeadLettersPage:
        """Dead letters with a number greater than ``after``, oldest first."""

    async def dead_letter(self, position: LogPosition) -> str | None:
        """The reason why the record at ``position`` became a dead letter; None if it did not."""

    async def progress(self, partition: int) -> int:
        """The next offset of ``partition`` that its engine will fold.

        Raises:
            ElsewhereError: another process has it.
        """

    async def append(self, to: AddressedOrder) -> LogPosition:
        """Append an order and return its position. It is durable when this returns, and not folded yet.

        Raises:
            DecodeError: it is not a valid event.
        """


class InspectorSource:
    """A :class:`triggerstream.engine.operations.orders.SessionSource` on an inspector."""

    def __init__(self, inspector: Inspector) -> None:
        self._inspector = inspector

    async def progress(self, partition: int) -> int:
        return await self._inspector.progress(partition)

    async def after(self, given: Sequence[Given]) -> list[SessionAfter | str | None]:
        answers: list[SessionAfter | str | None] = []
        for to, position in given:
            try:
                found = await self._inspector.session(to.session)
            except (LogError, UsageError) as exc:
                answers.append(str(exc))
            else:
                answers.append(None if found is None else after_shown(found, to.instance, position.offset))
        return answers

    async def dead_letters(self, positions: Sequence[LogPosition]) -> Mapping[LogPosition, str]:
        found = [(position, await self._inspector.dead_letter(position)) for position in positions]
        return {position: reason for position, reason in found if reason is not None}


async def give_order(inspector: Inspector, to: AddressedOrder, *, wait_s: float = ORDER_WAIT_S) -> Answer:
    """Append an order and wait until it is folded, at most ``wait_s``; its outcome.

    Raises:
        LogError: not known to be durable.
        DecodeError: the order is not a valid event.
    """
    position = await inspector.append(to)
    deadline = asyncio.get_running_loop().time() + wait_s
    (answer,) = await outcomes(InspectorSource(inspector), [(to, position)], deadline=deadline)
    return answer


def target_shown(found: ExplainedSession | None, instance: InstanceId) -> Target:
    """The target of an order for ``instance`` in an explained session; None: nothing is known of it."""
    if found is None:
        return Target()
    shown = found.find(instance)
    return Target(
        generation=found.generation,
        instances_generation=found.instances_generation,
        attempt=0 if shown is None else shown.attempt or 0,
    )


def after_shown(found: ExplainedSession, instance: InstanceId | None, offset: int) -> SessionAfter:
    """An explained session after the order at ``offset``, which is for ``instance`` or for the session."""
    events = [row for row in found.timeline if row.offset == offset and row.instance is None]
    shown = None if instance is None else found.find(instance)
    clones = [one.instance for task in found.tasks for one in task.instances if one.clone_of == instance]
    return SessionAfter(
        offset=found.offset,
        generation=found.generation,
        listed=bool(events),
        refusal=next((row.note for row in events if row.what == NoEffect.REFUSED), None),
        status=None if shown is None else shown.status,
        clone=clones[-1] if instance is not None and clones else None,
    )


async def explained(
    rules: Rules,
    session: SessionId,
    state: bytes,
    *,
    reader: Reader,
    retired: RetiredSource,
    partition: int,
    task: TaskName | None = None,
    decoder: StateDecoder = SOMEWHERE,
) -> ExplainedSession:
    """The answer of ``Inspector.session``.

    ``reader`` reads how far commands were handed over, ``retired`` the instances that are not in ``state``.
    """
    known = await whole_session(retired, session, decoder.read(session, state), decoder=decoder)
    beside = await seen_beside(reader, rules, session, known, partition=partition)
    found = explain(rules, session, known, task=task, beside=beside)
    return structs.replace(found, partition=partition)


def listed(
    rules: Rules, session: SessionId, state: bytes, *, wanted: Filter, decoder: StateDecoder = SOMEWHERE
) -> ListedSession | None:
    """A session for the answer of ``Inspector.sessions``; None if it does not pass the filter."""
    known = decoder.read(session, state)
    if not wanted.passes(rules, session, known):
        return None
    counted = count(session, known)
    return ListedSession(
        **structs.asdict(counted),
        waits_for=list(waits_for(rules, known, session)),
        failures=failures(known),
        due_us=None if (due_us := next_due(rules, known)) is None else Instant(due_us),
    )


def described(applied: AppliedConfiguration) -> ShownConfiguration | None:
    """The answer of ``Inspector.configuration``."""
    config = applied.config
    if not config.hash:
        return None
    return ShownConfiguration(
        hash=config.hash,
        arrival_us=Instant(applied.arrival_us),
        text=config.text,
        tasks=[_task_row(task) for task in config.tasks],
    )


def _task_row(task: Task) -> TaskRow:
    after, every = encode_after(task)
    return TaskRow(
        task=task.name,
        run=task.run,
        after=after,
        and_every=every,
        unless=[] if task.unless is None else encode_list(task.unless),
        time=time_keys(task),
        places=place_keys(task),
    )


def letters(rows: Sequence[DeadLetterRow], *, limit: int) -> DeadLettersPage:
    """The answer of ``Inspector.dead_letters``."""
    return DeadLettersPage(
        dead_letters=[
            ShownDeadLetter(
                number=row.number,
                at_us=Instant(row.at_us),
                partition=row.partition,
                offset=row.offset,
                last_offset=row.last,
                left_out=row.left_out,
                key=_text(row.key),
                value=_text(row.value),
                headers=[[name, _text(value)] for name, value in row.headers],
                reason=row.reason,
            )
            for row in rows
        ],
        after=rows[-1].number if len(rows) == limit else None,
    )


def merged(pages: Sequence[SessionsPage], *, limit: int, by_due: bool = False) -> SessionsPage:
    """Merge pages of sessions from several processes into one; ``by_due``: they are by due time.

    Each page has all sessions up to its ``after``, so the merged page ends at the smallest of these.
    """
    complete = all(page.complete for page in pages)
    if by_due:
        ends = [end for page in pages if (end := read_due_cursor(page.after)) is not None]
        places = sorted(
            ((_due_place(row), row) for page in pages for row in page.sessions), key=lambda one: one[0]
        )
        if ends:
            places = [one for one in places if one[0] <= min(ends)]
        end = min(ends, default=None)
        if len(places) > limit:
            places = places[:limit]
            end = places[-1][0]
        return SessionsPage(
            sessions=[row for _, row in places],
            after=None if end is None else due_cursor(end),
            complete=complete,
        )
    bounds = [page.after for page in pages if page.after is not None]
    rows = sorted((row for page in pages for row in page.sessions), key=lambda row: row.session)
    after = min(bounds) if bounds else None
    if after is not None:
        rows = [row for row in rows if row.session <= after]
    if len(rows) > limit:
        rows = rows[:limit]
        after = rows[-1].session
    return SessionsPage(sessions=rows, after=after, complete=complete)


def _due_place(row: ListedSession) -> DuePlace:
    return DuePlace(row.due_us or 0, row.session)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")
