"""Estimates for how long records have waited, from the end of a log and the offset that is done."""

from __future__ import annotations

_LOOKS = 600
"""So many are remembered of a partition. A wait of more than ten minutes is told to half a percent."""


class Wait:
    """The time for which one partition has had a record that is not done, as far as was looked."""

    def __init__(self) -> None:
        self._looks: list[tuple[int, float]] = []
        """Where the log ended and when that was seen, of those ends that are beyond what is done."""
        self._apart_s = 0.0
        """How far apart they are at the least."""

    def look(self, *, done: int, end: int, now: float) -> float:
        """The number of seconds for which the record at ``done`` has existed; 0 if there is none."""
        looks = self._looks
        past = 0
        while past < len(looks) and looks[past][0] <= done:
            past += 1
        del looks[:past]
        if not looks:
            self._apart_s = 0.0
        if end > done and (not looks or (end > looks[-1][0] and now - looks[-1][1] >= self._apart_s)):
            looks.append((end, now))
            if len(looks) > _LOOKS:
                self._apart_s = 2 * (now - looks[0][1]) / _LOOKS
                del looks[1::2]
        return now - looks[0][1] if looks else 0.0
