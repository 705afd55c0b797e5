"""Bytes with their place in the log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

Headers: TypeAlias = "tuple[tuple[str, bytes], ...]"


# One is made for each record read; see core.events for why it is not frozen.
@dataclass(slots=True, kw_only=True)
class Record:
    """An entry as the log returns it. ``arrival_us``: when the log took it, microseconds since the epoch."""

    partition: int
    offset: int
    arrival_us: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRecord:
    """An entry to append. A session's events have its id as ``key``; a configuration has none."""

    key: bytes | None
    value: bytes
    headers: Headers = field(default=())
