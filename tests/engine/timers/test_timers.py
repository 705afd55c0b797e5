from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from triggerstream.core.ids import SessionId
from triggerstream.engine.timers.heap import AGAIN_US, Timers

A, B, C = SessionId("a"), SessionId("b"), SessionId("c")


def test_due_sessions_come_in_due_order_up_to_the_limit() -> None:
    timers = Timers({A: 30, B: 10, C: 20})
    assert timers.next_us() == 10
    assert timers.take(9, limit=9) == []
    assert timers.take(25, limit=9) == [B, C]
    assert timers.take(40, limit=9) == [A]
    assert timers.take(40, limit=9) == []
    assert timers.next_us() is None


def test_limit_leaves_the_rest_for_the_next_call() -> None:
    timers = Timers({A: 1, B: 2, C: 3})
    assert timers.take(9, limit=2) == [A, B]
    assert timers.take(9, limit=2) == [C]


def test_session_whose_due_time_stays_is_returned_again_a_second_later() -> None:
    timers = Timers({A: 10})
    assert timers.take(10, limit=9) == [A]
    timers.update(A, 10)
    timers.again([A], 50)
    assert timers.next_us() == 50 + AGAIN_US
    assert timers.take(49 + AGAIN_US, limit=9) == []
    assert timers.take(50 + AGAIN_US, limit=9) == [A]


def test_session_leaves_only_when_its_state_has_no_due_time() -> None:
    timers = Timers({A: 10, B: 10})
    assert timers.take(10, limit=9) == [A, B]
    timers.update(A, None)
    timers.again([A, B], 10)
    assert timers.take(10 + AGAIN_US, limit=9) == [B]
    assert len(timers) == 1


def test_new_due_time_takes_the_place_of_the_former() -> None:
    timers = Timers({A: 10})
    timers.update(A, 90)
    assert timers.take(89, limit=9) == []
    assert timers.take(90, limit=9) == [A]
    timers.update(A, 95)
    timers.again([A], 90)
    assert timers.take(95, limit=9) == [A]


def test_update_says_whether_someone_has_to_wake_sooner() -> None:
    timers = Timers({A: 10})
    assert not timers.update(B, 20)
    assert timers.update(C, 5)
    assert not timers.update(C, 5)
    timers.update(C, None)
    assert timers.update(B, 9)
    assert not timers.update(B, None)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abcd"), st.none() | st.integers(0, 20)),
            st.integers(0, 20),
        )
    )
)
def test_what_is_due_is_returned_and_nothing_else(actions: list[tuple[str, int | None] | int]) -> None:
    timers, due = Timers({}), dict[str, int]()
    taken: set[str] = set()
    for action in actions:
        if isinstance(action, int):
            got = timers.take(action, limit=10)
            assert set(got) == {s for s, at in due.items() if at <= action and s not in taken}
            assert [due[s] for s in got] == sorted(due[s] for s in got)
            taken.update(got)
            continue
        session, at_us = action
        timers.update(SessionId(session), at_us)
        if at_us is None:
            due.pop(session, None)
            taken.discard(session)
        elif due.get(session) != at_us:
            due[session] = at_us
            taken.discard(session)
    assert timers.next_us() == min((at for s, at in due.items() if s not in taken), default=None)
