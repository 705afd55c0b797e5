"""Names and identities. All are derived from the log; none is random."""

from __future__ import annotations

import re
from hashlib import blake2b, sha1
from typing import TYPE_CHECKING, Any, NewType, TypeAlias
from uuid import UUID

if TYPE_CHECKING:
    Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
    JsonObject: TypeAlias = dict[str, "Json"]
else:
    # A recursive type would make libraries that read types at run time recurse without end.
    Json = Any
    JsonObject = dict[str, Any]

AppId = NewType("AppId", str)
SessionId = NewType("SessionId", str)
TriggerName = NewType("TriggerName", str)
LeafName = NewType("LeafName", str)
TaskName = NewType("TaskName", str)
InstanceId = NewType("InstanceId", str)
"""``task#number``; a task's name may itself hold a ``#``, the last one counts."""
CommandId = NewType("CommandId", str)
ConfigHash = NewType("ConfigHash", str)
"""SHA-256 of the tasks file's text, in hex."""


class Instant(int):
    """Microseconds since the Unix epoch in an answer; in JSON, RFC 3339 text."""

    __slots__ = ()


KAFKA_APP_RULE = "has up to 200 of the characters A-Z a-z 0-9 . _ -"
"""The rule of :func:`is_kafka_app`, for messages that begin with the name."""
_KAFKA_APP = re.compile(r"[A-Za-z0-9._-]{1,200}")

_NAMESPACE = UUID("6f0d7a1c-3f0e-5c0b-9d5e-7a1f3f6b2c11").bytes
_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
"""The digit of a UUID with its variant, by that of the hash: binary 10, then the two lowest bits."""

_DIGITS = 18
"""No session gets so far that a number has more; Python refuses to convert thousands of digits."""


def is_kafka_app(name: str) -> bool:
    """True if ``name`` can be an app in Kafka: its topics have 249 characters at most."""
    return _KAFKA_APP.fullmatch(name) is not None


def instance_id(task: TaskName, number: int) -> InstanceId:
    """``task#number``."""
    # Calling InstanceId, a function at run time, would take a tenth of the time here, or more.
    return f"{task}#{number}"  # type: ignore[return-value]  # no call of the type


TIMEOUT_SUFFIX = ".timeout"


def timeout_of(task: TaskName) -> TriggerName:
    """The trigger that fires when an instance of ``task`` expires at its deadline: ``task.timeout``."""
    return TriggerName(f"{task}{TIMEOUT_SUFFIX}")


def split_instance_id(text: str) -> tuple[TaskName, int] | None:
    """The task and number of ``text``; None if it is not the id of an instance."""
    task, mark, number = text.rpartition("#")
    if not mark or not task or not (number.isascii() and number.isdigit()):
        return None
    if number != "0" and number.startswith("0"):
        return None
    return task, int(number) if len(number) <= _DIGITS else -1  # type: ignore[return-value]  # see instance_id


def command_id(app: AppId, session: SessionId, *, generation: int, task: TaskName, number: int) -> CommandId:
    """The UUID (version 5, RFC 9562) of an instance's command: equal wherever and whenever it is computed.

    An instance has one command id (docs/semantics.md, R5.5, R5.6). The name that is hashed gives each part's
    length first, so no two sets of parts share one.
    """
    name = f"{len(app)}:{app}{len(session)}:{session}{generation}:{len(task)}:{task}{number}"
    h = sha1(_NAMESPACE + name.encode(), usedforsecurity=False).hexdigest()
    return f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:32]}"  # type: ignore[return-value]  # see instance_id


DIGEST_BYTES = 8


def event_digest(source: str | None, event_id: str) -> bytes:
    """Hash of eight bytes for the identity (``source``, ``id``) of an event (docs/semantics.md, R4.1)."""
    src = source or ""
    return blake2b(f"{len(src)}:{src}{event_id}".encode(), digest_size=DIGEST_BYTES).digest()


HEX_DIGITS = 2 * DIGEST_BYTES
"""Hexadecimal digits of a digest."""


def find_digest(digests: bytes, digest: bytes) -> int:
    """Index of ``digest`` in ``digests``; -1 if absent."""
    at = digests.find(digest)
    while at >= 0 and at % DIGEST_BYTES:
        at = digests.find(digest, at + 1)
    return at
