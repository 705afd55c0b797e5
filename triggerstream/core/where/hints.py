"""Words of other languages and of CEL that an expression does not know, and what to write instead."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches

from triggerstream.core.similar_names import have_different_numbers
from triggerstream.core.where.tree import (
    FUNCTIONS,
    METHODS,
    QUANTIFIERS,
    TEXT_METHODS,
    TIME_METHODS,
    VARIABLES,
)

WORDS = {
    "and": "write `&&` instead of `and`",
    "or": "write `||` instead of `or`",
    "not": "write `!` instead of `not`, for example !(data.x in [1, 2])",
    "AND": "write `&&` instead of `AND`",
    "OR": "write `||` instead of `OR`",
    "NOT": "write `!` instead of `NOT`",
    "is": "write `==` instead of `is`",
    "eq": "write `==` instead of `eq`",
    "equals": "write `==` instead of `equals`",
    "ne": "write `!=` instead of `ne`",
    "lt": "write `<` instead of `lt`",
    "gt": "write `>` instead of `gt`",
    "le": "write `<=` instead of `le`",
    "ge": "write `>=` instead of `ge`",
    "between": "write `x >= 2 && x <= 3` instead of `x between 2 and 3`",
    "like": "there are no patterns: use `startsWith`, `endsWith` or `contains`",
    "contains": "`contains` is a method: write data.text.contains(…); of a list write `x in data.list`",
    "matches": "there are no regular expressions: use `startsWith`, `endsWith` or `contains`",
    "if": "write `condition ? yes : no` instead of `if`",
    "then": "write `condition ? yes : no` instead of `if … then`",
    "else": "write `condition ? yes : no` instead of `if … else`",
}
_VALUES = {
    **dict.fromkeys(("True", "TRUE"), "true"),
    **dict.fromkeys(("False", "FALSE"), "false"),
    **dict.fromkeys(("None", "NULL", "Null", "nil", "undefined"), "null"),
}
"""Other languages' words for literals."""
_NO_FUNCTIONS = {
    "exists_one": "there is no `exists_one`: only `exists` and `all`",
    "existsOne": "there is no `existsOne`: only `exists` and `all`",
    "map": "there is no `map`: only `exists` and `all`, which give true or false",
    "filter": "there is no `filter`: only `exists` and `all`, which give true or false",
    "any": "write data.list.exists(x, x > 3) instead of `any`",
    "some": "write data.list.exists(x, x > 3) instead of `some`",
    "every": "write data.list.all(x, x > 3) instead of `every`",
    "matches": WORDS["matches"],
    "getDate": "write getDayOfMonth() + 1 instead of getDate()",
    "getSeconds": "there is no `getSeconds`: hours and minutes only",
    "getMilliseconds": "there is no `getMilliseconds`: hours and minutes only",
    "getDayOfYear": "there is no `getDayOfYear`: use getMonth() and getDayOfMonth()",
    "now": "there is no `now`: `time` is the event's time",
    "len": "write size(x) instead of `len`",
    "length": "write size(x) instead of `length`",
    "count": "write size(x) instead of `count`",
    "includes": "write `x in data.list`, or data.text.contains(x)",
    "float": "write double(x) instead of `float`",
    "str": "write string(x) instead of `str`",
    "lower": "letters cannot be converted: compare with each spelling, or let the producer do it",
    "upper": "letters cannot be converted: compare with each spelling, or let the producer do it",
    "lowerAscii": "letters cannot be converted: compare with each spelling, or let the producer do it",
    "upperAscii": "letters cannot be converted: compare with each spelling, or let the producer do it",
    "bool": 'there is no `bool`: compare, for example data.x == "true"',
    "uint": "there are no unsigned integers: write int(x)",
    "bytes": "there are no bytes",
    "type": "there is no `type`: compare with a value, or use `has`",
    "dyn": "there is no `dyn`: values of different types can be compared as they are",
}
"""Functions of CEL and of other languages that do not exist here, with what to write."""


def unknown_name(name: str, elements: Collection[str]) -> str:
    """Say what is wrong with a name that is no variable; ``elements`` are those of ``exists`` and ``all``."""
    if name in _VALUES:
        return f"write `{_VALUES[name]}` instead of `{name}`"
    if name in WORDS:
        return WORDS[name]
    if name in {"has", *FUNCTIONS}:
        return f"`{name}` is a function: write {_example(name)}"
    known = [*VARIABLES, *elements]
    if near := _nearest(name, known):
        return f"there is no `{name}`: did you mean `{near}`? There are {', '.join(known)}"
    if name in {"now", "today"}:
        return f"there is no `{name}`: `time` is the event's time"
    return f"there is no `{name}`: write data.{name} for a field. There are {', '.join(known)}"


def unknown_function(name: str, elements: Collection[str]) -> str:
    """Say what is wrong with a name that is called and is no function."""
    if name in METHODS:
        return f"`{name}` is a method: write {_example(name)}"
    if name in WORDS:
        return WORDS[name]
    if name in {*VARIABLES, *elements}:
        return f"`{name}` is a value and cannot be called"
    return _unknown(name, "function", ("has", *FUNCTIONS), METHODS)


def unknown_method(name: str) -> str:
    """Say what is wrong with a name after a dot that is called and is no method."""
    if name in {"has", *FUNCTIONS}:
        return f"`{name}` is a function: write {_example(name)}"
    return _unknown(name, "method", METHODS, ("has", *FUNCTIONS))


def _unknown(name: str, kind: str, likely: Sequence[str], others: Sequence[str]) -> str:
    if name in _NO_FUNCTIONS:
        return _NO_FUNCTIONS[name]
    if near := _nearest(name, [*likely, *others]):
        return f"there is no {kind} `{name}`: did you mean {_example(near)}?"
    return f"there is no {kind} `{name}`: there are {', '.join(likely)}"


def _example(name: str) -> str:
    """How a function or a method is called."""
    if name in TEXT_METHODS:
        return f'data.name.{name}("x")'
    if name in TIME_METHODS:
        return f"time.{name}()"
    if name in QUANTIFIERS:
        return f"data.list.{name}(x, x > 3)"
    return f"{name}(data.x)"


def _nearest(name: str, known: Sequence[str]) -> str | None:
    by_lower = {each.lower(): each for each in known if not have_different_numbers(name, each)}
    close = get_close_matches(name.lower(), by_lower, n=1, cutoff=_NEAREST_CUTOFF)
    return by_lower[close[0]] if close else None


_NEAREST_CUTOFF = 0.7
"""Likeness from which one name is taken for a slip of another, as ``difflib`` counts it."""
