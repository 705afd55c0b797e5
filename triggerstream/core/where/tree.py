"""Syntax tree of an expression, and the names that the language knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, assert_never

Variable: TypeAlias = Literal["data", "time", "session", "id"]
VARIABLES: Final[Mapping[str, Variable]] = {"data": "data", "time": "time", "session": "session", "id": "id"}

FUNCTIONS: Final = ("size", "int", "double", "string", "timestamp", "duration")
"""Functions of one argument; ``has`` is not among them, because its argument is no value."""
TEXT_METHODS: Final = ("startsWith", "endsWith", "contains")
"""Methods of a string, with one argument."""
TIME_METHODS: Final = (
    "getFullYear",
    "getMonth",
    "getDayOfMonth",
    "getDayOfWeek",
    "getHours",
    "getMinutes",
)
"""Methods of a timestamp, without arguments."""
QUANTIFIERS: Final = ("exists", "all")
METHODS: Final = (*TEXT_METHODS, *TIME_METHODS, *QUANTIFIERS)


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal: null, a boolean, an integer, a double or a string."""

    value: bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class Name:
    """One of the four variables."""

    name: Variable


@dataclass(frozen=True, slots=True)
class Element:
    """The variable of an ``exists`` or ``all``; ``level`` is how many others are around that one."""

    name: str
    level: int


@dataclass(frozen=True, slots=True)
class Path:
    """``base.a["b"][0]``: a string is a field, a node is an index that was written in brackets."""

    base: Node
    steps: tuple[str | Node, ...]


@dataclass(frozen=True, slots=True)
class Has:
    """``has(of.name)``."""

    of: Node
    name: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list literal."""

    members: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Unary:
    """``operator`` before a value."""

    operator: str
    of: Node


@dataclass(frozen=True, slots=True)
class Chain:
    """Operators of one precedence, from left to right: ``1 + 2 - 3``."""

    first: Node
    rest: tuple[tuple[str, Node], ...]


@dataclass(frozen=True, slots=True)
class Logic:
    """``&&`` or ``||`` of two or more members. ``spans`` are the places of the members in the text."""

    operator: str
    members: tuple[Node, ...]
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """``condition ? yes : no``."""

    condition: Node
    yes: Node
    no: Node


@dataclass(frozen=True, slots=True)
class Call:
    """A function or a method; a method's receiver is the first argument."""

    function: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Quantifier:
    """``source.exists(variable, body)`` or ``source.all(variable, body)``."""

    kind: str
    source: Node
    level: int
    body: Node


Node: TypeAlias = (
    Constant | Name | Element | Path | Has | Items | Unary | Chain | Logic | Choice | Call | Quantifier
)


def children(node: Node) -> tuple[Node, ...]:
    """The nodes right beneath ``node``, from left to right."""
    match node:
        case Constant() | Name() | Element():
            return ()
        case Path(base=base, steps=steps):
            return (base, *(step for step in steps if not isinstance(step, str)))
        case Has(of=of) | Unary(of=of):
            return (of,)
        case Items(members=members) | Logic(members=members) | Call(arguments=members):
            return members
        case Chain(first=first, rest=rest):
            return (first, *(operand for _, operand in rest))
        case Choice(condition=condition, yes=yes, no=no):
            return (condition, yes, no)
        case Quantifier(source=source, body=body):
            return (source, body)
        case _ as never:
            assert_never(never)


def elements_at_once(node: Node) -> int:
    """How many variables of ``exists`` and ``all`` have a value at the same time."""
    inside = max(map(elements_at_once, children(node)), default=0)
    return max(inside, node.level + 1) if isinstance(node, Quantifier) else inside


def operations(node: Node) -> int:
    """Operators, calls, fields, indexes and members of lists in ``node`` (docs/semantics.md, R13.22).

    The body of an ``exists`` or ``all`` counts for its own elements, and is not among them.
    """
    own = 1
    match node:
        case Constant() | Name() | Element():
            return 0
        case Quantifier(source=source):
            return 1 + operations(source)
        case Items(members=members):
            own = 0 if all(isinstance(member, Constant) for member in members) else len(members)
        case Path(steps=steps):
            own = len(steps)
        case Has():
            own = 2
        case Chain(rest=rest):
            own = len(rest)
        case Logic(members=members):
            own = len(members) - 1
        case Unary() | Choice() | Call():
            pass
        case _ as never:
            assert_never(never)
    return own + sum(map(operations, children(node)))
