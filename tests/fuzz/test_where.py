"""Fuzzer of expressions and of data: they are refused with one error, or evaluated within the budget."""

from __future__ import annotations

import random

from tests.core.where import test_language, test_messages
from tests.core.where.drawing import draw_cases, draw_data
from tests.core.where.evaluating import EVENT_ID, SESSION, TIME_US
from tests.core.where.test_budget import COSTS
from tests.core.where.test_budget import DATA as COUNTED
from tests.fuzz.harness import Fuzzer, Parser, fuzz, mutate_bytes, mutate_json
from triggerstream.core.ids import JsonObject
from triggerstream.core.where import (
    Answer,
    WhereError,
    closures,
    compile_where,
    evaluate_where,
    evaluation,
    fields,
    functions,
    hints,
    lasting_answer,
    operators,
    parser,
    timestamps,
    tokens,
    tree,
    values,
)
from triggerstream.core.where.values import BUDGET, WORK

TOKENS = tuple(
    token.encode()
    for token in (
        *(
            "data.i",
            "data.l",
            "data.o",
            "time",
            "session",
            "id",
            "null",
            "true",
            "false",
            "1",
            "-1",
            "1.5",
            "'a'",
        ),
        *(
            "(",
            ")",
            "[",
            "]",
            ".",
            ",",
            "?",
            ":",
            "!",
            "-",
            "+",
            "*",
            "/",
            "%",
            "==",
            "!=",
            "<",
            "<=",
            ">",
            ">=",
        ),
        *(" in ", "&&", "||", "has(", "size(", "int(", "double(", "string(", "timestamp(", "duration("),
        *(
            ".startsWith(",
            ".contains(",
            ".exists(v, ",
            ".all(v, ",
            ".getHours()",
            ".getDayOfWeek()",
            "v",
            "data",
        ),
        *(
            "=",
            "&",
            "and",
            "not",
            "{",
            "`",
            "“",
            "é",
            "\x00",
            "9223372036854775808",
            "0x1",
            "7d",
            "1e999",
            "//",
        ),
        *('"', "'", "\\", "\\u12", "\\ud800", '"2026-03-01T12:00:00Z"', '"1h30m"', "matches(", ".map(v, "),
    )
)
NAMES = ("i", "j", "f", "s", "t", "b", "n", "l", "m", "w", "o", "p", "when", "a")
Case = tuple[str, JsonObject]


def _seeds() -> tuple[Case, ...]:
    examples = [text for text, _ in (*test_language.VALUES, *test_language.ERRORS)]
    examples += [text for text, _, _ in test_messages.MESSAGES]
    odd = [f'timestamp("{text}")' for text in test_language.NO_TIMESTAMPS]
    odd += [f'duration("{text}")' for text in test_language.NO_DURATIONS]
    long: JsonObject = {"l": [1] * 20_000, "s": "x" * 2_000_000, "m": ["x"] * 20_000}
    heavy = f"data.l.all(v, {' && '.join(['v == 1'] * 20)})"
    over = (
        heavy,
        "data.l.exists(v, v == 2)",
        "size(data.s)",
        '"y" in data.m',
        "data.l == data.l",
        'data.s == ""',
    )
    return (
        *((text, test_language.DATA) for text in (*examples, *odd, *test_messages.DEEP_AND_LONG)),
        *((text, COUNTED) for text, _ in COSTS),
        *((text, long) for text in over),
        *draw_cases(seed=7, count=300),
    )


SEEDS = _seeds()


def _mutate(chance: random.Random, case: Case) -> Case:
    text, data = case
    match chance.randrange(8):
        case 0:
            mutated = mutate_json(chance, data, NAMES)
            return text, mutated if isinstance(mutated, dict) else {"i": mutated}
        case 1:
            return text, draw_data(chance, large=chance.random() < 0.5)
        case 2:
            sign = chance.choice((" && ", " || ", " == ", " + ", " in ", " < ", " ? true : "))
            return f"({text}){sign}({chance.choice(SEEDS)[0]})", data
        case _:
            return mutate_bytes(chance, text.encode(errors="surrogatepass"), TOKENS).decode(
                errors="replace"
            ), data


def _evaluate(case: Case) -> None:
    """Whatever is asked of an expression, the answers fit together."""
    text, data = case
    try:
        where = compile_where(text)
    except WhereError as error:
        if not (1 <= error.column <= len(text) + 1 and error.message):
            raise AssertionError(error.column, error.message) from error
        raise
    matches = where.matches(data, TIME_US, SESSION, EVENT_ID)
    found = evaluate_where(where, data, time_us=TIME_US, session=SESSION, event_id=EVENT_ID)
    assert matches is (found.answer is Answer.TRUE)
    assert found.text
    assert (found.steps > BUDGET or found.work > WORK) is (found.answer is Answer.OVER_BUDGET)
    lasting = lasting_answer(where)
    assert lasting is None or lasting is matches or found.answer is Answer.OVER_BUDGET


def test_expressions_are_evaluated_within_their_budget_or_refused() -> None:
    fuzz(
        Fuzzer(
            parse=_evaluate,
            refuses=(WhereError,),
            seeds=SEEDS,
            mutate=_mutate,
            parsers=tuple(
                Parser(module=module)
                for module in (
                    *(closures, evaluation, fields, functions, hints, operators),
                    *(parser, timestamps, tokens, tree, values),
                )
            ),
        )
    )
