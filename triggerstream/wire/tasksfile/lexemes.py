"""The words of JSON: strings, numbers and names, each read together with whatever is wrong with it.

Every reader takes the text and where the word begins, reports what is wrong, and returns what was most
likely meant and where the word ends. None raises, none goes backwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeAlias

from triggerstream.core.similar_names import describe_character
from triggerstream.wire.bounds import INTEGER_LIMIT

Report: TypeAlias = "Callable[[int, str, str], None]"
"""Takes the place in the text, the finding's code and its message."""

CLOSERS: Final = {
    '"': '"',
    "'": "'",
    "`": "`",
    "\u201c": '\u201c\u201d"',
    "\u201d": '\u201c\u201d"',
    "\u201e": '\u201c\u201d"',
    "\u2018": "\u2018\u2019'",
    "\u2019": "\u2018\u2019'",
}
"""Characters that begin a string, by mistake or not, and may end it. Word processors insert curly ones."""

WORD_START: Final = re.compile(r"[^\W\d]|\$")
NUMBER_START: Final = re.compile(r"[-+.]?[0-9]|[-+.]")

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?(?![\w.+-])")
_NUMBER_LIKE = re.compile(r"[\w.+-]+")
_WORD = re.compile(r"[\w$.-]+")
_UNQUOTED = re.compile(r"(?:(?!//|/\*)[^\x00-\x1f,\[\]{}\"])+")
_PLAIN = {quote: re.compile(rf"[^\\\x00-\x1f{re.escape(closers)}]*") for quote, closers in CLOSERS.items()}
_HEX = re.compile(r"[0-9A-Fa-f]{4}")
_LOW_SURROGATE = re.compile(r"\\u([Dd][C-Fc-f][0-9A-Fa-f]{2})")
_HIGH_FROM, _LOW_FROM, _LOW_TO = 0xD800, 0xDC00, 0xE000
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
_ALMOST_CONSTANTS = {"none": "null", "nil": "null", "undefined": "null", "yes": "true", "no": "false"}
_NOT_FINITE = frozenset({"nan", "infinity", "inf"})
_INTEGER_DIGITS = 19
"""More digits than this are beyond 2^63; ``int`` refuses very long ones with an exception."""


class Broken:
    """Placeholder for a value that could not be read."""

    __slots__ = ()


BROKEN: Final = Broken()
ScalarValue: TypeAlias = "str | int | float | bool | Broken | None"


def describe(char: str) -> str:
    """``char`` in backticks, with its Unicode name if it is invisible."""
    if char.isprintable() and char.strip():
        return f"`{char}`"
    return describe_character(char)


def read_string(text: str, at: int, report: Report) -> tuple[str, int, bool]:
    """The string that begins at ``at``, where it ends, and whether it was closed."""
    quote = text[at]
    if quote != '"':
        code = "single-quotes" if quote == "'" else "wrong-quotes"
        report(at, code, f'put the string in double quotes: write `"` instead of {describe(quote)}')
    plain, closers = _PLAIN[quote], CLOSERS[quote]
    parts: list[str] = []
    pos = at + 1
    while True:
        part = _matched(plain, text, pos)
        parts.append(part)
        pos += len(part)
        char = text[pos : pos + 1]
        if char and char in closers:
            return "".join(parts), pos + 1, True
        if not char or char in "\n\r" or (char == "\\" and text[pos + 1 : pos + 2] in ("", "\n", "\r")):
            report(
                at, "unterminated-string", 'this string is not closed on its line: its last `"` is missing'
            )
            return "".join(parts), pos + (char == "\\"), False
        if char == "\\":
            part, pos = _read_escape(text, pos, report)
        else:
            escape = "\\t" if char == "\t" else f"\\u{ord(char):04x}"
            report(pos, "control-character", f"{describe(char)} may not stand in a string: write `{escape}`")
            part, pos = char, pos + 1
        parts.append(part)


def place_in_string(text: str, at: int, index: int) -> int:
    """The position in ``text`` of character ``index`` of the string that begins at ``at``.

    An escape is one character. Beyond the end: the position of the closing quote.
    """
    closers = CLOSERS.get(text[at : at + 1])
    if closers is None:
        return at + index  # it lacks its quotes
    pos = at + 1
    for _ in range(index):
        char = text[pos : pos + 1]
        if not char or char in closers or char in "\n\r":
            break
        pos = _read_escape(text, pos, _ignore)[1] if char == "\\" and text[pos + 1 :] else pos + 1
    return pos


def _ignore(_at: int, _code: str, _message: str) -> None:
    """A report of what has been reported before."""


def _read_escape(text: str, at: int, report: Report) -> tuple[str, int]:
    char = text[at + 1]
    if char != "u":
        if char not in _ESCAPES:
            report(
                at, "bad-escape", f"`\\` before {describe(char)} means nothing: write `\\\\` for a backslash"
            )
            return char, at + 2
        return _ESCAPES[char], at + 2
    digits = _HEX.match(text, at + 2)
    if digits is None:
        report(at, "bad-escape", "`\\u` must be followed by four hexadecimal digits")
        return "", at + 2
    unit = int(digits.group(), 16)
    if not _HIGH_FROM <= unit < _LOW_TO:
        return chr(unit), at + 6
    low = _LOW_SURROGATE.match(text, at + 6) if unit < _LOW_FROM else None
    if low is None:
        message = f"`\\u{digits.group()}` is half of a character: the other half is missing"
        report(at, "lone-surrogate", message)
        return "\ufffd", at + 6
    return chr(0x10000 + ((unit - _HIGH_FROM) << 10) + (int(low.group(1), 16) - _LOW_FROM)), low.end()


def read_number(text: str, at: int, report: Report) -> tuple[int | float | Broken, int]:
    """The number that begins at ``at``, and where it ends."""
    match = _NUMBER.match(text, at)
    if match is None:
        word = _matched(_NUMBER_LIKE, text, at)
        if word.lstrip("+-").lower() in _NOT_FINITE:
            report(at, "not-finite", f"`{word}` is no JSON number: leave the key out or write null")
        else:
            report(at, "bad-number", f"`{word[:40]}` is no JSON number: {_number_hint(word)}")
        return BROKEN, at + len(word)
    word = match.group()
    if match.group(1) is None and match.group(2) is None:
        if len(word) <= _INTEGER_DIGITS + 1:
            value = int(word)
            if -INTEGER_LIMIT <= value < INTEGER_LIMIT:
                return value, match.end()
        report(at, "number-out-of-range", "an integer must lie within ±2^63")
        return BROKEN, match.end()
    number = float(word)
    if number in (float("inf"), float("-inf")):
        report(at, "number-out-of-range", "this number is too large for a double (about 1.8e308)")
        return BROKEN, match.end()
    return number, match.end()


def _number_hint(word: str) -> str:
    if word.startswith("+"):
        return "leave the `+` out"
    if word.lstrip("-").startswith("."):
        return "write a digit before the `.`"
    digits = word.lstrip("-")
    if digits.isdigit() and digits.startswith("0"):
        return "leave the leading zeros out"
    if digits.endswith(".") and digits[:-1].isdigit():
        return "write a digit after the `.`"
    return "put text in double quotes"


def read_key_word(text: str, at: int, report: Report) -> tuple[str, int]:
    """A key that lacks its quotes."""
    word = _matched(_WORD, text, at)
    report(at, "unquoted-key", f'put the key in double quotes: write `"{word[:40]}"`')
    return word, at + len(word)


def read_word(text: str, at: int, report: Report) -> tuple[ScalarValue, int]:
    """``true``, ``false``, ``null``, or text that lacks its quotes."""
    word = _matched(_WORD, text, at)
    if word in _CONSTANTS:
        return _CONSTANTS[word], at + len(word)
    folded = word.lower()
    if folded in _NOT_FINITE:
        report(at, "not-finite", f"`{word}` is no JSON number: leave the key out or write null")
        return BROKEN, at + len(word)
    meant = folded if folded in _CONSTANTS else _ALMOST_CONSTANTS.get(folded)
    if meant is not None:
        report(at, "bad-literal", f'JSON has no `{word}`: did you mean `{meant}` (or the text `"{word}"`)?')
        return BROKEN, at + len(word)
    words = max(_matched(_UNQUOTED, text, at).rstrip(), word, key=len)
    report(at, "unquoted-string", f'put text in double quotes: write `"{words[:40]}"`')
    return words, at + len(words)


def _matched(pattern: re.Pattern[str], text: str, at: int) -> str:
    match = pattern.match(text, at)
    return match.group() if match is not None else ""
