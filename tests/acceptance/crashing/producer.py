"""A producer process of the crash test: fires its share, evenly over the time it is given."""

from __future__ import annotations

import sys
import time

from tests.acceptance.crashing.plan import share
from triggerstream import SyncClient


def main(address: str, events: list[tuple[str, str]], *, seconds: float) -> None:
    """Fire ``events``."""
    start = time.monotonic()
    # A process that was killed while it wrote, on a machine with other work: SQLite is locked for a while.
    with SyncClient(address, timeout_s=60) as client:
        for done, (session, trigger) in enumerate(events):
            ahead = start + seconds * done / len(events) - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
            client.fire(session, trigger, {"number": done})


if __name__ == "__main__":
    at, *numbers, length = sys.argv[1:]
    count, chosen, own, total = (int(n) for n in numbers)
    main(at, share(count, seed=chosen, number=own, of=total), seconds=float(length))
