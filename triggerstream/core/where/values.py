"""Values of an expression, the ways in which an evaluation fails, and the steps that it takes.

Values are those of JSON, and :class:`Timestamp` and :class:`Duration`. A list called ``run`` is the state of
one evaluation: a list, because reading and writing its elements takes half the time of attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from triggerstream.core.ids import Json, JsonObject

BUDGET: Final = 10_000
"""Steps that an evaluation may take (docs/semantics.md, R13.20)."""
WORK: Final = 100_000
"""Operations that an evaluation may spend on elements of ``exists`` and ``all`` (R13.22)."""
COVERED: Final = 10
"""Operations in a body that each element's own step covers: they are no work."""
PIECE: Final = 100
"""Code points of a string that cost one step."""
INT_LIMIT: Final = 2**63
"""Integers lie in [-2^63, 2^63), as in CEL."""

STEPS, DONE, TIME_US, SESSION, ID, ELEMENTS = range(6)
"""Places in a run: the steps and the work so far, three of the variables, the first variable of ``exists`` or
``all``."""
Run: TypeAlias = list[Any]
Value: TypeAlias = "Json | Timestamp | Duration"


Evaluate: TypeAlias = Callable[[JsonObject, Run], Any]
"""Gives a ``Value``; raises :class:`EvaluationError` or :class:`OverBudgetError`."""


class EvaluationError(Exception):
    """An evaluation without a result.

    The arguments are a function and its arguments, which give the text when somebody asks for it.
    """

    def __str__(self) -> str:
        describe, *details = self.args
        return str(describe(*details))


class OverBudgetError(Exception):
    """The evaluation took more than ``BUDGET`` steps: nothing beside it can decide any more."""


class OverWorkError(OverBudgetError):
    """The evaluation took more than ``WORK`` operations for the elements of ``exists`` and ``all``."""


class Timestamp:
    """An instant in nanoseconds since 1970, in the years 1 to 9999."""

    __slots__ = ("ns",)

    def __init__(self, ns: int) -> None:
        self.ns = ns


class Duration:
    """A span in nanoseconds, of at most some 10,000 years."""

    __slots__ = ("ns",)

    def __init__(self, ns: int) -> None:
        self.ns = ns


_KINDS: Mapping[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "an integer",
    float: "a double",
    str: "a string",
    list: "a list",
    dict: "an object",
    Timestamp: "a timestamp",
    Duration: "a duration",
}


def kind(value: Value) -> str:
    """``value``'s type in words."""
    return _KINDS.get(type(value), "an unknown value")


def fail(text: str) -> EvaluationError:
    """An error whose text is known beforehand."""
    return EvaluationError(str, text)


BEYOND_64_BITS: Final = "an integer beyond 2^63"


# ---- steps ----------------------------------------------------------------------------------------


def charge(run: Run, steps: int) -> None:
    """Count ``steps``."""
    run[STEPS] += steps
    if run[STEPS] > BUDGET:
        raise OverBudgetError


def pieces(text: str) -> int:
    """What a string costs that an operator or a function takes or makes."""
    return (len(text) + PIECE - 1) // PIECE


def take(run: Run, *operands: Value) -> None:
    """Count the strings among the operands of an operator or a function."""
    steps = 0
    for value in operands:
        if type(value) is str:
            steps += (len(value) + PIECE - 1) // PIECE
    if steps:
        charge(run, steps)


def shown(text: str) -> str:
    """``text`` for a message."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


_SHOWN: Final = 40
