"""Text of an expression to tokens. A fault becomes a token with a hint: the parser says where it matters."""

from __future__ import annotations

import re
from dataclasses import dataclass

_WRONG_OPERATORS = {
    "===": "write `==` instead of `===`",
    "!==": "write `!=` instead of `!==`",
    "<>": "write `!=` instead of `<>`",
    "=<": "write `<=` instead of `=<`",
    "=>": "write `>=` instead of `=>`",
    "=~": "there are no regular expressions: use `startsWith`, `endsWith` or `contains`",
    "=": "write `==` to compare: an expression cannot set anything",
    "&": "write `&&` instead of `&`",
    "|": "write `||` instead of `|`",
    "**": "there is no power: write the multiplication out",
    "^": "there is no `^`: write `!=` of two booleans, or the multiplication out",
    "~": "there is no `~`",
    "??": 'there is no `??`: write `has(data.x) ? data.x : "otherwise"`',
    "?.": "there is no `?.`: write `has(data.x) && …`; beside `||` a missing field does not matter",
    "//": "an expression has no comments: the tasks file may have them, beside it",
    "/*": "an expression has no comments: the tasks file may have them, beside it",
    "{": "there are no object literals: compare field by field",
    "}": "there are no object literals: compare field by field",
    ";": "an expression has no `;`: join two with `&&` or `||`",
    "`": 'there are no names in backticks: write data["a-b"]',
    "$": "a name has no `$` before it: write data.x",
    "#": "an expression has no `#`: the tasks file may have comments, beside it",
    "@": "an expression has no `@`",
    "\\": "an expression has `\\` in strings only",
}
_QUOTES = "\u201c\u201d\u201e\u2018\u2019\u201a\u00ab\u00bb\u00b4"
"""Quotation marks that word processors put in place of ``"`` and ``'``."""


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the text, from the index ``at`` on.

    ``kind`` is ``name``, ``operator``, ``int``, ``double``, ``string``, ``wrong`` or ``end``;
    ``hint`` says what is wrong with a token of kind ``wrong``; ``value`` is that of a literal.
    """

    kind: str
    text: str
    at: int
    hint: str = ""
    value: int | float | str = ""

    @property
    def end(self) -> int:
        return self.at + len(self.text)


_TOKEN = re.compile(
    r"""
      (?P<blank>[\ \t\n\f\r]+)
    | (?P<number>(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)(?P<suffix>[A-Za-z0-9_]*)
    | (?P<prefixed>[rRbB]{1,2}(?=["']))
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<triple>\"{3}|'{3})
    | (?P<string>"(?:[^"\\\n\r]|\\.)*"|'(?:[^'\\\n\r]|\\.)*')
    | (?P<wrong>===|!==|<>|=<|=>|=~|\*\*|\?\?|\?\.(?![0-9])|//|/\*)
    | (?P<operator>==|!=|<=|>=|&&|\|\||[-+*/%<>!?:.,()\[\]])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\?\"'`])|[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.?))",
    re.DOTALL,
)
_PLAIN_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_SURROGATE = re.compile("[\ud800-\udfff]")
_LAST_CHARACTER = 0x10FFFF


def tokenize(text: str) -> list[Token]:
    """The tokens of ``text``, the last of kind ``end``. Faults become tokens of kind ``wrong``."""
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            found.append(_wrong_character(text, at))
        elif match.lastgroup == "name" and _is_of_a_name(text[match.end() : match.end() + 1]):
            found.append(_wrong_name(text, at))
        elif match.lastgroup != "blank":
            found.append(_token(match, at))
        else:
            at = match.end()
            continue
        at = found[-1].end
    found.append(Token("end", "", len(text)))
    return found


def _token(match: re.Match[str], at: int) -> Token:
    text = match.group()
    match match.lastgroup:
        case "suffix":
            return _number(match["number"], match["suffix"], at)
        case "string":
            return _string(text, at)
        case "prefixed":
            return Token("wrong", text, at, f'write a plain string, "…", without the `{text}` before it')
        case "triple":
            return Token("wrong", text, at, 'write a plain string, "…", and a line break in it as \\n')
        case "wrong":
            return Token("wrong", text, at, _WRONG_OPERATORS[text])
        case "name" if text != "in":
            return Token("name", text, at)
        case _:
            return Token("operator", text, at)


def _wrong_character(text: str, at: int) -> Token:
    char = text[at]
    if char in "\"'":
        return Token("wrong", text[at:], at, f"the string is not closed: {char} is missing")
    if char in _QUOTES:
        return Token("wrong", char, at, f"`{char}` is no quotation mark here: write \" or '")
    if char in _WRONG_OPERATORS:
        return Token("wrong", char, at, _WRONG_OPERATORS[char])
    if char.isidentifier():
        return _wrong_name(text, at)
    return Token("wrong", char, at, f"U+{ord(char):04X} has no meaning here")


def _wrong_name(text: str, at: int) -> Token:
    end = at + 1
    while end < len(text) and _is_of_a_name(text[end]):
        end += 1
    name = text[at:end]
    hint = f'names have only the characters A-Z a-z 0-9 _: write for example data["{name}"]'
    return Token("wrong", name, at, hint)


def _is_of_a_name(char: str) -> bool:
    """True if ``char`` can stand in a name of Python, which is what people write."""
    return char.isidentifier() or char.isdigit()


def _number(digits: str, suffix: str, at: int) -> Token:
    text = digits + suffix
    if suffix:
        return Token("wrong", text, at, _wrong_number(digits, suffix))
    if digits.isdigit():
        # Python refuses to convert thousands of digits, of which a text of 1,000 characters has none.
        return Token("int", text, at, value=int(digits))
    value = float(digits)
    if value == float("inf"):
        return Token("wrong", text, at, "the number is too large: a double goes up to 1.8e308")
    return Token("double", text, at, value=value)


def _wrong_number(digits: str, suffix: str) -> str:
    text = digits + suffix
    if suffix in {"u", "U"}:
        return f"there are no unsigned integers: write {digits}"
    if re.fullmatch("0[xX][0-9a-fA-F]+", text):
        return f"there are no hexadecimal numbers: write {int(text, 16)}"
    if suffix in {"h", "m", "s", "ms"}:
        return f'write duration("{text}")'
    if suffix in {"d", "w"} and digits.isdigit():
        return f'write a duration in hours: duration("{int(digits) * (24 if suffix == "d" else 168)}h")'
    return f"`{text}` is neither a number nor a name"


def _string(text: str, at: int) -> Token:
    wrong: list[tuple[int, str]] = []

    def unescaped(match: re.Match[str]) -> str:
        plain, two, four, eight, octal, _ = match.groups()
        if plain is not None:
            return _PLAIN_ESCAPES.get(plain, plain)
        code = int(octal, 8) if octal else int(two or four or eight or "-1", 16)
        if code < 0:
            wrong.append((match.start(), f"`{match.group()}` is no escape: a backslash is written `\\\\`"))
        elif code > _LAST_CHARACTER or _SURROGATE.match(chr(code)):
            wrong.append((match.start(), f"`{match.group()}` is no character"))
        else:
            return chr(code)
        return ""

    value = _ESCAPE.sub(unescaped, text[1:-1])
    if wrong:
        offset, hint = wrong[0]
        return Token("wrong", text[1 + offset :], at + 1 + offset, hint)
    if surrogate := _SURROGATE.search(value):
        return Token("wrong", text, at, f"U+{ord(surrogate.group()):04X} is no character")
    return Token("string", text, at, value=value)
