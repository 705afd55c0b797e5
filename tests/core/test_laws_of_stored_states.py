"""States as bytes: what was encoded comes back equal, and no other bytes do harm."""

from __future__ import annotations

import json
from contextlib import suppress
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.core.strategies import BUSY, ENDINGS, History, histories, play
from triggerstream.core.errors import DecodeError
from triggerstream.core.events import Event, Touch
from triggerstream.core.fold import next_due, step
from triggerstream.core.ids import SessionId
from triggerstream.core.projections import explain
from triggerstream.core.tasks import Rules
from triggerstream.wire import state as wire

pytestmark = pytest.mark.laws

EVERYTHING = (*BUSY, *ENDINGS, "touch", "timer", "apply")
_junk: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        [-1, 0, 1, 2**63 - 1, -(2**63), 2**64, 0.5, "", "x", "t#0", "scheduled", [], {}, [1], {"a": 1}]
    ),
)


def decodes_or_says_why(value: bytes) -> bool:
    """True if ``value`` is a state; any error but DecodeError passes through."""
    with suppress(DecodeError):
        state = wire.decode(value)
        assert wire.decode(wire.encode(state)) == state
        return True
    return False


@given(st.binary(max_size=200))
@example(b"")
@example(b"null")
@example(b"[" * 100_000)
@example(b'{"version":1}')
@example(b'{"version":3,"generation":0,"offset":0}')
@example(b'{"version":1,"generation":0,"offset":"\xff"}')
def test_any_bytes_are_a_state_or_a_decode_error(value: bytes) -> None:
    decodes_or_says_why(value)


@given(histories(kinds=EVERYTHING), st.data())
def test_bytes_of_a_state_that_were_damaged_are_a_state_or_a_decode_error(
    history: History, data: st.DataObject
) -> None:
    for state in play(history.rules, history.entries).states.values():
        value = bytearray(wire.encode(state))
        assert decodes_or_says_why(bytes(value))
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(value) - 1))
            cut = data.draw(st.integers(0, 3))
            value[at : at + cut] = data.draw(st.binary(max_size=3))
            if not value:
                break
        decodes_or_says_why(bytes(value))


@given(histories(kinds=EVERYTHING), st.data())
def test_fields_of_a_state_that_were_replaced_are_a_state_or_a_decode_error(
    history: History, data: st.DataObject
) -> None:
    world = play(history.rules, history.entries)
    for session, state in world.states.items():
        head, *lines = wire.encode(state).split(b"\n")
        fields = json.loads(head)
        for _ in range(data.draw(st.integers(1, 2))):
            _replace_one(fields, data)
        value = b"\n".join([json.dumps(fields).encode(), *lines])
        if decodes_or_says_why(value):
            usable(world.rules, session, value)


def usable(rules: Rules, session: SessionId, value: bytes) -> None:
    """Whatever decodes can be folded, timed and explained."""
    state = wire.decode(value)
    event = Event(session=session, offset=2**62, arrival_us=2**60, time_us=2**60, type="", body=Touch())
    step(rules, state, event)
    next_due(rules, state)
    explain(rules, session, state)


def _replace_one(fields: Any, data: st.DataObject) -> None:  # noqa: ANN401 - JSON of any shape
    """Put junk in one place of ``fields``, as deep as the draw goes, or leave the place out."""
    here = fields
    while True:
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        if isinstance(here[key], dict | list) and here[key] and data.draw(st.integers(0, 3)):
            here = here[key]
            continue
        if isinstance(here, dict) and data.draw(st.booleans()):
            del here[key]
        else:
            here[key] = deepcopy(data.draw(_junk))
        return
