"""The report of a process that is about to end with a failure."""

from __future__ import annotations

from typing import Protocol


class OnEnd(Protocol):
    """Receives the reason. ``unreadable``: a partition cannot be taken over because of a record batch."""

    def __call__(self, reason: str, *, unreadable: bool = False) -> None:
        """Pass the reason on."""


def no_report(reason: str, *, unreadable: bool = False) -> None:
    """Report to nobody."""
    del reason, unreadable
