"""What people look at while an engine runs, as JSON values: the same for pages and programs.

An :class:`Inspector` answers for what its process has. Where several share the work, one of a session that
another process has is refused with :class:`ElsewhereError`, and whoever asked goes there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast
from uuid import uuid4

from msgspec import structs

from triggerstream.core.errors import UsageError
from triggerstream.core.events import Order, Resend
from triggerstream.core.ids import InstanceId, Json, JsonObject, SessionId
from triggerstream.core.listing import Filter, counts, failures
from triggerstream.core.orders import ORDERS
from triggerstream.core.projections import explain, waits_for
from triggerstream.core.state import Effect
from triggerstream.core.tasks import Applied, Rules
from triggerstream.engine.ports import DeadLetterRow
from triggerstream.engine.queries.view import with_instants
from triggerstream.engine.stored_states import SOMEWHERE, Keeper
from triggerstream.wire.events import check_session, encode
from triggerstream.wire.records import NewRecord

ORDER_WAIT_S = 5.0
"""How long whoever gave an order waits to see what became of it."""
_POLL_S = 0.05


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

    async def append(self, session: SessionId, order: Order) -> int:
        """Append ``order``; its offset. It is durable when this returns, and not folded yet.

        Raises:
            DecodeError: it can be no event.
        """


def order_of(name: str, instance: InstanceId, *, reason: str, by: str) -> Order:
    """The order of that name.

    Raises:
        UsageError: there is none, or it gives no reason.
    """
    kind = ORDERS.get(name)
    if kind is None:
        raise UsageError(f"{name!r}: the orders are {', '.join(ORDERS)}")
    if not reason.strip():
        raise UsageError("an order needs a reason: say why; it is kept in the log")
    return kind(instance=instance, reason=reason.strip(), by=by)


def order_record(session: SessionId, order: Order) -> NewRecord:
    """The event that ``order`` is.

    Raises:
        DecodeError: it can be none.
    """
    return NewRecord(key=check_session(session), value=encode(order, id=str(uuid4())))


def as_seen(order: Order, found: JsonObject | None) -> Order:
    """``order`` with the current generation and attempt of the session ``found`` by ``Inspector.session``."""
    if found is None:
        seen = structs.replace(order, generation=0)
        return structs.replace(seen, attempt=0) if isinstance(seen, Resend) else seen
    generation = cast("int", found["generation"]) - (1 if found["closed"] else 0)
    order = structs.replace(order, generation=generation)
    if isinstance(order, Resend):
        attempts = [
            cast("int", instance.get("attempt", 0))
            for task in cast("list[JsonObject]", found["tasks"])
            for instance in cast("list[JsonObject]", task["instances"])
            if instance["instance"] == order.instance
        ]
        order = structs.replace(order, attempt=attempts[0] if attempts else 0)
    return order


async def until_folded(
    look: Callable[[SessionId], Awaitable[JsonObject | None]], session: SessionId, offset: int
) -> JsonObject | None:
    """The session once it includes the record at ``offset``; None where that takes too long."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + ORDER_WAIT_S
    while loop.time() < deadline:
        found = await look(session)
        if found is not None and cast("int", found["offset"]) >= offset:
            return found
        await asyncio.sleep(_POLL_S)
    return None


def answer_to(offset: int, found: JsonObject | None) -> JsonObject:
    """What became of an order at ``offset``, by the session as ``until_folded`` has it.

    ``refused``: why it did not apply; None where it did, or is not folded yet.
    """
    rows = [] if found is None else cast("list[JsonObject]", found["timeline"])
    refused = next(
        (row["note"] for row in rows if row["offset"] == offset and row["what"] == Effect.REFUSED), None
    )
    return {"offset": offset, "folded": found is not None, "refused": refused}


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
