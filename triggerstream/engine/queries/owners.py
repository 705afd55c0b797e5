"""Owners of partitions according to an app's claims, for pages and ``doctor``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

from triggerstream.core.answers import OwnerRow
from triggerstream.core.errors import LogError
from triggerstream.core.ids import Instant
from triggerstream.wire.claims import Claim

_FRESH_S = 5.0
"""A page that is refreshed all the time does not read the topic each time."""


def owner_rows(claims: Iterable[Claim]) -> list[OwnerRow]:
    """The processes that have ``claims`` which are not released, the oldest first.

    A process that was killed stays until another one takes its partitions over.
    """
    found: dict[tuple[int, str, int, int], set[int]] = {}
    for claim in claims:
        process = (claim.since_us, claim.host, claim.pid, claim.generation)
        found.setdefault(process, set()).update(claim.partitions or ())
    return [
        OwnerRow(
            host=host,
            pid=pid,
            since_us=Instant(since_us),
            generation=None if generation < 0 else generation,
            partitions=sorted(partitions),
        )
        for (since_us, host, pid, generation), partitions in sorted(found.items())
    ]


class RecentOwners:
    """The owners as they were a few seconds ago. ``read`` reads the claims that are not released."""

    def __init__(self, read: Callable[[], Awaitable[Sequence[Claim]]]) -> None:
        self._read = read
        self._rows: list[OwnerRow] = []
        self._due = 0.0
        self._reading = asyncio.Lock()

    async def rows(self) -> list[OwnerRow]:
        """The owners; those of before if they cannot be read."""
        async with self._reading:
            if time.monotonic() >= self._due:
                try:
                    self._rows = owner_rows(await self._read())
                except LogError:
                    return self._rows
                self._due = time.monotonic() + _FRESH_S
            return self._rows
