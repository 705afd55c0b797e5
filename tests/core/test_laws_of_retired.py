"""Laws of instances that have left a session's state: nothing is decided otherwise (R10.11).

So few resolved instances stay in a state here that random logs have more of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.agreement import assert_agrees
from tests.core.logs_of_conditions import numbered_scenario
from tests.core.logs_of_time import numbered_timed_scenario
from tests.core.reference import Reference
from tests.core.strategies import (
    APP,
    BUSY,
    ENDINGS,
    TIGHT,
    History,
    World,
    configurations,
    histories,
    play,
)
from tests.core.test_laws_of_folding import EVERYTHING, FINISHING, asked, essence, shown
from tests.core.test_laws_of_time import SOME
from triggerstream.core import retiring
from triggerstream.core.effects import Applied, Refused, Why
from triggerstream.core.events import Event, Finished
from triggerstream.core.fold import step
from triggerstream.core.projections import statuses
from triggerstream.core.results import Folded
from triggerstream.core.state import SessionState, Status
from triggerstream.wire import state as wire

pytestmark = pytest.mark.laws

FEW = st.integers(0, 2)
KINDS = (*BUSY, *ENDINGS, "timer", "touch")
LOGS = st.one_of(
    histories(kinds=(*EVERYTHING, *FINISHING), max_size=60),
    histories(kinds=(*EVERYTHING, *FINISHING), configs=configurations(bounds=TIGHT), max_size=60),
)


@contextmanager
def kept_in_state(count: int) -> Iterator[None]:
    """So many resolved instances of a task stay in a state."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(retiring, "KEPT_RESOLVED", count)
        yield


@given(
    st.one_of(
        histories(kinds=KINDS, max_size=40),
        histories(kinds=KINDS, configs=configurations(bounds=TIGHT), max_size=40),
        histories(kinds=FINISHING, max_size=40),
    ),
    FEW,
)
def test_fold_agrees_with_a_naive_reading_of_the_rules(history: History, few: int) -> None:
    reference = Reference(history.rules.current.config, APP)
    world = World(history.rules)
    with kept_in_state(few):
        for event in history.events():
            before, left_out = len(world.decisions), len(world.left_out)
            world.take(event)
            expected = reference.fold(event)
            found = (
                [asked(d) for d in world.decisions[before:]],
                [(one.trigger, one.data) for one in world.left_out[left_out:]],
            )
            assert found == (expected or ([], []))
            assert shown(world.whole(event.session)) == reference.statuses(event.session)


@pytest.mark.parametrize("few", [0, 1])
def test_fold_agrees_with_the_reference_of_conditions(few: int) -> None:
    with kept_in_state(few):
        for n in range(SOME):
            assert_agrees(n, numbered_scenario(n), batches=bool(n % 2))


@pytest.mark.parametrize("few", [0, 1])
def test_fold_agrees_with_the_reference_of_time(few: int) -> None:
    with kept_in_state(few):
        for n in range(SOME):
            assert_agrees(n, numbered_timed_scenario(n), batches=bool(n % 2))


@given(LOGS, FEW)
def test_only_what_is_over_is_refused_otherwise(history: History, few: int) -> None:
    """Each event does the same as in a session that keeps all, and the same instances are left."""
    few_world, world = World(history.rules), World(history.rules)
    for entry in history.entries:
        if not isinstance(entry, Event):
            few_world.take(entry)
            world.take(entry)
            continue
        known, other = few_world.states.get(entry.session), world.states.get(entry.session)
        with kept_in_state(few):
            one = step(few_world.rules, known, entry)
            few_world.take(entry)
        with kept_in_state(10**9):
            two = step(world.rules, other, entry)
            world.take(entry)
        assert type(one) is type(two)
        if not isinstance(one, Folded) or not isinstance(two, Folded):
            assert one == two
            continue
        assert [essence(d) for d in one.decisions] == [essence(d) for d in two.decisions]
        assert (one.settled, one.left_out, one.prevented) == (two.settled, two.left_out, two.prevented)
        if one.effect != two.effect:
            assert isinstance(one.effect, Refused)
            assert one.effect.why is Why.OVER
            is_late = isinstance(entry.body, Finished) and isinstance(two.effect, Applied)
            assert is_late or (isinstance(two.effect, Refused) and two.effect.why is Why.WRONG_STATUS)
        assert told(few_world.whole(entry.session)) == told(world.whole(entry.session))


def told(state: SessionState | None) -> object:
    """The content of a session without results that came after a cancel, and without the timeline."""
    if state is None:
        return None
    instances = {
        name: (
            repr(one.captured),
            repr(one.noted),
            one.status,
            state.stored_kwargs(one),
            None if one.status is Status.CANCELLED else one.result,
            one.error,
            one.reason,
            one.metadata,
            one.ended_us,
            one.clone_of,
        )
        for name, one in statuses(state).items()
    }
    records = {name: (one.next, one.removed) for name, one in state.tasks.items()}
    return instances, records, state.seen, state.remembered, state.closed, state.generation, state.due_us


@given(LOGS, FEW, st.randoms(use_true_random=False))
def test_states_and_entries_are_the_same_bytes_wherever_states_are_stored(
    history: History, few: int, random: Random
) -> None:
    with kept_in_state(few):
        whole, split = play(history.rules, history.entries), World(history.rules)
        for entry in history.entries:
            split.take(entry)
            for session, state in split.states.items():
                if random.random() < 0.5 and not state.is_empty():
                    split.states[session] = wire.decode(wire.encode(state))
    assert split.entries == whole.entries
    for session, state in whole.states.items():
        assert wire.encode(split.states[session].collected()) == wire.encode(state.collected())


@given(LOGS, FEW)
def test_no_more_resolved_instances_than_these_stay_in_a_state(history: History, few: int) -> None:
    with kept_in_state(few):
        world = World(history.rules)
        for event in history.events():
            world.take(event)
            if (state := world.states.get(event.session)) is not None:
                assert all(len(record.resolved) <= few for record in state.tasks.values())
