"""The names of workers that had a partition lately, as the metadata of the workers' group offset.

Kafka forgets a member when its session times out. So each worker with a name of its own commits, with the
partition's offset, its name and the time, and those that it found there::

    seen worker-0=1764390000 worker-1=1764389000
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, unquote

KEPT_S = 86_400
"""Names are kept for a day."""
_MOST = 20
_LONGEST = 3_500
"""Brokers take 4,096 bytes (`offset.metadata.max.bytes`)."""
_HEAD = "seen"


def seen_text(seen: Mapping[str, int], *, now_s: int) -> str:
    """The metadata for ``seen``: the newest names, each with the time of its last commit in Unix seconds."""
    newest = sorted(seen.items(), key=lambda item: -item[1])[:_MOST]
    text = _HEAD
    for name, at_s in newest:
        entry = f" {quote(name, safe='')}={at_s}"
        if now_s - at_s <= KEPT_S and len(text) + len(entry) <= _LONGEST:
            text += entry
    return text


def seen_in(metadata: str | None) -> dict[str, int]:
    """The names in ``metadata``, with their times; nothing for text of another form."""
    head, *entries = (metadata or "").split(" ")
    if head != _HEAD:
        return {}
    pairs = (entry.rpartition("=") for entry in entries)
    return {unquote(name): int(at_s) for name, _, at_s in pairs if name and at_s.isdecimal()}
