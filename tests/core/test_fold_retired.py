"""Resolved instances that leave a session's state for entries of their own (docs/semantics.md, R10.11)."""

from __future__ import annotations

import pytest

from tests.core.story import Story, task
from triggerstream.core.effects import Refused, Why
from triggerstream.core.events import Cancel, Erase, Finished, Order, Release, Replay, Resend, Skip
from triggerstream.core.ids import CommandId, InstanceId, JsonObject, TaskName
from triggerstream.core.number_ranges import (
    Numbers,
    are_valid,
    count_of,
    each_of,
    is_among,
    with_number,
    without_first,
)
from triggerstream.core.orders import ORDERS
from triggerstream.core.projections import statuses, stored
from triggerstream.core.retired import KEPT_RESOLVED, forgotten_count
from triggerstream.core.state import SessionState, Status
from triggerstream.wire import state as wire

T = TaskName("t")
EVERY: JsonObject = {"t": {"after": [], "andEvery": "a", "run": "x.y"}}


def run(story: Story, count: int, *, begin: int = 0) -> None:
    """Fire `a` and finish the instance that it makes, again and again."""
    for n in range(begin, begin + count):
        story.fire("a", {"n": n})
        story.finished(f"t#{n}", {"r": n})


def state_of(story: Story) -> SessionState:
    assert story.state is not None
    return story.state


def why(story: Story) -> Why | None:
    """Why the last event was refused."""
    effect = story.result.effect
    return effect.why if isinstance(effect, Refused) else None


def whole(story: Story) -> SessionState:
    return story.entries.whole(story.session, state_of(story))


def test_the_newest_eight_resolved_instances_stay_in_the_state() -> None:
    story = Story(EVERY)
    run(story, KEPT_RESOLVED)
    assert (story.result.retired, state_of(story).tasks[T].retired) == ((), ())
    run(story, 2, begin=KEPT_RESOLVED)
    record = state_of(story).tasks[T]
    assert [*record.resolved] == [*range(2, KEPT_RESOLVED + 2)]
    assert record.retired == ((0, 1),)
    assert [(one.task, one.instance.number) for one in story.result.retired] == [("t", 1)]


def test_an_entry_has_the_kwargs_by_value_and_the_state_keeps_no_event_of_it() -> None:
    story = Story(EVERY)
    run(story, 20)
    assert sum(map(len, state_of(story).collected().kept.values())) == KEPT_RESOLVED - 1
    found = stored(story.session, whole(story)).instances
    assert [*found] == [f"t#{n}" for n in range(20)]
    for n, one in enumerate(found.values()):
        assert (one.status, one.kwargs, one.result) == ("finished", {"a": {"n": n}}, {"r": n})


def test_a_state_that_is_whole_again_has_no_retired_instance() -> None:
    story = Story(EVERY)
    run(story, 10)
    record = whole(story).tasks[T]
    assert (record.retired, forgotten_count(record)) == ((), 0)
    assert state_of(story).tasks[T].retired == ((0, 1),)


def test_the_last_to_be_resolved_stay_whatever_their_numbers() -> None:
    story = Story(EVERY)
    story.fire("a")
    run(story, 12, begin=1)
    story.finished("t#0")
    assert [*state_of(story).tasks[T].resolved] == [6, 7, 8, 9, 10, 11, 12, 0]
    assert state_of(story).tasks[T].retired == ((1, 5),)


def test_each_task_keeps_its_own_newest_ones() -> None:
    story = Story({**EVERY, "u": task("b")})
    story.fire("b")
    story.finished("u#0")
    run(story, 12)
    assert [*state_of(story).tasks[TaskName("u")].resolved] == [0]


def test_an_outcome_of_a_retired_instance_is_over_and_settles_its_command() -> None:
    story = Story(EVERY)
    run(story, 9)
    before = wire.encode(state_of(story).collected())
    story.finished("t#0")
    assert why(story) is Why.OVER
    assert story.settled[-1] == story.command("t#0")
    assert (story.refused(), story.result.decisions) == (1, ())
    assert story.entries.stored[story.session].keys() == {("t", 0)}
    assert before != wire.encode(state_of(story).collected())


def test_an_outcome_with_another_command_is_refused_as_before() -> None:
    story = Story(EVERY)
    run(story, 9)
    story.tell(Finished(instance=InstanceId("t#0"), command=CommandId("other")))
    assert why(story) is Why.OTHER_COMMAND


@pytest.mark.parametrize("kind", [Skip, Replay, Cancel, Resend, Release])
def test_an_order_for_a_retired_instance_is_over(kind: type[Order]) -> None:
    assert kind in ORDERS.values()
    story = Story(EVERY)
    run(story, 9)
    story.tell(kind(instance=InstanceId("t#0")))
    assert why(story) is Why.OVER
    assert not story.result.decisions
    story.tell(kind(instance=InstanceId("t#0"), generation=3))
    assert why(story) is Why.OTHER_GENERATION


def test_a_result_that_comes_after_a_cancel_is_kept_while_the_instance_is_among_the_newest() -> None:
    story = Story(EVERY)
    story.fire("a")
    story.cancel("t#0")
    run(story, KEPT_RESOLVED - 1, begin=1)
    story.finished("t#0", "late")
    assert story.instance("t#0").result == "late"
    run(story, 1, begin=KEPT_RESOLVED)
    story.finished("t#0", "later")
    assert why(story) is Why.OVER
    assert statuses(whole(story))["t#0"].result == "late"


def test_the_bound_in_numbers_counts_both_and_deletes_the_lowest_numbers() -> None:
    story = Story({**EVERY, "$bounds": {"resolvedInstances": 20}})
    run(story, 20)
    assert not story.result.dropped
    run(story, 3, begin=20)
    assert story.result.dropped == ((T, 2),)
    assert [*statuses(whole(story))] == [f"t#{n}" for n in range(3, 23)]
    assert forgotten_count(state_of(story).tasks[T]) == 3
    story.finished("t#1")
    assert why(story) is Why.UNKNOWN_INSTANCE


def test_an_instance_in_the_state_goes_first_if_its_number_is_lowest() -> None:
    story = Story({**EVERY, "$bounds": {"resolvedInstances": 10}})
    story.fire("a")
    run(story, 9, begin=1)
    story.finished("t#0")
    assert [*statuses(whole(story))] == [f"t#{n}" for n in range(10)]
    run(story, 1, begin=10)
    assert [*statuses(whole(story))] == [f"t#{n}" for n in range(1, 11)]
    assert not story.result.dropped


def test_a_lower_bound_deletes_entries_at_the_next_instance_that_is_resolved() -> None:
    story = Story(EVERY)
    run(story, 30)
    story.apply({**EVERY, "$bounds": {"resolvedInstances": 4}})
    story.touch()
    assert not story.result.dropped
    run(story, 1, begin=30)
    assert len(story.result.dropped) == 30 - KEPT_RESOLVED
    assert [*statuses(whole(story))] == ["t#27", "t#28", "t#29", "t#30"]
    assert state_of(story).tasks[T].retired == ()


@pytest.mark.parametrize("ending", ["erase", "close"])
def test_entries_are_deleted_with_their_generation(ending: str) -> None:
    story = Story(EVERY)
    run(story, 10)
    if ending == "close":
        story.close()
        assert not story.result.dropped
        assert [*statuses(whole(story))] == [f"t#{n}" for n in range(10)]
        story.fire("a")
    else:
        story.erase()
    assert story.result.dropped == ((T, 0), (T, 1))
    assert whole(story).generation == 1
    story.finished("t#0")
    run(story, 10, begin=1 if ending == "close" else 0)
    assert all(one.status is Status.FINISHED for one in statuses(whole(story)).values())


def test_a_closed_session_that_is_erased_deletes_its_entries() -> None:
    story = Story(EVERY)
    run(story, 10)
    story.close()
    story.erase()
    assert story.result.dropped == ((T, 0), (T, 1))


def test_what_time_and_the_event_resolve_leaves_the_state_in_one_event() -> None:
    story = Story({"t": {"after": ["b"], "andEvery": "a", "deadline": "1h", "run": "x.y"}})
    for _ in range(30):
        story.fire("a")
    story.timer(at=7_200)
    assert len(story.result.retired) == 30 - KEPT_RESOLVED
    assert [*statuses(whole(story))] == [f"t#{n}" for n in range(30)]


TWO_TASKS: JsonObject = {
    "s": {"after": ["b", "c"], "deadline": "1h", "run": "x.y"},
    "t": {"after": ["b"], "andEvery": "a", "deadline": "1h", "run": "x.y"},
}


def test_a_task_with_few_resolved_instances_keeps_no_other_from_retiring_its_own() -> None:
    story = Story(TWO_TASKS)
    story.fire("c")
    for _ in range(12):
        story.fire("a")
    story.timer(at=7_200)
    assert state_of(story).tasks[TaskName("s")].retired == ()
    assert state_of(story).tasks[T].retired == ((0, 12 - KEPT_RESOLVED - 1),)


def test_a_task_without_entries_keeps_no_entry_of_another_from_being_deleted() -> None:
    story = Story({**TWO_TASKS, "$bounds": {"resolvedInstances": 12}})
    for n in range(12):
        story.fire("a")
        story.cancel(f"t#{n}")
    assert state_of(story).tasks[T].retired == ((0, 3),)
    story.fire("c")
    for _ in range(5):
        story.fire("a")
    story.timer(at=7_200)
    assert story.result.dropped == tuple((T, n) for n in range(4))
    assert statuses(whole(story)).keys() == {"s#0", *(f"t#{n}" for n in range(5, 17))}


def test_what_retires_and_is_dropped_in_one_event_has_no_entry() -> None:
    tasks: JsonObject = {"t": {"after": ["b"], "andEvery": "a", "deadline": "1h", "run": "x.y"}}
    story = Story({**tasks, "$bounds": {"resolvedInstances": 10}})
    for n in range(10):
        story.fire("a", at=n)
    story.fire("a", at=4_000)
    story.cancel("t#10", reason="no")
    assert [*statuses(whole(story))] == [f"t#{n}" for n in range(1, 11)]
    story = Story({**tasks, "$bounds": {"resolvedInstances": 10}})
    for n in range(11):
        story.fire("a", at=n * 100)
    story.tell(Cancel(instance=InstanceId("t#10")), at=4_599.5)
    assert story.statuses()["t#10"] == "cancelled"
    assert [(one.task, one.instance.number) for one in story.result.retired] == [("t", 1), ("t", 2)]
    story = Story(tasks)
    for n in range(20):
        story.fire("a", at=n)
    story.tell(Erase(), at=9_000)
    assert not story.result.retired


def test_a_removed_task_that_never_ran_begins_again_however_often_it_went() -> None:
    """As it would if the cancelled instances were in the state (R4.6)."""
    story = Story({"t": task("a", "b")})
    for _ in range(KEPT_RESOLVED + 3):
        story.fire("a")
        story.apply({"u": task("z")})
        story.touch()
        story.apply({"t": task("a", "b")})
    story.fire("a")
    assert state_of(story).tasks[T].next == KEPT_RESOLVED + 4
    story.fire("b")
    story.finished(f"t#{KEPT_RESOLVED + 3}")
    assert state_of(story).tasks[T].undecided
    assert wire.decode(wire.encode(state_of(story))).tasks[T].undecided


def test_a_removed_task_that_ran_does_not_begin_again_although_that_instance_has_retired() -> None:
    story = Story(EVERY)
    run(story, 1)
    for n in range(1, KEPT_RESOLVED + 2):
        story.apply({"t": {"after": ["z"], "andEvery": "a", "run": "x.y"}})
        story.fire("a")
        story.cancel(f"t#{n}")
    story.fire("a")
    story.apply({"u": task("y")})
    story.touch()
    story.apply({"t": task("a", "z")})
    record = state_of(story).tasks[T]
    assert record.removed
    assert not record.undecided
    story.fire("a")
    assert state_of(story).tasks[T].next == KEPT_RESOLVED + 3


def test_entries_of_one_event_have_at_most_the_bytes_of_the_bound() -> None:
    bounds: JsonObject = {"resolvedBytes": 65_536}
    story = Story(
        {"t": {"after": ["b"], "andEvery": "a", "deadline": "1h", "run": "x.y"}, "$bounds": bounds},
        sizes=wire.EncodedSizes(),
    )
    story.fire("a", {"text": "x" * 10_000})
    for _ in range(30):
        story.fire("a", {"text": "x" * 10_000})
    story.timer(at=7_200)
    sizes = [len(entry) for entry in story.entries.stored[story.session].values()]
    assert sum(sizes) <= 65_536 < sum(sizes) + max(sizes)
    kept = len(state_of(story).tasks[T].resolved)
    assert 0 < kept <= KEPT_RESOLVED
    assert forgotten_count(state_of(story).tasks[T]) == 31 - kept - len(sizes)


def test_an_entry_without_room_keeps_no_smaller_one_out() -> None:
    story = Story(
        {
            "t": {"after": ["b"], "andEvery": "a", "unless": ["no"], "run": "x.y"},
            "$bounds": {"resolvedBytes": 65_536},
        },
        sizes=wire.EncodedSizes(),
    )
    for size in (*[10_000] * 7, *[1] * (1 + KEPT_RESOLVED)):
        story.fire("a", {"text": "x" * size})
    story.fire("no")
    assert [number for _, number in story.entries.stored[story.session]] == [0, 1, 2, 3, 4, 5, 7]


@pytest.mark.parametrize(
    ("numbers", "number", "then"),
    [
        ((), 3, ((3, 3),)),
        (((0, 4),), 5, ((0, 5),)),
        (((0, 4),), 6, ((0, 4), (6, 6))),
        (((2, 4),), 0, ((0, 0), (2, 4))),
        (((2, 4),), 1, ((1, 4),)),
        (((0, 1), (3, 4)), 2, ((0, 4),)),
        (((0, 0), (9, 9)), 5, ((0, 0), (5, 5), (9, 9))),
        (((0, 0), (2, 2)), 3, ((0, 0), (2, 3))),
        (((2, 2), (4, 4)), 1, ((1, 2), (4, 4))),
    ],
)
def test_numbers_are_kept_as_ranges(numbers: Numbers, number: int, then: Numbers) -> None:
    found = with_number(numbers, number)
    assert found == then
    assert are_valid(found, below=10)
    assert not is_among(number, numbers)
    assert is_among(number, found)
    assert count_of(found) == count_of(numbers) + 1 == len([*each_of(found)])
    assert [*each_of(without_first(found))] == [*each_of(found)][1:]


@pytest.mark.parametrize("numbers", [((1, 0),), ((0, 1), (2, 3)), ((4, 4), (0, 1)), ((0, 10),), ((-1, 0),)])
def test_other_pairs_are_no_ranges_of_numbers(numbers: Numbers) -> None:
    assert not are_valid(numbers, below=10)
