"""Validates answers of other workers: an answer without the structure that pages and lists need is refused.

Only a worker with the peer key can authenticate an answer, but it may have another release.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import NoneType
from typing import TypeAlias, Union

from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import Json, JsonObject
from triggerstream.core.state import Status
from triggerstream.wire.json import as_object, loads

OK = 200
NOT_FOUND = 404

Shape: TypeAlias = Union[type, tuple[type, ...], "Each", "Fields", "Kinds"]
"""Expected structure: a type, several types, an enumeration, a list, an object, or one of several objects."""


@dataclass(frozen=True, slots=True)
class Each:
    """Shape of a list whose items have a shape."""

    shape: Shape


@dataclass(frozen=True, slots=True)
class Fields:
    """Shape of an object with at least these fields; ``optional`` fields are checked if they exist."""

    fields: Mapping[str, Shape]
    optional: Mapping[str, Shape] | None = None


@dataclass(frozen=True, slots=True)
class Kinds:
    """Shape of an object that depends on its ``field``; ``others`` is the shape for any other value."""

    field: str
    kinds: Mapping[str, Fields]
    others: Fields


_COUNT = (int, NoneType)
_TEXT = (str, NoneType)
_BY = Fields({"offset": int, "time": str})
_CAUSE = Fields({"trigger": str, "by": _BY})
_UNLESS = Kinds(
    "arrived",
    {str(True): Fields({"trigger": str, "arrived": bool, "offset": int})},
    others=Fields({"trigger": str, "arrived": bool}),
)
_ROW: Mapping[str, Shape] = {"what": str, "time": str, "offset": int}

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
SESSIONS = Fields(
    {
        "sessions": Each(
            Fields(
                {
                    "session": str,
                    "waiting": int,
                    "running": int,
                    "failed": int,
                    "done": int,
                    "closed": bool,
                    "clock": _TEXT,
                    "waitsFor": Each(str),
                    "failures": Each(
                        Fields({"instance": str, "error": _TEXT, "reason": _TEXT, "changed": _TEXT})
                    ),
                }
            )
        ),
        "after": _TEXT,
        "complete": bool,
    }
)
SESSION = Fields(
    {
        "session": str,
        "partition": int,
        "generation": int,
        "closed": bool,
        "clock": _TEXT,
        "offset": int,
        "refused": int,
        "waitsFor": Each(str),
        "tasks": Each(
            Fields(
                {
                    "task": str,
                    "instances": Each(
                        Fields(
                            {
                                "instance": str,
                                "status": Status,
                                "says": str,
                                "after": Each(Fields({"trigger": str, "met": bool}, {"by": _BY})),
                            },
                            {
                                "attempt": int,
                                "unless": Each(_UNLESS),
                            },
                        )
                    ),
                },
                {"forgotten": int},
            )
        ),
        "timeline": Each(
            Kinds(
                "what",
                {"decided": Fields({**_ROW, "instance": str, "run": _TEXT, "because": Each(_CAUSE)})},
                others=Fields({**_ROW, "type": str}),
            )
        ),
        "seen": Each(Fields({"trigger": str, "by": _BY, "usedBy": Each(str)})),
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


def read_answer(status: int, body: bytes, shape: Fields) -> JsonObject | None:
    """The JSON of an authenticated answer; None: the worker does not have the requested object.

    Raises:
        DecodeError: it has another shape, or reports an error; the message is for people.
    """
    found = as_object(loads(body), "")
    if status == NOT_FOUND:
        return None
    if status != OK:
        raise DecodeError(f"{status}: {str(found.get('error'))[:500]}")
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
        case Kinds():
            if not isinstance(value, dict):
                raise DecodeError(f"{path}: must be an object")
            check_shape(value, shape.kinds.get(str(value.get(shape.field)), shape.others), path)
        case Fields():
            if not isinstance(value, dict):
                raise DecodeError(f"{path}: must be an object")
            for name, inner in shape.fields.items():
                if name not in value:
                    raise DecodeError(f"{path}/{name}: is missing")
                check_shape(value[name], inner, f"{path}/{name}")
            for name, inner in (shape.optional or {}).items():
                if name in value:
                    check_shape(value[name], inner, f"{path}/{name}")
        case type() if issubclass(shape, Enum):
            if value not in {one.value for one in shape}:
                raise DecodeError(f"{path}: is none of {', '.join(one.value for one in shape)}")
        case type() | tuple():
            wanted = shape if isinstance(shape, tuple) else (shape,)
            if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
                names = " or ".join(one.__name__ for one in wanted)
                raise DecodeError(f"{path}: must be {names}")
