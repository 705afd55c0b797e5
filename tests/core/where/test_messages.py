"""Errors of an expression: each names its column, and says what would be right."""

from __future__ import annotations

import inspect
import os
import pickle
import sys
from collections.abc import Callable

import pytest

from triggerstream.core.where import WhereError, compile_where, evaluate_where, lasting_answer

METHODS = (
    "startsWith, endsWith, contains, getFullYear, getMonth, getDayOfMonth, getDayOfWeek, getHours, "
    "getMinutes, exists, all"
)
MESSAGES = [
    ("", 1, "is empty: write for example data.score > 3, or leave `where` out"),
    ("   ", 1, "is empty: write for example data.score > 3, or leave `where` out"),
    ("data.x = 1", 8, "write `==` to compare: an expression cannot set anything"),
    ("data.x === 1", 8, "write `==` instead of `===`"),
    ("data.x !== 1", 8, "write `!=` instead of `!==`"),
    ("data.x <> 1", 8, "write `!=` instead of `<>`"),
    ("data.x =< 1", 8, "write `<=` instead of `=<`"),
    ("data.x => 1", 8, "write `>=` instead of `=>`"),
    ('data.x =~ "a"', 8, "there are no regular expressions: use `startsWith`, `endsWith` or `contains`"),
    ("data.x & data.y", 8, "write `&&` instead of `&`"),
    ("data.x | data.y", 8, "write `||` instead of `|`"),
    ("data.x ** 2", 8, "there is no power: write the multiplication out"),
    ("data.x ^ 2", 8, "there is no `^`: write `!=` of two booleans, or the multiplication out"),
    ("~data.x", 1, "there is no `~`"),
    ("data.x ?? 1", 8, 'there is no `??`: write `has(data.x) ? data.x : "otherwise"`'),
    ("data?.x", 5, "there is no `?.`: write `has(data.x) && …`; beside `||` a missing field does not matter"),
    ("data.x // c", 8, "an expression has no comments: the tasks file may have them, beside it"),
    ("data.x == 1 /* c */", 13, "an expression has no comments: the tasks file may have them, beside it"),
    ('{"a": 1}', 1, "there are no object literals: compare field by field"),
    ("data.x == {}", 11, "there are no object literals: compare field by field"),
    ("data.x == 1;", 12, "an expression has no `;`: join two with `&&` or `||`"),
    ("data.`a-b`", 6, 'there are no names in backticks: write data["a-b"]'),
    ("$data.x", 1, "a name has no `$` before it: write data.x"),
    ("# c", 1, "an expression has no `#`: the tasks file may have comments, beside it"),
    ("@data", 1, "an expression has no `@`"),
    ("data\\x", 5, "an expression has `\\` in strings only"),
    ("data.x == “a”", 11, "`“` is no quotation mark here: write \" or '"),
    ("data.x == ’a’", 11, "`’` is no quotation mark here: write \" or '"),
    ("data.naïve == 1", 6, 'names have only the characters A-Z a-z 0-9 _: write for example data["naïve"]'),
    ("é == 1", 1, 'names have only the characters A-Z a-z 0-9 _: write for example data["é"]'),
    ("data.x € 1", 8, "U+20AC has no meaning here"),
    ('data.x == "a', 11, 'the string is not closed: " is missing'),
    ("data.x == 'a", 11, "the string is not closed: ' is missing"),
    ('"a\\qb"', 3, "`\\q` is no escape: a backslash is written `\\\\`"),
    ('"\\ud800"', 2, "`\\ud800` is no character"),
    ('"\\U00110000"', 2, "`\\U00110000` is no character"),
    ('"\\x4"', 2, "`\\x` is no escape: a backslash is written `\\\\`"),
    ('r"a"', 1, 'write a plain string, "…", without the `r` before it'),
    ("b'a'", 1, 'write a plain string, "…", without the `b` before it'),
    ('"""a"""', 1, 'write a plain string, "…", and a line break in it as \\n'),
    ("1u", 1, "there are no unsigned integers: write 1"),
    ("0x1F", 1, "there are no hexadecimal numbers: write 31"),
    ("7d", 1, 'write a duration in hours: duration("168h")'),
    ("2w", 1, 'write a duration in hours: duration("336h")'),
    ("5h", 1, 'write duration("5h")'),
    ("5min", 1, "`5min` is neither a number nor a name"),
    ("1.5d", 1, "`1.5d` is neither a number nor a name"),
    ("12abc", 1, "`12abc` is neither a number nor a name"),
    ("1e400", 1, "the number is too large: a double goes up to 1.8e308"),
    ("9223372036854775808", 1, "the number is too large: an integer goes from -2^63 to 2^63 - 1"),
    ("-9223372036854775809", 2, "the number is too large: an integer goes from -2^63 to 2^63 - 1"),
    ("data.x and data.y", 8, "write `&&` instead of `and`"),
    ("data.x or data.y", 8, "write `||` instead of `or`"),
    ("not data.x", 1, "write `!` instead of `not`, for example !(data.x in [1, 2])"),
    ("data.x AND data.y", 8, "write `&&` instead of `AND`"),
    ("data.x is null", 8, "write `==` instead of `is`"),
    ("data.x equals 1", 8, "write `==` instead of `equals`"),
    ('data.x like "a"', 8, "there are no patterns: use `startsWith`, `endsWith` or `contains`"),
    (
        'data.x contains "a"',
        8,
        "`contains` is a method: write data.text.contains(…); of a list write `x in data.list`",
    ),
    ('data.x matches "a"', 8, "there are no regular expressions: use `startsWith`, `endsWith` or `contains`"),
    ("if data.x", 1, "write `condition ? yes : no` instead of `if`"),
    ("data.x then 1", 8, "write `condition ? yes : no` instead of `if … then`"),
    ("data.x ! 1", 8, "`!` stands before a value: write `!=` to compare, or `&& !` to join"),
    ("data.x not in [1]", 8, "write `!` instead of `not`, for example !(data.x in [1, 2])"),
    ("score > 3", 1, "there is no `score`: write data.score for a field. There are data, time, session, id"),
    ("date.x == 1", 1, "there is no `date`: did you mean `data`? There are data, time, session, id"),
    ("Data.x == 1", 1, "there is no `Data`: did you mean `data`? There are data, time, session, id"),
    ('sesion == "x"', 1, "there is no `sesion`: did you mean `session`? There are data, time, session, id"),
    ("now > 1", 1, "there is no `now`: `time` is the event's time"),
    ("True", 1, "write `true` instead of `True`"),
    ("None", 1, "write `null` instead of `None`"),
    ("undefined", 1, "write `null` instead of `undefined`"),
    ("size", 1, "`size` is a function: write size(data.x)"),
    ("has", 1, "`has` is a function: write has(data.x)"),
    ("data.x == 1 data.y == 2", 13, "an operator is missing before `data`, such as `==` or `&&`"),
    ('data.x "a"', 8, "an operator is missing before the string, such as `==` or `&&`"),
    ("data.x 5", 8, "an operator is missing before `5`, such as `==` or `&&`"),
    (
        "data.x (1)",
        6,
        "there is no method `x`: there are " + METHODS,
    ),
    ("data.größe", 6, 'names have only the characters A-Z a-z 0-9 _: write for example data["größe"]'),
    ("1 + großé2x", 5, 'names have only the characters A-Z a-z 0-9 _: write for example data["großé2x"]'),
    ("1 + é", 5, 'names have only the characters A-Z a-z 0-9 _: write for example data["é"]'),
    ("5m", 1, 'write duration("5m")'),
    ("5s", 1, 'write duration("5s")'),
    ("5ms", 1, 'write duration("5ms")'),
    ("5U", 1, "there are no unsigned integers: write 5"),
    ("(1 : 2)", 4, "`:` does not fit here: `(` of column 1 is not closed: `)` is missing"),
    ("[1)", 3, "`)` does not fit here: `[` of column 1 is not closed: `]` is missing"),
    ("(data.x)(1)", 9, "only functions are called: leave `(` out, or put an operator before it"),
    (
        "data.l.exists(x, true, 1)",
        22,
        "`exists` takes a name and one condition: write data.list.exists(x, x > 3)",
    ),
    ("(data.x", 8, "`(` of column 1 is not closed: `)` is missing"),
    ("(data.x]", 8, "`]` does not fit here: `(` of column 1 is not closed: `)` is missing"),
    ("data.x)", 7, "`)` closes nothing: leave it out, or put a `(` before it"),
    ("[1, 2", 6, "`[` of column 1 is not closed: `]` is missing"),
    ("[1 2]", 4, "an operator is missing before `2`, such as `==` or `&&`"),
    ("data.x]", 7, "`]` closes nothing: leave it out, or put a `[` before it"),
    ("data.x[0", 9, "`[` of column 7 is not closed: `]` is missing"),
    ("data.x[]", 8, "a value is missing before `]`"),
    ("data.x,", 7, "`,` separates the members of a list or the arguments of a function: here is neither"),
    ("data.x : 1", 8, "`:` belongs to `condition ? yes : no`: here is no `?`"),
    ("data.x ? 1", 11, "`?` of column 8 needs a `:` with the other value"),
    ("true ? false ? 1 : 2 : 3", 14, "a condition between `?` and `:` needs parentheses around it"),
    ("data.x ? 1 ; 2", 12, "an expression has no `;`: join two with `&&` or `||`"),
    ("data.x ? 1, 2", 11, "`,` does not fit here: `?` of column 8 needs a `:` with the other value"),
    (
        'data.post-code == "1"',
        11,
        'there is no `code`: for a field with a dash write data["post-code"]',
    ),
    (
        "data.a.x2-y-z_3 == 1",
        11,
        'there is no `y`: for a field with a dash write data["x2-y"]',
    ),
    ("data.a - b", 10, "there is no `b`: write data.b for a field. There are data, time, session, id"),
    ("data.", 6, "a field's name is missing after the dot: write data.x"),
    ("data.x.", 8, "a field's name is missing after the dot: write data.x"),
    ("data.5", 5, 'write [5] for an element of a list, ["5"] for a field'),
    ("data.x.(1)", 8, "a field's name is missing after the dot: write data.x"),
    ('data."x"', 6, 'write data["x"], without a dot before the string'),
    ("data.in", 6, '`in` cannot stand after a dot: write data["in"]'),
    ("data.true == 1", 6, '`true` cannot stand after a dot: write data["true"]'),
    (".x", 1, "a value is missing before `.`"),
    ("== 1", 1, "a value is missing before `==`"),
    ("data.x ==", 10, "a value is missing at the end"),
    ("data.x &&", 10, "a value is missing at the end"),
    ("&& data.x", 1, "a value is missing before `&&`"),
    ("data.x == && 1", 11, "a value is missing before `&&`"),
    ("data.x == )", 11, "a value is missing before `)`"),
    ("()", 2, "a value is missing before `)`"),
    ("+1", 1, "a value is missing before `+`"),
    ("* 2", 1, "a value is missing before `*`"),
    ("1 + + 2", 5, "a value is missing before `+`"),
    ("!-1", 2, "`!` is for booleans and `-` for numbers: not both"),
    ("-!data.x", 2, "`!` is for booleans and `-` for numbers: not both"),
    ("has()", 1, "`has` takes one argument, has(data.x), and has none"),
    ("has(data)", 1, "has() takes a field with a dot, such as has(data.x)"),
    ('has(data["x"])', 1, 'has() takes a field with a dot, such as data.x: write "x" in data'),
    ("has(data.x, data.y)", 1, "`has` takes one argument, has(data.x), and has 2"),
    ("has(1)", 1, "has() takes a field with a dot, such as has(data.x)"),
    ("has data.x", 1, "`has` is a function: write has(data.x)"),
    ("size()", 1, "`size` takes one argument, size(x), and has none"),
    ("size(1, 2)", 1, "`size` takes one argument, size(x), and has 2"),
    ("size(data.x,)", 13, "a value is missing before `)`"),
    ("sizee(data.x)", 1, "there is no function `sizee`: did you mean size(data.x)?"),
    ("len(data.x)", 1, "write size(x) instead of `len`"),
    ("length(data.x)", 1, "write size(x) instead of `length`"),
    (
        'matches(data.x, "a")',
        1,
        "there are no regular expressions: use `startsWith`, `endsWith` or `contains`",
    ),
    (
        'data.x.matches("a")',
        8,
        "there are no regular expressions: use `startsWith`, `endsWith` or `contains`",
    ),
    (
        'data.x.match("a")',
        8,
        "there is no method `match`: there are " + METHODS,
    ),
    (
        "lower(data.x)",
        1,
        "letters cannot be converted: compare with each spelling, or let the producer do it",
    ),
    (
        'data.x.lowerAscii() == "a"',
        8,
        "letters cannot be converted: compare with each spelling, or let the producer do it",
    ),
    ("bool(data.x)", 1, 'there is no `bool`: compare, for example data.x == "true"'),
    ("uint(1)", 1, "there are no unsigned integers: write int(x)"),
    ("dyn(1)", 1, "there is no `dyn`: values of different types can be compared as they are"),
    ("type(1)", 1, "there is no `type`: compare with a value, or use `has`"),
    ("today", 1, "there is no `today`: `time` is the event's time"),
    ("data.hass()", 6, "there is no method `hass`: did you mean has(data.x)?"),
    (
        "abs(1)",
        1,
        "there is no function `abs`: there are has, size, int, double, string, timestamp, duration",
    ),
    ("now()", 1, "there is no `now`: `time` is the event's time"),
    (
        "foo(1)",
        1,
        "there is no function `foo`: there are has, size, int, double, string, timestamp, duration",
    ),
    ("time()", 1, "`time` is a value and cannot be called"),
    ("data(1)", 1, "`data` is a value and cannot be called"),
    ('startsWith(data.x, "a")', 1, '`startsWith` is a method: write data.name.startsWith("x")'),
    ("getHours(time)", 1, "`getHours` is a method: write time.getHours()"),
    ("exists(data.l, x, x > 1)", 1, "`exists` is a method: write data.list.exists(x, x > 3)"),
    ("data.x.size()", 8, "`size` is a function: write size(data.x)"),
    ("data.x.has(y)", 8, "`has` is a function: write has(data.x)"),
    ("data.x.int()", 8, "`int` is a function: write int(data.x)"),
    (
        'data.x.starts_with("a")',
        8,
        'there is no method `starts_with`: did you mean data.name.startsWith("x")?',
    ),
    ('data.x.StartsWith("a")', 8, 'there is no method `StartsWith`: did you mean data.name.startsWith("x")?'),
    (
        "data.x.foo()",
        8,
        "there is no method `foo`: there are " + METHODS,
    ),
    ("data.x.startsWith()", 8, "`startsWith` takes one argument, data.text.startsWith(x), and has none"),
    ('data.x.startsWith("a", "b")', 8, "`startsWith` takes one argument, data.text.startsWith(x), and has 2"),
    ("size(data.x", 12, "`(` of column 5 is not closed: `)` is missing"),
    ("has(data.x", 11, "`(` of column 4 is not closed: `)` is missing"),
    ("data.x.contains('a'", 20, "`(` of column 16 is not closed: `)` is missing"),
    ("data.l.exists(x, true", 22, "`(` of column 14 is not closed: `)` is missing"),
    ("data.x.startsWith(", 19, "a value is missing at the end"),
    (
        'time.getHours("Europe/Berlin")',
        15,
        "`getHours` takes no argument: there are no time zones, the answer is in UTC",
    ),
    ("time.getHours(1)", 15, "`getHours` takes no argument: there are no time zones, the answer is in UTC"),
    ("time.getHours(", 15, "`(` of column 14 is not closed: `)` is missing"),
    ("time.getDate()", 6, "write getDayOfMonth() + 1 instead of getDate()"),
    ("time.getSeconds()", 6, "there is no `getSeconds`: hours and minutes only"),
    ("data.l.map(x, x > 1)", 8, "there is no `map`: only `exists` and `all`, which give true or false"),
    ("data.l.filter(x, x > 1)", 8, "there is no `filter`: only `exists` and `all`, which give true or false"),
    ("data.l.exists_one(x, x > 1)", 8, "there is no `exists_one`: only `exists` and `all`"),
    ("data.l.any(x, x > 1)", 8, "write data.list.exists(x, x > 3) instead of `any`"),
    (
        "data.l.exists(x)",
        16,
        "`exists` takes a name for the element, then a condition: write data.list.exists(x, x > 3)",
    ),
    (
        "data.l.exists(x > 1)",
        17,
        "`exists` takes a name for the element, then a condition: write data.list.exists(x, x > 3)",
    ),
    ("data.l.exists()", 15, "`exists` needs a name for the element first: write data.list.exists(x, x > 3)"),
    (
        "data.l.exists(x, y, x > y)",
        18,
        "there is no `y`: write data.y for a field. There are data, time, session, id, x",
    ),
    (
        "data.l.exists(if, true)",
        15,
        "`exists` needs a name for the element first: write data.list.exists(x, x > 3)",
    ),
    (
        "data.l.exists(true, true)",
        15,
        "`exists` needs a name for the element first: write data.list.exists(x, x > 3)",
    ),
    (
        "data.l.exists(x, y > 1)",
        18,
        "there is no `y`: write data.y for a field. There are data, time, session, id, x",
    ),
    (
        "data.l.exists(elem, elm > 1)",
        21,
        "there is no `elm`: did you mean `elem`? There are data, time, session, id, elem",
    ),
    (
        "data.l.exists(x, x > 1) && x > 1",
        28,
        "there is no `x`: write data.x for a field. There are data, time, session, id",
    ),
    ("data.l.exists(x, x())", 18, "`x` is a value and cannot be called"),
    ("for x in data", 1, "there is no `for`: write data.for for a field. There are data, time, session, id"),
    ("return", 1, "there is no `return`: write data.return for a field. There are data, time, session, id"),
    ("x", 1, "there is no `x`: write data.x for a field. There are data, time, session, id"),
    (
        "package",
        1,
        "there is no `package`: write data.package for a field. There are data, time, session, id",
    ),
    ('"\ud800"', 1, "U+D800 is no character"),
]


@pytest.mark.parametrize(("text", "column", "message"), MESSAGES, ids=[text for text, _, _ in MESSAGES])
def test_error(text: str, column: int, message: str) -> None:
    with pytest.raises(WhereError) as failed:
        compile_where(text)
    assert (failed.value.column, failed.value.message) == (column, message)
    assert str(failed.value) == f"column {column}: {message}"


TOO_DEEP = "is nested deeper than 32 levels: use fewer brackets, calls and conditions in one another"
DEEPEST: dict[str, Callable[[int], str]] = {
    "parentheses": lambda levels: "(" * levels + "true" + ")" * levels,
    "lists": lambda levels: "[" * levels + "]" * levels + " == []",
    "indexes": lambda levels: "data[" * levels + "0" + "]" * levels,
    "functions": lambda levels: "size(" * levels + "data" + ")" * levels,
    "conditions": lambda levels: "true ? 1 : " * levels + "2",
    "middles of conditions": lambda levels: "true ? (" * levels + "1" + ") : 2" * levels,
    "exists": lambda levels: "[1].exists(v, " * levels + "true" + ")" * levels,
    "methods": lambda levels: "time" + ".getHours()" * (levels + 1),
    "exists of exists": lambda levels: "data" + ".all(x, true)" * (levels + 1),
}


DEEPEST_COLUMNS = {
    "parentheses": 33,
    "lists": 33,
    "indexes": 161,
    "functions": 161,
    "conditions": 353,
    "middles of conditions": 257,
    "exists": 436,
    "methods": 358,
    "exists of exists": 422,
}


@pytest.mark.parametrize("kind", DEEPEST)
def test_nesting_is_bounded(kind: str) -> None:
    compile_where(DEEPEST[kind](31))
    with pytest.raises(WhereError) as failed:
        compile_where(DEEPEST[kind](33))
    assert failed.value.message == TOO_DEEP
    assert failed.value.column == DEEPEST_COLUMNS[kind]


LONGEST = {
    "&&": " && ".join(["true"] * 125),
    "||": "||".join(["false"] * 140) + "||true",
    "+": "+".join(["1"] * 490) + " == 490",
    "==": "true" + "==true" * 160,
    "!": "!" * 996 + "true",
    "-": "-" * 990 + "1 == 1",
    "fields": "has(data" + ".a" * 490 + ") || true",
    "list": "size([" + "1," * 480 + "]) == 480",
    "every operator": "1 in [1] && 1 < 2 + 3 * -(" * 31 + "0" + ")" * 31 + " || true",
}


@pytest.mark.parametrize("kind", LONGEST)
def test_what_does_not_nest_may_be_as_long_as_an_expression(kind: str) -> None:
    assert len(LONGEST[kind]) <= 1000
    assert compile_where(LONGEST[kind]).matches({}, 0, "s", None)


DEEP_AND_LONG = (*(deep(33) for deep in DEEPEST.values()), *LONGEST.values(), "1" * 1001)
"""Expressions at the bounds and beyond, for the fuzzer."""


def test_deepest_expressions_need_a_fraction_of_the_stack() -> None:
    """Python allows 1,000 frames, of which an engine uses some 100. `make mutants` adds two to each call."""
    levels = 31
    deepest = "false||true&&1==1+1*-data[" * levels
    text = deepest + "0" + "]" * levels
    assert len(text) <= 1000
    before = sys.getrecursionlimit()
    frames = 2_000 if "MUTANT_UNDER_TEST" in os.environ else 500
    sys.setrecursionlimit(len(inspect.stack()) + frames)
    try:
        where = compile_where(text)
        assert where.matches({}, 0, "s", None) is False
        assert lasting_answer(where) is None
        evaluate_where(where, {}, time_us=0, session="s", event_id=None)
    finally:
        sys.setrecursionlimit(before)


def test_expression_may_have_a_thousand_characters() -> None:
    text = '"' + "é" * 993 + '"' + "!=1  "
    assert len(text) == 1000
    assert compile_where(text).matches({}, 0, "s", None)
    with pytest.raises(WhereError) as failed:
        compile_where(text + " ")
    assert failed.value.column == 1001
    assert failed.value.message == (
        "has 1,001 characters and may have 1,000: let the producer put the answer into data"
    )


def test_columns_count_characters_not_bytes() -> None:
    with pytest.raises(WhereError) as failed:
        compile_where('"😀é" = 1')
    assert failed.value.column == 6


def test_error_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(WhereError("wrong", 3)))  # noqa: S301 - our own
    assert (error.message, error.column, str(error)) == ("wrong", 3, "column 3: wrong")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\x00", "U+0000 has no meaning here"),
        ("\ud800", "U+D800 has no meaning here"),
        ('"\ud800"', "U+D800 is no character"),
        ('1 "\x1b[31m"', "an operator is missing before the string, such as `==` or `&&`"),
    ],
)
def test_error_repeats_no_character_that_steers_a_terminal(text: str, message: str) -> None:
    with pytest.raises(WhereError) as failed:
        compile_where(text)
    assert failed.value.message == message
