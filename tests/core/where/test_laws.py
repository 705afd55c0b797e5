"""Laws of random expressions: two evaluators agree in values and steps; nothing else has an influence."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import settings

from tests.core.where.drawing import draw_cases, draw_data
from tests.core.where.evaluating import EVENT_ID, OVER_BUDGET, SESSION, TIME_US, Failed, outcome, plain
from tests.core.where.plain_evaluator import Plain, PlainError, PlainOverBudgetError
from triggerstream.core.ids import Json, JsonObject
from triggerstream.core.where import WhereError, compile_where, lasting_answer
from triggerstream.core.where.parser import parse
from triggerstream.core.where.values import BUDGET

pytestmark = pytest.mark.laws

COUNT = {10: 100, 200: 1_000}.get(settings().max_examples, settings().max_examples)
LONG: list[Json] = [1] * 6_000
OTHER = ("x" * 99, "x" * 100, "x" * 101, "y" * 2_000)


def cases(seed: int, *, longest: int = 1_000) -> Iterator[tuple[str, JsonObject]]:
    """Random expressions with data. Some are drawn that are refused: operators stand beside one another."""
    for text, data in draw_cases(seed=seed, count=COUNT, longest=longest):
        try:
            parse(text)
        except WhereError:
            continue
        yield text, data


def plainly(text: str, data: JsonObject) -> tuple[Any, int]:
    """What the plain evaluator gives, and its steps."""
    evaluation = Plain(data, TIME_US, SESSION, EVENT_ID)
    try:
        value = plain(evaluation.value(parse(text)))
    except PlainError:
        value = "error"
    except PlainOverBudgetError:
        return "over budget", BUDGET + 1
    return value, evaluation.steps


def ours(text: str, data: JsonObject) -> tuple[Any, int]:
    value, steps = outcome(text, data)
    if value is OVER_BUDGET:
        return "over budget", BUDGET + 1
    return ("error" if isinstance(value, Failed) else value), steps


def with_long_values(chance: Random, data: JsonObject) -> JsonObject:
    """``data`` with some long lists and strings, so that evaluations end near the budget and above it."""
    longer = dict(data)
    lists: list[Json] = [LONG, list(LONG), [*LONG, 2], ["a"] * 9_999, [LONG] * 20]
    for name in ("l", "m", "w"):
        if chance.random() < 0.5:
            longer[name] = chance.choice(lists)
    for name in ("s", "t"):
        if chance.random() < 0.3:
            longer[name] = chance.choice(OTHER) * chance.choice((1, 1, 300, 600))
    return longer


def test_both_evaluators_agree_in_value_and_steps() -> None:
    chance = Random(3)
    over = 0
    for text, data in cases(2):
        for event in (data, with_long_values(chance, data)):
            found = ours(text, event)
            over += found[0] == "over budget"
            # As text, because NaN is not equal to itself, and 1 is equal to 1.0 and to true.
            assert repr(found) == repr(plainly(text, event)), (text, event)
    assert over > COUNT / 200


def test_match_depends_on_nothing_but_the_arguments() -> None:
    chance = Random(4)
    for text, data in cases(5):
        where = compile_where(text)
        before = copy.deepcopy(data)
        first = where.matches(data, TIME_US, SESSION, EVENT_ID)
        where.matches(draw_data(chance), 0, "other", None)
        assert where.matches(json.loads(json.dumps(data)), TIME_US, SESSION, EVENT_ID) is first
        assert compile_where(text).matches(data, TIME_US, SESSION, EVENT_ID) is first
        assert data == before


def test_lasting_answer_is_that_of_every_event() -> None:
    chance = Random(6)
    lasting = 0
    for text, _ in cases(7):
        where = compile_where(text)
        answer = lasting_answer(where)
        if answer is not None:
            lasting += 1
            for _ in range(3):
                assert where.matches(draw_data(chance), chance.randrange(10**15), "s", None) is answer, text
    assert lasting > COUNT / 20


def test_blanks_and_parentheses_around_change_nothing() -> None:
    for text, data in cases(8, longest=900):
        assert repr(outcome(f" (\n{text}\t) ", data)) == repr(outcome(text, data))


def test_members_of_a_logic_in_any_order_give_the_same_unless_one_is_over_budget() -> None:
    for text, data in cases(9, longest=450):
        for sign in ("&&", "||"):
            one = outcome(f"({text}) {sign} data.b", data)[0]
            other = outcome(f"data.b {sign} ({text})", data)[0]
            assert isinstance(one, Failed) is isinstance(other, Failed)
            assert isinstance(one, Failed) or one is other
