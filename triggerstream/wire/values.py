"""Values of an application's Python code as JSON: the one encoder behind everything that takes such values.

``client.fire``, ``context.fire``, results and metadata of tasks and the kwargs of a retry all come through
it. It takes what Celery's own JSON takes; where JSON has no type for a value, the value becomes text.
``docs/producers.md`` has the table of types.
"""

from __future__ import annotations

import dataclasses
import math
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from datetime import date, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from uuid import UUID

from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import Json, JsonObject
from triggerstream.wire.bounds import INTEGER_LIMIT, JSON_DEPTH

DATA_DEPTH = JSON_DEPTH - 1
"""Depth of a trigger's ``data``, which lies one level below the event itself."""
FIELD_DEPTH = JSON_DEPTH - 2
"""Depth of a field of an outcome's ``data``: a result, metadata, kwargs."""

_LAZY_TEXT = ("django.utils.functional", "Promise")
"""Module and name of Django's lazy text, which Celery's JSON takes. Django itself need not be installed."""


class ValueNotJsonError(DecodeError):
    """A value that no event can hold.

    ``place`` is a JSON pointer, ``value`` the part at fault, ``reason`` the fault, ``advice`` a value to use
    in its place, or None.
    """

    def __init__(self, place: str, value: object, reason: str, advice: str | None = None) -> None:
        super().__init__(f"{place or '/'}: {reason}{f'; {advice}' if advice else ''}")
        self.place = place
        self.value = value
        self.reason = reason
        self.advice = advice


def value_to_json(value: object, *, place: str = "", depth: int = FIELD_DEPTH) -> Json:
    """Convert ``value`` to JSON's own types, at most ``depth`` arrays and objects deep.

    Raises:
        ValueNotJsonError: a part of it has no JSON form, is too deep, or is a number that JSON readers read
            differently.
    """
    try:
        return _convert(value, place, depth)
    except ValueNotJsonError:
        raise
    except Exception as exc:
        # Reading an object of the application calls its methods, which may raise anything.
        raise ValueNotJsonError(place, value, f"cannot be read: {_describe(exc)}") from exc


def object_to_json(value: object, *, place: str = "", depth: int = FIELD_DEPTH) -> JsonObject:
    """Convert ``value`` as :func:`value_to_json` does. It must become an object."""
    found = value_to_json(value, place=place, depth=depth)
    if not isinstance(found, dict):
        raise ValueNotJsonError(
            place, value, f"must be an object, such as a dict, is {type(value).__name__} {value!r:.40}"
        )
    return found


def _convert(value: object, place: str, depth: int) -> Json:
    match value:
        case None | True | False:
            return value
        case str():
            return _text(value, place)
        case int():
            number = int.__int__(value)
            if not -INTEGER_LIMIT <= number < INTEGER_LIMIT:
                raise ValueNotJsonError(place, value, "an integer beyond ±2^63: write it as a string")
            return number
        case float():
            if not math.isfinite(value):
                raise ValueNotJsonError(place, value, f"{value} is no JSON number")
            return float.__float__(value)
        case dict():
            if callable(getattr(value, "apply_async", None)):
                # A Celery signature is a dict: without this check it would count as data and never run.
                raise ValueNotJsonError(
                    place,
                    value,
                    f"a Celery signature ({value.get('task')!s:.80}) is no JSON; it was not applied, so "
                    "nothing of it ran: call its apply_async() and use the id of what that gives",
                )
            return _object(value, place, depth)
        case list() | tuple():
            _check_depth(value, place, depth)
            return [_convert(item, f"{place}/{index}", depth - 1) for index, item in enumerate(value)]
        case _:
            return _convert_object(value, place, depth)


def _convert_object(value: object, place: str, depth: int) -> Json:
    """Convert a value of a type that JSON does not have."""
    if not isinstance(value, type):
        if callable(reduced := getattr(value, "__json__", None)):
            return _convert(reduced(), place, depth)
        if (text := _as_text(value)) is not None:
            return _text(text, place)
        if isinstance(value, Enum):
            return _convert(value.value, place, depth)
        if isinstance(value, Mapping):
            return _object(value, place, depth)
        if dataclasses.is_dataclass(value):
            fields: dict[object, object] = {
                field.name: getattr(value, field.name) for field in dataclasses.fields(value)
            }
            return _object(fields, place, depth)
    raise ValueNotJsonError(place, value, f"{type(value).__name__} is no JSON", _advice(value))


def _as_text(value: object) -> str | None:
    """The text of a value for which JSON has no type; None if there is no such text."""
    match value:
        case date() | time_of_day():
            return value.isoformat()
        case Decimal() | UUID():
            return str(value)
        case bytes():
            return b64encode(value).decode()
        case _ if any((kind.__module__, kind.__name__) == _LAZY_TEXT for kind in type(value).__mro__):
            return str(value)
        case _:
            return None


def _object(value: Mapping[object, object], place: str, depth: int) -> JsonObject:
    _check_depth(value, place, depth)
    found: JsonObject = {}
    for key, item in value.items():
        name = _key(key, place)
        if name in found:
            raise ValueNotJsonError(place, value, f"two keys become {name!r:.40} as text")
        found[name] = _convert(item, f"{place}/{name}", depth - 1)
    return found


def _check_depth(value: object, place: str, depth: int) -> None:
    if depth <= 0:
        raise ValueNotJsonError(f"{place[:80]}…", value, f"nested deeper than {JSON_DEPTH}")


def _key(key: object, place: str) -> str:
    """``key`` as the text that JSON asks for."""
    match key:
        case str():
            return _text(key, place)
        case None:
            return "null"
        case bool():
            return "true" if key else "false"
        case int():
            return int.__repr__(key)
        case float() if math.isfinite(key):
            return float.__repr__(key)
        case Enum():
            return _key(key.value, place)
    text = None if isinstance(key, type) else _as_text(key)
    if text is None:
        raise ValueNotJsonError(place, key, f"the key {key!r:.40} has no JSON form", "use text or a number")
    return _text(text, place)


def _text(value: str, place: str) -> str:
    # Not `str(value)`: for a member of `class S(str, Enum)` that is "S.B", not "b".
    text = str.__str__(value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as exc:
            raise ValueNotJsonError(place, value, "not valid Unicode") from exc
    return text


def _describe(exc: Exception) -> str:
    try:
        return f"{type(exc).__name__}: {exc}"
    except Exception:  # noqa: BLE001 - the application's class may have a broken __str__
        return type(exc).__name__


def _advice(value: object) -> str | None:
    """Advice on what to use in place of ``value``; None if there is none."""
    match value:
        case type():
            return None
        case Awaitable() | AsyncIterator():
            return "nothing of it ran: it has to be awaited, in a task with asyncio.run(…)"
        case set() | frozenset() | Iterator():
            return "use a list of what it holds"
        case bytearray() | memoryview():
            return "use bytes(…) of it"
        case timedelta():
            return "use its total_seconds()"
        case PurePath() | BaseException():
            return "use str(…) of it"
        case _ if hasattr(value, "model_dump"):
            return 'use its model_dump(mode="json")'
        case _ if hasattr(value, "tolist"):
            return "use its tolist()"
        case _:
            return "use what describes it: text, numbers, lists, objects"
