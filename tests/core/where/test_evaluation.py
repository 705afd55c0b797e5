"""What people are told of an evaluation, and of an expression that no event changes."""

from __future__ import annotations

import pytest

from tests.core.where.evaluating import EVENT_ID, SESSION, TIME_US
from triggerstream.core.ids import JsonObject
from triggerstream.core.where import Answer, Evaluation, compile_where, evaluate_where, lasting_answer

DATA: JsonObject = {"score": 2, "kind": "exam", "l": [1] * 20_000}
MISSING = "data.missing does not exist: data has score, kind, l"


def evaluated(text: str) -> Evaluation:
    where = compile_where(text)
    return evaluate_where(where, DATA, time_us=TIME_US, session=SESSION, event_id=EVENT_ID)


@pytest.mark.parametrize(
    ("text", "answer", "says", "steps"),
    [
        ('data.kind == "exam"', Answer.TRUE, "is true", 2),
        ('data.kind == "quiz"', Answer.FALSE, "is false", 2),
        ("data.score > 3 && data.score < 9", Answer.FALSE, "data.score > 3 is false", 0),
        ('data.score > 1  &&  data.kind == "quiz" && true', Answer.FALSE, 'data.kind == "quiz" is false', 2),
        ("  data.score > 3  && true", Answer.FALSE, "data.score > 3 is false", 0),
        ("data.missing && (1 > 2)", Answer.FALSE, "(1 > 2) is false", 0),
        ("data.score > 3 || data.score < 1", Answer.FALSE, "is false", 0),
        ("!(data.score > 1 && true)", Answer.FALSE, "is false", 0),
        ("time > time && true", Answer.FALSE, "time > time is false", 0),
        ("session == 'x' && id == 'e-1'", Answer.FALSE, "session == 'x' is false", 2),
        ("data.l.exists(v, v == 2)  ", Answer.OVER_BUDGET, "takes more than 10,000 steps", 10_001),
        ("data.missing > 3", Answer.ERROR, MISSING, 0),
        ("data.score + 2", Answer.NO_BOOLEAN, "gives an integer, not true or false", 0),
        ("data.missing ? 1 : 2", Answer.ERROR, MISSING, 0),
        ("null", Answer.NO_BOOLEAN, "gives null, not true or false", 0),
        ("time", Answer.NO_BOOLEAN, "gives a timestamp, not true or false", 0),
        ("time - time", Answer.NO_BOOLEAN, "gives a duration, not true or false", 0),
        ("[data.l]", Answer.NO_BOOLEAN, "gives a list, not true or false", 0),
        ("data", Answer.NO_BOOLEAN, "gives an object, not true or false", 0),
        ("'x'", Answer.NO_BOOLEAN, "gives a string, not true or false", 0),
        ("1.5", Answer.NO_BOOLEAN, "gives a double, not true or false", 0),
        ("[1].exists(v, [v].all(w, w == id))", Answer.FALSE, "is false", 3),
    ],
)
def test_evaluation_says_how_it_ended(text: str, answer: Answer, says: str, steps: int) -> None:
    assert evaluated(text) == Evaluation(answer=answer, text=says, steps=steps, work=0)
    assert compile_where(text).matches(DATA, TIME_US, SESSION, EVENT_ID) is (answer is Answer.TRUE)


def test_a_member_that_takes_the_whole_budget_is_named() -> None:
    where = compile_where("true && data.l.exists(v, v == 2)")
    found = evaluate_where(where, {"l": [1] * 10_000}, time_us=0, session="s", event_id=None)
    assert (found.text, found.steps) == ("data.l.exists(v, v == 2) is false", 10_000)


def test_answer_of_an_expression_that_takes_the_whole_budget_lasts() -> None:
    inner, outer = ",".join("1" * 124), ",".join("1" * 80)
    where = compile_where(f"[{outer}].all(v, [{inner}].all(w, true))")
    assert lasting_answer(where) is True
    assert lasting_answer(compile_where(f"[{outer}].all(v, [{inner},1].all(w, true))")) is False


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("true", True),
        ("false", False),
        ("1 == 1", True),
        ("1 == 2", False),
        ("1 / 0 == 1", False),
        ("1", False),
        ('"true"', False),
        ("[1].exists(v, v == 1)", True),
        ("[1].all(v, [2].exists(w, v == w))", False),
        ("true || data.x", True),
        ("data.x > 3 || 1 == 1", True),
        ("data.x > 3 || 1 == 2", None),
        ("data.x + 1 || 1 == 2", False),
        ("data.x > 3 && 1 == 2", False),
        ("data.x > 3 && 1 == 1", None),
        ("(data.x > 3 || true) && (data.y || true)", True),
        ("data.x ? 1 : 2", False),
        ("data.x ? false : data.y + 1", False),
        ("data.x ? true : true", None),
        ("data.x ? 1 : data.y > 1", None),
        ("data.x + 1", False),
        ("data.x * 2 - 1", False),
        ("-data.x", False),
        ("!data.x", None),
        ("[data.x]", False),
        ("size(data.x)", False),
        ("string(data.x)", False),
        ("time.getHours()", False),
        ("data.x.contains('a')", None),
        ("has(data.x)", None),
        ("data.x", None),
        ("id", None),
        ("data.x == 1", None),
        ("data.x in [1]", None),
        ("data.l.exists(v, true)", None),
        ("[1].exists(v, v == data.x)", None),
        ("data.l[0]", None),
        ("[[true]][0][0]", True),
    ],
)
def test_answer_that_no_event_changes(text: str, answer: bool | None) -> None:  # noqa: FBT001 - a parameter of pytest
    assert lasting_answer(compile_where(text)) is answer
