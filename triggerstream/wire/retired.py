"""Entries of retired instances: the key under which a changelog and a store have one, and its value.

``schemas/retired-instance.schema.json`` is the published form of the value. It holds the instance and the
events that it captured, so that nothing else is needed to read it. An entry is written once, and deleted.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Struct

from triggerstream.core.errors import DecodeError
from triggerstream.core.held import place_of
from triggerstream.core.ids import (
    InstanceId,
    SessionId,
    TaskName,
    TriggerName,
    instance_id,
    split_instance_id,
)
from triggerstream.core.retired import Retired
from triggerstream.core.slots import captured_refs
from triggerstream.core.state import RESOLVED, Arrival, Count, Instance
from triggerstream.wire.blocks import encode_value
from triggerstream.wire.marks import RESERVED, check_version

ENTRY_VERSION = 1
RETIRED_PREFIX = RESERVED + b"i"
"""The first bytes of the keys of these entries, and of no others."""


class RetiredKey(NamedTuple):
    """Identity of an entry."""

    session: SessionId
    task: TaskName
    number: int


class _Entry(Struct, omit_defaults=True, kw_only=True):
    """An entry as it is stored."""

    version: Annotated[int, Meta(ge=1)]
    generation: Count
    instance: Instance
    events: dict[TriggerName, list[Arrival]] = {}


class _Version(Struct):
    version: int


_decoder = msgspec.json.Decoder(_Entry)
_version_decoder = msgspec.json.Decoder(_Version)


def session_prefix(session: SessionId) -> bytes:
    """The first bytes of the keys of a session's entries, and of no other session's.

    The length comes first, in bytes: one id may be the beginning of another.
    """
    key = session.encode()
    return b"%s%d:%s" % (RETIRED_PREFIX, len(key), key)


def encode_key(key: RetiredKey) -> bytes:
    """The key of an entry: byte 0, ``i<length>:<session><task>#<number>``; the length is in bytes."""
    return session_prefix(key.session) + instance_id(key.task, key.number).encode()


def decode_key(key: bytes) -> RetiredKey:
    """Decode a key.

    Raises:
        DecodeError: it is not the key of such an entry.
    """
    length, _, rest = key.removeprefix(RETIRED_PREFIX).partition(b":")
    try:
        at = int(length)
        session = SessionId(rest[:at].decode())
        found = split_instance_id(InstanceId(rest[at:].decode()))
        if found is not None and encode_key(decoded := RetiredKey(session, *found)) == key:
            return decoded
    except ValueError:
        pass
    raise DecodeError(f"{key[:80]!r}: not the key of a retired instance")


def encode(retired: Retired) -> bytes:
    """Encode an entry.

    Raises:
        DecodeError: a value in it is not JSON.
    """
    return encode_value(
        _Entry(
            version=ENTRY_VERSION,
            generation=retired.generation,
            instance=retired.instance,
            events={
                trigger: sorted(arrivals.values(), key=lambda one: place_of(one.offset))
                for trigger, arrivals in retired.events.items()
            },
        )
    )


def decode(task: TaskName, value: bytes) -> Retired:
    """Decode an entry of ``task``.

    Raises:
        DecodeError: it is not an entry, or has a version that this release does not know.
    """
    try:
        check_version(_version_decoder.decode(value).version, known=ENTRY_VERSION)
        entry = _decoder.decode(value)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise DecodeError(f"not a retired instance: {exc}") from exc
    instance = entry.instance
    if instance.status not in RESOLVED:
        raise DecodeError(f"/instance/status: cannot be {instance.status}")
    if instance.captured_at:
        raise DecodeError("/instance/capturedAt: cannot be there in an entry")
    events = {trigger: {one.offset: one for one in items} for trigger, items in entry.events.items()}
    for trigger, ref in captured_refs(instance.captured):
        if ref not in events.get(trigger, ()):
            raise DecodeError(f"/events: has no `{trigger[:80]}` at offset {ref}")
    return Retired(task=task, generation=entry.generation, instance=instance, events=events)
