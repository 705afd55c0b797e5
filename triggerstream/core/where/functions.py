"""Functions and methods, and what they cost (docs/semantics.md, R13.15 to R13.20)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Final

from triggerstream.core.where.timestamps import (
    SECOND_NS,
    duration_text,
    parse_duration,
    parse_timestamp,
    timestamp,
    timestamp_text,
)
from triggerstream.core.where.values import (
    BEYOND_64_BITS,
    INT_LIMIT,
    Duration,
    EvaluationError,
    Run,
    Timestamp,
    Value,
    charge,
    fail,
    kind,
    pieces,
    shown,
    take,
)

_TESTS: Mapping[str, Callable[[str, str], bool]] = {
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "contains": str.__contains__,
}


def compare_text(method: str, text: Value, part: Value, run: Run) -> bool:
    """``text.startsWith(part)`` and its kin."""
    take(run, text, part)
    if type(text) is str and type(part) is str:
        return _TESTS[method](text, part)
    raise EvaluationError(_no_text, method, text, part)


def _no_text(method: str, text: Value, part: Value) -> str:
    if type(text) is str:
        return f"`{method}` needs a string in its brackets, not {kind(part)}"
    if method == "contains" and type(text) is list:
        return "`contains` is for strings: write `x in data.list`"
    return f"`{method}` is for strings, not for {kind(text)}"


def _no_function(name: str, value: Value) -> str:
    return f"{name}() cannot take {kind(value)}"


def size_of(value: Value, run: Run) -> int:
    """``size(value)``; of a string its code points."""
    if type(value) is str:
        charge(run, pieces(value))
        return len(value)
    if type(value) is list or type(value) is dict:
        return len(value)
    raise EvaluationError(_no_function, "size", value)


# Each character can be read in one way only: else a long text that fails would take the square of its length.
_INTEGER = re.compile(r"[-+]?[0-9]+")
_INTEGER_DIGITS: Final = 19
"""Digits of 2^63. Python refuses to convert thousands of them."""
_DOUBLE = re.compile(
    r"[-+]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[-+]?[0-9]+)?|inf|infinity|nan)", re.IGNORECASE | re.ASCII
)


def to_int(value: Value, run: Run) -> int:
    """``int(value)``; a fraction is cut off, a timestamp becomes whole seconds since 1970."""
    match value:
        case bool() | int():
            return int(value)
        case float():
            if -INT_LIMIT < value < INT_LIMIT:
                return int(value)
            raise fail("int() of a double beyond 2^63")
        case str():
            charge(run, pieces(value))
            if _INTEGER.fullmatch(value) is None:
                raise EvaluationError(_no_number, "int", value)
            digits = value.lstrip("-+").lstrip("0")
            number = int(digits or "0") if len(digits) <= _INTEGER_DIGITS else INT_LIMIT + 1
            number = -number if value.startswith("-") else number
            if not -INT_LIMIT <= number < INT_LIMIT:
                raise EvaluationError(_no_number, "int", value)
            return number
        case Timestamp():
            return value.ns // SECOND_NS
        case _:
            raise EvaluationError(_no_function, "int", value)


def to_double(value: Value, run: Run) -> float:
    """``double(value)``."""
    match value:
        case bool():
            raise EvaluationError(_no_function, "double", value)
        case float():
            return value
        case int():
            try:
                return float(value)
            except OverflowError:
                raise fail("double() of an integer beyond every double") from None
        case str():
            charge(run, pieces(value))
            if _DOUBLE.fullmatch(value) is None:
                raise EvaluationError(_no_number, "double", value)
            return float(value)
        case _:
            raise EvaluationError(_no_function, "double", value)


def _no_number(name: str, text: str) -> str:
    return f"{name}() cannot read {shown(text)} as a number"


def to_string(value: Value, run: Run) -> str:
    """``string(value)``."""
    match value:
        case str():
            charge(run, pieces(value))
            text = value
        case bool():
            text = "true" if value else "false"
        case int():
            # No event has such an integer (R13.6). How many digits Python converts is a setting of its.
            if not -INT_LIMIT <= value < INT_LIMIT:
                raise fail(BEYOND_64_BITS)
            text = str(value)
        case float():
            text = _double_text(value)
        case Timestamp():
            text = timestamp_text(value.ns)
        case Duration():
            text = duration_text(value.ns)
        case _:
            raise EvaluationError(_no_function, "string", value)
    charge(run, pieces(text))
    return text


_EXPONENT_FROM: Final = 1e6
"""Doubles from here on are written with an exponent, as ``%g`` does."""


def _double_text(value: float) -> str:
    """The shortest digits that give ``value`` again: ``1``, ``0.25``, ``1.5e+06``."""
    # Python gives the shortest digits, and has exponents below 1e-4 and from 1e16 on.
    text = repr(value).removesuffix(".0")
    if abs(value) < _EXPONENT_FROM or not math.isfinite(value) or "e" in text:
        return text
    whole, _, fraction = text.removeprefix("-").partition(".")
    digits = (whole + fraction).rstrip("0")
    point = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{'-' if value < 0 else ''}{digits[0]}{point}e+{len(whole) - 1:02}"


def to_timestamp(value: Value, run: Run) -> Timestamp:
    """``timestamp(value)``; of an integer that many seconds since 1970."""
    match value:
        case str():
            charge(run, pieces(value))
            return parse_timestamp(value)
        case Timestamp():
            return value
        case bool():
            raise EvaluationError(_no_function, "timestamp", value)
        case int():
            return timestamp(value * SECOND_NS)
        case _:
            raise EvaluationError(_no_function, "timestamp", value)


def to_duration(value: Value, run: Run) -> Duration:
    """``duration(value)``."""
    match value:
        case str():
            charge(run, pieces(value))
            return parse_duration(value)
        case Duration():
            return value
        case _:
            raise EvaluationError(_no_function, "duration", value)


CONVERSIONS: Mapping[str, Callable[[Value, Run], Value]] = {
    "size": size_of,
    "int": to_int,
    "double": to_double,
    "string": to_string,
    "timestamp": to_timestamp,
    "duration": to_duration,
}
"""The functions of one argument."""
