"""The measure of bounds in bytes while one event is folded."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from triggerstream.core.commands import Command, Decision, Revoke
from triggerstream.core.held import Remembered
from triggerstream.core.ids import CommandId, ConfigHash, InstanceId, SessionId, TaskName
from triggerstream.core.meter import BoundEffects, BoundError, Meter
from triggerstream.core.results import TooLong
from triggerstream.core.retired import Retired
from triggerstream.core.state import Arrival, Instance, SessionState
from triggerstream.core.tasks import Bounds

STATE = SessionState()
COMMAND = Command(
    id=CommandId("c"),
    session=SessionId("s"),
    task=TaskName("t"),
    instance=InstanceId("t#0"),
    run="tasks.t",
    kwargs={},
    config=ConfigHash("h"),
    causes=[],
    decided_us=0,
)
REVOKE = Revoke(id=COMMAND.id, session=COMMAND.session, task=COMMAND.task, instance=COMMAND.instance)


@dataclass
class FixedSizes:
    """Sizes that a test sets, and the number of times that a state was measured."""

    state_bytes: int = 0
    command_bytes: int = 0
    measured: int = 0

    def command(self, command: Command) -> int:
        assert command is COMMAND
        return self.command_bytes

    def instance(self, instance: Instance) -> int:
        raise NotImplementedError

    def text(self, text: str) -> int:
        raise NotImplementedError

    def remembered(self, remembered: Remembered) -> int:
        raise NotImplementedError

    def arrival(self, arrival: Arrival) -> int:
        raise NotImplementedError

    def retired(self, retired: Retired) -> int:
        raise NotImplementedError

    def state(self, state: SessionState) -> int:
        assert state is STATE
        self.measured += 1
        return self.state_bytes


def test_state_has_room_up_to_and_with_its_limit() -> None:
    sizes = FixedSizes(state_bytes=100)
    assert Meter(sizes).takes(STATE, 10, 100)
    assert not Meter(sizes).takes(STATE, 10, 99)
    assert not Meter(sizes).takes(STATE, 1, 99)


def test_bytes_removed_or_unchanged_always_have_room() -> None:
    sizes = FixedSizes(state_bytes=100)
    assert Meter(sizes).takes(STATE, 0, 50)
    assert Meter(sizes).takes(STATE, -1, 50)


def test_state_is_measured_once_and_what_it_takes_is_added() -> None:
    sizes = FixedSizes(state_bytes=100)
    meter = Meter(sizes)
    assert meter.takes(STATE, 10, 130)
    assert meter.takes(STATE, 20, 130)
    assert meter.takes(STATE, 10, 130)
    assert not meter.takes(STATE, 1, 130)
    assert sizes.measured == 1


def test_bytes_that_had_no_room_are_not_counted() -> None:
    sizes = FixedSizes(state_bytes=100)
    meter = Meter(sizes)
    assert not meter.takes(STATE, 30, 90)  # 70 without them
    assert meter.takes(STATE, 20, 90)
    assert not meter.takes(STATE, 1, 90)
    assert sizes.measured == 1


def test_state_that_may_have_shrunk_is_measured_again_only_where_its_known_size_is_not_enough() -> None:
    sizes = FixedSizes(state_bytes=100)
    meter = Meter(sizes)
    assert meter.takes(STATE, 10, 120)
    meter.shrunk()
    sizes.state_bytes = 50
    assert meter.takes(STATE, 20, 120)  # 120 is known to be enough
    assert sizes.measured == 1
    assert meter.takes(STATE, 10, 120)
    assert sizes.measured == 2
    assert meter.takes(STATE, 70, 120)  # 50 + 70
    assert not meter.takes(STATE, 1, 120)
    assert sizes.measured == 2


def test_forgotten_size_is_measured_again() -> None:
    sizes = FixedSizes(state_bytes=100)
    meter = Meter(sizes)
    assert meter.takes(STATE, 10, 120)
    meter.forget()
    sizes.state_bytes = 121
    assert not meter.takes(STATE, 1, 120)
    assert sizes.measured == 2


BOUNDS = Bounds(command_bytes=1_000, decided_bytes=1_500)


@pytest.mark.parametrize(("size", "decided"), [(1_000, 0), (500, 1_000), (1_000, 500)])
def test_command_up_to_its_bounds_can_be_sent(size: int, decided: int) -> None:
    meter = Meter(FixedSizes(command_bytes=size))
    meter.decided = decided
    assert meter.too_long(COMMAND, BOUNDS) is None


def test_command_beyond_its_own_bound_is_too_long() -> None:
    assert Meter(FixedSizes(command_bytes=1_001)).too_long(COMMAND, BOUNDS) == TooLong(
        reason="a command would have 1,001 bytes: at most 1,000 ($bounds.commandBytes)",
        error="its command would be too long ($bounds.commandBytes)",
    )


def test_commands_beyond_the_bound_of_one_event_are_too_long() -> None:
    meter = Meter(FixedSizes(command_bytes=501))
    meter.decided = 1_000
    assert meter.too_long(COMMAND, BOUNDS) == TooLong(
        reason="one event would decide 1,501 bytes of commands: at most 1,500 ($bounds.decidedBytes)",
        error="one event would decide too many bytes of commands ($bounds.decidedBytes)",
    )


def test_commands_are_counted_and_other_decisions_have_no_bytes() -> None:
    meter = Meter(FixedSizes(command_bytes=700))
    counted: list[tuple[Decision, int]] = [(COMMAND, 700), (REVOKE, 700), (COMMAND, 1_400)]
    for decision, total in counted:
        meter.count(decision)
        assert meter.decided == total
    meter.sizes = FixedSizes(command_bytes=701)
    assert meter.too_long(REVOKE, Bounds(command_bytes=0, decided_bytes=1_400)) is None


def test_error_says_whether_the_bound_is_one_in_bytes() -> None:
    assert not BoundError("full").in_bytes
    assert BoundError("full", in_bytes=True).in_bytes
    assert str(BoundError("full")) == "full"


def test_nothing_is_beyond_a_bound_at_first() -> None:
    beyond = BoundEffects()
    assert (beyond.left_out, beyond.prevented, beyond.remarks) == ((), 0, [])
