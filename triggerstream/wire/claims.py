"""Claims: who owns which partitions, as the owners topic has them.

The key of a record is a transactional id, and its value the claim of the assignment that commits under it. A
record without a value releases the claim: its owner has ended in order, or was fenced.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NewType

from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import AppId
from triggerstream.wire.json import as_object, dumps, loads

OwnerId = NewType("OwnerId", str)
"""A transactional id under which one assignment commits. It is never used again."""

CLAIM_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The claim that an assignment owns ``partitions`` and commits under ``id``.

    ``partitions``: None if the claim cannot be read: it may be that of any partition. ``host`` and ``pid``
    name the process, ``since_us`` is its time, ``generation`` that of its group (-1: it has none).
    """

    id: OwnerId
    partitions: frozenset[int] | None
    host: str = ""
    pid: int = 0
    since_us: int = 0
    generation: int = -1

    def names(self, partitions: Iterable[int]) -> bool:
        """True if it may be a claim of one of ``partitions``."""
        return self.partitions is None or not self.partitions.isdisjoint(partitions)


def encode_claim(claim: Claim) -> bytes:
    """``claim`` as the value under its id."""
    return dumps(
        {
            "version": CLAIM_VERSION,
            "partitions": sorted(claim.partitions or ()),
            "host": claim.host,
            "pid": claim.pid,
            "since": claim.since_us,
            "generation": claim.generation,
        }
    )


def decode_claim(id_: OwnerId, value: bytes) -> Claim:
    """The claim of ``id_``, of any release. If its partitions cannot be read, it may be that of any."""
    try:
        fields = as_object(loads(value), "")
    except DecodeError:
        return Claim(id=id_, partitions=None)
    host = fields.get("host")
    return Claim(
        id=id_,
        partitions=_numbers(fields.get("partitions")),
        host=host if isinstance(host, str) else "",
        pid=_whole(fields.get("pid"), 0),
        since_us=_whole(fields.get("since"), 0),
        generation=_whole(fields.get("generation"), -1),
    )


def _numbers(found: object) -> frozenset[int] | None:
    if not isinstance(found, list) or not all(type(one) is int and one >= 0 for one in found):
        return None
    return frozenset(found)


def _whole(found: object, unknown: int) -> int:
    return found if type(found) is int else unknown


def is_owner_id(app: AppId, id_: str) -> bool:
    """True if ``id_`` may be a transactional id of ``app``: others cannot be fenced by its accounts."""
    return id_.startswith(f"{app}-")
