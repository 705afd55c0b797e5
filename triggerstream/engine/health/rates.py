"""Rates at which counters grow."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

WINDOW_S = 10.0
SAMPLE_S = 2.0
"""Interval between two samples of the figures."""


class Rates:
    """The growth in a second of figures that only grow, by number, over the last ten seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, Mapping[int, int]]] = deque()

    def note(self, now_s: float, figures: Mapping[int, int]) -> None:
        """Record the figures at ``now_s``."""
        seen = self._seen
        seen.append((now_s, figures))
        # Keep one sample from before the window, because the rate is measured from it.
        while len(seen) > 1 and seen[1][0] <= now_s - WINDOW_S:
            seen.popleft()

    def of(self, number: int) -> float | None:
        """The rate of one figure; None if it was recorded only once."""
        known = [(at_s, figures[number]) for at_s, figures in self._seen if number in figures]
        if len(known) < 2 or known[-1][0] <= known[0][0]:  # noqa: PLR2004 - two points make a line
            return None
        (first_s, first), (last_s, last) = known[0], known[-1]
        return round(max(last - first, 0) / (last_s - first_s), 1)
