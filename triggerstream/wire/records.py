"""Bytes with their place in the log."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

Headers: TypeAlias = tuple[tuple[str, bytes | None], ...]
"""Headers of a record; Kafka allows one without a value. A name that is not UTF-8 has ``\\xff`` escapes."""
_HEADER_OVERHEAD = 8
"""Maximum bytes of the two lengths, of a header's name and of its value."""


def headers_bytes(headers: Headers) -> int:
    """The most bytes that ``headers`` take of a record: many short ones take more than their texts."""
    return sum(len(name.encode()) + len(text or b"") + _HEADER_OVERHEAD for name, text in headers)


def offsets(first: int, last: int | None) -> str:
    """``offset 5``, or ``offset 5 to 9``. ``last``: None if it is not known."""
    return f"offset {first}" if last is None or last == first else f"offset {first} to {last}"


class UnreadableBatch(Struct, frozen=True, kw_only=True):
    """Offsets from ``first`` on in a batch that cannot be unpacked within the bounds, and the reason."""

    first: int
    reason: str


class Record(Struct, frozen=True, kw_only=True):
    """An entry read from the log. ``arrival_us``: when the log received it, in microseconds since the epoch.

    With ``unreadable`` it replaces all records up to its offset, and has neither key nor value.
    """

    partition: int
    offset: int
    arrival_us: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    unreadable: UnreadableBatch | None = None


class NewRecord(Struct, frozen=True, kw_only=True):
    """An entry to append. A session's events have its id as ``key``; a configuration has none."""

    key: bytes | None
    value: bytes
    headers: Headers = ()
