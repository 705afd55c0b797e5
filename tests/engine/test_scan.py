"""Which sessions a configuration may decide something in, without having each meet it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.core.strategies import BUSY, CHANGING, LIFE, History, World, histories
from triggerstream.core.fold import needs_touch
from triggerstream.core.ids import SessionId
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import Applied
from triggerstream.engine.scan import changed_tasks, may_decide, met
from triggerstream.wire import state as states

EVERYTHING = (*BUSY, *LIFE, "touch", "timer", "apply", "apply")


@given(st.one_of(histories(kinds=CHANGING), histories(kinds=EVERYTHING)))
def test_a_session_that_a_configuration_decides_something_in_is_looked_at(history: History) -> None:
    world = World(history.rules)
    looks: list[tuple[int, dict[SessionId, SessionState]]] = []
    """After each configuration: its offset, and the sessions that were touched for it."""
    for entry in history.entries:
        world.take(entry)
        if not isinstance(entry, Applied):
            continue
        asking = {name: one for name, one in world.states.items() if needs_touch(world.rules, one)}
        for since, touched in looks:
            changed = changed_tasks(world.rules, since=since)
            for name, one in asking.items():
                assert may_decide(one, changed) or touched.get(name) is one
        looks.append((entry.offset, asking))


@given(histories(kinds=EVERYTHING))
def test_the_bytes_of_a_state_tell_which_configuration_it_has_met(history: History) -> None:
    world = World(history.rules)
    for entry in history.entries:
        world.take(entry)
    for one in world.states.values():
        found = met(states.encode(one))
        assert found == one.config or (one.is_empty() and found > world.rules.current.offset)
