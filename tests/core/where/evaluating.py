"""Evaluates an expression to its value, for tests that ask for more than a match."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from triggerstream.core.ids import JsonObject
from triggerstream.core.where.closures import compile_node
from triggerstream.core.where.parser import parse
from triggerstream.core.where.tree import elements_at_once
from triggerstream.core.where.values import (
    DONE,
    STEPS,
    Duration,
    EvaluationError,
    OverBudgetError,
    OverWorkError,
    Run,
    Timestamp,
)

TIME_US = 1_772_366_405_250_000
"""2026-03-01T12:00:05.25Z, a Sunday."""
SESSION = "42"
EVENT_ID = "e-1"


class Failed(str):
    """An error's text."""

    __slots__ = ()


OVER_BUDGET = Failed("over budget")
OVER_WORK = Failed("over budget: work")


@dataclass(frozen=True)
class Cost:
    """What an evaluation costs by both counts (R13.20, R13.22)."""

    steps: int
    work: int


def evaluated(text: str, data: JsonObject | None = None, *, time_us: int = TIME_US) -> tuple[Any, Cost]:
    """What ``text`` gives, and what it cost. Times are given as ``("timestamp", nanoseconds)``."""
    node = parse(text)
    run: Run = [0, 0, time_us, SESSION, EVENT_ID, *[None] * elements_at_once(node)]
    value: Any
    try:
        value = plain(compile_node(node)(data or {}, run))
    except EvaluationError as error:
        value = Failed(error)
    except OverWorkError:
        value = OVER_WORK
    except OverBudgetError:
        value = OVER_BUDGET
    return value, Cost(run[STEPS], run[DONE])


def outcome(text: str, data: JsonObject | None = None, *, time_us: int = TIME_US) -> tuple[Any, int]:
    """What ``text`` gives, and the steps it took."""
    value, cost = evaluated(text, data, time_us=time_us)
    return value, cost.steps


def plain(value: object) -> object:
    """``value`` with times as tuples, so that it can be compared."""
    match value:
        case Timestamp(ns=ns):
            return ("timestamp", ns)
        case Duration(ns=ns):
            return ("duration", ns)
        case list():
            return [plain(item) for item in value]
        case _:
            return value


def value_of(text: str, data: JsonObject | None = None, *, time_us: int = TIME_US) -> Any:  # noqa: ANN401 - any value
    """What ``text`` gives; a :class:`Failed` if it has no result."""
    return outcome(text, data, time_us=time_us)[0]


def steps_of(text: str, data: JsonObject | None = None) -> int:
    """What an evaluation of ``text`` costs."""
    return outcome(text, data)[1]


def work_of(text: str, data: JsonObject | None = None) -> int:
    """The work of an evaluation of ``text``."""
    return evaluated(text, data)[1].work
