"""The results of a run: the rows of the effects table, and the committed records of the commands topic."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Hashable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Engine, select

from tests.acceptance.chain.plan import Plan
from tests.acceptance.chain.table import effects
from tests.adapters.faust.workers import read_all
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.topics import Topics
from triggerstream.core.commands import Command
from triggerstream.core.ids import AppId
from triggerstream.wire.commands import decode

_K = TypeVar("_K", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How much is missing, is there and should not be, is there more than once."""

    lost: int
    invented: int
    doubled: int

    @classmethod
    def of(cls, found: Counter[_K], expected: AbstractSet[_K]) -> Count:
        """Compare."""
        return cls(
            lost=len(expected - found.keys()),
            invented=len(found.keys() - expected),
            doubled=sum(times - 1 for times in found.values()),
        )

    def __bool__(self) -> bool:
        return bool(self.lost or self.invented or self.doubled)


EXACT = Count(lost=0, invented=0, doubled=0)


def effects_of(engine: Engine, plan: Plan) -> Counter[str]:
    """Count the effects of each command of ``plan``."""
    with engine.connect() as connection:
        rows = connection.execute(select(effects.c.session, effects.c.command)).all()
    return Counter(command for session, command in rows if plan.owns(session))


def strangers(engine: Engine, plans: list[Plan]) -> list[str]:
    """Sessions that took effect and are of none of ``plans``."""
    with engine.connect() as connection:
        sessions = connection.scalars(select(effects.c.session).distinct()).all()
    return [session for session in sessions if not any(plan.owns(session) for plan in plans)]


def count_effects(engine: Engine, app: AppId, plan: Plan) -> Count:
    """The rows of ``plan`` against what it must have."""
    return Count.of(effects_of(engine, plan), {str(command) for command in plan.effects(app)})


def count_commands(connection: Connection, app: AppId, plan: Plan, *, partitions: int) -> Count:
    """The committed commands of ``plan``: each id once, at its first attempt."""
    records = asyncio.run(read_all(connection, Topics.of(app).commands, partitions))
    decided = [decode(record.value) for found in records.values() for record in found]
    ids = Counter(
        (one.id, one.attempt if isinstance(one, Command) else -1) for one in decided if plan.owns(one.session)
    )
    return Count.of(ids, {(expected, 0) for expected in plan.commands(app)})
