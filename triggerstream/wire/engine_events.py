"""The data of the engine's own events: JSON to a body and back.

msgspec reads and checks the fields as the classes of :mod:`triggerstream.core.events` declare them, and finds
the class by the event's type. A new kind is readable and writable once it is in ``EngineEvent``.
"""

from __future__ import annotations

from hashlib import sha256
from typing import get_args

import msgspec
from msgspec import Meta, structs

from triggerstream.core.errors import DecodeError
from triggerstream.core.events import ENGINE_PREFIX, SHOWN, TYPES, ConfigApplied, EngineEvent, Retried
from triggerstream.core.ids import ConfigHash, JsonObject
from triggerstream.core.tasks import LONGEST_US
from triggerstream.wire.json import kind_of

_SECOND_US = 1_000_000
_LONGEST_WAIT_S = LONGEST_US // _SECOND_US
_KINDS: dict[str, type[EngineEvent]] = {name: kind for kind, name in TYPES.items()}
_RETRIED = TYPES[Retried]
_WRITTEN_AS_NULL = frozenset({"result", "kwargs", "replaces"})
"""Fields that are written even if they are None: other programs read the log, too."""


def read_body(kind: str, data: JsonObject) -> EngineEvent:
    """The body of an event of the engine's type ``kind``.

    Raises:
        DecodeError: there is no such type, or ``data`` is invalid; the message names the place.
    """
    declared = _KINDS.get(kind)
    if declared is None:
        raise DecodeError(
            f"/type: `{kind[:80]}` is none of the engine's own types: only those begin with `{ENGINE_PREFIX}`"
        )
    fields = data
    if None in data.values() or "type" in data:
        # An absent field and one that is null mean the same. An unknown field is ignored, also of this name.
        fields = {name: value for name, value in data.items() if value is not None and name != "type"}
    if kind == _RETRIED and "after" in fields:
        fields = fields | {"after": _microseconds(fields["after"])}
    try:
        # Not with the union as type: for a union, msgspec creates a new decoder in each call, in 11 µs.
        body = msgspec.convert(fields, declared)
    except msgspec.ValidationError as exc:
        raise DecodeError(_explain(declared, data)) from exc
    if isinstance(body, ConfigApplied) and body.hash != text_hash(body.text):
        raise DecodeError("/data/hash: must be the SHA-256 of `text` in hex")
    return body


def data_of(body: EngineEvent) -> JsonObject:
    """The data of an event with this body; most fields that are None are left out."""
    data: JsonObject = {
        name: value
        for name, value in structs.asdict(body).items()
        if value is not None or name in _WRITTEN_AS_NULL
    }
    if isinstance(body, Retried):
        del data["after_us"]
        whole, rest = divmod(body.after_us, _SECOND_US)
        data["after"] = body.after_us / _SECOND_US if rest else whole
    return data


def text_hash(text: str) -> ConfigHash:
    """The SHA-256 of a tasks file's text, in hex."""
    return ConfigHash(sha256(text.encode()).hexdigest())


def _microseconds(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LONGEST_WAIT_S:
        message = f"/data/after: must be a number of seconds from 0 to {_LONGEST_WAIT_S:,}"
        raise DecodeError(message)
    return round(value * _SECOND_US)


def _explain(declared: type[EngineEvent], data: JsonObject) -> str:
    """A message for the first field of ``data`` that is not as ``declared`` has it."""
    field = next(field for field in structs.fields(declared) if not _fits(data, field))
    name, value = field.encode_name, data.get(field.encode_name)
    meta = _meta_of(field)
    found = kind_of(value) if name in data else "missing"
    if isinstance(value, str) and value and meta.extra == SHOWN:
        found = f"`{value[:80]}`"
    return f"/data/{name}: must be {meta.description}, is {found}"


def _fits(data: JsonObject, field: structs.FieldInfo) -> bool:
    value = data.get(field.encode_name)
    if value is None:
        return not field.required
    try:
        msgspec.convert(value, field.type)
    except msgspec.ValidationError:
        return field.encode_name == "after"  # its unit is seconds here, and it was read before
    return True


def _meta_of(field: structs.FieldInfo) -> Meta:
    parts = (field.type, *get_args(field.type))
    return next(one for part in parts for one in getattr(part, "__metadata__", ()) if isinstance(one, Meta))
