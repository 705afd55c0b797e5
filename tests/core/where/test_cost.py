"""What the usual expressions cost, for every event: a few calls, whatever else is in the data."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

import pytest

from triggerstream.core.ids import JsonObject
from triggerstream.core.where import compile_where


class Untouched(list[Any]):
    """A list that nobody looks into."""

    __slots__ = ()

    def _touched(self, *_: object) -> NoReturn:
        raise AssertionError("a list was looked into that the expression does not name")

    __iter__ = __getitem__ = __len__ = __contains__ = index = _touched


USUAL = {
    'data.score > 3 && data.kind == "x"': 6,
    "data.score > 3": 3,
    'data.kind == "x"': 3,
    "data.order.id == 5": 3,
    'data.kind in ["a", "x"]': 4,
    "has(data.kind)": 3,
    "data.missing == 5": 3,
    'data.kind.startsWith("x")': 7,
}
"""Expressions, each with the functions in Python that an evaluation calls."""


@pytest.mark.parametrize("text", USUAL)
def test_evaluation_calls_few_functions_and_looks_at_no_other_data(text: str) -> None:
    if "MUTANT_UNDER_TEST" in os.environ:
        pytest.skip("waits for a run without mutmut, which wraps each function in others")
    data: JsonObject = {"items": Untouched([1] * 300), "score": 5, "kind": "x", "order": {"id": 5}}
    where = compile_where(text)
    calls = list(called(lambda: where.matches(data, 0, "s", None)))
    assert len(calls) <= USUAL[text], calls


def called(run: Any) -> Iterator[str]:  # noqa: ANN401 - any function without arguments
    """The names of the functions in Python that ``run`` calls."""
    names: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            names.append(frame.f_code.co_qualname)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    yield from names[1:]
