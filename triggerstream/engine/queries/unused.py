"""Remark about a trigger that no task in force uses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from triggerstream.core.errors import TriggerstreamError
from triggerstream.core.similar_names import describe_character, differing_characters, nearest
from triggerstream.core.tasks import Configuration

_SHOWN = 80
"""Characters of a name that a sentence has."""


async def unused_trigger(
    name: str, in_force: Awaitable[Configuration | None], *, within_s: float
) -> str | None:
    """A sentence if no task in force uses ``name``; None if one does, or if nothing is known in time."""
    try:
        config = await asyncio.wait_for(in_force, within_s)
    except (TriggerstreamError, TimeoutError):
        return None
    if config is None:
        return f"no task uses {_shown(name)}: no tasks file is in force yet"
    if name in config.users:
        return None
    likely = nearest(name, config.users)
    return f"no task in force uses {_shown(name)}" + ("" if likely is None else _nearest_name(name, likely))


def _nearest_name(name: str, likely: str) -> str:
    strange = dict.fromkeys(char for char in differing_characters(name, likely) if not char.isascii())
    differ = f", which differs in {', '.join(map(describe_character, strange))}" if strange else ""
    return f"; the nearest name is {_shown(likely)}{differ}"


def _shown(name: str) -> str:
    return f"`{name}`" if len(name) <= _SHOWN else f"`{name[:_SHOWN]}…`"
