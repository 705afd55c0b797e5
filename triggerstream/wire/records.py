"""Bytes with their place in the log."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

Headers: TypeAlias = tuple[tuple[str, bytes | None], ...]
"""Headers of a record; Kafka allows one without a value. A name that is not UTF-8 has ``\\xff`` escapes."""


class Record(Struct, frozen=True, kw_only=True):
    """An entry as the log returns it. ``arrival_us``: when the log took it, microseconds since the epoch."""

    partition: int
    offset: int
    arrival_us: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class NewRecord(Struct, frozen=True, kw_only=True):
    """An entry to append. A session's events have its id as ``key``; a configuration has none."""

    key: bytes | None
    value: bytes
    headers: Headers = ()
