"""``make model``: the sound protocols within larger bounds, then every broken one, as a table.

``make model ONLY="fence first"`` runs one protocol, and prints the shortest way to its violation.
"""

from __future__ import annotations

import sys
import time

from tests.model import trace
from tests.model.protocols import BROKEN, CLAIM_FIRST, ID_PER_PARTITION, KIP_447, SOUND, SPARE_ID, Protocol
from tests.model.search import Bounds, Result, search

HEAD = ("protocol", "bounds", "result", "states", "edges", "steps", "CPU s")
BROKEN_BOUNDS = Bounds(kicks=1, crashes=1)
LARGER = (
    (ID_PER_PARTITION, Bounds(events=2, kicks=1, crashes=1, rebalances=1)),
    (CLAIM_FIRST, Bounds(events=2, kicks=1, crashes=1, rebalances=1)),
    (CLAIM_FIRST, Bounds(events=2, kicks=2, crashes=1, timeouts=1)),
    (CLAIM_FIRST, Bounds(workers=3, kicks=1, crashes=1)),
    (CLAIM_FIRST, Bounds(workers=3, kicks=2, crashes=1)),
    (CLAIM_FIRST, Bounds(partitions=2, kicks=1)),
    (CLAIM_FIRST, Bounds(partitions=2, kicks=1, crashes=1)),
    (SPARE_ID, Bounds(kicks=1, parts=1)),
    (SPARE_ID, Bounds(kicks=1, parts=2)),
    (SPARE_ID, Bounds(kicks=1, crashes=1, parts=1)),
    (KIP_447, Bounds(events=2, kicks=1, crashes=1, rebalances=1)),
)
PLANNED = (
    (CLAIM_FIRST, Bounds(workers=3, rebalances=2)),
    (CLAIM_FIRST, Bounds(partitions=2, rebalances=2)),
)
"""Without a fault besides rebalances, nobody is fenced."""


def main(only: str) -> int:
    """Print the table; 1 if a result is not the expected one."""
    if only:
        return _explain(only)
    print(_row(*HEAD))
    print(_row(*("---",) * len(HEAD)))
    wrong = 0
    for protocol in SOUND:
        wrong += _run(protocol, Bounds(kicks=1, crashes=1), sound=True)
    for protocol, bounds in LARGER:
        wrong += _run(protocol, bounds, sound=True)
    for protocol, bounds in PLANNED:
        wrong += _run(protocol, bounds, sound=True, nobody_ends=True)
    for protocol in BROKEN:
        wrong += _run(protocol, bounds_of(protocol), sound=False)
    return 1 if wrong else 0


def bounds_of(protocol: Protocol) -> Bounds:
    """Small bounds within which the fault of a broken protocol is found."""
    if not protocol.spare_id:
        return BROKEN_BOUNDS
    return Bounds(kicks=1, parts=2 if protocol.renews_fenced else 1)


def _run(protocol: Protocol, bounds: Bounds, *, sound: bool, nobody_ends: bool = False) -> bool:
    """Print one row; True if the result is not the expected one."""
    began = time.process_time()
    result = search(protocol, bounds, nobody_ends=nobody_ends)
    words = _words(result) + (", nobody is fenced" if nobody_ends and not result.violation else "")
    figures = (f"{result.states:,}", f"{result.edges:,}", str(result.depth))
    print(_row(protocol.name, str(bounds), words, *figures, f"{time.process_time() - began:.0f}"), flush=True)
    return bool(result.violation) == sound


def _words(result: Result) -> str:
    if result.violation:
        return result.violation.split(":")[0] + " violated"
    if not result.complete:
        return "no violation so far"
    return "holds" if result.cyclic else "holds, every run ends"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _explain(only: str) -> int:
    known = (*SOUND, SPARE_ID, *BROKEN)
    protocols = [protocol for protocol in known if protocol.name == only]
    if not protocols:
        print("Protocols:", *(protocol.name for protocol in known), sep="\n  ")
        return 2
    for protocol in protocols:
        result = search(protocol, bounds_of(protocol))
        print(f"{protocol.name}, {bounds_of(protocol)}: {_words(result)}")
        for number, line in enumerate(trace.lines(result.trace, protocol), start=1):
            print(f"{number:3}  {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
