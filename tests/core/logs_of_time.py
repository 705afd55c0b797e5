"""Random scenarios in which time decides: what is due, what is late, and what a file changes meanwhile.

The log grows under the reference evaluator, which knows what is due: events arrive at a due time, just before
or after it, or after many of them. Event times lie at the edge of a window, are equal, or long past.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from random import Random

from tests.core.logs_of_conditions import (
    APP,
    SESSIONS,
    START_US,
    Scenario,
    data_of,
    engine_event,
    used_trigger,
)
from tests.core.reference_of_conditions import SECOND_US, File, Json, Line, Reference
from tests.core.strategies import Dice
from tests.core.timed_files import (
    DURATIONS,
    KEYS_OF_TIME,
    TIMED_FILE_BYTES,
    changed_in_time,
    focus_of,
    timed_file,
)

MOST_MOVES = 30
MOVE_BYTES = 24
CHANGE_BYTES = 30
BYTES = 4 + TIMED_FILE_BYTES + MOST_MOVES * (MOVE_BYTES + CHANGE_BYTES)

MANY = ("fire",) * 10
CALM = (*MANY, "timer", "finished", "failed")
BUSY = (
    *(*MANY, "finished", "finished", "started", "failed", "failed", "failed", "retried", "timer", "timer"),
    *("skipped", "revoked", "skip", "replay", "replay", "cancel", "resend", "release", "release", "touch"),
)
CHANGING = (*MANY, *("apply",) * 6, "failed", "replay", "timer", "timer", "finished")
PLACES = (
    *MANY,
    *("finished",) * 4,
    *("failed",) * 4,
    "replay",
    "replay",
    "apply",
    "timer",
    "started",
    "cancel",
)
ALL = (*BUSY, "apply", "apply", "close", "erase")
FAILING = (*("fire",) * 8, *("failed",) * 4, *("timer",) * 2, "finished", "apply")
SHORTENING = (*("fire",) * 8, "apply", "timer")
SUITED = {
    "shortened": SHORTENING,
    "paused": CHANGING,
    "window": CHANGING,
    "unjudged": CHANGING,
    "debounce": FAILING,
}
"""Kinds of events that suit a focus."""


@lru_cache(maxsize=1_000)
def numbered_timed_scenario(number: int) -> Scenario:
    """One of the scenarios 0, 1, 2, …: the same ones everywhere, so that several laws share each."""
    return timed_scenario(Random(number).randbytes(BYTES))


def timed_scenario(drawn: bytes) -> Scenario:
    """The scenario that ``drawn`` stands for."""
    head = Dice(drawn[:4])
    moves = head.one((20, 30, 25))
    kinds: Sequence[str] = head.one((CALM, CHANGING, BUSY, ALL, CHANGING, PLACES))
    focus = focus_of(head)
    kinds = SUITED.get(focus or "", kinds)
    file = timed_file(focus, Dice(drawn[4 : 4 + TIMED_FILE_BYTES]))
    reference = Reference(APP, file)
    files = [file]
    lines: list[Line] = []
    now_us = START_US
    for n in range(moves):
        start = 4 + TIMED_FILE_BYTES + n * (MOVE_BYTES + CHANGE_BYTES)
        dice = Dice(drawn[start : start + MOVE_BYTES])
        kind = dice.one(kinds)
        session = dice.one(SESSIONS)
        now_us = _arrival_us(dice, now_us, reference, session)
        if kind == "apply":
            changing = Dice(drawn[start + MOVE_BYTES : start + MOVE_BYTES + CHANGE_BYTES])
            new = changed_in_time(reference.file, focus, changing)
            files.append(new)
            if dice.one((False, False, True)):
                new = dice.one(files)
            line = Line(offset=n, arrival_us=now_us, file=new)
        else:
            line = _line((kind, n, now_us, session), dice, reference, lines)
        lines.append(line)
        reference.read(line)
    return Scenario(file, tuple(lines))


def _arrival_us(dice: Dice, now_us: int, reference: Reference, session: str) -> int:
    """The next arrival: mostly close to the last one or to a due time; seldom long after, or before it."""
    due = sorted(set(reference.all_due_us(session)))
    near = dice.one((0, 0, 0, -1, 1))
    match dice.one(("step", "due", "step", "due", "later", "silence", "step", "last")):
        case "due" if due:
            return max(due[0], now_us - SECOND_US) + near
        case "last" if due:
            return max(due[-1], now_us - SECOND_US) + near
        case "later":
            return now_us + dice.one((2, 3, 5, 1)) * SECOND_US + near
        case "silence":
            return now_us + dice.one((10, 30, 600, 20)) * SECOND_US + near
        case _:
            return now_us + dice.one((0, 1, 0, 1, 0, 2, -1, -3)) * SECOND_US


def _line(drawn: tuple[str, int, int, str], dice: Dice, reference: Reference, lines: list[Line]) -> Line:
    kind, n, now_us, session = drawn
    identity, data = None, {}
    if kind == "fire":
        event_type, data = used_trigger(dice, reference.file), data_of(n, dice)
        identity = dice.one((None, None, None, None, "1", "2"))
    else:
        event_type, data = engine_event(kind, n, session, dice, reference)
    return Line(
        offset=n,
        arrival_us=now_us,
        session=session,
        type=event_type,
        data=data,
        time_us=_event_time_us(dice, now_us, lines),
        id=identity,
    )


def _event_time_us(dice: Dice, now_us: int, lines: list[Line]) -> int:
    """An event time: mostly the arrival; else late, or at the edge of a window from an earlier event."""
    events = [line.time_us for line in lines if line.file is None]
    match dice.one(("now", "now", "late", "edge", "edge", "equal", "now", "ahead")):
        case "late":
            return now_us - dice.one((1, 3, 90, 2)) * SECOND_US
        case "ahead":
            return now_us + dice.one((1, 3, 90, 2)) * SECOND_US
        case "equal" if events:
            return dice.one(events[-4:])
        case "edge" if events:
            duration = dice.one(DURATIONS)
            span_us = int(duration[0]) * SECOND_US if len(duration) == 2 else 30 * SECOND_US
            return dice.one(events[-4:]) + dice.one((1, -1)) * span_us + dice.one((0, 0, 1, -1))
        case _:
            return now_us


# ---- silences ------------------------------------------------------------------------------------


def with_timers(scenario: Scenario, random: Random) -> Scenario:
    """The scenario with timer events between its events, none of which comes later than what comes next.

    They lie at due times, beside them, and anywhere in a silence.
    """
    reference = Reference(APP, scenario.file)
    lines: list[Line] = []
    for line in scenario.lines:
        names = list(reference.sessions) if line.file is not None else [line.session]
        for name in names:
            known = reference.sessions.get(name)
            # An empty session meets no file: the next line for it is a later event, which may arrive earlier.
            if known is None or (line.file is not None and known.is_empty()):
                continue
            for arrival_us in _between(reference, name, line.arrival_us, random):
                timer = Line(
                    offset=0,
                    arrival_us=arrival_us,
                    session=name,
                    type="triggerstream.timer",
                    data={"inserted": True},
                    time_us=arrival_us,
                )
                lines.append(replace(timer, offset=len(lines)))
        lines.append(replace(line, offset=len(lines)))
        reference.read(lines[-1])
    return Scenario(scenario.file, tuple(lines))


def _between(reference: Reference, session: str, next_us: int, random: Random) -> list[int]:
    """Up to three arrivals of timer events before an event that arrives at ``next_us``."""
    clock_us = reference.sessions[session].clock_us
    due = [due_us for due_us in reference.all_due_us(session) if due_us <= next_us]
    some = [
        random.choice(
            (*due, clock_us, next_us, random.randint(min(clock_us, next_us), max(clock_us, next_us)))
        )
        + random.choice((0, 0, -1, 1))
        for _ in range(random.choice((0, 1, 3)))
    ]
    return [min(arrival_us, max(clock_us, next_us)) for arrival_us in some]


# ---- how much scenarios say ----------------------------------------------------------------------


def report_of_time(number: int) -> dict[str, float]:
    """The share of ``number`` scenarios in which each thing happens."""
    counts: Counter[str] = Counter()
    for seed in range(number):
        counts.update(_told(numbered_timed_scenario(seed)))
    return {name: count / number for name, count in sorted(counts.items())}


def _told(one: Scenario) -> set[str]:
    reference = Reference(APP, one.file)
    found: set[str] = set()
    for line in one.lines:
        session = line.session or SESSIONS[0]
        before = len(reference.asked(session))
        reference.read(line)
        if line.file is not None:
            found.add("changes its file")
        for command in reference.asked(session)[before:]:
            found |= {"decides", *(f"decides by {key}" for key in _keys(reference.file, command.instance))}
        for instance, status in reference.statuses(session).items():
            found.add(f"has {status}")
            if status in {"expired", "held", "delayed", "abandoned"}:
                found |= {f"has {status} by {key}" for key in _keys(reference.file, instance)}
    return found


def _keys(file: File, instance: str) -> set[str]:
    task: dict[str, Json] = file.get(instance.rpartition("#")[0], {})
    return {key for key in KEYS_OF_TIME if key in task}
