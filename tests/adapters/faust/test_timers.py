"""Timers of real workers on a real Kafka: over take-overs, and over files that start them."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.adapters.faust.workers import Outcome, Stage, read_all, stage
from tests.support.waiting import until
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.core.commands import Command
from triggerstream.core.events import ConfigApplied, Trigger
from triggerstream.core.ids import AppId
from triggerstream.wire import commands, events
from triggerstream.wire.json import dumps
from triggerstream.wire.records import NewRecord

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

SECOND = 1_000_000
SESSIONS = 20
_WITHIN_S = 60.0
WAITING: dict[str, object] = {"after": ["a", "never"], "run": "tasks.t"}
TOLD: dict[str, object] = {"after": [{"trigger": "t_late.timeout", "as": "late"}], "run": "tasks.told"}


def file(**late: object) -> str:
    """A tasks file with a task that waits, and one that tells that it expired."""
    return json.dumps({"t_late": {**WAITING, **late}, "t_told": TOLD})


@pytest.fixture
async def app(kafka: str, kafka_app: AppId, tmp_path: Path) -> AsyncIterator[Stage]:
    """An app without workers."""
    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path) as made:
        yield made


async def begin(app: Stage) -> None:
    """One event for each session, which are idle afterwards."""
    await app.append(
        NewRecord(key=f"s{number}".encode(), value=dumps({"type": "a"})) for number in range(SESSIONS)
    )


async def told(app: Stage, instance: str = "t_told#0") -> Outcome:
    """Wait for a command of ``t_told`` in each session; return the outcome counts, checked to be exact."""

    async def is_told() -> bool:
        found = await read_all(app.connection, app.topics.commands, app.partitions)
        return sum(map(len, found.values())) >= SESSIONS

    await until(is_told, within_s=_WITHIN_S)
    await app.settled()
    outcome = await app.exact()
    decided = Counter((one.session, one.instance) for one in decisions(outcome))
    assert decided == Counter((f"s{number}", instance) for number in range(SESSIONS))
    return outcome


def decisions(outcome: Outcome) -> list[Command]:
    """All commands."""
    decoded = [commands.decode(value) for values in outcome.commands.values() for value in values]
    return [one for one in decoded if isinstance(one, Command)]


@dataclass(frozen=True, kw_only=True)
class Arrivals:
    """When a session's event arrived in its partition, and the last configuration."""

    event_us: int
    configured_us: int


def arrivals(outcome: Outcome) -> dict[str, Arrivals]:
    """The arrivals of each session."""
    found: dict[str, Arrivals] = {}
    for records in outcome.events.values():
        decoded = [events.decode(record) for record in records]
        configured_us = max(
            record.arrival_us
            for record, event in zip(records, decoded, strict=True)
            if isinstance(event, ConfigApplied)
        )
        for event in decoded:
            if not isinstance(event, ConfigApplied) and isinstance(event.body, Trigger):
                found[event.session] = Arrivals(event_us=event.arrival_us, configured_us=configured_us)
    return found


async def test_a_deadline_fires_at_the_next_owner_where_nothing_else_arrives(app: Stage) -> None:
    await app.prepare(file(deadline="4s"))
    first = app.start("w1")
    await first.ready()
    await begin(app)
    await app.settled()
    first.kill()
    await app.start("w2").ready()
    outcome = await told(app)
    at = arrivals(outcome)
    for one in decisions(outcome):
        assert one.decided_us == at[one.session].event_us + 4 * SECOND


async def test_a_frozen_owner_fires_no_timer_a_second_time(app: Stage) -> None:
    """Both it and the next owner append timer events for the same sessions."""
    await app.prepare(file(deadline="3s"))
    first = app.start("w1")
    await first.ready()
    await begin(app)
    await app.settled()
    first.signal(signal.SIGSTOP)
    await first.stopped()
    second = app.start("w2")
    await second.ready()
    outcome = await told(app)
    first.signal(signal.SIGCONT)
    await first.ready(times=2)
    await app.settled()
    assert (await app.exact()).commands == outcome.commands
    at = arrivals(outcome)
    for one in decisions(outcome):
        assert one.decided_us == at[one.session].event_us + 3 * SECOND


async def test_a_file_that_adds_a_deadline_expires_idle_sessions(app: Stage) -> None:
    await app.prepare(file())
    await app.start().ready()
    await begin(app)
    await app.settled()
    await app.apply(file(deadline="1s"))
    outcome = await told(app)
    at = arrivals(outcome)
    for one in decisions(outcome):
        # A deadline that has passed already is due at once.
        known = at[one.session]
        assert one.decided_us == max(known.event_us + SECOND, known.configured_us)


async def test_a_task_that_applies_to_existing_sessions_expires_in_idle_ones(app: Stage) -> None:
    await app.prepare(json.dumps({"t_other": WAITING}))
    await app.start().ready()
    await begin(app)
    await app.settled()
    await app.apply(file(deadline="2s", appliesTo="existing"))
    outcome = await told(app)
    at = arrivals(outcome)
    for one in decisions(outcome):
        assert one.decided_us == at[one.session].configured_us + 2 * SECOND
