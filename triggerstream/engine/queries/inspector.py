"""What people look at while an engine runs, as JSON values: the same for pages and programs.

An :class:`Inspector` answers for what its process has. Where several share the work, one of a session that
another process has is refused with :class:`ElsewhereError`, and whoever asked goes there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

from triggerstream.core.errors import UsageError
from triggerstream.core.ids import InstanceId, Json, JsonObject, SessionId
from triggerstream.core.listing import Filter, counts, failures
from triggerstream.core.projections import explain, waits_for
from triggerstream.core.state import Inert
from triggerstream.core.tasks import Applied, Rules
from triggerstream.engine.operations.following import LogPosition
from triggerstream.engine.operations.orders import Addressed, Answer, SessionAfter, Target, outcomes
from triggerstream.engine.ports import DeadLetterRow
from triggerstream.engine.queries.view import with_instants
from triggerstream.engine.stored_states import SOMEWHERE, Keeper

ORDER_WAIT_S = 5.0
"""How long a page waits for the outcome of an order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A page of sessions, by id: those whose id begins with ``prefix``, beyond ``after``."""

    prefix: str = ""
    after: SessionId | None = None
    limit: int = 50
    filter: Filter = field(default_factory=Filter)


class ElsewhereError(UsageError):
    """Another process has the session. ``partition`` is where it is."""

    def __init__(self, partition: int) -> None:
        super().__init__(f"partition {partition} is not here: ask the worker that has it")
        self.partition = partition


class Inspector(Protocol):
    """A view of what a process has; ``append`` is all that it does.

    Any method raises LogError where the log or the store fails. ``complete`` is false in a list that may lack
    sessions: the index follows the store, and is not there yet.
    """

    async def overview(self) -> JsonObject:
        """``app``; ``workers``; ``partitions``, each with its owner, phase, lag and what was done."""

    async def session(self, session: SessionId) -> JsonObject | None:
        """A session, explained; None: nothing is known of it.

        Raises:
            ElsewhereError: another process has it.
            UsageError: its partition is changing hands.
        """

    async def sessions(self, query: Query) -> JsonObject:
        """``sessions``; ``after``: what the next page comes after, None for the last one; ``complete``."""

    async def configuration(self) -> JsonObject | None:
        """The configuration in force; None where there is none, or nothing here that could have one."""

    async def dead_letters(self, *, after: int, limit: int) -> JsonObject:
        """``deadLetters``, oldest first, with a number greater than ``after``; ``after`` as for sessions."""

    async def dead_letter(self, position: LogPosition) -> str | None:
        """The reason why the record at ``position`` became a dead letter; None if it did not."""

    async def progress(self, partition: int) -> int:
        """The next offset of ``partition`` that its engine will fold.

        Raises:
            ElsewhereError: another process has it.
        """

    async def append(self, to: Addressed) -> LogPosition:
        """Append an order; its position. It is durable when this returns, and not folded yet.

        Raises:
            DecodeError: it is not a valid event.
        """


class InspectorSource:
    """A :class:`triggerstream.engine.operations.orders.SessionSource` on an inspector."""

    def __init__(self, inspector: Inspector) -> None:
        self._inspector = inspector

    async def progress(self, partition: int) -> int:
        return await self._inspector.progress(partition)

    async def after(self, to: Addressed, offset: int) -> SessionAfter | None:
        found = await self._inspector.session(to.session)
        return None if found is None else after_shown(found, to.instance, offset)

    async def dead_letter(self, position: LogPosition) -> str | None:
        return await self._inspector.dead_letter(position)


async def give_order(inspector: Inspector, to: Addressed, *, wait_s: float = ORDER_WAIT_S) -> Answer:
    """Append an order and wait until it is folded, at most ``wait_s``; its outcome.

    Raises:
        LogError: not known to be durable.
        DecodeError: the order is not a valid event.
    """
    position = await inspector.append(to)
    deadline = asyncio.get_running_loop().time() + wait_s
    (answer,) = await outcomes(InspectorSource(inspector), [(to, position)], deadline=deadline)
    return answer


def target_shown(found: JsonObject | None, instance: InstanceId) -> Target:
    """The target of an order for ``instance`` in a session as ``Inspector.session`` has it."""
    if found is None:
        return Target()
    generation = cast("int", found["generation"])
    instances = (one for one in _instances(found) if one["instance"] == instance)
    return Target(
        generation=generation,
        instances_generation=generation - 1 if found["closed"] else generation,
        attempt=next((cast("int", one.get("attempt", 0)) for one in instances), 0),
    )


def after_shown(found: JsonObject, instance: InstanceId | None, offset: int) -> SessionAfter:
    """A session as ``Inspector.session`` has it, after the order at ``offset`` for ``instance``."""
    rows = cast("list[JsonObject]", found["timeline"])
    events = [row for row in rows if row["offset"] == offset and row["what"] != "decided"]
    refusals = (cast("str | None", row.get("note")) for row in events if row["what"] == Inert.REFUSED)
    statuses = (cast("str", one["status"]) for one in _instances(found) if one["instance"] == instance)
    clones = [cast("str", one["instance"]) for one in _instances(found) if one.get("cloneOf") == instance]
    return SessionAfter(
        offset=cast("int", found["offset"]),
        generation=cast("int", found["generation"]),
        listed=bool(events),
        refusal=next(refusals, None),
        status=next(statuses, None) if instance is not None else None,
        clone=clones[-1] if instance is not None and clones else None,
    )


def _instances(found: JsonObject) -> list[JsonObject]:
    tasks = cast("list[JsonObject]", found["tasks"])
    return [one for task in tasks for one in cast("list[JsonObject]", task["instances"])]


def explained(
    rules: Rules, session: SessionId, state: bytes, *, partition: int, keeper: Keeper = SOMEWHERE
) -> JsonObject:
    """A session as ``Inspector.session`` has it."""
    found = explain(rules, session, keeper.read(session, state))
    return {**with_instants(found), "partition": partition}


def listed(
    rules: Rules, session: SessionId, state: bytes, *, wanted: Filter, keeper: Keeper = SOMEWHERE
) -> JsonObject | None:
    """A session as ``Inspector.sessions`` has it; None where it does not pass the filter."""
    known = keeper.read(session, state)
    if not wanted.passes(rules, session, known):
        return None
    return with_instants(
        {
            "session": session,
            **counts(known),
            "waitsFor": list(waits_for(rules, known, session)),
            "failures": list(failures(known)),
        }
    )


def partition_row(
    number: int,
    *,
    owner: str | None,
    own: bool,
    phase: str,
    recovered: int | None = None,
    lag: int | None = None,
    events: int | None = None,
    events_per_second: float | None = None,
    dead_letters: int | None = None,
    outbox: int | None = None,
) -> JsonObject:
    """A partition as ``Inspector.overview`` has it; None: not known. ``recovered`` is a percentage."""
    return {
        "partition": number,
        "owner": owner,
        "own": own,
        "phase": phase,
        "recovered": recovered,
        "lag": lag,
        "events": events,
        "eventsPerSecond": events_per_second,
        "deadLetters": dead_letters,
        "outbox": outbox,
    }


def described(applied: Applied) -> JsonObject | None:
    """A configuration as ``Inspector.configuration`` has it."""
    config = applied.config
    if not config.hash:
        return None
    tasks: list[Json] = [
        {
            "task": task.name,
            "run": task.run,
            "after": list(task.after),
            "andEvery": task.and_every,
            "unless": list(task.unless),
        }
        for task in config.tasks
    ]
    return with_instants(
        {"hash": config.hash, "arrivalUs": applied.arrival_us, "text": config.text, "tasks": tasks}
    )


def letters(rows: Sequence[DeadLetterRow], *, limit: int) -> JsonObject:
    """A page of dead letters; bytes as text, what is no UTF-8 replaced."""
    return {
        "deadLetters": [
            with_instants(
                {
                    "number": row.number,
                    "atUs": row.at_us,
                    "partition": row.partition,
                    "offset": row.offset,
                    "lastOffset": row.last,
                    "leftOut": row.left_out,
                    "key": _text(row.key),
                    "value": _text(row.value),
                    "headers": [[name, _text(value)] for name, value in row.headers],
                    "reason": row.reason,
                }
            )
            for row in rows
        ],
        "after": rows[-1].number if len(rows) == limit else None,
    }


def merged(pages: Sequence[JsonObject], *, limit: int) -> JsonObject:
    """One page of sessions made of one of each process.

    Each page has all sessions up to its ``after``: what lies beyond the first of those may be incomplete.
    """
    bounds = [str(page["after"]) for page in pages if page["after"] is not None]
    rows = [row for page in pages for row in cast("list[JsonObject]", page["sessions"])]
    rows.sort(key=lambda row: str(row["session"]))
    after: str | None = min(bounds) if bounds else None
    if after is not None:
        rows = [row for row in rows if str(row["session"]) <= after]
    if len(rows) > limit:
        rows = rows[:limit]
        after = str(rows[-1]["session"])
    complete = all(page["complete"] for page in pages)
    return {"sessions": list(rows), "after": after, "complete": complete}


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")
