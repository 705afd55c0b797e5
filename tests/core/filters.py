"""The ``where`` expressions that random files use, each with its meaning as plain Python.

A function raises ``KeyError`` or ``TypeError`` where the expression has no value: then nothing matches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias


class Given(Protocol):
    """The variables of an expression, for one event."""

    @property
    def data(self) -> dict[str, Any]: ...
    @property
    def time_us(self) -> int: ...
    @property
    def session(self) -> str: ...
    @property
    def id(self) -> str | None: ...


Filter: TypeAlias = Callable[[Given], Any]

FIFTH_SECOND_US = (1_767_225_600 + 5) * 1_000_000
"""2026-01-01T00:00:05Z."""


def _number(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return value


def _integer(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def _list(value: Any) -> Any:  # noqa: ANN401
    if not isinstance(value, list):
        raise TypeError
    return value


def _either(data: dict[str, Any]) -> Any:  # noqa: ANN401
    """``||``: a side without a value counts only if the other one is not true."""
    try:
        if _number(data["level"]) >= 2:
            return True
    except (KeyError, TypeError):
        if data["by"] == "x":
            return True
        raise
    return data["by"] == "x"


FILTERS: Mapping[str, Filter] = {
    "data.level >= 2": lambda e: _number(e.data["level"]) >= 2,
    "data.level == 2": lambda e: not isinstance(e.data["level"], bool) and e.data["level"] == 2,
    "has(data.level)": lambda e: "level" in e.data,
    "has(data.by) && data.by == 'x'": lambda e: e.data["by"] == "x",
    'data.by != "x"': lambda e: e.data["by"] != "x",
    "data.level >= 2 || data.by == 'x'": lambda e: _either(e.data),
    "data.level": lambda e: e.data["level"],
    "'x' in data.ids": lambda e: "x" in _list(e.data["ids"]),
    "data.n % 2 == 0": lambda e: _integer(e.data["n"]) % 2 == 0,
    "size(data.ids) > 1": lambda e: len(_sized(e.data["ids"])) > 1,
    "data.ids.exists(v, v == 'x')": lambda e: "x" in _list(e.data["ids"]),
    "!(data.by == 'y')": lambda e: e.data["by"] != "y",
    "data.by in ['x', 'y']": lambda e: e.data["by"] in ("x", "y"),
    "data.o.by == 'x'": lambda e: e.data["o"]["by"] == "x",
    'data["level"] + 1 > 2': lambda e: _integer(e.data["level"]) + 1 > 2,
    "time < timestamp('2026-01-01T00:00:05Z')": lambda e: e.time_us < FIFTH_SECOND_US,
    "session == 's1'": lambda e: e.session == "s1",
    "id != null": lambda e: e.id is not None,
    "id == '1' ? data.level >= 1 : true": lambda e: _number(e.data["level"]) >= 1 if e.id == "1" else True,
}

OF_EXAMPLES: Mapping[str, Filter] = {
    "data.amount >= 100": lambda e: _number(e.data["amount"]) >= 100,
    "data.amount < 100": lambda e: _number(e.data["amount"]) < 100,
    "data.amont >= 100": lambda e: _number(e.data["amont"]) >= 100,
    "data.level > 1": lambda e: _number(e.data["level"]) > 1,
    "has(data.street)": lambda e: "street" in e.data,
    "data.hard": lambda e: e.data["hard"],
    "data.stop": lambda e: e.data["stop"],
    "data.wait == 'long'": lambda e: e.data["wait"] == "long",
    "data.wait == 'short'": lambda e: e.data["wait"] == "short",
}
"""Those of examples written by hand."""


def matches(where: str, event: Given) -> bool:
    """Whether an expression is ``true`` for an event."""
    meaning = FILTERS.get(where) or OF_EXAMPLES.get(where)
    assert meaning is not None, f"add the meaning of {where}"
    try:
        return meaning(event) is True
    except (KeyError, TypeError):
        return False


def _sized(value: Any) -> Any:  # noqa: ANN401
    if not isinstance(value, str | list | dict):
        raise TypeError
    return value
