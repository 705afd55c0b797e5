"""Port of a process that hands commands over."""

from __future__ import annotations

import asyncio
from typing import Protocol

from triggerstream.engine.handover.first_offset import FirstOffset
from triggerstream.engine.handover.shared_log import PartitionHandOver
from triggerstream.engine.health.liveness import HealthSnapshot


class HandOverProcess(Protocol):
    """A process that hands commands over until it is stopped."""

    @property
    def handover(self) -> PartitionHandOver:
        """The numbers of commands that were handed over, were refused, and wait."""

    async def run(self, stopping: asyncio.Event, *, start: FirstOffset | None, agreed: bool = False) -> None:
        """Hand over until ``stopping`` is set. Then finish commands in progress.

        Raises:
            UsageError: it cannot start; the message says what to do.
            LogError: the log failed in a way that a restart may cure.
        """

    def fail(self, exc: BaseException) -> None:
        """End ``run`` with ``exc``."""

    def answered_at(self) -> float:
        """Monotonic time of a broker's last answer."""

    def health(self) -> HealthSnapshot:
        """Its health, for probes."""
