"""Wrong tokens are counted by address, in bounded memory."""

from __future__ import annotations

from triggerstream.web.attempts import EACH_S, FAILURES, MOST_ADDRESSES, Attempts


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_address_waits_after_some_failures_and_then_for_each() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    for _ in range(FAILURES):
        assert attempts.wait_s("192.0.2.1") == 0
        attempts.note_failure("192.0.2.1")
    assert attempts.wait_s("192.0.2.1") == EACH_S
    assert attempts.wait_s("192.0.2.2") == 0
    clock.now += EACH_S
    assert attempts.wait_s("192.0.2.1") == 0
    attempts.note_failure("192.0.2.1")
    assert attempts.wait_s("192.0.2.1") == EACH_S
    clock.now += EACH_S * FAILURES
    assert attempts.wait_s("192.0.2.1") == 0


def test_a_machine_cannot_change_its_address_within_its_network() -> None:
    attempts = Attempts(Clock())
    for host in range(FAILURES):
        attempts.note_failure(f"2001:db8::{host:x}")
    assert attempts.wait_s("2001:db8::ffff") > 0
    assert attempts.wait_s("2001:db8:0:1::1") == 0
    for _ in range(FAILURES):
        attempts.note_failure("::ffff:192.0.2.1")
    assert attempts.wait_s("192.0.2.1") > 0


def test_any_number_of_addresses_takes_bounded_memory() -> None:
    attempts = Attempts(Clock())
    for number in range(3 * MOST_ADDRESSES):
        attempts.note_failure(f"10.{number // 65536}.{number // 256 % 256}.{number % 256}")
    attempts.note_failure("x" * 1_000_000)
    attempts.note_failure(None)
    assert len(attempts) == MOST_ADDRESSES
