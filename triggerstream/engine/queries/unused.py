"""Remark about a trigger that no task in force uses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from triggerstream.core.errors import TriggerstreamError
from triggerstream.core.printable import shorten
from triggerstream.core.similar_names import describe_differing_letters, nearest
from triggerstream.core.tasks import Configuration


async def unused_trigger(
    name: str, in_force: Awaitable[Configuration | None], *, within_s: float
) -> str | None:
    """A sentence if no task in force uses ``name``; None if one does, or if nothing is known in time."""
    try:
        config = await asyncio.wait_for(in_force, within_s)
    except (TriggerstreamError, TimeoutError):
        return None
    if config is None:
        return f"no task uses `{shorten(name)}`: no tasks file is in force yet"
    if name in config.users:
        return None
    says = f"no task in force uses `{shorten(name)}`"
    likely = nearest(name, config.users)
    if likely is None:
        return says
    letters = describe_differing_letters(name, likely)
    differs = f", which differs in {letters}" if letters else ""
    return f"{says}; the nearest name is `{shorten(likely)}`{differs}"
