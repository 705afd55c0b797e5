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
from tests.core.where.evaluating import (
    EVENT_ID,
    OVER_BUDGET,
    OVER_WORK,
    SESSION,
    TIME_US,
    Cost,
    Failed,
    evaluated,
    outcome,
    plain,
)
from tests.core.where.plain_evaluator import Plain, PlainError, PlainOverBudgetError, PlainOverWorkError
from triggerstream.core.ids import Json, JsonObject
from triggerstream.core.where import WhereError, compile_where, lasting_answer
from triggerstream.core.where.parser import parse

pytestmark = pytest.mark.laws

COUNT = {10: 100, 100: 1_000}.get(settings().max_examples, settings().max_examples)
MOST = 5
"""Evaluations at the bound of the work that are enough: each takes a long time in the plain evaluator."""
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


def plainly(text: str, data: JsonObject) -> tuple[Any, Cost | None]:
    """What the plain evaluator gives, and what it cost."""
    evaluation = Plain(data, TIME_US, SESSION, EVENT_ID)
    try:
        value = plain(evaluation.value(parse(text)))
    except PlainError:
        value = "error"
    except PlainOverWorkError:
        return OVER_WORK, None
    except PlainOverBudgetError:
        return OVER_BUDGET, None
    return value, Cost(evaluation.steps, evaluation.work)


def ours(text: str, data: JsonObject) -> tuple[Any, Cost | None]:
    value, cost = evaluated(text, data)
    if value is OVER_BUDGET or value is OVER_WORK:
        return value, None
    return ("error" if isinstance(value, Failed) else value), cost


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
            over += found[0] is OVER_BUDGET
            # As text, because NaN is not equal to itself, and 1 is equal to 1.0 and to true.
            assert repr(found) == repr(plainly(text, event)), (text, event)
    assert over > COUNT / 200


def test_both_evaluators_agree_in_work_where_bodies_are_long() -> None:
    """Bodies of many operations, over lists that end near the bound of the work."""
    chance = Random(10)
    over = worked = 0
    parts = ("!(x == 2)", "[x, 7] != [7, x]", "!!(x == 1)", "[1, 2][0] == x", "!has(x.a) || true", "-x < 0")
    for text, data in cases(11, longest=200):
        body = " && ".join([f"(({text}) || true)", *chance.choices(parts, k=chance.randint(0, 20))])
        inner = f"[x, 1].all(v, {body})"
        macro = f"data.l.all(x, {chance.choice((body, inner, f'{inner} && {body}'))}) || data.b"
        if len(macro) > 1_000:
            continue
        event: JsonObject = {**data, "l": [1] * chance.randint(500, 2_500)}
        found = ours(macro, event)
        over += found[0] is OVER_WORK
        worked += found[1] is not None and found[1].work > 0
        assert repr(found) == repr(plainly(macro, event)), (macro, event)
        if over >= MOST and worked >= MOST:
            break
    assert over
    assert worked


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
