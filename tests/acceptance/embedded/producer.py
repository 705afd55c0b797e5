"""Fires one trigger for every session, in an order of its own, one append each."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from random import Random

from triggerstream.adapters.sqlite import SqliteLog
from triggerstream.core.events import Trigger
from triggerstream.core.ids import TriggerName
from triggerstream.wire.events import encode
from triggerstream.wire.records import NewRecord


def fires(session: int, trigger: int) -> bool:
    """Every fifth session never gets the last trigger."""
    return trigger < 2 or session % 5 != 0


async def _run(directory: Path, trigger: int, sessions: int) -> None:
    log = SqliteLog(directory)
    order = [n for n in range(sessions) if fires(n, trigger)]
    Random(trigger).shuffle(order)
    value = encode(Trigger(name=TriggerName(f"t{trigger}"), data={}))
    for session in order:
        await log.append([NewRecord(key=b"s%d" % session, value=value)])
    await log.close()


if __name__ == "__main__":
    asyncio.run(_run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
