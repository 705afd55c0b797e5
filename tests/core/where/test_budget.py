"""What an evaluation costs, step by step, and that none takes more than its budget."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.core.where.evaluating import OVER_BUDGET, OVER_WORK, outcome, steps_of, value_of, work_of
from triggerstream.core.ids import JsonObject
from triggerstream.core.where import Answer, compile_where, evaluate_where, operators
from triggerstream.core.where.functions import CONVERSIONS, size_of
from triggerstream.core.where.parser import parse
from triggerstream.core.where.tree import Quantifier, operations
from triggerstream.core.where.values import BUDGET, Run, Value

DATA: JsonObject = {
    "i": 5,
    "s": "x" * 100,
    "t": "x" * 101,
    "long": "y" * 1000,
    "l": [1, 2, 3],
    "m": [1, "a", None, 2.0],
    "w": ["a", "b", "c", "b"],
    "o": {"a": 1, "b": "x", "c": [1, 2]},
    "same": {"c": [1, 2], "b": "x", "a": 1},
    "other": {"a": 2, "b": "x", "c": [1, 2]},
    "nested": [[1, 2], [3, [4, 5]]],
    "twin": [[1, 2], [3, [4, 5]]],
    "texts": ["x" * 100, "x" * 101, "x" * 250],
    "copies": ["x" * 100, "x" * 101, "x" * 250],
    "e": [],
    "u": "é" * 100,
}
COSTS = [
    # reaching a field, literals and variables cost nothing
    ("data.i", 0),
    ("data.s", 0),
    ("data.o.c[1]", 0),
    ('data.o["b"]', 0),
    ("data.missing", 0),
    ("has(data.long)", 0),
    ('"' + "x" * 200 + '"', 0),
    ("[1, 2, 3]", 0),
    ("time", 0),
    ("session", 0),
    # numbers, booleans and times cost nothing
    ("data.i + 1 > 3 && data.i != 7", 0),
    ("!(data.i == 5)", 0),
    ("-data.i", 0),
    ("time.getHours() > 3", 0),
    ("double(data.i) < 1.5", 0),
    ("time - time", 0),
    ("null == null", 0),
    ("data.i == null", 0),
    # each begun 100 code points of a string that an operator takes
    ('"" == ""', 0),
    ('"a" == "b"', 2),
    ('data.i == "a"', 1),
    ('"a" == data.i', 1),
    ('"a" != data.i', 1),
    ("data.s == null", 1),
    ("data.t == 1", 2),
    ('data.s == "a"', 2),
    ('data.t == "a"', 3),
    ("data.s == data.t", 3),
    ("data.long != data.s", 11),
    ('data.u == "a"', 2),
    ('"a" < "b"', 2),
    ("data.t >= data.t", 4),
    ("data.t < 1", 2),
    ("1 < data.t", 2),
    ("data.s + 1", 1),
    ("-data.t", 2),
    ("!data.t", 2),
    ("data.t && false", 2),
    ("false && data.t", 0),
    ("data.t || true", 2),
    ("data.t ? 1 : 2", 2),
    ("true ? data.t : data.s", 2),
    ("false ? data.t : data.s", 1),
    ("true ? 1 : data.t", 0),
    # ... or a function takes
    ('data.t.startsWith("x")', 3),
    ('data.t.endsWith("x")', 3),
    ("data.t.contains(data.s)", 3),
    ("data.i.startsWith(data.t)", 2),
    ("size(data.t)", 2),
    ("size(data.l)", 0),
    ('int("12")', 1),
    ("int(data.t)", 2),
    ('double("1.5")', 1),
    ('timestamp("2026-03-01T12:00:00Z")', 1),
    ('duration("1h")', 1),
    ("data.t.getHours()", 2),
    ("data.t.exists(v, true)", 2),
    # ... or makes
    ('"a" + "b"', 3),
    ("data.s + data.s", 4),
    ("data.t + data.t", 7),
    ("string(data.i)", 1),
    ("string(data.t)", 4),
    ("string(time)", 1),
    ('"a" + "b" + "c"', 6),
    # each element of a list that + makes
    ("data.l + data.l", 6),
    ("data.l + data.e", 3),
    ("data.e + data.e", 0),
    ("data.texts + data.l", 6),
    ("data.l + data.l + data.l", 15),
    # each element that exists and all look at: they stop at the one that decides
    ("data.l.exists(v, v == 1)", 1),
    ("data.l.exists(v, v == 3)", 3),
    ("data.l.exists(v, false)", 3),
    ("data.l.all(v, v < 2)", 2),
    ("data.l.all(v, true)", 3),
    ("data.e.all(v, true)", 0),
    ("data.l.exists(v, v.x)", 3),
    ("data.l.exists(v, 1)", 3),
    ('data.l.exists(v, "a")', 6),
    ("data.o.exists(k, false)", 3),
    ('data.w.exists(v, v == "b")', 6),
    ("data.l.all(v, data.l.all(w, true))", 12),
    ("data.l.all(v, data.l.exists(w, w == v))", 9),
    # ... in
    ("1 in data.l", 1),
    ("3 in data.l", 3),
    ("7 in data.l", 3),
    ('"b" in data.w', 3),
    ('"d" in data.w', 5),
    ('"b" in ["a", "b", "c"]', 3),
    ('"d" in ["a", "b", "c"]', 4),
    ('data.i in ["a", "b", "c"]', 3),
    ('data.s in ["a", "b", "c"]', 4),
    ('data.t in ["a", "b", "c"]', 5),
    ("null in data.m", 3),
    ("7 in data.e", 0),
    ("[1] in [[2], [1]]", 4),
    ("[1] in [[1, 2], [1]]", 3),
    ("data.t in data.e", 2),
    # ... in an object
    ('"a" in data.o', 2),
    ('"z" in data.o', 2),
    ("data.t in data.o", 3),
    ("1 in data.o", 1),
    ("null in data.o", 0),
    ("1 in data.t", 2),
    # ... == and != of lists and objects, in the order of the left one; of different sizes none
    ("data.l == [1, 2, 3]", 3),
    ("data.l != [1, 2, 3]", 3),
    ("data.l == [1, 7, 3]", 2),
    ("data.l == [1, 2]", 0),
    ("data.l == data.e", 0),
    ("data.e == data.e", 0),
    ("data.l == 1", 0),
    ("data.l == data.o", 0),
    ("data.nested == data.twin", 8),
    ("data.o == data.same", 5),
    ("data.same == data.o", 5),
    ("data.o == data.other", 1),
    ("data.same == data.other", 5),
    ('data.m == [1, "a", null, 2]', 4),
    ('["a"] == ["a"]', 1),
    # inside lists, an element's own step covers the first 100 code points of a string
    ("data.texts == data.copies", 6),
    ("data.texts == [1, 2, 3]", 1),
    # from left to right, and what is not needed is not evaluated
    ('false && "a" == "b"', 0),
    ('true || "a" == "b"', 0),
    ('"a" == "a" || "a" == "b"', 2),
    ('"a" == "b" && 1 == 1', 2),
    ('data.missing == "a"', 0),
    ('"a" == data.missing', 0),
    ('data.missing || "a" == "a"', 2),
    ('1 / 0 == 1 && "a" == "a"', 2),
    ('true ? "a" == "a" : data.long == data.long', 2),
    ('[1 / 0, "a" == "b"]', 0),
    ('["a" == "b", 1 / 0]', 2),
]


def ones(count: int) -> Any:  # noqa: ANN401 - JSON
    return [1] * count


OPERATIONS = [
    # names and literals are none, nor are lists of literals
    ("v", 0),
    ("1.5", 0),
    ("[1, 'a', null]", 0),
    ("-5", 0),
    # operators; those that are none mean nothing
    ("v == 1", 1),
    ("v || v || v", 2),
    ("1 + v - 2 * v", 3),
    ("v in [1, 2, 3]", 1),
    ("!v", 1),
    ("!!v", 0),
    ("!!!v", 1),
    ("-v", 1),
    ("((v))", 0),
    ("v ? 1 : 2", 1),
    ("v ? 1 : v ? 2 : 3", 2),
    # fields and indexes
    ("data.a.b", 2),
    ("data['a'].b", 2),
    ("data.a[v][0]", 3),
    ("data.a[v + 1]", 3),
    # calls
    ("size(v)", 1),
    ("v.contains('a')", 1),
    ("time.getHours()", 1),
    ("has(v.a)", 2),
    ("has(v.a.b)", 3),
    # members of lists that are not of literals alone
    ("[v]", 1),
    ("[v, 1, 2]", 3),
    ("[[1], [2]]", 2),
    ("[v == 1, 2]", 3),
    # a body within a body counts for its own elements
    ("data.m.all(w, w == 1 && w == 2)", 2),
    ("[v].exists(w, true)", 2),
    ("data.m.all(w, w == 1) && v == 2", 4),
]


@pytest.mark.parametrize(("text", "count"), OPERATIONS, ids=[text for text, _ in OPERATIONS])
def test_operations_of_a_body(text: str, count: int) -> None:
    node = parse(f"data.l.exists(v, {text})")
    assert isinstance(node, Quantifier)
    assert operations(node.body) == count
    # Each element counts all of them, evaluated or not; bodies of ten count nothing.
    padded = f"data.l.exists(v, false && ({text}) || false {'|| false ' * 9})"
    assert work_of(padded, {"l": ones(7)}) == 7 * (count + 11)


def test_body_of_ten_operations_is_covered_by_the_steps() -> None:
    ten, eleven = " && ".join(["true"] * 11), " && ".join(["true"] * 12)
    assert work_of(f"data.l.all(v, {ten})", {"l": ones(10_000)}) == 0
    assert value_of(f"data.l.all(v, {ten})", {"l": ones(10_000)}) is True
    assert work_of(f"data.l.all(v, {eleven})", {"l": ones(7)}) == 77
    assert value_of(f"data.l.all(v, {eleven})", {"l": ones(10_000)}) is OVER_WORK


def body_of(operations: int) -> str:
    return " && ".join(["true"] * (operations + 1))


WORK_AT_THE_BOUND: dict[str, tuple[str, JsonObject, JsonObject, int]] = {
    "all": (f"data.l.all(v, {body_of(100)})", {"l": ones(1_000)}, {"l": ones(1_001)}, 100_000),
    "exists": (
        f"data.l.exists(v, v == 2 && {body_of(98)})",
        {"l": [*ones(999), 2]},
        {"l": [*ones(1_000), 2]},
        100_000,
    ),
    "names of an object": (
        f"data.l.all(v, {body_of(50)})",
        {"l": dict.fromkeys(map(str, range(2_000)), 1)},
        {"l": dict.fromkeys(map(str, range(2_001)), 1)},
        100_000,
    ),
    "of two macros": (
        f"data.l.all(v, {body_of(20)}) && data.m.all(v, {body_of(40)})",
        {"l": ones(2_000), "m": ones(1_500)},
        {"l": ones(2_000), "m": ones(1_501)},
        100_000,
    ),
    "of a macro within another": (
        f"data.l.all(v, data.m.all(w, {body_of(20)}) && {body_of(21)})",
        # 24 for each of 100 elements, 20 for each of the 4,880 within
        {"l": ones(100), "m": ones(48)},
        {"l": ones(100), "m": ones(49)},
        98_400,
    ),
    "of a macro around short ones": (
        f"data.l.all(v, data.e.all(w, w == 1) && {body_of(22)})",
        {"l": ones(4_000), "e": []},
        {"l": ones(4_001), "e": []},
        100_000,
    ),
}


@pytest.mark.parametrize("kind", WORK_AT_THE_BOUND)
def test_evaluation_ends_above_its_work(kind: str) -> None:
    text, most, above, work = WORK_AT_THE_BOUND[kind]
    where, beside = compile_where(text), compile_where(f"{text} || true")
    assert work_of(text, most) == work
    assert where.matches(most, 0, "s", None)
    assert value_of(text, above) is OVER_WORK
    assert not where.matches(above, 0, "s", None)
    assert not beside.matches(above, 0, "s", None)


def test_elements_behind_the_one_that_decides_are_no_work() -> None:
    text = f"data.l.exists(v, v == 2 || false && {body_of(98)})"
    assert work_of(text, {"l": [1, 1, 2, *ones(5_000)]}) == 3 * 101
    assert work_of(text, {"l": []}) == 0


def test_work_and_steps_have_bounds_of_their_own() -> None:
    text = f"data.l.all(v, {body_of(100)}) && size(data.s) > 0"
    assert value_of(text, {"l": ones(1_000), "s": "x" * 900_000}) is True
    assert value_of(text, {"l": ones(1_000), "s": "x" * 900_001}) is OVER_BUDGET
    assert value_of(text, {"l": ones(1_001), "s": "x"}) is OVER_WORK
    found = evaluate_where(
        compile_where(text), {"l": ones(1_001), "s": ""}, time_us=0, session="s", event_id=None
    )
    assert found.answer is Answer.OVER_BUDGET
    assert found.text == "takes more than 100,000 operations for the elements of `exists` and `all`"
    assert (found.steps, found.work) == (1_001, 100_100)


@pytest.mark.parametrize(("text", "steps"), COSTS, ids=[text[:60] for text, _ in COSTS])
def test_cost(text: str, steps: int) -> None:
    assert steps_of(text, DATA) == steps


AT_THE_BUDGET: dict[str, tuple[str, Callable[[int], JsonObject]]] = {
    "exists": ("data.l.exists(v, v == 2) || true", lambda n: {"l": ones(n)}),
    "all": ("data.l.all(v, v == 1)", lambda n: {"l": ones(n)}),
    "in": ("!(2 in data.l)", lambda n: {"l": ones(n)}),
    "string in": ('"" in data.l || true', lambda n: {"l": ["x"] * n}),
    "== of lists": ("data.l == data.m", lambda n: {"l": ones(n), "m": ones(n)}),
    "== of objects": (
        "data.l == data.m",
        lambda n: {"l": dict.fromkeys(map(str, range(n)), 1), "m": dict.fromkeys(map(str, range(n)), 1)},
    ),
    "== in a list": ("data.l == data.m", lambda n: {"l": [ones(n - 1)], "m": [ones(n - 1)]}),
    "+ of lists": ("size(data.l + []) > 0", lambda n: {"l": ones(n)}),
    "size": ("size(data.s) > 0", lambda n: {"s": "x" * (n * 100)}),
    "== of strings": ('data.s != ""', lambda n: {"s": "x" * (n * 100)}),
    "!= of strings": ("data.s != data.t", lambda n: {"s": "x" * (n * 100 - 100), "t": "y"}),
    "<": ("data.s > data.t", lambda n: {"s": "x" * (n * 100 - 100), "t": "a"}),
    "+ of strings": ('"" + data.s != 1', lambda n: {"s": "x" * (n // 3 * 100)}),
    "startsWith": ('data.s.startsWith("")', lambda n: {"s": "x" * (n * 100)}),
    "exists in exists": (
        "data.l.exists(v, data.m.exists(w, w == 2)) || true",
        lambda n: {"l": ones(100), "m": ones((n - 100) // 100)},
    ),
}


@pytest.mark.parametrize("kind", AT_THE_BUDGET)
def test_evaluation_ends_above_its_budget(kind: str) -> None:
    text, data = AT_THE_BUDGET[kind]
    where = compile_where(text)
    _, steps = outcome(text, data(BUDGET))
    assert BUDGET - 3 <= steps <= BUDGET
    assert where.matches(data(BUDGET), 0, "s", None)
    assert outcome(text, data(BUDGET + 100))[0] is OVER_BUDGET
    assert not where.matches(data(BUDGET + 100), 0, "s", None)


def test_budget_is_ten_thousand_to_the_step() -> None:
    where = compile_where("data.l.all(v, true)")
    assert where.matches({"l": ones(10_000)}, 0, "s", None)
    assert not where.matches({"l": ones(10_001)}, 0, "s", None)
    where = compile_where('data.l.all(v, true) && data.s == ""')
    assert where.matches({"l": ones(10_000), "s": ""}, 0, "s", None)
    assert not where.matches({"l": ones(10_000), "s": "x"}, 0, "s", None)


BESIDE = {
    "{} || true": False,
    "false || {} || true": False,
    "true && {}": False,
    "!({} && false)": False,
    "[1].exists(v, {}) || true": False,
    "[1, 2].exists(v, v == 1 && {} || v == 2)": False,
    "!([1, 2].all(v, {} && v == 2))": False,
    "true ? {} : true": False,
    "{} ? true : true": False,
    "[{}, true][1]": False,
    "true in [{}, true]": False,
    'string({}) != "x"': False,
    "has([{}][0].x) || true": False,
    # What is not evaluated costs nothing.
    "true || {}": True,
    "!(false && {})": True,
    "[1, 2].exists(v, v == 1 || {})": True,
    "false ? {} : true": True,
}


@pytest.mark.parametrize("text", BESIDE)
def test_over_budget_is_no_match_whatever_stands_beside(text: str) -> None:
    where = compile_where(text.replace("{}", "data.l.exists(v, v == 2)"))
    assert where.matches({"l": ones(BUDGET + 1)}, 0, "s", None) is BESIDE[text]


def behind(count: int) -> Any:  # noqa: ANN401 - JSON
    """A list with `y` behind so many others."""
    return ["x"] * count + ["y"]


def test_element_that_is_found_beyond_what_is_left_of_the_budget_is_no_match() -> None:
    where = compile_where('data.s != "" && "y" in data.l')
    assert where.matches({"s": "x" * 100, "l": behind(9_997)}, 0, "s", None)
    assert not where.matches({"s": "x" * 100, "l": behind(9_998)}, 0, "s", None)
    assert not where.matches({"s": "x" * 10_000, "l": behind(9_950)}, 0, "s", None)
    assert not where.matches({"s": "x" * 999_900, "l": behind(0)}, 0, "s", None)
    assert where.matches({"s": "x" * 999_800, "l": behind(0)}, 0, "s", None)


def test_over_budget_is_reported_as_such() -> None:
    where = compile_where("data.l.exists(v, v == 2) || true")
    found = evaluate_where(where, {"l": ones(20_000)}, time_us=0, session="s", event_id=None)
    assert (found.answer, found.text) == (Answer.OVER_BUDGET, "takes more than 10,000 steps")
    assert found.steps == BUDGET + 1


class CountingText(str):
    """A string that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        CountingText.compared += 1
        return str.__eq__(self, other)

    def __hash__(self) -> int:
        return str.__hash__(self)


def test_no_element_is_looked_at_beyond_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = 0

    def counting_size(value: Value, run: Run) -> int:
        nonlocal looked_at
        looked_at += 1
        return size_of(value, run)

    equal = operators.equal

    def counting_equal(left: Value, right: Value, run: Run) -> bool:
        nonlocal looked_at
        looked_at += 1
        return equal(left, right, run)

    monkeypatch.setitem(CONVERSIONS, "size", counting_size)
    monkeypatch.setattr(operators, "equal", counting_equal)
    lists: Any = [[1]] * 200_000
    data: JsonObject = {"l": lists, "m": list(lists), "n": [1] * 200_000, "w": [CountingText("x")] * 200_000}
    for text in (
        "data.l.exists(v, size(v) == 2)",
        "data.l.all(v, size(v) == 1)",
        "2 in data.n",
        "[2] in data.l",
        "data.n == data.m",
        "data.n == data.n + data.e",
        "data.l == data.m",
        "data.l.exists(v, 2 in data.n)",
        '"y" in data.w',
        'data.n.exists(v, "y" in data.w)',
    ):
        looked_at = CountingText.compared = 0
        assert not compile_where(text).matches(data, 0, "s", None)
        assert looked_at + CountingText.compared <= BUDGET + 2, text


def filled(unit: str, sign: str) -> str:
    """``exists`` whose body has nearly as many of ``unit`` as an expression has room for."""
    head, tail = "data.l.exists(x, ", " && false)"
    count = (988 - len(head) - len(tail) - 2 + len(sign)) // (len(unit) + len(sign))
    return f"{head}({sign.join([unit] * count)}){tail} || true"


HEAVY: dict[str, tuple[str, JsonObject]] = {
    "errors": (filled("x.a", "||"), {"l": ones(9_990)}),
    "no booleans": (filled("!x", "||"), {"l": ones(9_990)}),
    "divisions": (filled("1/0>0", "||"), {"l": ones(9_990)}),
    "sums": (filled("x", "+"), {"l": [1.5] * 9_990}),
    "times": (filled("time-time", "=="), {"l": ones(9_990)}),
    "indexes": (filled("x[0][0]", "=="), {"l": [[[1]]] * 9_990}),
    "lists": (filled("[[x]]", "=="), {"l": ones(9_990)}),
    "macros of nothing": (filled("[].all(y,y)", "&&"), {"l": ones(9_990)}),
    "ten errors": ("data.l.exists(x, x.a||x.a||x.a||x.a||x.a) || true", {"l": ones(9_990)}),
    "search": (
        "data.l.exists(x, data.s.contains(data.t)) || true",
        {"l": ones(200), "s": "a" * 2_499, "t": "a" * 620 + "b" + "a" * 620},
    ),
    "durations": (
        filled("[duration(data.d)]", "=="),
        {"l": ones(5_000), "d": "1h" * 100},
    ),
}


@pytest.mark.parametrize("kind", HEAVY)
def test_evaluation_within_its_budget_ends_soon(kind: str) -> None:
    """The most that was found: some 0.2 s on a machine that does nothing else."""
    text, data = HEAVY[kind]
    assert len(text) <= 1_000
    where = compile_where(text)
    begun = time.process_time()
    where.matches(data, 0, "s", None)
    assert time.process_time() - begun < 1.0


LONG_TEXTS = {
    "zeros": "0" * 900_000 + "x",
    "digits": "1" * 900_000 + "x",
    "number": "1" * 900_000,
    "fraction": "0." + "1" * 900_000 + "x",
    "small": "0." + "0" * 900_000 + "1",
    "exponent": "1e" + "1" * 900_000,
    "terms": "1h" * 450_000 + "x",
    "instant": "2026-03-01T12:00:00." + "1" * 900_000 + "x",
    "fine instant": "2026-03-01T12:00:00." + "1" * 900_000 + "Z",
    "blanks": " " * 900_000,
    "signs": "-" * 900_000,
}


@pytest.mark.parametrize("kind", LONG_TEXTS)
@pytest.mark.parametrize("function", ["int", "double", "timestamp", "duration", "string", "size"])
def test_function_of_a_long_text_takes_milliseconds(function: str, kind: str) -> None:
    begun = time.process_time()
    assert steps_of(f"{function}(data.s)", {"s": LONG_TEXTS[kind]}) >= 9_000
    assert time.process_time() - begun < 2.0


def test_strings_that_an_evaluation_makes_are_bounded() -> None:
    doubled = "data.s"
    for _ in range(5):
        doubled = f"({doubled} + {doubled})"
    assert value_of(f"size({doubled}) == 3200", {"s": "x" * 100}) is True
    assert value_of(f"size({doubled}) == 0", {"s": "x" * 200_000}) is OVER_BUDGET
