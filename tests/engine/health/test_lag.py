from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from triggerstream.engine.health.lag import Wait

LOOKS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), max_size=400)
"""What arrives and what is done, at most, between two looks a second apart."""


@given(LOOKS)
def test_a_wait_is_that_of_the_oldest_record_that_is_not_done(looks: list[tuple[int, int]]) -> None:
    wait = Wait()
    arrived: list[int] = []
    done = 0
    for now, (arrives, can_do) in enumerate(looks):
        arrived += [now] * arrives
        done = min(done + can_do, len(arrived))
        waits = now - arrived[done] if done < len(arrived) else 0
        assert wait.look(done=done, end=len(arrived), now=now) == waits


def test_a_wait_of_days_is_told_about_right_from_little_memory() -> None:
    wait = Wait()
    seconds = 100_000
    for now in range(seconds):
        assert wait.look(done=0, end=now + 1, now=now) == now
    assert len(wait._samples) <= 600  # noqa: SLF001 - the bound is the point
    told = wait.look(done=seconds // 2, end=seconds, now=seconds)
    assert abs(told - seconds / 2) < 0.01 * seconds
