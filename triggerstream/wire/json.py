"""JSON that every language can represent: RFC 8259, bounded depth and integers, no NaN, valid Unicode."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TypeVar

import orjson

from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import Json, JsonObject
from triggerstream.core.printable import shorten
from triggerstream.wire.bounds import INTEGER_LIMIT, JSON_DEPTH

T = TypeVar("T")

# orjson silently converts integers beyond 64 bits to floats. Such an integer has at least 19 digits, and
# nearly no text has so many outside a string. This search takes 0.4 µs for 100 bytes, a regular expression
# that looks for digits three times as long, a walk over the values ten times.
_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)
_RUN = b"0" * 19
_BEFORE_A_NUMBER = b"-[:, \t\r\n\xbf"
"""The last one ends the byte-order mark."""
_INTEGER_CHARACTERS = len(str(-INTEGER_LIMIT))
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""Byte-order mark that some editors and libraries write before UTF-8 text; it is skipped."""
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?')


def loads(text: bytes, *, depth: int = JSON_DEPTH) -> Json:
    """Parse ``text``.

    Raises:
        DecodeError: it is not JSON, deeper than ``depth``, or has an integer beyond ±2^63. Nothing else is
            raised.
    """
    try:
        value = _parsed(text)
    except orjson.JSONDecodeError as exc:
        message = f"not JSON: {exc}"
        raise DecodeError(message) from exc
    # A text with few brackets cannot be deep.
    if text.count(b"[") + text.count(b"{") > depth and _depth_exceeds(value, depth):
        message = f"JSON nested deeper than {depth}"
        raise DecodeError(message)
    if _RUN in (digits := text.translate(_ZEROS)) and _may_be_a_number(text, digits):
        _check_integers(text)
    return value


def _parsed(text: bytes) -> Json:
    try:
        value: Json = orjson.loads(text)
    except orjson.JSONDecodeError:
        # Checked only after a failure, so that texts without the mark pay nothing.
        if not text.startswith(BYTE_ORDER_MARK):
            raise
        value = orjson.loads(text[len(BYTE_ORDER_MARK) :])
    return value


def dumps(value: object) -> bytes:
    """``value`` as compact UTF-8 JSON.

    Raises:
        DecodeError: it is not a JSON value, or has text that is not Unicode.
    """
    try:
        return orjson.dumps(value)
    except (orjson.JSONEncodeError, RecursionError) as exc:
        message = f"not a JSON value: {exc}"
        raise DecodeError(message) from exc


def dumps_short(value: Json) -> bytes:
    """``value`` as the shortest JSON: never longer than the text from which it was read."""
    return dumps(_short(value))


def _short(value: Json) -> object:
    match value:
        case float():
            return orjson.Fragment(_short_number(value))
        case list():
            return [_short(item) for item in value]
        case dict():
            return {name: _short(item) for name, item in value.items()}
        case _:
            return value


def _short_number(number: float) -> str:
    """The shorter one of ``1000.0`` and ``1e3``; ``-0`` for negative zero."""
    if not number:
        return "-0" if str(number).startswith("-") else "0.0"
    sign, digits, exponent = Decimal(repr(number)).normalize().as_tuple()
    scientific = f"{'-' if sign else ''}{''.join(map(str, digits))}e{exponent}"
    return min(repr(number), scientific, key=len)


def _depth_exceeds(value: Json, limit: int) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(limit):
        # orjson creates exactly these types, and comparing types costs a third of `isinstance`.
        level = [
            item
            for holder in level
            for item in (holder.values() if type(holder) is dict else holder)
            if type(item) is dict or type(item) is list
        ]
        if not level:
            return False
    return True


def _may_be_a_number(text: bytes, digits: bytes) -> bool:
    """False if no long run of digits can be a number, for example because each begins a string."""
    at = digits.find(_RUN)
    while at >= 0:
        if at == 0 or text[at - 1] in _BEFORE_A_NUMBER:
            return True
        at = digits.find(_RUN, at + len(_RUN))
    return False


def _check_integers(text: bytes) -> None:
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token[:1] == b'"' or not token.lstrip(b"-").isdigit():
            continue
        # Python refuses to convert more than 4,300 digits.
        if len(token) > _INTEGER_CHARACTERS or not -INTEGER_LIMIT <= int(token) < INTEGER_LIMIT:
            shown = shorten(token.decode(), 24)
            message = f"integer {shown} at byte {match.start()} is beyond ±2^63: write it as a string"
            raise DecodeError(message)


# ---- reading fields: errors name the path and what would be right -------------------------------


def as_object(value: Json, path: str) -> JsonObject:
    """``value`` as an object."""
    if not isinstance(value, dict):
        raise DecodeError(_wrong(path, "an object", value))
    return value


def text_of(fields: JsonObject, key: str, path: str = "") -> str:
    """The non-empty string under ``key``."""
    value = fields.get(key)
    if not isinstance(value, str) or not value:
        raise DecodeError(_wrong(f"{path}/{key}", "a non-empty string", value, missing=key not in fields))
    return value


def optional_text(fields: JsonObject, key: str, path: str = "") -> str | None:
    """The string under ``key``; None where it is absent or null."""
    value = fields.get(key)
    if value is None or isinstance(value, str):
        return value
    raise DecodeError(_wrong(f"{path}/{key}", "a string", value))


def optional_object(fields: JsonObject, key: str, path: str = "") -> JsonObject | None:
    """The object under ``key``; None where it is absent or null."""
    value = fields.get(key)
    if value is None or isinstance(value, dict):
        return value
    raise DecodeError(_wrong(f"{path}/{key}", "an object", value))


def flag(fields: JsonObject, key: str, path: str = "") -> bool:
    """The boolean under ``key``; False where it is absent or null."""
    value = fields.get(key)
    if value is None:
        return False
    if isinstance(value, bool):
        return value
    raise DecodeError(_wrong(f"{path}/{key}", "true or false", value))


def integer(fields: JsonObject, key: str, path: str = "", *, minimum: int = 0) -> int:
    """The integer under ``key``."""
    value = fields.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise DecodeError(
            _wrong(f"{path}/{key}", f"an integer of at least {minimum}", value, missing=key not in fields)
        )
    return value


def optional_integer(fields: JsonObject, key: str, path: str = "", *, minimum: int = 0) -> int | None:
    """The integer under ``key``; None where it is absent or null."""
    return None if fields.get(key) is None else integer(fields, key, path, minimum=minimum)


def _wrong(path: str, wanted: str, value: Json, *, missing: bool = False) -> str:
    return f"{path}: must be {wanted}, is {'missing' if missing else kind_of(value)}"


def kind_of(value: Json) -> str:
    """The name of the kind of ``value``: ``null``, ``a string``, ``an object``."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return "a number"
        case str():
            return "a string" if value else "an empty string"
        case list():
            return "an array"
        case dict():
            return "an object"
