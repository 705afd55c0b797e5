"""Text of an expression to syntax tree, with errors that say what would be right.

The grammar is that of docs/semantics.md, R13.2 to R13.5. A chain of operators of one
precedence is one node, and so is a path of fields: only brackets, calls and conditions nest, at most
``NESTING`` levels. So neither the parser nor the closures come near Python's recursion limit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NoReturn

from triggerstream.core.where.hints import WORDS, unknown_function, unknown_method, unknown_name
from triggerstream.core.where.tokens import Token, tokenize
from triggerstream.core.where.tree import (
    FUNCTIONS,
    METHODS,
    QUANTIFIERS,
    TIME_METHODS,
    VARIABLES,
    Call,
    Chain,
    Choice,
    Constant,
    Element,
    Has,
    Items,
    Logic,
    Name,
    Node,
    Path,
    Quantifier,
    Unary,
)
from triggerstream.core.where.values import INT_LIMIT

CHARACTERS: Final = 1_000
"""Code points that an expression may have."""
NESTING: Final = 32
"""Levels of parentheses, calls, lists and conditions in one another. CEL asks for 24 of any kind."""
_PRECEDENCE = {
    "||": 0,
    "&&": 1,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "in"), 2),
    "+": 3,
    "-": 3,
    **dict.fromkeys(("*", "/", "%"), 4),
}
_LITERALS: Mapping[str, bool | None] = {"true": True, "false": False, "null": None}
_RESERVED: Final = frozenset(
    [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)
"""Names that CEL keeps for itself. A field may have them."""
_IDENTIFIER: Final = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_DASHED: Final = re.compile(r"(?<=\.)[A-Za-z_][A-Za-z0-9_]*(?:-[A-Za-z0-9_]+)+$")
"""What looks like a field with dashes in its name, up to the end of what was read."""
_LOGIC = 2
"""Precedences below this one are those of ``||`` and ``&&``."""


class WhereError(ValueError):
    """An expression that cannot be used; ``column`` counts code points from 1."""

    def __init__(self, message: str, column: int) -> None:
        super().__init__(message, column)
        self.message = message
        self.column = column

    def __str__(self) -> str:
        """``column 12: write == instead of =``."""
        return f"column {self.column}: {self.message}"


def parse(text: str) -> Node:
    """The syntax tree of ``text``.

    Raises:
        WhereError: ``text`` is not an expression of the language. Nothing else is raised.
    """
    if len(text) > CHARACTERS:
        message = (
            f"has {len(text):,} characters and may have {CHARACTERS:,}: "
            "let the producer put the answer into data"
        )
        raise WhereError(message, CHARACTERS + 1)
    parser = _Parser(text)
    if parser.token.kind == "end":
        raise WhereError("is empty: write for example data.score > 3, or leave `where` out", 1)
    node = parser.expression()
    if parser.token.kind != "end":
        parser.fail_after_value()
    return node


class _Parser:
    """A parser by recursive descent: operators by precedence, every other kind of node by a method."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokenize(text)
        self._place = 0
        self._level = 0
        """How many expressions are open around the one that is read."""
        self._elements: dict[str, int] = {}
        """The variables of ``exists`` and ``all`` that are known here, with their levels."""
        self._quantifiers = 0

    @property
    def token(self) -> Token:
        return self._tokens[self._place]

    def _next(self) -> Token:
        token = self.token
        self._place += 1
        return token

    def _is(self, *operators: str) -> bool:
        return self.token.kind == "operator" and self.token.text in operators

    # ---- grammar ----

    def expression(self) -> Node:
        """``condition ? yes : no``, or what has no condition."""
        self._level += 1
        if self._level > NESTING:
            raise WhereError(_too_deep(), self.token.at + 1)
        node = self._binary(0)
        if self._is("?"):
            opened = self._next()
            yes = self._binary(0)
            if self._is("?"):
                message = "a condition between `?` and `:` needs parentheses around it"
                raise WhereError(message, self.token.at + 1)
            if not self._is(":"):
                self._fail_unclosed(f"`?` of column {opened.at + 1} needs a `:` with the other value")
            self._next()
            node = Choice(node, yes, self.expression())
        self._level -= 1
        return node

    def _binary(self, floor: int) -> Node:
        """Values joined by operators of at least the precedence ``floor``."""
        begun = self.token.at
        node = self._unary()
        while self.token.kind == "operator" and _PRECEDENCE.get(self.token.text, -1) >= floor:
            precedence = _PRECEDENCE[self.token.text]
            spans = [(begun, self._tokens[self._place - 1].end)]
            operators: list[str] = []
            operands: list[Node] = []
            while self.token.kind == "operator" and _PRECEDENCE.get(self.token.text) == precedence:
                operators.append(self._next().text)
                start = self.token.at
                operands.append(self._binary(precedence + 1))
                spans.append((start, self._tokens[self._place - 1].end))
            if precedence < _LOGIC:
                node = Logic(operators[0], (node, *operands), tuple(spans))
            else:
                node = Chain(node, tuple(zip(operators, operands, strict=True)))
        return node

    def _unary(self) -> Node:
        """A value behind any number of ``!`` or ``-``. Two are none; one minus belongs to its number."""
        if not self._is("!", "-"):
            return self._postfix(self._primary())
        sign = self.token.text
        times = 0
        while self._is(sign):
            self._next()
            times += 1
        if self._is("!", "-"):
            raise WhereError("`!` is for booleans and `-` for numbers: not both", self.token.at + 1)
        if sign == "-" and times == 1 and self.token.kind in {"int", "double"}:
            return self._postfix(self._number(negative=True))
        node = self._postfix(self._primary())
        return Unary(sign, node) if times % 2 else node

    def _number(self, *, negative: bool) -> Constant:
        token = self._next()
        assert isinstance(token.value, int | float)  # noqa: S101 - for mypy: the kind of the token says so
        value = -token.value if negative else token.value
        if isinstance(value, int) and not -INT_LIMIT <= value < INT_LIMIT:
            raise WhereError("the number is too large: an integer goes from -2^63 to 2^63 - 1", token.at + 1)
        return Constant(value)

    def _primary(self) -> Node:
        """A literal, a name with what it calls, a list, or an expression in parentheses."""
        token = self.token
        if token.kind in {"int", "double"}:
            return self._number(negative=False)
        if token.kind == "string":
            return Constant(self._next().value)
        if token.kind == "name":
            return self._named(self._next())
        if self._is("("):
            self._next()
            node = self.expression()
            self._close(token, ")")
            return node
        if self._is("["):
            self._next()
            return Items(self._members(token))
        raise self._value_missing()

    def _members(self, opened: Token) -> tuple[Node, ...]:
        """The members of a list, the last of which may have a comma behind it."""
        members: list[Node] = []
        while not self._is("]"):
            members.append(self.expression())
            if not self._is(","):
                break
            self._next()
        self._close(opened, "]")
        return tuple(members)

    def _named(self, token: Token) -> Node:
        """What begins with a name: a literal, a variable, or the call of a function."""
        name = token.text
        if name in _LITERALS:
            return Constant(_LITERALS[name])
        if self._is("("):
            return self._function(token)
        if name in self._elements:
            return Element(name, self._elements[name])
        if name in VARIABLES:
            return Name(VARIABLES[name])
        if dashed := _DASHED.search(self._text, 0, token.end):
            message = f'there is no `{name}`: for a field with a dash write data["{dashed.group()}"]'
            raise WhereError(message, token.at + 1)
        raise WhereError(unknown_name(name, self._elements), token.at + 1)

    def _postfix(self, node: Node) -> Node:
        """Fields, indexes and methods behind a value."""
        steps: list[str | Node] = []
        while self._is(".", "["):
            opened = self._next()
            if opened.text == "[":
                steps.append(self.expression())
                self._close(opened, "]")
                continue
            name = self._field()
            if not self._is("("):
                steps.append(name.text)
                continue
            node, steps = self._method(name, Path(node, tuple(steps)) if steps else node), []
        return Path(node, tuple(steps)) if steps else node

    def _field(self) -> Token:
        token = self.token
        if token.kind == "name" and token.text not in _LITERALS:
            return self._next()
        if token.kind in {"name", "operator"} and _IDENTIFIER.fullmatch(token.text):
            message = f'`{token.text}` cannot stand after a dot: write data["{token.text}"]'
            raise WhereError(message, token.at + 1)
        if token.kind == "string":
            raise WhereError('write data["x"], without a dot before the string', token.at + 1)
        if token.kind == "wrong":
            raise WhereError(token.hint, token.at + 1)
        raise WhereError("a field's name is missing after the dot: write data.x", token.at + 1)

    def _function(self, name: Token) -> Node:
        opened = self._next()
        if name.text == "has":
            return self._has(name, opened)
        if name.text not in FUNCTIONS:
            raise WhereError(unknown_function(name.text, self._elements), name.at + 1)
        return Call(name.text, self._arguments(name, opened, f"{name.text}(x)", count=1))

    def _has(self, name: Token, opened: Token) -> Has:
        (node,) = self._arguments(name, opened, "has(data.x)", count=1)
        match node:
            case Path(base=base, steps=(*before, str(last))):
                return Has(Path(base, tuple(before)) if before else base, last)
            case Path(base=base, steps=(*_, Constant(value=str(last)))):
                message = f'has() takes a field with a dot, such as data.x: write "{last}" in data'
            case _:
                message = "has() takes a field with a dot, such as has(data.x)"
        raise WhereError(message, name.at + 1)

    def _method(self, name: Token, receiver: Node) -> Node:
        opened = self._next()
        if name.text in QUANTIFIERS:
            return self._quantifier(name, opened, receiver)
        if name.text not in METHODS:
            raise WhereError(unknown_method(name.text), name.at + 1)
        # Receivers are the one way to nest without brackets: x.f().g().
        if _calls(receiver) >= NESTING:
            raise WhereError(_too_deep(), name.at + 1)
        if name.text in TIME_METHODS:
            if not self._is(")") and self.token.kind != "end":
                message = f"`{name.text}` takes no argument: there are no time zones, the answer is in UTC"
                raise WhereError(message, self.token.at + 1)
            self._close(opened, ")")
            return Call(name.text, (receiver,))
        example = f"data.text.{name.text}(x)"
        return Call(name.text, (receiver, *self._arguments(name, opened, example, count=1)))

    def _quantifier(self, name: Token, opened: Token, source: Node) -> Quantifier:
        example = f"data.list.{name.text}(x, x > 3)"
        if _calls(source) >= NESTING:
            raise WhereError(_too_deep(), name.at + 1)
        variable = self.token
        if variable.kind != "name" or variable.text in _LITERALS or variable.text in _RESERVED:
            message = f"`{name.text}` needs a name for the element first: write {example}"
            raise WhereError(message, variable.at + 1)
        self._next()
        if not self._is(","):
            message = f"`{name.text}` takes a name for the element, then a condition: write {example}"
            raise WhereError(message, self.token.at + 1)
        self._next()
        around, level = self._elements, self._quantifiers
        self._elements = {**around, variable.text: level}
        self._quantifiers += 1
        body = self.expression()
        if self._is(","):
            message = f"`{name.text}` takes a name and one condition: write {example}"
            raise WhereError(message, self.token.at + 1)
        self._elements = around
        self._quantifiers = level
        self._close(opened, ")")
        return Quantifier(name.text, source, level, body)

    def _arguments(self, name: Token, opened: Token, example: str, *, count: int) -> tuple[Node, ...]:
        found: list[Node] = []
        if not self._is(")"):
            found.append(self.expression())
            while self._is(","):
                self._next()
                found.append(self.expression())
        self._close(opened, ")")
        if len(found) != count:
            message = f"`{name.text}` takes one argument, {example}, and has {len(found) or 'none'}"
            raise WhereError(message, name.at + 1)
        return tuple(found)

    # ---- errors ----

    def _close(self, opened: Token, mark: str) -> None:
        if not self._is(mark):
            if opened.text == "(" and self._is(",") and self._text[: opened.at].rstrip().endswith(" in"):
                raise WhereError("a list is written in brackets: `[1, 2]`", opened.at + 1)
            message = f"`{opened.text}` of column {opened.at + 1} is not closed: `{mark}` is missing"
            self._fail_unclosed(message)
        self._next()

    def _fail_unclosed(self, message: str) -> NoReturn:
        token = self.token
        if token.kind == "end":
            raise WhereError(message, token.at + 1)
        if self._is(",", ":", ")", "]"):
            raise WhereError(f"`{token.text}` does not fit here: {message}", token.at + 1)
        self.fail_after_value()

    def fail_after_value(self) -> NoReturn:
        """Raise the error of a token behind which nothing can be read: an operator should stand there."""
        token = self.token
        if token.kind == "wrong":
            message = token.hint
        elif token.text in WORDS:
            message = WORDS[token.text]
        elif token.kind == "operator":
            message = {
                ")": "`)` closes nothing: leave it out, or put a `(` before it",
                "]": "`]` closes nothing: leave it out, or put a `[` before it",
                ",": "`,` separates the members of a list or the arguments of a function: here is neither",
                ":": "`:` belongs to `condition ? yes : no`: here is no `?`",
                "!": "`!` stands before a value: write `!=` to compare, or `&& !` to join",
                "(": "only functions are called: leave `(` out, or put an operator before it",
            }.get(token.text, f"`{token.text}` does not fit here")
        elif token.text.startswith("."):
            message = f'write [{token.text[1:]}] for an element of a list, ["{token.text[1:]}"] for a field'
        else:
            message = f"an operator is missing before {_quoted(token)}, such as `==` or `&&`"
        raise WhereError(message, token.at + 1)

    def _value_missing(self) -> WhereError:
        """The error of a token that stands where a value should."""
        token = self.token
        if token.kind == "wrong":
            message = token.hint
        elif token.kind == "end":
            message = "a value is missing at the end"
        else:
            message = f"a value is missing before `{token.text}`"
        return WhereError(message, token.at + 1)


def _too_deep() -> str:
    return f"is nested deeper than {NESTING} levels: use fewer brackets, calls and conditions in one another"


def _quoted(token: Token) -> str:
    return "the string" if token.kind == "string" else f"`{token.text}`"


def _calls(node: Node) -> int:
    """How many methods are called one upon another at the end of ``node``."""
    count = 0
    while True:
        match node:
            case Path(base=inner) | Quantifier(source=inner):
                count += isinstance(node, Quantifier)
                node = inner
            case Call(arguments=(inner, *_)):
                count += 1
                node = inner
            case _:
                return count
