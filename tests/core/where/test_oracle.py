"""Google's implementation of CEL gives what ours gives, but for deviations that are named here."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import settings

from tests.core.where.drawing import draw_cases
from tests.core.where.evaluating import EVENT_ID, SESSION, TIME_US, Failed, value_of
from tests.core.where.oracle import ERROR, REFUSED, ask_oracle, plain
from tests.core.where.test_language import DATA, ERRORS, VALUES
from triggerstream.core.ids import JsonObject
from triggerstream.core.where import WhereError, compile_where

pytestmark = [pytest.mark.slow, pytest.mark.laws]  # starts a process

FULL = 10_000
CASES = FULL if settings().max_examples >= FULL else 500


def asked(cases: Sequence[tuple[str, JsonObject]]) -> list[Any]:
    answers = ask_oracle(cases, time_us=TIME_US, session=SESSION, event_id=EVENT_ID)
    assert len(answers) == len(cases), "the oracle ended early"
    return answers


def ours(text: str, data: JsonObject) -> Any:  # noqa: ANN401 - as the oracle's
    try:
        found = value_of(text, data)
    except WhereError:
        return REFUSED
    return ERROR if isinstance(found, Failed) else in_microseconds(found)


def in_microseconds(value: object) -> Any:  # noqa: ANN401 - as the oracle's
    """Our value as the oracle's: its times come without nanoseconds."""
    match value:
        case ("timestamp", int(ns)):
            return ["timestamp", ns // 1000]
        case ("duration", int(ns)):
            return ["duration", abs(ns) // 1000 * (1 if ns > 0 else -1)]
        case list():
            return ["list", [in_microseconds(item) for item in value]]
        case _:
            return plain(value)


def differences(cases: Sequence[tuple[str, JsonObject]]) -> list[tuple[str, Any, Any]]:
    return [
        (text, mine, theirs)
        for (text, data), theirs in zip(cases, asked(cases), strict=True)
        if (mine := ours(text, data)) != theirs and not (mine is REFUSED and has_negated_number(text))
    ]


def has_negated_number(text: str) -> bool:
    """True for `!-1`: the oracle parses it, although it cannot be evaluated. Ours refuses it."""
    return re.search(r"!\s*-\s*[.0-9]", text) is not None


def test_random_expressions_agree() -> None:
    cases = draw_cases(seed=1, count=CASES)
    found = differences(cases)
    assert found == [], f"{len(found)} of {len(cases)}"
    kinds = [ours(text, data)[0] for text, data in cases]
    # The cases are worth something: neither nearly all errors, nor nearly all of one answer.
    assert kinds.count("error") < len(cases) * 0.5
    answers = [ours(text, data) for text, data in cases]
    assert answers.count(["bool", True]) > len(cases) * 0.15
    assert answers.count(["bool", False]) > len(cases) * 0.15


# ---- deviations ------------------------------------------------------------------------------------

INEXACT = "compares an integer beyond 2^53 with a double as two doubles; ours compares what they are"
LENIENT = (
    "skips blanks, and reads more than decimal numbers and RFC 3339; ours gives the same in every language"
)
SHORT = "counts sums and differences in 64 bits of nanoseconds; CEL's durations reach 10,000 years"
FINE = "keeps quarters of a nanosecond; CEL's durations have whole ones"
SIGNED = "writes the sign of what is no number, which depends on the processor"
DEVIATIONS: dict[str, str] = {
    "data.odd == 9007199254740992.0": INEXACT,
    "9007199254740992.0 == data.odd": INEXACT,
    "data.odd > 9007199254740992.0": INEXACT,
    "9007199254740992.0 < data.odd": INEXACT,
    "9007199254740992.0 >= data.odd": INEXACT,
    "data.odd in [9007199254740992.0]": INEXACT,
    'int(" 1")': LENIENT,
    'int("1\\n")': LENIENT,
    'double(" 1")': LENIENT,
    'double("0x1p3")': LENIENT,
    'timestamp(" 2026-03-01T12:00:00Z")': LENIENT,
    'timestamp("2026-3-1T12:00:00Z")': LENIENT,
    'timestamp("2026-03-01T12:00:00+0200")': LENIENT,
    'timestamp("2026-03-01T12:00:00+02:00:42")': LENIENT,
    'timestamp("9999-12-31T23:59:59Z") - timestamp("0001-01-01T00:00:00Z")': SHORT,
    'duration("2562048h") + duration("1h")': SHORT,
    'duration("0.5ns") == duration("0")': FINE,
    "string(0.0 / 0.0)": SIGNED,
}
"""Expressions on which the oracle differs, with what it does."""


def test_examples_agree_but_for_the_named_deviations() -> None:
    texts = dict.fromkeys([*(text for text, _ in VALUES), *(text for text, _ in ERRORS), *DEVIATIONS])
    found = {text for text, _, _ in differences([(text, DATA) for text in texts])}
    assert found == set(DEVIATIONS)


def test_integers_beyond_doubles_are_compared_exactly_where_the_oracle_is_not() -> None:
    chance = Random(1)
    cases: list[tuple[str, JsonObject]] = []
    exact: list[bool] = []
    for _ in range(500):
        integer = chance.choice((1, -1)) * (2 ** chance.randint(53, 62) + chance.randint(-3, 3))
        double = float(integer)
        double = chance.choice((double, math.nextafter(double, math.inf), math.nextafter(double, -math.inf)))
        sign = chance.choice(("==", "<", ">="))
        cases.append((f"data.i {sign} data.d", {"i": integer, "d": double}))
        one, other = Fraction(integer), Fraction(double)
        exact.append({"==": one == other, "<": one < other, ">=": one >= other}[sign])
    assert [ours(text, data) for text, data in cases] == [["bool", answer] for answer in exact]
    inexact = sum(answer != ["bool", right] for answer, right in zip(asked(cases), exact, strict=True))
    assert 50 < inexact < 250


NOT_LISTED = [
    "1u",
    "0x10",
    'r"a"',
    "data.i // comment",
    ".data.i",
    "data.`i`",
    '"x".size()',
    "data.l.exists_one(v, v == 1)",
    "data.l.map(v, v)",
    "data.l.filter(v, v > 1)",
    '"a".matches("a")',
    "time.getSeconds()",
    "time.getDate()",
    'time.getHours("UTC")',
    "type(1)",
    "dyn(1)",
    "uint(1)",
    'bytes("a")',
    'bool("true")',
    "{'a': 1}",
    "1e400",
]
"""Expressions of CEL that the oracle evaluates and ours refuses, because the language does not list them."""


def test_what_is_not_listed_is_refused() -> None:
    for text, theirs in zip(NOT_LISTED, asked([(text, DATA) for text in NOT_LISTED]), strict=True):
        assert theirs not in (ERROR, REFUSED), text
        with pytest.raises(WhereError):
            compile_where(text)


def test_what_the_oracle_cannot_parse_is_refused() -> None:
    texts = [
        "",
        "1 +",
        "data.",
        "(1",
        "[1",
        "1 2",
        "data.in",
        '"a',
        '"\\q"',
        '"\\ud800"',
        "1 ? 2",
        "!-data.i",
        "true ? false ? 1 : 2 : 3",
    ]
    texts += [
        "has(data)",
        "has(data[0])",
        "data.l.all(1, true)",
        "data.l.all(if, true)",
        "9223372036854775808",
    ]
    assert asked([(text, DATA) for text in texts]) == [REFUSED] * len(texts)
    for text in texts:
        with pytest.raises(WhereError):
            compile_where(text)
