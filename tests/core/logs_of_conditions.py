"""Random scenarios of the condition language: a tasks file, and a log in which files change.

``scenario(drawn)`` makes one from bytes. The log grows under the reference evaluator, so that outcomes and
orders are mostly for instances that exist. Events have small data in which everything stands that files ask
for, and a number ``n`` of their own, by which kwargs show which event a leaf took.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any

from hypothesis import strategies as st

from tests.core.changing_files import (
    CHANGE_BYTES,
    CHANGES,
    FILE_BYTES,
    FOCUSED,
    TASKS,
    TRIGGERS,
    changed,
    file_of,
    focused_file,
)
from tests.core.reference_of_conditions import (
    SECOND_US,
    File,
    Json,
    Line,
    One,
    Reference,
    conditions,
    leaves,
)
from tests.core.strategies import Dice
from triggerstream.wire.instants import format_instant

APP = "laws"
START_US = 1_767_225_600 * SECOND_US
SESSIONS = ("s1", "s1", "s1", "s2")
MOST_MOVES = 40
MOVE_BYTES = 20
SCENARIO_BYTES = 4 + FILE_BYTES + MOST_MOVES * MOVE_BYTES

MANY = ("fire",) * 12
CALM = (*MANY, "finished", "failed")
BUSY = (
    *(*MANY, "finished", "finished", "started", "started", "failed", "failed", "failed", "retried"),
    *("skipped", "revoked", "skip", "replay", "replay", "cancel", "resend", "release", "timer", "touch"),
)
CHANGING = (*MANY, *("apply",) * 5, "failed", "replay", "timer", "started")
FOCUSED_MOVES = (*MANY, *("apply",) * 5, "failed", "replay", "close", "timer", "timer")
RETRYING = (
    *("fire",) * 6,
    *("failed",) * 5,
    *("timer",) * 3,
    *("apply",) * 4,
    "started",
    "retried",
    "replay",
)
ALL = (*BUSY, "apply", "apply", "close", "erase")
MEANT = {
    "started": {"scheduled"},
    "retried": {"running"},
    "revoked": {"scheduled"},
    "skip": {"failed"},
    "replay": {"failed"},
    "release": {"delayed", "held"},
    "cancel": {"unstarted", "delayed", "held", "scheduled", "running"},
}
"""Statuses of the instances that most outcomes and orders are drawn for; decided ones if not listed."""

LEVELS: Sequence[Json] = (2, 3, 1, 2, True, "2", 2.5, 0)
BYS: Sequence[Json] = ("x", "y", "z", "x", 5, "5", True, None, 1.5, "y")
IDS: Sequence[Json] = (
    *(["x", "y"], ["x"], ["y", "x", "x"], [], [5, "x"], ["5"], ["x", "y", "z"]),
    *([1.5, "x"], "x", [True]),
)
OBJECTS: Sequence[Json] = ({"by": "x", "ids": ["x", "y"]}, {"by": "y", "ids": ["y"]}, {"by": 5, "ids": [5]})


@dataclass(frozen=True, slots=True)
class Scenario:
    """The file in force from the start, and the lines of the log."""

    file: File
    lines: tuple[Line, ...]


def scenarios() -> st.SearchStrategy[Scenario]:
    """Random scenarios."""
    return st.binary(min_size=SCENARIO_BYTES, max_size=SCENARIO_BYTES).map(scenario)


@lru_cache(maxsize=1_000)
def numbered_scenario(number: int) -> Scenario:
    """One of the scenarios 0, 1, 2, …: the same ones everywhere, so that several laws share each."""
    return scenario(Random(number).randbytes(SCENARIO_BYTES))


def scenario(drawn: bytes) -> Scenario:
    """The scenario that ``drawn`` stands for."""
    head = Dice(drawn[:4])
    moves = head.one((25, 40, 15))
    focus = head.one((None, None, None, None, None, None, "leaf", "memory", "unless", "unless", "retry"))
    file_dice = Dice(drawn[4 : 4 + FILE_BYTES])
    kinds: Sequence[str] = head.one((CALM, CHANGING, BUSY, ALL, CHANGING))
    changes: Sequence[str] = CHANGES
    if focus is None:
        file = file_of(file_dice)
    else:
        kinds = RETRYING if focus == "retry" else FOCUSED_MOVES
        changes, file = FOCUSED[focus], focused_file(focus, file_dice)
    reference = Reference(APP, file)
    files = [file]
    lines: list[Line] = []
    now_us = START_US
    for n in range(moves):
        start = 4 + FILE_BYTES + n * MOVE_BYTES
        dice = Dice(drawn[start : start + MOVE_BYTES])
        kind = dice.one(kinds)
        now_us += dice.one((0, 1, 0, 1, 2, 30, -1)) * SECOND_US
        if kind == "apply":
            new = changed(reference.file, Dice(drawn[start + 2 : start + 2 + CHANGE_BYTES]), changes)
            files.append(new)
            if dice.one((False, False, True)):
                new = dice.one(files)
            line = Line(offset=n, arrival_us=now_us, file=new)
        else:
            line = _line(kind, n, now_us, dice, reference)
        lines.append(line)
        reference.read(line)
    return Scenario(file, tuple(lines))


def _line(kind: str, n: int, now_us: int, dice: Dice, reference: Reference) -> Line:
    session = dice.one(SESSIONS)
    late_us = dice.one((0, 0, 1, 3, 90, 0)) * SECOND_US
    data: dict[str, Json]
    if kind == "fire":
        event_type, data = used_trigger(dice, reference.file), data_of(n, dice)
    else:
        event_type, data = engine_event(kind, n, session, dice, reference)
    identity = dice.one((None, None, None, None, "1", "2", "3")) if kind == "fire" else None
    return Line(
        offset=n,
        arrival_us=now_us,
        session=session,
        type=event_type,
        data=data,
        time_us=now_us - late_us,
        id=identity,
    )


def used_trigger(dice: Dice, file: File) -> str:
    """Mostly a trigger that a task of the file waits for."""
    used = [
        leaf["trigger"]
        for task in file.values()
        for side in ("after", "after", "unless")
        for leaf in leaves(conditions(task, side)).values()
    ]
    own = [trigger for trigger in used if trigger in TRIGGERS]
    return str(dice.one(dice.one((own or TRIGGERS, own or TRIGGERS, used or TRIGGERS, TRIGGERS, TASKS))))


def data_of(n: int, dice: Dice) -> dict[str, Json]:
    """The data of the event ``n``."""
    data = {
        "n": n,
        "level": dice.one(LEVELS),
        "by": dice.one(BYS),
        "ids": dice.one(IDS),
        "o": dice.one(OBJECTS),
    }
    for missing in dice.one(((), (), (), ("level",), ("by",), ("ids",), ("o",), ("by", "level"))):
        del data[missing]
    return data


def engine_event(
    kind: str, n: int, session: str, dice: Dice, reference: Reference
) -> tuple[str, dict[str, Json]]:
    """Type and data of an outcome, an order, or an event of the engine."""
    if kind == "timer":
        return "triggerstream.timer", {}
    if kind in {"touch", "close", "erase"}:
        return f"triggerstream.session.{kind}", {}
    instance, command = _target(kind, session, dice, reference)
    data: dict[str, Any] = {"instance": instance}
    given = dice.one((None, None, {"a": {"k": 1}}, {"p": {"k": 2}, "extra": {}}))
    match kind:
        case "skip":
            data |= {"cascade": dice.one((True, False)), "result": data_of(n, dice)}
        case "replay":
            data |= {"force": dice.one((False, False, True))} | ({} if given is None else {"kwargs": given})
        case "cancel" | "resend" | "release":
            pass
        case _:
            data["command"] = command
    match kind:
        case "finished":
            data["result"] = dice.one((data_of(n, dice), None, [1], "x", data_of(n, dice)))
        case "failed":
            data |= {"error": "boom"}
            data |= dice.one(({}, {}, {"reason": "result not reportable"}, {"reason": "worker lost"}))
            data |= dice.one(({}, {"attempt": 0}))
        case "retried":
            data |= {"after": dice.one((0, 1, 5))} | ({} if given is None else {"kwargs": given})
        case "revoked":
            data |= dice.one(({}, {"attempt": 0}))
        case _:
            pass
    room = "instance" if kind in {"skip", "replay", "cancel", "resend", "release"} else "task"
    return f"triggerstream.{room}.{kind}", data


def _target(kind: str, session: str, dice: Dice, reference: Reference) -> tuple[str, str]:
    known = reference.instances(session)
    meant = [one for one in known if one.status in MEANT.get(kind, {"scheduled", "running"})]
    astray = dice.one((False,) * 9 + (True,))
    some = known if astray or not meant else meant
    one = dice.one(some) if some else One(task="t", number=0, born=0)
    there = reference.sessions.get(session)
    command = "none" if there is None else reference.command(there, one)
    return one.name, dice.one((command,) * 15 + ("other",))


# ---- a scenario as others read it ----------------------------------------------------------------


def as_golden(scenario: Scenario) -> str:
    """The scenario with the keys of ``tests/golden``, a line for each event, and what the reference says."""
    reference = Reference(APP, scenario.file)
    events: list[Json] = []
    for line in scenario.lines:
        reference.read(line)
        received = format_instant(line.arrival_us)
        if line.file is not None:
            events.append({"apply": line.file, "received": received})
            continue
        event = {"session": line.session, "type": line.type, "data": line.data, "received": received}
        if line.time_us != line.arrival_us:
            event["time"] = format_instant(line.time_us)
        events.append(event if line.id is None else {**event, "id": line.id})
    sessions = list(dict.fromkeys(line.session for line in scenario.lines if line.file is None))
    commands = [
        {"session": one.session, "instance": one.instance, "run": one.run, "kwargs": one.kwargs}
        for session in sessions
        for one in reference.asked(session)
    ]
    state = {session: reference.statuses(session) for session in sessions}
    told = {"tasks": scenario.file, "events": events, "commands": commands, "state": state}
    parts = ",\n".join(f'"{key}": {_in_lines(value)}' for key, value in told.items())
    return f"{{{parts}}}"


def _in_lines(value: Json) -> str:
    """JSON: a list with a line for each element, anything else in one line."""
    if not isinstance(value, list):
        return json.dumps(value)
    lines = ",\n  ".join(json.dumps(one) for one in value)
    return f"[{lines}]"


# ---- how much scenarios say ----------------------------------------------------------------------

CONSTRUCTS = (
    *("where", "as", "any", "all", "atLeast", "count", "key", "each", "sequence", "unless", "unlessFrom"),
    *("andEvery", "withParams", "retry", "appliesTo"),
)


def report(number: int) -> dict[str, float]:
    """The share of ``number`` scenarios that decide something, change their file, and use each construct.

    ``decides by <construct>``: a task that uses it has a command. ``decides by the language``: a task with a
    construct that is new with the language.
    """
    counts: Counter[str] = Counter()
    for seed in range(number):
        counts.update(_told(numbered_scenario(seed)))
    return {name: count / number for name, count in sorted(counts.items())}


def _told(one: Scenario) -> set[str]:
    reference = Reference(APP, one.file)
    found: set[str] = set()
    decided = 0
    for line in one.lines:
        reference.read(line)
        if line.file is not None:
            found.add("changes its file")
        if line.type.startswith("triggerstream."):
            found.add(f"has {line.type.removeprefix('triggerstream.')}")
        asked = reference.asked(line.session)
        for command in asked[decided if line.session == SESSIONS[0] else len(asked) :]:
            used = _constructs(reference.file.get(command.instance.rpartition("#")[0], {}))
            found |= {"decides", *(f"decides by {name}" for name in used)}
            if used - {"unless", "andEvery", "withParams", "retry"}:
                found.add("decides by the language")
        decided = len(reference.asked(SESSIONS[0]))
        for status in reference.statuses(line.session).values():
            found.add(f"has {status}")
    for file in [one.file, *(line.file for line in one.lines if line.file is not None)]:
        for task in file.values():
            found |= {f"uses {name}" for name in _constructs(task)}
    return found


def _constructs(task: dict[str, Any]) -> set[str]:
    text = json.dumps({key: task[key] for key in task if key != "withParams"})
    return {name for name in CONSTRUCTS if f'"{name}"' in text or name in task}
