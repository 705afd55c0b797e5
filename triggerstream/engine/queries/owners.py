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
_WAIT_S = 0.5
"""A page waits so long at most: to read the topic takes seconds where the clients prove themselves, and much
longer while no broker answers. The other workers wait 2 s for a page."""


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
        self._reading: asyncio.Task[None] | None = None

    async def rows(self) -> list[OwnerRow]:
        """The owners; those of before if they cannot be read, or not at once."""
        if self._reading is None and time.monotonic() >= self._due:
            self._reading = asyncio.create_task(self._refresh())
        if self._reading is not None:
            await asyncio.wait([self._reading], timeout=_WAIT_S)
        return self._rows

    async def _refresh(self) -> None:
        try:
            self._rows = owner_rows(await self._read())
            self._due = time.monotonic() + _FRESH_S
        except LogError:
            pass  # the next page asks again
        finally:
            self._reading = None

    async def close(self) -> None:
        """End a reading that is under way."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
