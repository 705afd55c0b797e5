"""Estimates for how long records have waited, from the end of a log and the offset that is done."""

from __future__ import annotations

_SAMPLES = 600
"""Samples kept of each partition. A wait of more than ten minutes is exact to half a percent."""


class Wait:
    """Estimates how long a partition has had a record that is not done, from samples of its log's end."""

    def __init__(self) -> None:
        self._samples: list[tuple[int, float]] = []
        """Samples of the log's end and their times, of those ends that lie after the offset that is done."""
        self._interval_s = 0.0
        """The minimum time between two samples."""

    def look(self, *, done: int, end: int, now: float) -> float:
        """The number of seconds for which the record at ``done`` has existed; 0 if there is none."""
        samples = self._samples
        past = 0
        while past < len(samples) and samples[past][0] <= done:
            past += 1
        del samples[:past]
        if not samples:
            self._interval_s = 0.0
        if end > done and (
            not samples or (end > samples[-1][0] and now - samples[-1][1] >= self._interval_s)
        ):
            samples.append((end, now))
            if len(samples) > _SAMPLES:
                self._interval_s = 2 * (now - samples[0][1]) / _SAMPLES
                del samples[1::2]
        return now - samples[0][1] if samples else 0.0
