"""How fast figures grow."""

from __future__ import annotations

from triggerstream.engine.health.rates import Rates


def test_a_rate_is_that_of_the_last_ten_seconds() -> None:
    rates = Rates()
    for second in range(0, 31, 2):
        rates.note(second, {0: 1000 + 5 * second, 1: 0 if second < 20 else 100 * (second - 20)})
    assert rates.of(0) == 5.0
    assert rates.of(1) == 100.0


def test_what_was_seen_once_has_no_rate() -> None:
    rates = Rates()
    assert rates.of(0) is None
    rates.note(1, {0: 7})
    assert rates.of(0) is None
    rates.note(3, {0: 9, 1: 5})
    assert (rates.of(0), rates.of(1)) == (1.0, None)


def test_a_partition_that_was_taken_over_again_does_not_shrink() -> None:
    rates = Rates()
    rates.note(0, {0: 100})
    rates.note(2, {0: 0})
    assert rates.of(0) == 0.0
