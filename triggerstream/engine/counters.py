"""Counters of an engine, for metrics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from triggerstream.engine.checkpoint import Checkpoint
from triggerstream.engine.histogram import Durations


@dataclass(slots=True)
class Counters:
    """Counters of a partition since it was taken over, or of an embedded engine since its start."""

    events: int = 0
    decided: int = 0
    dead_letters: int = 0
    left_out: int = 0
    """Dead letters that are triggers which a bound left out."""
    prevented: int = 0
    """Instances and seeds that bounds prevented."""
    unused: int = 0
    """Triggers that no task of the configuration in force used."""
    forgotten_ids: int = 0
    """Events whose repetition is no longer noticed (``$bounds.digests``)."""
    unknown: int = 0
    """Outcomes, orders and timers for sessions of which nothing is known."""
    rehomed: int = 0
    checkpoints: int = 0
    took: Durations = field(default_factory=Durations)
    """The checkpoints, from the batches that wait to their states being stored."""
    batches: int = 0
    timers: int = 0
    touches: int = 0

    def note(self, checkpoints: Iterable[Checkpoint], *, batches: int) -> None:
        """Count ``checkpoints``, which one transaction made durable, and the batches that they end."""
        self.checkpoints += 1
        self.batches += batches
        for checkpoint in checkpoints:
            self.events += checkpoint.events
            self.decided += len(checkpoint.decided)
            self.dead_letters += len(checkpoint.dead_letters)
            self.left_out += checkpoint.left_out
            self.prevented += checkpoint.prevented
            self.unused += checkpoint.unused
            self.forgotten_ids += checkpoint.forgotten_ids
            self.unknown += checkpoint.unknown
            self.rehomed += len(checkpoint.rehomed)
