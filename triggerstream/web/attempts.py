"""Rate limit for wrong tokens: after some of them, an address must wait."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

FAILURES = 10
"""Wrong tokens that an address may send without a pause."""
EACH_S = 6.0
"""Time for one more attempt: 14,400 a day, for tokens of at least 16 characters."""
MOST_ADDRESSES = 1_000
"""Remembered addresses; the one with the oldest failure is forgotten first."""


class Attempts:
    """Recent wrong tokens by address. ``clock`` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failed)

    def wait_s(self, address: str | None) -> float:
        """Seconds that ``address`` must wait before its next token is checked; 0: it need not wait."""
        level = self._level(_source(address), self._clock())
        return max(level - FAILURES + 1, 0.0) * EACH_S

    def note_failure(self, address: str | None) -> None:
        """Count a wrong token."""
        source, now = _source(address), self._clock()
        self._failed[source] = (self._level(source, now) + 1, now)
        self._failed.move_to_end(source)
        if len(self._failed) > MOST_ADDRESSES:
            self._failed.popitem(last=False)

    def _level(self, source: str, now: float) -> float:
        level, at = self._failed.get(source, (0.0, now))
        return max(level - (now - at) / EACH_S, 0.0)


def _source(address: str | None) -> str:
    """The unit that is counted: an IPv4 address, or an IPv6 /64 network, which one machine may own."""
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return (address or "")[:64]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found.packed[:8] + bytes(8), 64)))
    return str(found)
