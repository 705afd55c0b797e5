"""The tasks of the chain beside a task for each key of time, and the instants at which they are decided.

Whatever happens to the processes, each session decides the same instances: no duration lies near the time
between two of its events in such a way that it matters which is longer.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from tests.acceptance.chain.plan import RUN, TASKS, Plan
from tests.adapters.faust.workers import read_all
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.records import record_of
from triggerstream.adapters.kafka.topics import Topics
from triggerstream.core.commands import Command
from triggerstream.core.events import ConfigApplied, Trigger
from triggerstream.core.ids import AppId, SessionId
from triggerstream.core.placement import partition_of
from triggerstream.wire import commands, events

FAIL_FIRST = "chain.fail_first"
"""Fails as instance 0, and takes effect as any later one."""
SECOND = 1_000_000
_LATE_S, _WAIT_S, _ROUND_S, _QUIET_S, _BACKOFF_S = 3, 2, 1, 2, 1
_ROUNDS = 3

TIMED_TASKS = f"""{TASKS.rstrip().removesuffix("}")}
  // Expires in every session; another task waits for its timeout.
  "t_late": {{"after": ["a", "never"], "deadline": "{_LATE_S}s", "run": "{RUN}"}},
  "t_told": {{"after": [{{"trigger": "t_late.timeout", "as": "late"}}], "run": "{RUN}"}},
  "t_wait": {{"after": ["a", "b"], "delay": "{_WAIT_S}s", "run": "{RUN}"}},
  "t_quiet": {{"after": ["c"], "debounce": {{"quiet": "{_QUIET_S}s", "atMost": "10s"}}, "run": "{RUN}"}},
  "t_round": {{"after": ["b"], "repeat": {{"every": "{_ROUND_S}s", "max": {_ROUNDS}}}, "run": "{RUN}"}},
  "t_again": {{
    "after": ["u"], "retry": {{"max": 3, "backoff": "{_BACKOFF_S}s", "factor": 2}}, "run": "{FAIL_FIRST}"
  }},
  "t_within": {{"after": ["v", "w"], "within": "1h", "run": "{RUN}"}},
  // Nothing of these is due before the test has ended.
  "t_tomorrow": {{"after": ["a"], "delay": "1d", "run": "{RUN}"}},
  "t_next_week": {{"after": ["b", "never"], "deadline": "7d", "run": "{RUN}"}},
}}"""


@dataclass(frozen=True, kw_only=True)
class TimedPlan(Plan):
    """The same events, under ``TIMED_TASKS``."""

    def decided(self) -> set[tuple[str, str, int]]:
        """With what time decides."""
        instances = [
            *(("t_told", 0), ("t_wait", 0), ("t_quiet", 0), ("t_within", 0), ("t_again", 0), ("t_again", 1)),
            *(("t_round", number) for number in range(_ROUNDS + 1)),
        ]
        sessions = [self.session(number) for number in range(self.sessions)]
        timed = {(session, task, number) for session in sessions for task, number in instances}
        return super().decided() | timed

    def failing(self) -> set[tuple[str, str, int]]:
        """The first attempts of the task with a retry."""
        return {(self.session(number), "t_again", 0) for number in range(self.sessions)}


def misdated(connection: Connection, app: AppId, plan: Plan, *, partitions: int) -> list[str]:
    """The commands of ``plan`` that were not decided at the instant at which they were due, by the log."""
    return asyncio.run(_misdated(connection, app, plan, partitions))


async def _misdated(connection: Connection, app: AppId, plan: Plan, partitions: int) -> list[str]:
    topics = Topics.of(app)
    due: dict[tuple[str, str], int] = {}
    for partition, records in (await read_all(connection, topics.events, partitions)).items():
        clocks: defaultdict[SessionId, int] = defaultdict(int)
        first: dict[tuple[str, str], int] = {}
        for record in records:
            event = events.decode(record_of(record))
            # A record in the wrong partition counts once it has been appended to the right one.
            if isinstance(event, ConfigApplied) or partition_of(record.key, partitions) != partition:
                continue
            clocks[event.session] = max(clocks[event.session], event.arrival_us)
            if isinstance(event.body, Trigger) and plan.owns(event.session):
                first.setdefault((event.session, event.body.name), clocks[event.session])
        due.update(_due(first))
    wrong: list[str] = []
    for records in (await read_all(connection, topics.commands, partitions)).values():
        for record in records:
            decision = commands.decode(record.value)
            if isinstance(decision, Command):
                at = due.get((decision.session, decision.instance))
                if at is not None and decision.decided_us != at:
                    late_s = (decision.decided_us - at) / SECOND
                    wrong.append(f"{decision.session} {decision.instance} is {late_s:g} s late")
    return wrong


def _due(first: dict[tuple[str, str], int]) -> Iterator[tuple[tuple[str, str], int]]:
    """When each instance that time decides is due; ``first``: the clock at each trigger's first event."""
    for (session, trigger), at in first.items():
        if trigger == "a":
            yield (session, "t_told#0"), at + _LATE_S * SECOND
            if (session, "b") in first:
                yield (session, "t_wait#0"), max(at, first[session, "b"]) + _WAIT_S * SECOND
        elif trigger == "b":
            for number in range(_ROUNDS + 1):
                yield (session, f"t_round#{number}"), at + number * _ROUND_S * SECOND
        elif trigger == "c":
            yield (session, "t_quiet#0"), at + _QUIET_S * SECOND
