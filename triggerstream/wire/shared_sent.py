"""The content that several commands of a task share (``sent``), stored once in the task's record.

Instances that were decided under one file have the same ``sent``: some hundred bytes, most of them the hash
of the file. It stands in the record, and those that have the same leave it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from triggerstream.core.instances import Instance, Sent
from triggerstream.wire.blocks import encode_value
from triggerstream.wire.stored_state import StoredRecord


def find_shared(instances: Iterable[Instance]) -> Sent | None:
    """The first ``sent`` that another one of ``instances`` has, too; None if they all differ.

    None also if one of them was decided without any, as in old states, or has one without a decision: it
    would be read as an instance that has left its own out, or lose it.
    """
    shared: Sent | None = None
    known: list[Sent] = []
    for instance in instances:
        sent = instance.sent
        if (sent is None) is not (instance.decided_us is None):
            return None
        if sent is not None and shared is None:
            if any(_is_same(one, sent) for one in known):
                shared = sent
            known.append(sent)
    return shared


def share_sent(record: StoredRecord) -> None:
    """Move what the instances of a task have in common to their record, so that it is stored once."""
    record.sent = shared = find_shared((*record.resolved, *record.open))
    record.open = _without_shared(record.open, shared)
    record.resolved = _without_shared(record.resolved, shared)


def _without_shared(instances: list[Instance], shared: Sent | None) -> list[Instance]:
    """``instances`` as they are stored in a record that has ``shared``."""
    if shared is None:
        return instances
    return [
        replace(one, sent=None) if one.sent is not None and _is_same(one.sent, shared) else one
        for one in instances
    ]


def _is_same(one: Sent, other: Sent) -> bool:
    """True if both have the same bytes: equal ``params`` may have others, as 1 and 1.0 have."""
    if one is other:
        return True
    return one == other and (not one.params or encode_value(one) == encode_value(other))


def shared_bytes(instances: Sequence[Instance]) -> int:
    """At least the bytes by which instances are longer if each has its own ``sent``."""
    if len(instances) < _FEWEST:
        return 0
    shared = find_shared(instances)
    return 0 if shared is None else len(instances) * (len(encode_value(shared)) + _KEY_BYTES)


_FEWEST = 2
_KEY_BYTES = len(b'"sent":,')
