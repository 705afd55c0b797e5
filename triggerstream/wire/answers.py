"""Answers about sessions, to and from JSON."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import msgspec

from triggerstream.core.answers import Instant
from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import JsonObject
from triggerstream.wire.instants import format_instant, parse_instant

_T = TypeVar("_T", bound=msgspec.Struct)


def to_json(answer: msgspec.Struct) -> JsonObject:
    """The JSON object of an answer, with instants as RFC 3339 text."""
    return cast("JsonObject", msgspec.to_builtins(answer, enc_hook=_text_of))


def from_json(fields: JsonObject, kind: type[_T]) -> _T:
    """The answer that another process gave as JSON; fields that this release does not know are ignored.

    Raises:
        DecodeError: a field is missing or has another type.
    """
    try:
        return msgspec.convert(fields, kind, dec_hook=_instant_of)
    except msgspec.ValidationError as exc:
        raise DecodeError(str(exc)) from exc


def _text_of(value: Any) -> str:  # noqa: ANN401 - msgspec asks for every type that it does not know
    if isinstance(value, Instant):
        return format_instant(value)
    raise NotImplementedError(type(value))


def _instant_of(kind: type, value: Any) -> Instant:  # noqa: ANN401 - any value of a struct
    if kind is Instant and isinstance(value, str):
        try:
            return Instant(parse_instant(value, path=""))
        except DecodeError as exc:
            raise ValueError(str(exc).removeprefix(": ")) from exc
    raise ValueError(f"Expected `str`, got `{type(value).__name__}`")
