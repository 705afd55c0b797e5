"""Which sessions a configuration may decide something in, without having each meet it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.strategies import BUSY, CHANGING, LIFE, History, World, histories
from triggerstream.core.fold import needs_touch, next_due
from triggerstream.core.ids import AppId, SessionId
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import Applied, Rules
from triggerstream.engine.scan import Scan, changed_tasks, has_met, may_decide
from triggerstream.engine.stored_states import Keeper, UnreadableStateError
from triggerstream.wire import state as states
from triggerstream.wire.marks import CHECKPOINT_KEY

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
    for name, one in world.states.items():
        value = states.encode(one)
        for version in world.rules.history:
            met = one.is_empty() or one.config >= version.offset
            assert has_met(name.encode(), value, version.offset) is met
        seen = states.glance(value)
        assert seen is not None
        assert seen.config == (None if one.is_empty() else one.config)
        assert seen.may_wait or not (one.timer_count or one.unjudged)
        assert seen.may_be_open or not one.open_count


@given(histories(kinds=EVERYTHING))
def test_a_scan_finds_what_decoding_every_session_finds(history: History) -> None:
    world = World(history.rules)
    for entry in history.entries:
        before = world.rules.current.offset
        world.take(entry)
        if not isinstance(entry, Applied):
            continue
        rules = world.rules
        changed = changed_tasks(rules, since=before)
        scan = Scan(rules, scanned=before)
        for name, one in world.states.items():
            scan.look(name.encode(), states.encode(one))
        found = {session: (due_us, config) for session, due_us, config in scan.take_found()}
        oldest = rules.current.offset
        touched = []
        for name, one in world.states.items():
            if one.is_empty():
                assert found[name] == (None, None)
                continue
            oldest = min(oldest, one.config)
            due_us = next_due(rules, one)
            assert found.get(name, (None, one.config)) == (due_us, one.config)
            if may_decide(one, changed) and needs_touch(rules, one):
                touched.append(name.encode())
        assert scan.oldest == oldest
        assert [record.key for record in scan.take_touches()] == touched
        assert not scan.take_found()
        assert not scan.take_touches()


def test_a_reserved_key_is_no_session() -> None:
    scan = Scan(Rules(app=AppId("a")), scanned=-1)
    scan.look(CHECKPOINT_KEY, b"no state")
    assert not scan.take_found()


@pytest.mark.parametrize("value", [b"{}", b'{"version":9,"generation":0,"offset":1}'])
def test_a_state_that_cannot_be_read_is_named_with_its_store(value: bytes) -> None:
    keeper = Keeper(name="a store")
    with pytest.raises(UnreadableStateError, match=r"^a store: the state of session '42' cannot be read"):
        Scan(Rules(app=AppId("a")), scanned=-1, keeper=keeper).look(b"42", value)
    with pytest.raises(UnreadableStateError, match=r"^a store: the state of session '42' cannot be read"):
        has_met(b"42", value, 3, keeper=keeper)
