"""Random expressions of the language, and random data for them: mostly of types that fit, sometimes not.

Everything follows from the ``random.Random`` that is given, so that a failure can be repeated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from triggerstream.core.ids import Json, JsonObject

INTEGERS = (0, 1, 2, 3, 5, 7, -1, -3, 60, 1000)
LARGE_INTEGERS = (2**53, 2**53 + 1, -(2**53) - 1, 2**62, 2**63 - 1, -(2**63), -(2**63) + 1)
DOUBLES = (0.0, -0.0, 0.5, 1.0, 1.5, -2.5, 3.0, 5.0, 60.0, 1e-7, 123456.75, 1e15)
STRINGS = (
    *(
        "",
        "a",
        "b",
        "ab",
        "abc",
        "B",
        "é",
        "😀",
        "a\tb",
        "5",
        "-7",
        "1.5",
        "true",
        "0",
        "+3",
        "1e3",
        "x" * 150,
    ),
    *("2026-03-01T12:00:00Z", "1969-12-31T23:59:59.5Z", "2026-03-01T23:30:00+02:00", "0001-01-01T00:00:00Z"),
    *("2024-02-29T00:00:00.123456Z", "2026-02-29T00:00:00Z", "90s", "1h30m", "-1.5h", "250ms", "0", "1d"),
)
FIELDS = ("i", "j", "f", "g", "s", "t", "b", "n", "l", "m", "w", "o", "p", "when", "odd name")
"""Names of fields, of which an event has most; `gone` is none of them."""
BARE = 0.25
"""How often an expression stands beside an operator without parentheses: that tests precedence."""
KINDS = ("bool", "int", "double", "string", "list", "object", "timestamp", "duration", "null")


def draw_value(chance: Random, kind: str, *, depth: int = 2, large: bool = False) -> Json:
    """A value of a kind that JSON has."""
    match kind:
        case "int":
            return chance.choice(LARGE_INTEGERS if large and chance.random() < 0.4 else INTEGERS)
        case "double":
            return chance.choice(INTEGERS) if large else chance.choice(DOUBLES)
        case "string":
            return chance.choice(STRINGS)
        case "bool":
            return chance.random() < 0.5
        case "list" if depth:
            kinds = chance.choice((("int",), ("string",), ("int", "double"), ("object",), KINDS[:6]))
            return [
                draw_value(chance, chance.choice(kinds), depth=depth - 1, large=large)
                for _ in range(chance.choice((0, 1, 2, 3, 5)))
            ]
        case "object" if depth:
            names = chance.sample(("a", "b", "c", "a b"), chance.randint(0, 3))
            return {
                name: draw_value(chance, chance.choice(KINDS), depth=depth - 1, large=large) for name in names
            }
        case _:
            return None


def draw_data(chance: Random, *, large: bool = False) -> JsonObject:
    """Data of an event.

    With ``large``, integers have up to 64 bits and there are no doubles: where both meet, the oracle is not
    exact.
    """
    kinds = {
        **dict.fromkeys(("i", "j"), "int"),
        **dict.fromkeys(("f", "g"), "int" if large else "double"),
        **dict.fromkeys(("s", "t", "when"), "string"),
        **dict.fromkeys(("l", "m", "w"), "list"),
        **dict.fromkeys(("o", "p"), "object"),
        "b": "bool",
        "n": "null",
        "odd name": "string",
    }
    data: JsonObject = {}
    for name in FIELDS:
        fate = chance.random()
        if fate < 0.85:
            data[name] = draw_value(chance, kinds[name], large=large)
        elif fate < 0.95:
            data[name] = draw_value(chance, chance.choice(KINDS[:6]), large=large)
    return data


@dataclass
class Drawing:
    """Draws expressions: ``bool_(3)`` has up to three levels."""

    chance: Random
    large: bool = False
    elements: list[str] = field(default_factory=list)

    def expression(self, depth: int = 4) -> str:
        """An expression, most often one that gives a boolean."""
        return self.of("bool" if self.chance.random() < 0.85 else self.chance.choice(KINDS), depth)

    def of(self, kind: str, depth: int) -> str:
        """An expression of a kind, or of any: types that do not fit are worth a test, too."""
        if self.chance.random() < 0.06:
            kind = self.chance.choice(KINDS)
        draw: dict[str, Callable[[int], str]] = {
            "bool": self.bool_,
            "int": self.int_,
            "double": self.double,
            "string": self.string,
            "list": self.list_,
            "object": self.object_,
            "timestamp": self.timestamp,
            "duration": self.duration,
            "null": lambda _: self.one_of("null", "data.n", "id"),
        }
        text = draw[kind](depth)
        return f"({text})" if self.chance.random() < 0.15 and not text.startswith("(") else text

    def one_of(self, *texts: str) -> str:
        return self.chance.choice(texts)

    def operand(self, kind: str, depth: int) -> str:
        """An expression beside an operator: mostly in parentheses, so that it stays one operand."""
        text = self.of(kind, depth)
        plain = text.replace("_", "").replace(".", "").isalnum()
        return text if plain or self.chance.random() < BARE else f"({text})"

    def any_field(self) -> str:
        names = (*FIELDS[:-1], "gone")
        return self.one_of(
            f"data.{self.chance.choice(names)}",
            f"data.{self.chance.choice(names)}",
            f'data["{self.chance.choice(FIELDS)}"]',
            f"data.{self.one_of('o', 'p')}.{self.one_of('a', 'b', 'c')}",
            f"data.{self.one_of('l', 'm', 'w')}[{self.chance.choice((0, 0, 1, 2, -1))}]",
            *(self.elements or ["session"]),
        )

    def variable(self, *names: str) -> str:
        """A field, mostly one of ``names``, or the element of an ``exists`` around."""
        if self.chance.random() < 0.2:
            return self.any_field()
        return self.one_of(*(f"data.{name}" for name in names), *self.elements)

    def bool_(self, depth: int) -> str:
        if depth <= 0:
            return self.one_of("true", "false", "data.b", f"has({self.field_of_data()})", self.variable("b"))
        deeper = depth - 1
        kind = self.chance.choice(KINDS)
        match self.chance.randrange(14):
            case 0 | 1:
                sign = self.one_of(" && ", " || ")
                return sign.join(self.operand("bool", deeper) for _ in range(self.chance.choice((2, 2, 3))))
            case 2:
                return f"!{self.operand('bool', deeper)}"
            case 3 | 4:
                return self.compared(kind, self.one_of("==", "!="), deeper)
            case 5 | 6:
                kind = self.one_of("int", "double", "string", "timestamp", "duration", "bool", "int")
                return self.compared(kind, self.one_of("<", "<=", ">", ">="), deeper)
            case 7:
                kind = self.one_of("int", "string", "double")
                holder = self.operand(self.one_of("list", "list", "object"), deeper)
                return f"{self.operand(kind, deeper)} in {holder}"
            case 8:
                method = self.one_of("startsWith", "endsWith", "contains")
                return f"{self.operand('string', deeper)}.{method}({self.of('string', deeper)})"
            case 9 | 10:
                return self.quantified(deeper)
            case 11:
                return f"has({self.field_of_data()})"
            case 12:
                return self.choice("bool", deeper)
            case _:
                return self.one_of("true", "false", "data.b")

    def compared(self, kind: str, sign: str, depth: int) -> str:
        other = self.one_of("int", "double") if kind in {"int", "double"} and not self.large else kind
        return f"{self.operand(kind, depth)} {sign} {self.operand(other, depth)}"

    def quantified(self, depth: int) -> str:
        name = self.one_of("v", "w", "x")
        source = self.operand(self.one_of("list", "list", "list", "object"), depth)
        self.elements.append(name)
        body = self.of("bool", depth)
        self.elements.pop()
        return f"{source}.{self.one_of('exists', 'all')}({name}, {body})"

    def choice(self, kind: str, depth: int) -> str:
        one, yes, no = self.operand("bool", depth), self.operand(kind, depth), self.operand(kind, depth)
        return f"{one} ? {yes} : {no}"

    def field_of_data(self) -> str:
        return self.one_of(
            f"data.{self.chance.choice((*FIELDS[:-1], 'gone'))}",
            f"data.{self.one_of('o', 'p', 'gone', 's')}.{self.one_of('a', 'b', 'c')}",
            f'data["{self.chance.choice(FIELDS)}"].a',
        )

    def int_(self, depth: int) -> str:
        if depth <= 0 or self.chance.random() < 0.4:
            return self.one_of(str(draw_value(self.chance, "int", large=self.large)), self.variable("i", "j"))
        deeper = depth - 1
        match self.chance.randrange(6):
            case 0 | 1:
                sign = self.one_of("+", "-", "*", "/", "%")
                return f"{self.operand('int', deeper)} {sign} {self.operand('int', deeper)}"
            case 2:
                return f"-{self.operand('int', deeper)}"
            case 3:
                return f"size({self.of(self.one_of('string', 'list', 'object'), deeper)})"
            case 4:
                kinds = (
                    ("int", "string", "timestamp") if self.large else ("double", "string", "int", "timestamp")
                )
                return f"int({self.of(self.one_of(*kinds), deeper)})"
            case _:
                getter = self.one_of(
                    *("getFullYear", "getMonth", "getDayOfMonth", "getDayOfWeek", "getHours", "getMinutes")
                )
                return f"{self.operand(self.one_of('timestamp', 'timestamp', 'duration'), deeper)}.{getter}()"

    def double(self, depth: int) -> str:
        if self.large:
            return self.int_(depth)
        if depth <= 0 or self.chance.random() < 0.5:
            return self.one_of(str(draw_value(self.chance, "double")), self.variable("f", "g"))
        deeper = depth - 1
        match self.chance.randrange(4):
            case 0 | 1:
                sign = self.one_of("+", "-", "*", "/")
                return f"{self.operand('double', deeper)} {sign} {self.operand('double', deeper)}"
            case 2:
                return f"-{self.operand('double', deeper)}"
            case _:
                return f"double({self.of(self.one_of('int', 'string', 'double'), deeper)})"

    def string(self, depth: int) -> str:
        if depth <= 0 or self.chance.random() < 0.6:
            literal = json.dumps(self.chance.choice(STRINGS), ensure_ascii=False)
            return self.one_of(literal, self.variable("s", "t"), "session", 'data["odd name"]')
        deeper = depth - 1
        match self.chance.randrange(3):
            case 0:
                return f"{self.operand('string', deeper)} + {self.operand('string', deeper)}"
            case 1:
                # Not of calculated doubles: the oracle writes some as `-nan`.
                kind = self.one_of("int", "string", "bool", "timestamp", "duration")
                of_double = "data.f" if not self.large else "data.i"
                return f"string({self.one_of(self.of(kind, deeper), of_double)})"
            case _:
                return self.choice("string", deeper)

    def list_(self, depth: int) -> str:
        if depth <= 0 or self.chance.random() < 0.5:
            return self.one_of("data.l", "data.m", "data.w", self.variable("l", "m", "w"))
        deeper = depth - 1
        if self.chance.random() < 0.3:
            return f"{self.operand('list', deeper)} + {self.operand('list', deeper)}"
        kind = self.one_of("int", "string", "list", "bool")
        return f"[{', '.join(self.of(kind, deeper) for _ in range(self.chance.randint(0, 4)))}]"

    def object_(self, depth: int) -> str:
        del depth
        return self.one_of("data", "data.o", "data.p", self.variable("o", "p"))

    def timestamp(self, depth: int) -> str:
        texts = [text for text in STRINGS if "T" in text]
        if depth <= 0 or self.chance.random() < 0.6:
            return self.one_of("time", f'timestamp("{self.chance.choice(texts)}")', "timestamp(data.when)")
        deeper = depth - 1
        match self.chance.randrange(3):
            case 0:
                sign = self.one_of("+", "-")
                return f"{self.operand('timestamp', deeper)} {sign} {self.operand('duration', deeper)}"
            case 1:
                return f"{self.operand('duration', deeper)} + {self.operand('timestamp', deeper)}"
            case _:
                return f"timestamp({self.of(self.one_of('string', 'timestamp', 'int'), deeper)})"

    def duration(self, depth: int) -> str:
        if depth <= 0 or self.chance.random() < 0.6:
            return f'duration("{self.one_of("90s", "1h30m", "-1.5h", "250ms", "0", "36h", "1us")}")'
        deeper = depth - 1
        match self.chance.randrange(3):
            case 0:
                sign = self.one_of("+", "-")
                return f"{self.operand('duration', deeper)} {sign} {self.operand('duration', deeper)}"
            case 1:
                # Differences of instants in one century: beyond 292 years the oracle overflows.
                return f'time - timestamp("{self.one_of("2026-03-01T12:00:00Z", "1969-12-31T23:59:59.5Z")}")'
            case _:
                return f"duration({self.of('string', deeper)})"


def draw_cases(seed: int, count: int, *, longest: int = 1_000) -> Sequence[tuple[str, JsonObject]]:
    """Expressions, each with data."""
    chance = Random(seed)
    cases: list[tuple[str, JsonObject]] = []
    while len(cases) < count:
        large = chance.random() < 0.3
        text = Drawing(chance, large=large).expression(chance.choice((1, 2, 3, 4)))
        if len(text) <= longest:
            cases.append((text, draw_data(chance, large=large)))
    return cases
