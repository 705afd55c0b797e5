"""Fields and elements: closures of paths, and errors where they lead nowhere (docs/semantics.md, R13.9)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from triggerstream.core.ids import JsonObject
from triggerstream.core.similar_names import nearest
from triggerstream.core.where.tree import Constant, Element, Name, Node, Path
from triggerstream.core.where.values import INT_LIMIT, Evaluate, EvaluationError, Run, Value, kind, shown

_MOST_NAMED = 5
"""Fields of an object that a message names."""
_MOST_COMPARED = 100
"""Fields of an object that are compared with the one that it lacks."""
_SHORT = 40
"""Characters of a field's name that stands in a message as it is."""


def names_of(steps: Iterable[str | Node]) -> tuple[str, ...] | None:
    """The steps of a path that has names alone; None if it has an index."""
    names: list[str] = []
    for step in steps:
        match step:
            case str(name) | Constant(value=str(name)):
                names.append(name)
            case _:
                return None
    return tuple(names)


def data_path(names: tuple[str, ...]) -> Evaluate:
    """Fields of data. Paths of one and of two names have closures of their own: most paths are of these."""
    first, *others = names
    if not others:

        def one_name(data: JsonObject, run: Run) -> Value:  # noqa: ARG001 - the arguments of every closure
            # Asked beforehand, because a KeyError takes half a microsecond.
            if first in data:
                return data[first]
            raise EvaluationError(_unreachable, data, "data", names)

        return one_name
    second, *others = others
    if not others:

        def two_names(data: JsonObject, run: Run) -> Value:  # noqa: ARG001 - the arguments of every closure
            try:
                # A string, a list or a number raises TypeError for a name.
                return data[first][second]  # type: ignore[call-overload,index]
            except (KeyError, TypeError):
                raise EvaluationError(_unreachable, data, "data", names) from None

        return two_names
    return named_path(lambda data, run: data, names, "data")  # noqa: ARG005 - the arguments of every closure


def named_path(base: Evaluate, names: tuple[str, ...], base_text: str) -> Evaluate:
    """Fields of any value."""

    def named(data: JsonObject, run: Run) -> Value:
        value = begun = base(data, run)
        try:
            for name in names:
                value = value[name]
        except (KeyError, TypeError):
            raise EvaluationError(_unreachable, begun, base_text, names) from None
        return value  # type: ignore[no-any-return]  # whatever JSON holds

    return named


def _unreachable(value: Any, text: str, names: tuple[str, ...]) -> str:  # noqa: ANN401 - walks any value
    """Say where a path of names ends too early."""
    for name in names:
        if type(value) is not dict:
            return f"{text} is {kind(value)}, which has no field {name}"
        if name not in value:
            return _no_field(value, text, name)
        text = f"{text}{_step_text(name)}"
        value = value[name]
    return f"{text} exists"


def missing_field(data: JsonObject, names: tuple[str, ...]) -> str | None:
    """Why an event's data has no value at a path, with what it has instead; None if it has one."""
    value: Any = data
    for name in names:
        if type(value) is not dict or name not in value:
            return _unreachable(data, "data", names)
        value = value[name]
    return None


def _no_field(holder: dict[str, Any], text: str, name: str) -> str:
    """Say that ``holder``, which ``text`` names, lacks a field, and what it has instead."""
    says = f"{text}{_step_text(name)} does not exist"
    if not holder:
        return f"{says}: {text} is empty"
    likely = nearest(name, [*islice(holder, _MOST_COMPARED)])
    if likely is not None:
        return f"{says}: did you mean {text}{_step_text(likely)}?"
    names = [
        one if _PLAIN.fullmatch(one) and len(one) <= _SHORT else shown(one)
        for one in islice(holder, _MOST_NAMED)
    ]
    more = len(holder) - len(names)
    return f"{says}: {text} has {', '.join(names)}" + (f" and {more:,} more" if more else "")


@dataclass(frozen=True, slots=True)
class Place:
    """A path with an index, for messages: the text of its base, and its steps."""

    base: str
    steps: tuple[str | Node, ...]


def indexed_path(base: Evaluate, steps: tuple[Evaluate, ...], place: Place) -> Evaluate:
    """Fields and elements of any value, one of them by an index."""

    def indexed(data: JsonObject, run: Run) -> Value:
        value: Value = base(data, run)
        for number, step in enumerate(steps):
            value = _element(value, step(data, run), place, number)
        return value

    return indexed


def _element(holder: Value, index: Value, place: Place, number: int) -> Value:
    """``holder[index]``: a field of an object, or an element of a list, where 1.0 is 1."""
    if type(holder) is dict:
        if type(index) is str and index in holder:
            return holder[index]
    elif type(holder) is list:
        if type(index) is float and index.is_integer():
            index = int(index)
        if type(index) is int and 0 <= index < len(holder):
            return holder[index]
    raise EvaluationError(_no_element, holder, index, place, number)


def _no_element(holder: Value, index: Value, place: Place, number: int) -> str:
    before = place.base + "".join(map(_step_text, place.steps[:number]))
    if type(holder) is list:
        if type(index) is int:
            number_text = index if -INT_LIMIT <= index < INT_LIMIT else "…"
            elements = "1 element" if len(holder) == 1 else f"{len(holder)} elements"
            return f"{before}[{number_text}] does not exist: the list has {elements}"
        return f"{before} is a list, whose elements have numbers such as [0], not {kind(index)}"
    if type(holder) is dict:
        if type(index) is str:
            return _no_field(holder, before, index)
        return f"{before} is an object, whose fields have names, not {kind(index)}"
    return f"{before} is {kind(holder)}, which has no fields and no elements"


def has_field(of: Evaluate, name: str, text: str) -> Evaluate:
    """``has(of.name)``."""

    def has(data: JsonObject, run: Run) -> bool:
        value = of(data, run)
        if type(value) is dict:
            return name in value
        raise EvaluationError(_unreachable, value, text, (name,))

    return has


_PLAIN = re.compile("[A-Za-z_][A-Za-z0-9_]*")


def _step_text(step: str | Node) -> str:
    match step:
        case str(name) | Constant(value=str(name)):
            return f".{name}" if _PLAIN.fullmatch(name) else f"[{name!r}]"
        case Constant(value=value):
            return f"[{value}]"
        case _:
            return "[…]"


def text_of(node: Node) -> str:
    """A short name of ``node`` for messages: its path if it is one."""
    match node:
        case Name(name=name):
            return name
        case Element(name=name):
            return name
        case Path(base=base, steps=steps):
            return text_of(base) + "".join(map(_step_text, steps))
        case _:
            return "the value"
