"""Progress of the hand-over of a command, from a bridge's committed progress."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.engine.samples import command, revoke
from triggerstream.core.answers import HandOverState
from triggerstream.core.commands import Command
from triggerstream.core.ids import InstanceId
from triggerstream.core.projections import SilentCommand
from triggerstream.engine.handover.shared_log import TAKEN, HandOverProgress
from triggerstream.engine.handover.unconfirmed_commands import MOST_READ, UnconfirmedCommands

POSITION = 20


def decided(number: int, at: int, *, attempt: int = 0) -> Command:
    return replace(command(number, attempt=attempt), decided_at=at)


def silent(number: int, at: int, *, attempt: int = 0) -> SilentCommand:
    found = command(number)
    return SilentCommand(instance=InstanceId("t#0"), command=found.id, attempt=attempt, decided_at=at)


def unconfirmed(*, upto: int = POSITION, open_: tuple[int, ...] = ()) -> UnconfirmedCommands:
    return UnconfirmedCommands(reached=HandOverProgress(position=POSITION, upto=upto, open=open_))


def state(found: UnconfirmedCommands, number: int, at: int, *, attempt: int = 0) -> HandOverState:
    return found.hand_over(silent(number, at, attempt=attempt)).state


def test_what_was_decided_before_the_first_open_command_is_handed_over() -> None:
    found = unconfirmed()
    found.read(POSITION, decided(7, at=100))
    assert state(found, 6, at=99) is HandOverState.HANDED_OVER
    assert state(found, 7, at=100) is HandOverState.UNCONFIRMED


def test_of_two_commands_of_one_event_the_earlier_is_handed_over_only_if_all_was_read() -> None:
    found = unconfirmed()
    found.read(POSITION, decided(7, at=100))
    assert state(found, 6, at=100) is HandOverState.UNKNOWN
    found.to_end = True
    assert state(found, 6, at=100) is HandOverState.HANDED_OVER


def test_with_nothing_left_all_is_handed_over() -> None:
    found = unconfirmed()
    found.to_end = True
    assert state(found, 6, at=5) is HandOverState.HANDED_OVER


def test_commands_that_wait_for_a_refused_queue_are_not_handed_over_and_later_ones_are() -> None:
    found = unconfirmed(upto=POSITION + 4, open_=(POSITION, POSITION + 2))
    for place in range(6):
        found.read(POSITION + place, decided(place, at=100 + place))
    found.to_end = True
    handed = [place for place in range(6) if state(found, place, at=100 + place) is HandOverState.HANDED_OVER]
    assert handed == [1, 3]


def test_what_the_bridge_cannot_have_taken_yet_is_only_decided() -> None:
    found = unconfirmed()
    for place in range(TAKEN + 1):
        assert not found.enough or place == TAKEN
        found.read(POSITION + 2 * place, decided(place, at=100 + place))
    assert found.enough
    assert state(found, TAKEN - 1, at=0) is HandOverState.UNCONFIRMED
    assert state(found, TAKEN, at=0) is HandOverState.DECIDED
    assert state(found, TAKEN + 9, at=100 + TAKEN + 9) is HandOverState.DECIDED


def test_a_resend_is_not_taken_for_its_first_hand_over() -> None:
    found = unconfirmed()
    found.read(POSITION, decided(7, at=100))
    found.read(POSITION + 1, decided(3, at=101, attempt=1))
    assert state(found, 3, at=5, attempt=1) is HandOverState.UNCONFIRMED
    # Nothing was read of the second resend of another one: it may lie further on.
    assert state(found, 4, at=5, attempt=2) is HandOverState.UNKNOWN


@pytest.mark.parametrize("count", [1, 2])
def test_commands_without_the_place_of_their_decision_tell_nothing(count: int) -> None:
    found = unconfirmed()
    found.read(POSITION, revoke(1))
    for number in range(count):
        found.read(POSITION + 1 + number, command(number))
    assert state(found, 9, at=5) is HandOverState.UNKNOWN


def test_reading_ends_even_if_progress_has_far_too_many_gaps() -> None:
    found = unconfirmed(upto=POSITION + 10 * MOST_READ, open_=(POSITION,))
    for place in range(MOST_READ):
        assert not found.enough
        found.read(POSITION + place, None)
    assert found.enough


def test_commands_that_an_operator_may_have_skipped_are_not_known() -> None:
    found = unconfirmed()
    found.reached = HandOverProgress(position=POSITION, upto=POSITION, begun=10)
    found.to_end = True
    assert state(found, 4, at=90) is HandOverState.UNKNOWN  # no command since the hand-over began
    found.begun_with = decided(5, at=95)
    assert state(found, 4, at=94) is HandOverState.UNKNOWN
    assert state(found, 4, at=95) is HandOverState.UNKNOWN  # of the same event, and perhaps before it
    assert state(found, 5, at=95) is HandOverState.HANDED_OVER
    assert state(found, 6, at=96) is HandOverState.HANDED_OVER
    found.read(POSITION, decided(3, at=89))
    assert state(found, 3, at=89) is HandOverState.UNCONFIRMED
