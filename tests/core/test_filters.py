"""The filters of random files mean in Python what the fold's evaluator makes of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest

from tests.core.filters import FIFTH_SECOND_US, FILTERS, OF_EXAMPLES, matches
from tests.core.logs_of_conditions import BYS, IDS, LEVELS, OBJECTS
from triggerstream.core.where import compile_where


@dataclass(frozen=True)
class Event:
    """An event as an expression sees it."""

    data: dict[str, Any] = field(default_factory=dict)
    time_us: int = 0
    session: str = "s1"
    id: str | None = None


MISSING = object()
ALL_DATA = [
    {
        name: value
        for name, value in zip(("level", "by", "ids", "o"), values, strict=True)
        if value is not MISSING
    }
    for values in product((*LEVELS, MISSING), (*BYS, MISSING), (*IDS, MISSING), (*OBJECTS, MISSING))
][::7]
EVENTS = [
    *(Event(data={"n": n, **data}) for n, data in enumerate(ALL_DATA)),
    *(
        Event(data={"stop": stop, "wait": wait})
        for stop, wait in ((True, "long"), ("yes", "short"), (False, 1))
    ),
    *(
        Event(data={"n": 2, "level": level}, session=session, id=given)
        for session in ("s1", "s2")
        for given in (None, "1")
        for level in (0, 2)
    ),
    *(Event(data={"amount": amount, "hard": hard}) for amount in (5, 100, "x") for hard in (True, "yes")),
    Event(data={"street": None}),
    *(Event(time_us=FIFTH_SECOND_US + later) for later in (-1, 0, 1)),
]


@pytest.mark.parametrize("where", [*FILTERS, *OF_EXAMPLES])
def test_filter_matches_as_the_evaluator_says(where: str) -> None:
    compiled = compile_where(where)
    answers = set()
    for event in EVENTS:
        found = compiled.matches(event.data, event.time_us, event.session, event.id)
        assert found is matches(where, event), event
        answers.add(found)
    assert answers == {True, False} or where == "data.amont >= 100"
