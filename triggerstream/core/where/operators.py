"""Operators, and what they cost (docs/semantics.md, R13.10 to R13.13 and R13.20)."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from triggerstream.core.ids import Json
from triggerstream.core.where.timestamps import shifted
from triggerstream.core.where.values import (
    BEYOND_64_BITS,
    BUDGET,
    INT_LIMIT,
    PIECE,
    STEPS,
    Duration,
    EvaluationError,
    Run,
    Timestamp,
    Value,
    charge,
    fail,
    kind,
    pieces,
    take,
)

Operator: TypeAlias = Callable[[Value, Value, Run], Value]

_MISSING: Final = object()


def equal(left: Value, right: Value, run: Run) -> bool:
    """Whether two values are equal. Values of different types are not, but numbers compare by what they are.

    Counts the elements of lists and objects, but not ``left`` and ``right`` themselves.
    """
    kind_of_left, kind_of_right = type(left), type(right)
    if kind_of_left is not kind_of_right:
        # Python compares an integer with a double exactly.
        return (
            (kind_of_left is int or kind_of_left is float)
            and (kind_of_right is int or kind_of_right is float)
            and left == right
        )
    if kind_of_left is list or kind_of_left is dict:
        return _equal_inside(left, right, run)
    if kind_of_left is Timestamp or kind_of_left is Duration:
        return left.ns == right.ns  # type: ignore[union-attr]  # both are of the type just compared
    return left == right


def _equal_inside(left: Value, right: Value, run: Run) -> bool:
    """Equality of two lists or two objects, without recursion: data may be nested as deeply as it likes."""
    pairs = _pairs(left, right)
    if pairs is None:
        return False
    around = [pairs]
    while around:
        for one, other in around[-1]:
            # The first 100 code points of a string are the element's own step.
            charge(run, max(1, pieces(one)) if type(one) is str else 1)
            if type(one) is type(other) and (type(one) is list or type(one) is dict):
                inside = _pairs(one, other)
                if inside is None:
                    return False
                around.append(inside)
                break
            if not equal(one, other, run):
                return False
        else:
            around.pop()
    return True


def _pairs(left: Value, right: Value) -> Iterator[tuple[Value, Any]] | None:
    """The elements of two lists or the fields of two objects, side by side; None if their sizes differ."""
    if len(left) != len(right):  # type: ignore[arg-type]  # both are lists or both are objects
        return None
    if type(left) is dict:
        get = right.get  # type: ignore[union-attr]  # an object, like the left one
        return ((value, get(name, _MISSING)) for name, value in left.items())
    return zip(left, right)  # type: ignore[arg-type]  # noqa: B905 - of one length


def _equality(*, wanted: bool) -> Operator:
    """``left == right``, and with ``wanted`` false ``left != right``."""

    def equals(left: Value, right: Value, run: Run) -> bool:
        take(run, left, right)
        return equal(left, right, run) is wanted

    return equals


def contains(needle: Value, holder: Value, run: Run) -> bool:
    """``needle in holder``."""
    take(run, needle, holder)
    if type(holder) is list:
        if type(needle) is str:
            return _contains_string(needle, holder, run)
        for item in holder:
            charge(run, 1)
            if equal(needle, item, run):
                return True
        return False
    if type(holder) is dict and type(needle) in _KEYS:
        charge(run, 1)
        return type(needle) is str and needle in holder
    raise EvaluationError(_not_in, needle, holder)


_KEYS = frozenset((str, int, float, bool))
"""Types for which an object can be asked; only strings are its keys."""


def _contains_string(needle: str, holder: list[Json], run: Run) -> bool:
    """``needle in holder``, at the speed of C: only a string equals a string."""
    affordable = BUDGET - run[STEPS]
    try:
        run[STEPS] += holder.index(needle, 0, affordable) + 1
    except ValueError:
        charge(run, len(holder))
        return False
    return True


def _not_in(needle: Value, holder: Value) -> str:
    if type(holder) is dict:
        return f"`in` looks for a string among the names of an object, not for {kind(needle)}"
    return f"`in` needs a list or an object on its right, not {kind(holder)}"


# ---- order ----------------------------------------------------------------------------------------

Compare: TypeAlias = Callable[[Any, Any], bool]
ORDERS: Mapping[str, Compare] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _order(sign: str) -> Operator:
    """``left < right`` and its kin: of two numbers, or of two values of one type that has an order."""
    compare = ORDERS[sign]

    def ordered(left: Value, right: Value, run: Run) -> bool:
        one, other = type(left), type(right)
        if (one is int or one is float) and (other is int or other is float):
            # Python compares an integer with a double exactly.
            return compare(left, right)
        take(run, left, right)
        if one is other:
            if one is str or one is bool:
                return compare(left, right)
            if one is Timestamp or one is Duration:
                return compare(left.ns, right.ns)  # type: ignore[union-attr]  # both are of this type
        raise EvaluationError(not_comparable, sign, left, right)

    return ordered


def not_comparable(sign: str, left: Value, right: Value) -> str:
    """Describe two values that have no order."""
    if type(left) is type(right):
        return f"`{sign}` cannot compare {kind(left)} with another"
    return f"`{sign}` cannot compare {kind(left)} with {kind(right)}"


# ---- arithmetic -----------------------------------------------------------------------------------


def _arithmetic(sign: str) -> Operator:
    """``left + right`` and its kin."""
    of_integers, of_doubles = _INTEGERS[sign], _DOUBLES.get(sign)

    def arithmetic(left: Value, right: Value, run: Run) -> Value:
        one, other = type(left), type(right)
        if one is int and other is int:
            result = of_integers(left, right)
            if -INT_LIMIT <= result < INT_LIMIT:
                return result
            raise fail(BEYOND_64_BITS)
        if one is float and other is float and of_doubles is not None:
            return of_doubles(left, right)
        take(run, left, right)
        if sign == "+" and one is other:
            if one is str:
                charge(run, (len(left) + len(right) + PIECE - 1) // PIECE)  # type: ignore[arg-type]  # strings
                return left + right  # type: ignore[operator]  # strings
            if one is list:
                charge(run, len(left) + len(right))  # type: ignore[arg-type]  # lists
                return left + right  # type: ignore[operator]  # lists
        if sign in "+-" and (moved := shifted(sign, left, right)) is not None:
            return moved
        raise EvaluationError(_no_arithmetic, sign, left, right)

    return arithmetic


def _no_arithmetic(sign: str, left: Value, right: Value) -> str:
    if {type(left), type(right)} == {int, float} and sign != "%":
        return f"`{sign}` does not mix an integer with a double: write double(…) around the integer"
    if sign == "%" and {type(left), type(right)} <= {int, float}:
        return "`%` is for two integers: write int(…) around a double"
    return f"`{sign}` cannot join {kind(left)} and {kind(right)}"


def _quotient(left: int, right: int) -> int:
    """Division toward zero."""
    if right == 0:
        raise fail("a division by zero")
    size = abs(left) // abs(right)
    return size if (left < 0) == (right < 0) else -size


def _remainder(left: int, right: int) -> int:
    """What division toward zero leaves; beyond 64 bits where the quotient is, as in CEL."""
    quotient = _quotient(left, right)
    return left - quotient * right if quotient < INT_LIMIT else quotient


def _ratio(left: float, right: float) -> float:
    if right:
        return left / right
    if not left or math.isnan(left):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1.0, right)


_INTEGERS: Mapping[str, Callable[[Any, Any], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _quotient,
    "%": _remainder,
}
_DOUBLES: Mapping[str, Callable[[Any, Any], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _ratio,
}


def negated(value: Value, run: Run) -> int | float:
    """``-value``."""
    if type(value) is int:
        if value == -INT_LIMIT:
            raise fail(BEYOND_64_BITS)
        return -value
    if type(value) is float:
        return -value
    take(run, value)
    raise EvaluationError(_no_negative, value)


def _no_negative(value: Value) -> str:
    return f"`-` needs a number, not {kind(value)}"


def inverted(value: Value, run: Run) -> bool:
    """``!value``."""
    if value is True:
        return False
    if value is False:
        return True
    take(run, value)
    raise EvaluationError(_not_boolean, "!", value)


def _not_boolean(sign: str, value: Value) -> str:
    return f"`{sign}` needs true or false, not {kind(value)}"


def not_boolean(sign: str, value: Value, run: Run) -> EvaluationError:
    """The error of ``sign`` for ``value``, which is no boolean; a string is counted."""
    take(run, value)
    return EvaluationError(_not_boolean, sign, value)


OPERATORS: Final = ("==", "!=", "in", *ORDERS, *_INTEGERS)
"""The operators of two values that are always both evaluated."""


def operator_of(sign: str) -> Operator:
    """The function of an operator."""
    if sign == "in":
        return contains
    if sign in ORDERS:
        return _order(sign)
    return _arithmetic(sign) if sign in _INTEGERS else _equality(wanted=sign == "==")
