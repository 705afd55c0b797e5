"""Runs a task once when the triggers it waits for have arrived: in any order, days apart, on any machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triggerstream.client import Client, SyncClient

__all__ = ["Client", "SyncClient"]


def __getattr__(name: str) -> object:
    """The clients, imported once they are asked for: most of the package does not need them."""
    if name in __all__:
        from triggerstream import client  # noqa: PLC0415 - see above

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
