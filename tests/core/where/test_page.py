"""``docs/where.md``: each example gives what the page says, and nothing of the language lacks one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.core.where.evaluating import EVENT_ID, SESSION, TIME_US, Failed, value_of
from triggerstream.core.ids import JsonObject
from triggerstream.core.where import WhereError, compile_where, lasting_answer
from triggerstream.core.where.operators import OPERATORS
from triggerstream.core.where.parser import parse
from triggerstream.core.where.tree import (
    FUNCTIONS,
    METHODS,
    VARIABLES,
    Call,
    Chain,
    Choice,
    Has,
    Logic,
    Name,
    Node,
    Quantifier,
    Unary,
    children,
)

PAGE = (Path(__file__).parents[3] / "docs/where.md").read_text(encoding="utf-8")


def tables() -> Iterator[tuple[list[str], list[list[str]]]]:
    """Each table of the page: its head, and its rows."""
    for block in re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE):
        head, _, *lines = (
            [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in block.splitlines()
        )
        yield head, lines


def unquoted(cell: str) -> str:
    return cell.strip("`").strip()


EXAMPLES = [row for head, lines in tables() if head == ["expression", "`data`", "gives"] for row in lines]
MISTAKES = [
    row for head, lines in tables() if head[0] == "expression" and head[1] == "column" for row in lines
]


@pytest.mark.parametrize(("expression", "data", "gives"), EXAMPLES, ids=lambda cell: cell[:50])
def test_example_gives_what_the_page_says(expression: str, data: str, gives: str) -> None:
    text = unquoted(expression)
    event: JsonObject = json.loads(unquoted(data)) if data else {}
    found = value_of(text, event)
    if gives.startswith("error: "):
        assert isinstance(found, Failed)
        assert found == unquoted(gives.removeprefix("error: "))
    elif text == "time":
        assert value_of(f"string({text})", event) == gives
    else:
        expected = json.loads(unquoted(gives))
        assert (found, type(found)) == (expected, type(expected))
    assert compile_where(text).matches(event, TIME_US, SESSION, EVENT_ID) is (found is True)


@pytest.mark.parametrize(("expression", "column", "message"), MISTAKES, ids=lambda cell: cell[:50])
def test_mistake_is_answered_as_the_page_says(expression: str, column: str, message: str) -> None:
    with pytest.raises(WhereError) as failed:
        compile_where(unquoted(expression))
    assert (failed.value.column, failed.value.message) == (int(column), message)


def test_everything_has_an_example() -> None:
    named: set[str] = set()

    def visit(node: Node) -> None:
        match node:
            case Name(name=name):
                named.add(name)
            case Unary(operator=sign) | Logic(operator=sign):
                named.add(sign)
            case Chain(rest=rest):
                named.update(sign for sign, _ in rest)
            case Call(function=function):
                named.add(function)
            case Quantifier(kind=kind):
                named.add(kind)
            case Has():
                named.add("has")
            case Choice():
                named.add("?")
            case _:
                pass
        for child in children(node):
            visit(child)

    for expression, *_ in EXAMPLES:
        visit(parse(unquoted(expression)))
    assert named == {*VARIABLES, *OPERATORS, "!", "-", "&&", "||", "?", "has", *FUNCTIONS, *METHODS}


def test_the_page_has_examples() -> None:
    assert len(EXAMPLES) > 70
    assert len(MISTAKES) > 8
    assert lasting_answer(compile_where("1 == 1")) is True
    assert lasting_answer(compile_where("data.level + 2")) is False
