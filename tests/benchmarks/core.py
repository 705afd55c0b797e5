"""What one event costs: decode it and its state, fold it, encode the state and the commands that follow.

Four events a session, one command each; a tasks file of 1,000 tasks of which ``used`` use each trigger. The
yardstick in the same run is ``json.loads`` and ``json.dumps`` of the event alone: what any Python program
that reads and writes JSON pays before it does anything.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter

from tests.benchmarks.rows import Row
from triggerstream.core.events import ConfigApplied
from triggerstream.core.fold import step
from triggerstream.core.ids import AppId, ConfigHash, SessionId, TaskName, TriggerName
from triggerstream.core.results import Folded
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import AppliedConfiguration, Configuration, Rules, plain_task
from triggerstream.wire import commands, events, state
from triggerstream.wire.records import Record

TASKS = 1_000
EVENTS = 8_000
ROUNDS = 7
PARTS = "abcd"


def rules_with(used: int) -> Rules:
    """1,000 tasks of four triggers each; every trigger is used by ``used`` of them."""
    tasks = tuple(
        plain_task(
            name=TaskName(f"t{n}"),
            run=f"app.t{n}",
            after=tuple(TriggerName(f"{part}{n // used}") for part in PARTS),
        )
        for n in range(TASKS)
    )
    config = Configuration(hash=ConfigHash("0" * 64), text="{}", tasks=tasks)
    return Rules(app=AppId("bench"), history=(AppliedConfiguration(config=config, offset=-1, arrival_us=0),))


def records(used: int) -> list[Record]:
    """Four events for each session, with ids and a small payload."""
    made: list[Record] = []
    for session in range(EVENTS // len(PARTS)):
        for place, part in enumerate(PARTS):
            event = {
                "type": f"{part}{session % (TASKS // used)}",
                "id": f"id-{session}-{place}",
                "data": {"score": 3, "name": "hello world", "flag": True},
            }
            made.append(
                Record(
                    partition=0,
                    offset=len(made),
                    arrival_us=1_700_000_000_000_000 + len(made),
                    key=f"session-{session}".encode(),
                    value=json.dumps(event).encode(),
                )
            )
    return made


def fold_all(rules: Rules, log: list[Record], *, forgetful: bool = False) -> int:
    """Decode, step and encode each record; returns the number of commands.

    ``forgetful``: the state is decoded too, as where a session's events lie days apart.
    """
    states: dict[SessionId, SessionState] = {}
    stored: dict[SessionId, bytes] = {}
    decided = 0
    for record in log:
        event = events.decode(record)
        if isinstance(event, ConfigApplied):
            continue
        if forgetful:
            before = stored.get(event.session)
            known = None if before is None else state.decode(before)
        else:
            known = states.get(event.session)
        folded = step(rules, known, event)
        if not isinstance(folded, Folded):
            continue
        states[event.session] = folded.state
        stored[event.session] = state.encode(folded.state)
        for decision in folded.decisions:
            commands.encode(decision)
            decided += 1
    return decided


def json_only(log: list[Record]) -> None:
    """The yardstick."""
    for record in log:
        json.dumps(json.loads(record.value or b""))


def run() -> list[Row]:
    """Median µs an event and events/s, for one and for ten tasks that use the trigger."""
    rows = []
    for used, forgetful in ((1, False), (1, True), (10, False), (10, True)):
        rules, log = rules_with(used), records(used)
        work = partial(fold_all, rules, log, forgetful=forgetful)
        if work() != EVENTS // len(PARTS) * used:
            raise AssertionError("the benchmark does not decide what it should")
        ours, yardstick = [], []
        gc.collect()
        gc.disable()
        for _ in range(ROUNDS):
            yardstick.append(_timed(partial(json_only, log)))
            ours.append(_timed(work))
        gc.enable()
        each = median(ours) / EVENTS
        ratio = median(o / y for o, y in zip(ours, yardstick, strict=True))
        read = "decode event and state" if forgetful else "decode event"
        name = f"{read} + step + encode, {used} of {TASKS:,} tasks use the trigger"
        peer = "json.loads + json.dumps of the event"
        rows.append(Row(name=name, value=each * 1e6, unit="µs/event", peer=peer, ratio=ratio))
        rows.append(Row(name=name, value=1 / each, unit="events/s a core"))
    return rows


def _timed(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start
