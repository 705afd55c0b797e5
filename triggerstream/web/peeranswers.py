"""Reads answers of other workers: an answer without the structure that pages and lists need is refused.

Only a worker with the peer key can authenticate an answer, but it may have another release.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import TypeAlias, TypeVar, Union, overload

from msgspec import Struct

from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import Json, JsonObject
from triggerstream.wire.answers import from_json
from triggerstream.wire.json import as_object, loads

_T = TypeVar("_T", bound=Struct)
OK = 200
NOT_FOUND = 404

Shape: TypeAlias = Union[type, tuple[type, ...], "Each", "Fields"]
"""Expected structure: a type, several types, a list, or an object."""


@dataclass(frozen=True, slots=True)
class Each:
    """Shape of a list whose items have a shape."""

    shape: Shape


@dataclass(frozen=True, slots=True)
class Fields:
    """Shape of an object with at least these fields."""

    fields: Mapping[str, Shape]


_COUNT = (int, NoneType)
_TEXT = (str, NoneType)
OVERVIEW = Fields(
    {
        "partitions": Each(
            Fields(
                {
                    "partition": int,
                    "phase": str,
                    "recovered": _COUNT,
                    "lag": _COUNT,
                    "events": _COUNT,
                    "eventsPerSecond": (int, float, NoneType),
                    "deadLetters": _COUNT,
                }
            )
        )
    }
)
CONFIGURATION = Fields(
    {
        "hash": _TEXT,
        "text": str,
        "arrival": _TEXT,
        "tasks": Each(
            Fields({"task": str, "run": str, "after": Each(str), "andEvery": _TEXT, "unless": Each(str)})
        ),
    }
)
ENDED_LOGINS = Fields({"ended": Fields({}), "madeAfter": int})


@overload
def read_answer(status: int, body: bytes, shape: Fields) -> JsonObject | None: ...


@overload
def read_answer(status: int, body: bytes, shape: type[_T]) -> _T | None: ...


def read_answer(status: int, body: bytes, shape: Fields | type[_T]) -> JsonObject | _T | None:
    """The content of an authenticated answer; None: the worker does not have the requested object.

    Raises:
        DecodeError: it has another shape, or reports an error; the message is for people.
    """
    found = as_object(loads(body), "")
    if status == NOT_FOUND:
        return None
    if status != OK:
        raise DecodeError(f"{status}: {str(found.get('error'))[:500]}")
    if not isinstance(shape, Fields):
        return from_json(found, shape)
    check_shape(found, shape, "")
    return found


def check_shape(value: Json, shape: Shape, path: str) -> None:
    """Check that ``value`` at ``path`` has the given shape.

    Raises:
        DecodeError: it has another shape.
    """
    match shape:
        case Each():
            if not isinstance(value, list):
                raise DecodeError(f"{path}: must be a list")
            for at, item in enumerate(value):
                check_shape(item, shape.shape, f"{path}/{at}")
        case Fields():
            if not isinstance(value, dict):
                raise DecodeError(f"{path}: must be an object")
            for name, inner in shape.fields.items():
                if name not in value:
                    raise DecodeError(f"{path}/{name}: is missing")
                check_shape(value[name], inner, f"{path}/{name}")
        case type() | tuple():
            wanted = shape if isinstance(shape, tuple) else (shape,)
            if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
                names = " or ".join(one.__name__ for one in wanted)
                raise DecodeError(f"{path}: must be {names}")
