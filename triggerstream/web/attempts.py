"""Wrong tokens, counted by address: after some of them, an address has to wait."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

FAILURES = 10
"""Wrong tokens that an address may send at once."""
EACH_S = 6.0
"""One more after each such time: 14,400 a day, for tokens of 16 characters and more."""
MOST_ADDRESSES = 1_000
"""Addresses remembered; the one that failed longest ago is forgotten first."""


class Attempts:
    """Who has sent wrong tokens lately. ``clock`` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failed)

    def wait_s(self, address: str | None) -> float:
        """How long ``address`` has to wait before a token of its is looked at; 0: it need not."""
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
    """What counts as one address: of IPv6 a network of 64 bits, which one machine has to itself."""
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return (address or "")[:64]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found.packed[:8] + bytes(8), 64)))
    return str(found)
