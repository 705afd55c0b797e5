"""A second evaluator, written from docs/semantics.md, section 13, by the plainest means.

It walks the tree, has no special cases for constants, and counts each element that it looks at. Conversions
and sums of times are those of the first one: the oracle checks them, and they count strings alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from math import isfinite, isnan
from typing import Any

from triggerstream.core.ids import JsonObject
from triggerstream.core.where import functions, operators, timestamps
from triggerstream.core.where import tree as t
from triggerstream.core.where.values import Duration, EvaluationError, Timestamp

LIMIT = 10_000
WORK_LIMIT = 100_000
COVERED = 10


class PlainError(Exception):
    """An error in the sense of R13.7."""


class PlainOverBudgetError(Exception):
    """Over budget (R13.20)."""


class PlainOverWorkError(PlainOverBudgetError):
    """Over budget by the work (R13.22)."""


@dataclass
class Plain:
    """One evaluation."""

    data: JsonObject
    time_us: int
    session: str
    event_id: str | None
    steps: int = 0
    work: int = 0
    elements: dict[int, Any] = field(default_factory=dict)

    def count(self, steps: int) -> None:
        self.steps += steps
        if self.steps > LIMIT:
            raise PlainOverBudgetError

    def take(self, *values: Any) -> None:  # noqa: ANN401 - of any type
        """Strings that an operator takes or makes: one step for each begun hundred code points."""
        for value in values:
            if isinstance(value, str):
                self.count(len(value) // 100 + (len(value) % 100 > 0))

    def value(self, node: t.Node) -> Any:  # noqa: ANN401 - of any type
        match node:
            case t.Constant(value=value):
                return value
            case t.Name(name=name):
                if name == "time":
                    return self.convert(lambda: timestamps.event_time(self.time_us))
                return {"data": self.data, "session": self.session, "id": self.event_id}[name]
            case t.Element(level=level):
                return self.elements[level]
            case t.Path(base=base, steps=steps):
                value = self.value(base)
                for step in steps:
                    value = self.element(value, step if isinstance(step, str) else self.value(step))
                return value
            case t.Has(of=of, name=name):
                holder = self.value(of)
                self.need(isinstance(holder, dict))
                return bool(name in holder)
            case t.Items(members=members):
                return [self.value(member) for member in members]
            case t.Unary(operator=sign, of=of):
                return self.unary(sign, self.value(of))
            case t.Chain(first=first, rest=rest):
                value = self.value(first)
                for sign, operand in rest:
                    value = self.binary(sign, value, self.value(operand))
                return value
            case t.Logic(operator=sign, members=members):
                return self.joined(sign == "||", (lambda m=m: self.value(m) for m in members))
            case t.Choice(condition=condition, yes=yes, no=no):
                chosen = self.value(condition)
                self.take(chosen)
                self.need(isinstance(chosen, bool))
                value = self.value(yes if chosen else no)
                self.take(value)
                return value
            case t.Quantifier(kind=kind, source=source, level=level, body=body):
                return self.quantified(kind, self.value(source), level, body)
            case t.Call(function=function, arguments=arguments):
                return self.call(function, [self.value(argument) for argument in arguments])

    def need(self, holds: object) -> None:
        if not holds:
            raise PlainError

    def convert(self, calculate: Any) -> Any:  # noqa: ANN401 - of any type
        try:
            return calculate()
        except EvaluationError:
            raise PlainError from None

    def element(self, holder: Any, index: Any) -> Any:  # noqa: ANN401 - of any type
        if isinstance(holder, dict):
            self.need(isinstance(index, str) and index in holder)
            return holder[index]
        self.need(isinstance(holder, list) and is_number(index) and index in range(len(holder)))
        return holder[int(index)]

    def unary(self, sign: str, value: Any) -> Any:  # noqa: ANN401 - of any type
        self.take(value)
        if sign == "!":
            self.need(isinstance(value, bool))
            return not value
        self.need(is_number(value) and (isinstance(value, float) or value != -(2**63)))
        return -value

    def joined(self, decides: bool, members: Iterator[Any]) -> bool:  # noqa: FBT001 - true for `||`
        failed = False
        for member in members:
            try:
                value = member()
            except PlainError:
                failed = True
                continue
            self.take(value)
            if value is decides:
                return value is True
            failed = failed or not isinstance(value, bool)
        self.need(not failed)
        return not decides

    def quantified(self, kind: str, holder: Any, level: int, body: t.Node) -> bool:  # noqa: ANN401 - of any type
        self.take(holder)
        self.need(isinstance(holder, list | dict))

        work = operations(body)

        def members() -> Iterator[Any]:
            for item in holder:
                self.count(1)
                if work > COVERED:
                    self.work += work
                    if self.work > WORK_LIMIT:
                        raise PlainOverWorkError
                self.elements[level] = item
                yield lambda: self.value(body)

        return self.joined(kind == "exists", members())

    def binary(self, sign: str, left: Any, right: Any) -> Any:  # noqa: ANN401 - of any type
        self.take(left, right)
        match sign:
            case "==":
                return self.equal(left, right)
            case "!=":
                return not self.equal(left, right)
            case "in":
                return self.inside(left, right)
            case "<" | "<=" | ">" | ">=":
                return self.ordered(sign, left, right)
            case _:
                return self.calculated(sign, left, right)

    def equal(self, left: Any, right: Any) -> bool:  # noqa: ANN401 - of any type
        if is_number(left) and is_number(right):
            return compared(left, right) == 0
        if isinstance(left, Timestamp | Duration):
            return type(left) is type(right) and left.ns == right.ns
        if isinstance(left, list) and isinstance(right, list):
            return len(left) == len(right) and all(map(self.equal_elements, left, right))
        if isinstance(left, dict) and isinstance(right, dict):
            nothing = object()
            return len(left) == len(right) and all(
                self.equal_elements(left[name], right.get(name, nothing)) for name in left
            )
        return type(left) is type(right) and bool(left == right)

    def equal_elements(self, left: Any, right: Any) -> bool:  # noqa: ANN401 - of any type
        self.count(1)
        if isinstance(left, str) and len(left) > 100:
            self.count((len(left) - 1) // 100)
        return self.equal(left, right)

    def inside(self, left: Any, right: Any) -> bool:  # noqa: ANN401 - of any type
        if isinstance(right, dict):
            self.need(isinstance(left, str | int | float))
            self.count(1)
            return isinstance(left, str) and left in right
        self.need(isinstance(right, list))
        for item in right:
            self.count(1)
            if self.equal(left, item):
                return True
        return False

    def ordered(self, sign: str, left: Any, right: Any) -> bool:  # noqa: ANN401 - of any type
        if is_number(left) and is_number(right):
            order = compared(left, right)
            if order is None:
                return False
        else:
            self.need(type(left) is type(right) and isinstance(left, str | bool | Timestamp | Duration))
            if isinstance(left, Timestamp | Duration):
                left, right = left.ns, right.ns
            elif isinstance(left, str):
                left, right = list(map(ord, left)), list(map(ord, right))
            order = (left > right) - (left < right)
        return {"<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0}[sign]

    def calculated(self, sign: str, left: Any, right: Any) -> Any:  # noqa: ANN401 - of any type
        if sign == "+" and isinstance(left, str) and isinstance(right, str):
            self.take(left + right)
            return left + right
        if sign == "+" and isinstance(left, list) and isinstance(right, list):
            self.count(len(left) + len(right))
            return [*left, *right]
        self.need(not isinstance(left, str | list) and not isinstance(right, str | list))
        return self.convert(lambda: operators.operator_of(sign)(left, right, [0]))

    def call(self, function: str, values: list[Any]) -> Any:  # noqa: ANN401 - of any type
        self.take(*values)
        if function in t.TEXT_METHODS:
            text, part = values
            self.need(isinstance(text, str) and isinstance(part, str))
            places = range(len(text) - len(part) + 1)
            return {
                "startsWith": text[: len(part)] == part,
                "endsWith": text[max(0, len(text) - len(part)) :] == part,
                "contains": any(text[place : place + len(part)] == part for place in places),
            }[function]
        if function in t.TIME_METHODS:
            return self.convert(lambda: timestamps.part_of_time(function, values[0], [0]))
        result = self.convert(lambda: functions.CONVERSIONS[function](values[0], [-(10**9)]))
        if function == "string":
            self.take(result)
        return result


def operations(node: t.Node) -> int:
    """Operators, calls, fields, indexes, and members of lists that are not of literals alone (R13.22)."""
    beneath = sum(map(operations, t.children(node)))
    match node:
        case t.Items(members=members) if not all(isinstance(one, t.Constant) for one in members):
            return beneath + len(members)
        case t.Path(steps=steps):
            return beneath + len(steps)
        case t.Chain(rest=operands):
            return beneath + len(operands)
        case t.Logic(members=members):
            return beneath + len(members) - 1
        case t.Has():
            return beneath + 2  # the call, and the field
        case t.Quantifier(body=body):
            return beneath + 1 - operations(body)
        case t.Unary() | t.Choice() | t.Call():
            return beneath + 1
        case _:
            return beneath


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def compared(left: float, right: float) -> int | None:
    """-1, 0 or 1; None if one is not a number. Exactly."""
    if isnan(left) or isnan(right):
        return None
    if not (isfinite(left) and isfinite(right)):
        return (left > right) - (left < right)
    one, other = Fraction(left), Fraction(right)
    return (one > other) - (one < other)
