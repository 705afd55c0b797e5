"""The protocol of the engine is sound within small bounds, and the search finds faults in broken ones."""

from __future__ import annotations

import pytest

from tests.model import trace
from tests.model.__main__ import bounds_of
from tests.model.canonical import canonical
from tests.model.protocols import BROKEN, CLAIM_FIRST, FENCE_FIRST, SPARE_ID, Protocol
from tests.model.search import Bounds, events_of, search
from tests.model.state import State

SMALL = Bounds(kicks=1, crashes=1)


def test_claim_first_holds_in_every_interleaving_of_two_workers_and_every_run_ends() -> None:
    result = search(CLAIM_FIRST, SMALL)
    assert (result.violation, result.complete, result.cyclic) == ("", True, 0)
    assert result.states > 5000  # fewer: something can no longer happen


def test_an_owner_that_goes_on_under_a_spare_id_decides_nothing_twice() -> None:
    result = search(SPARE_ID, Bounds(kicks=1, parts=1))
    assert (result.violation, result.complete, result.cyclic) == ("", True, 0)


def test_an_id_that_is_spare_again_lifts_no_fence() -> None:
    result = search(SPARE_ID, Bounds(kicks=1, parts=2))
    assert (result.violation, result.complete, result.cyclic) == ("", True, 0)


def test_planned_rebalances_end_nobody() -> None:
    result = search(CLAIM_FIRST, Bounds(rebalances=1), nobody_ends=True)
    assert (result.violation, result.complete) == ("", True)


@pytest.mark.parametrize("protocol", BROKEN, ids=lambda protocol: protocol.name)
def test_a_broken_protocol_is_found_out(protocol: Protocol) -> None:
    assert search(protocol, bounds_of(protocol), limit=20_000).violation.startswith("CHAIN")


def test_a_violation_is_explained_by_its_shortest_trace() -> None:
    result = search(FENCE_FIRST, SMALL)
    told = list(trace.lines(result.trace, FENCE_FIRST))
    assert len(told) == result.depth
    assert told[0] == "worker 0 joins"
    assert [line for line in told if "fences" in line] == []
    assert told[-1].endswith("CHAIN: partition 0 was at 1, is continued at 0")


def test_an_end_by_the_last_stable_offset_fails_with_one_worker_and_no_fault() -> None:
    stable = next(protocol for protocol in BROKEN if protocol.name == "last stable offset")
    one = Bounds(workers=1, events=2, rebalances=1)
    assert search(stable, one).violation
    assert not search(CLAIM_FIRST, one).violation


def test_a_process_that_is_fenced_is_found_where_nobody_may_end() -> None:
    assert search(CLAIM_FIRST, SMALL, nobody_ends=True).violation.startswith("NOBODY ENDS")


def test_states_that_differ_by_names_of_workers_have_one_representative() -> None:
    state = Bounds(workers=3, events=2, kicks=1).initial()
    for _ in range(30):
        events = list(events_of(state, CLAIM_FIRST))
        state = events[-1].state
        for workers in ((1, 2, 0), (2, 1, 0)):
            assert canonical(_permuted(state, workers))[0] == canonical(state)[0]
        if not list(events_of(state, CLAIM_FIRST)):
            break


def _permuted(state: State, order: tuple[int, ...]) -> State:
    return state._replace(workers=tuple(state.workers[place] for place in order))
