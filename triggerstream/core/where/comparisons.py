"""Comparisons of an expression whose operands have types that cannot be compared, whatever the event."""

from __future__ import annotations

import json
from typing import Final

from triggerstream.core.where.evaluation import Where
from triggerstream.core.where.operators import ORDERS
from triggerstream.core.where.parser import parse
from triggerstream.core.where.tree import (
    TEXT_METHODS,
    TIME_METHODS,
    Call,
    Chain,
    Choice,
    Constant,
    Element,
    Has,
    Items,
    Logic,
    Name,
    Node,
    Path,
    Quantifier,
    Unary,
    children,
)

_BOOLEAN: Final = "true or false"
_NUMBER: Final = "a number"
_TEXT: Final = "a string"
_OF_CALLS: Final = {
    **dict.fromkeys(TEXT_METHODS, _BOOLEAN),
    **dict.fromkeys(("size", "int", "double", *TIME_METHODS), _NUMBER),
    "string": _TEXT,
    "timestamp": "a timestamp",
    "duration": "a duration",
}
_OF_NAMES: Final = {"data": "an object", "time": "a timestamp", "session": _TEXT}
_COMPARISONS: Final = ("==", "!=", "in", *ORDERS)


def comparison_of_two_types(where: Where) -> str | None:
    """Describe the first comparison that no event can make true or false; None if there is none."""
    return _described(parse(where.text))


def _described(node: Node) -> str | None:
    for inside in children(node):
        if (found := _described(inside)) is not None:
            return found
    if not isinstance(node, Chain):
        return None
    left = node.first
    for index, (sign, right) in enumerate(node.rest):
        before = Chain(node.first, node.rest[:index]) if index else left
        one, other = _type(before), _type(right)
        if sign == "in" and isinstance(right, Constant):
            return f"`in` needs a list on its right, not {other}: write `in [{_text(right)}]`"
        if sign in {"==", "!=", *ORDERS} and one is not None and other is not None and one != other:
            return _says(before, one, sign, right, other)
    return None


def _says(left: Node, one: str, sign: str, right: Node, other: str) -> str:
    what, with_what = _text(left), _text(right)
    first = f"`{what}`" if what else "its left side"
    second = with_what if isinstance(right, Constant) and with_what else other
    effect = (
        f"which `{sign}` cannot compare with {second}" if sign in ORDERS else f"which never equals {second}"
    )
    return f"{first} gives {one}, {effect}{_instead(left, sign, right)}"


def _instead(left: Node, sign: str, right: Node) -> str:
    """What was probably meant: a value between two others, or the opposite of a comparison."""
    match left:
        case Chain(rest=(*_, (before, middle))) if before in ORDERS and sign in ORDERS:
            texts = _text(left), _text(middle), _text(right)
            if all(texts):
                return f": write `{texts[0]} && {texts[1]} {sign} {texts[2]}`"
        case Unary(operator="!", of=of) if _text(left) and (other := _text(right)):
            inner = _text(of)
            return f": write `!({inner} {sign} {other})`"
        case _:
            pass
    return ""


def _type(node: Node) -> str | None:
    """The type of all values that ``node`` can give, as messages name it; None if it depends on the event."""
    match node:
        case Constant(value=value):
            return _of_constant(value)
        case Name(name=name):
            return _OF_NAMES.get(name)
        case Items():
            return "a list"
        case Unary(operator=sign):
            return _BOOLEAN if sign == "!" else _NUMBER
        case Logic() | Has() | Quantifier():
            return _BOOLEAN
        case Call(function=function):
            return _OF_CALLS.get(function)
        case Chain(rest=rest):
            return _BOOLEAN if rest[-1][0] in _COMPARISONS else None
        case Choice(yes=yes, no=no):
            return _type(yes) if _type(yes) == _type(no) else None
        case Element() | Path():
            return None


def _of_constant(value: bool | float | str | None) -> str:  # noqa: FBT001 - a value of the language
    if value is None:
        return "null"
    if isinstance(value, bool):
        return _BOOLEAN
    return _TEXT if isinstance(value, str) else _NUMBER


def _text(node: Node) -> str:
    """``node`` as it is written; empty if it is long to write."""
    match node:
        case Constant(value=value):
            return json.dumps(value, ensure_ascii=False)
        case Name(name=name) | Element(name=name):
            return name
        case Path(base=base, steps=steps) if begin := _text(base):
            names = [step for step in steps if isinstance(step, str) and step.isidentifier()]
            return ".".join((begin, *names)) if len(names) == len(steps) else ""
        case Unary(operator=sign, of=of) if not isinstance(of, Chain) and (inner := _text(of)):
            return f"{sign}{inner}"
        case Chain(first=first, rest=rest):
            # The tree does not say which chains within stood in parentheses.
            operands = (first, *(operand for _, operand in rest))
            parts = ["" if isinstance(operand, Chain) else _text(operand) for operand in operands]
            signs = ["", *(f" {sign} " for sign, _ in rest)]
            return "".join(sign + part for sign, part in zip(signs, parts, strict=True)) if all(parts) else ""
        case _:
            return ""
