"""A state whose instances and events are decoded when they are looked at is folded as any other.

Few instances are stored as lines here, so that random logs have many shapes of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.core.compared import Folding, Reading
from tests.core.logs_of_conditions import numbered_scenario
from tests.core.strategies import BUSY, ENDINGS, History, World, histories
from triggerstream.core import takers
from triggerstream.core.listing import count, tags_of
from triggerstream.core.projections import explain, waits_for
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import AppliedConfiguration
from triggerstream.wire import blocks, int_columns
from triggerstream.wire import state as wire

pytestmark = pytest.mark.laws

EVERYTHING = (*BUSY, *ENDINGS, "touch", "timer", "apply")


@pytest.fixture(autouse=True, scope="module", params=["lists", "JSON"])
def _store_all_as_lines(request: pytest.FixtureRequest) -> Iterator[None]:
    """With columns of instances decoded, and as JSON."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "MOST_INLINE", 0)
        patch.setattr(takers, "FEW", 0)
        if request.param == "JSON":
            patch.setattr(wire, "_LONG_HEAD", 0)
            for module in (wire, blocks, int_columns):
                patch.setattr(module, "LONG", 0)
        yield


def stored(state: SessionState) -> SessionState:
    """The state as it is read from a store."""
    read = wire.decode_lazily(wire.encode(state))
    if read.is_empty():
        read.config = state.config  # an empty state has met every configuration
    return read


def as_read(state: SessionState) -> SessionState:
    """The state without what the fold has found out about its instances: it is not stored."""
    state.tasks = {name: replace(record, takers=None, places=None) for name, record in state.tasks.items()}
    return state


@given(histories(kinds=EVERYTHING), st.randoms(use_true_random=False))
def test_states_that_are_read_between_events_end_with_the_same_bytes(
    history: History, random: Random
) -> None:
    plain, lazy = World(history.rules), World(history.rules)
    for entry in history.entries:
        plain.take(entry)
        lazy.take(entry)
        if not isinstance(entry, AppliedConfiguration) and random.random() < 0.7:
            for session, state in lazy.states.items():
                lazy.states[session] = stored(state)
    assert lazy.decisions == plain.decisions
    for session, state in plain.states.items():
        found = lazy.states[session]
        assert wire.encode(found) == wire.encode(state)
        read = wire.decode(wire.encode(state))
        if read.is_empty():
            read.config = state.config  # an empty state is stored without it
        assert read == as_read(state.collected())
        assert wire.EncodedSizes().state(found) == wire.EncodedSizes().state(state)
        value = wire.encode(state)
        assert wire.size_at_most(wire.decode_lazily(value), len(value)) >= wire.EncodedSizes().state(state)
        assert explain(plain.rules, session, found) == explain(plain.rules, session, state)
        assert waits_for(plain.rules, found, session) == waits_for(plain.rules, state, session)
        assert tags_of(plain.rules, session, found) == tags_of(plain.rules, session, state)
        assert count(session, found) == count(session, state)


@pytest.mark.parametrize("number", range(60))
def test_files_of_the_language_are_folded_the_same(number: int) -> None:
    scenario = numbered_scenario(number)
    reader = Reading()
    plain = Folding.of(scenario.file, reader)
    lazy = Folding.of(scenario.file, reader)
    random = Random(number)
    for line in scenario.lines:
        plain.read(line)
        lazy.read(line)
        if random.random() < 0.5:
            lazy.states = {session: stored(state) for session, state in lazy.states.items()}
    assert lazy.decisions == plain.decisions
    for session, state in plain.states.items():
        assert wire.encode(lazy.states[session]) == wire.encode(state)
