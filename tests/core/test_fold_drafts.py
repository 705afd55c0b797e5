"""Values of a state beside its instances while events are folded: counts, kept events, clock, judged or not.

The rules: docs/semantics.md, R4.3, R4.6, R8.1, R9.2, R9.6, R10.6 and R10.9.
"""

from __future__ import annotations

import pytest

from tests.core.story import SECOND, START_US, Story, names, read, task
from triggerstream.core.effects import NOTHING, Refused, Why
from triggerstream.core.fold import migrate
from triggerstream.core.ids import JsonObject, TaskName, TriggerName
from triggerstream.core.sizes import resolved_bytes
from triggerstream.core.slots import captured_refs
from triggerstream.core.state import Instance, SessionState, Status
from triggerstream.core.timers import Due, DueOf, due, with_exact_due
from triggerstream.wire import state as wire

SIZES = wire.EncodedSizes()


def state_of(story: Story) -> SessionState:
    assert story.state is not None
    return story.state


def test_a_session_is_judged_once_after_a_configuration() -> None:
    story = Story({"t": task("a", "b")})
    story.fire("a")
    story.apply({"t": task("a", "c")})
    assert not state_of(story).unjudged
    story.timer(at=1)
    assert state_of(story).unjudged, "a timer does not judge"
    story.touch()
    assert not state_of(story).unjudged


def test_the_due_time_of_a_session_is_a_lower_bound_until_it_has_passed() -> None:
    retries: dict[str, JsonObject] = {name: {"max": 1, "backoff": f"{n}h"} for n, name in enumerate("tuv", 1)}
    story = Story({name: task("a", retry=retry) for name, retry in retries.items()})
    story.fire("a")
    for name, hours in (("u", 2), ("t", 1), ("v", 1)):
        story.failed(f"{name}#0")
        assert (story.result.created, story.result.resolved) == (1, 1)
        assert state_of(story).due_us == START_US + hours * 3_600 * SECOND
    story.cancel("t#1")
    assert state_of(story).due_us == START_US + 3_600 * SECOND
    assert with_exact_due(story.rules, state_of(story)).due_us == START_US + 7_200 * SECOND
    story.timer(at=3_600)
    assert state_of(story).due_us == START_US + 7_200 * SECOND
    story.close()
    assert (state_of(story).due_us, story.result.resolved) == (None, 2)


def test_a_decided_instance_keeps_no_event_that_its_task_no_longer_needs() -> None:
    story = Story({"t": task("a", "b")})
    story.fire("a")
    story.fire("a")
    assert TriggerName("a") in state_of(story).needed_events()
    story.apply({"t": task("b")})
    assert names(story.fire("b")) == ["t#0"]
    assert set(story.instance("t#0").captured) == {"b"}
    assert state_of(story).needed_events() == {}


def test_a_replay_has_what_its_origin_captured_whatever_its_task_needs_now() -> None:
    story = Story({"t": task("a", "b")}, sizes=SIZES)
    story.fire("a", {"n": 1})
    story.fire("b")
    story.failed("t#0")
    story.apply({"t": task("a")})
    assert names(story.replay("t#0")) == ["t#1"]
    assert set(story.instance("t#1").captured) == {"a", "b"}
    assert story.commands[-1].kwargs == {"a": {"n": 1}, "b": {}}
    assert story.result.created == 1


def test_a_replay_ends_the_exception_for_a_task_that_was_removed_and_has_returned() -> None:
    first: JsonObject = {"t": task("a", andEvery="b")}
    story = Story(first)
    story.fire("a")
    story.fire("b")
    story.failed("t#0")
    story.apply({"t": task("a", "c", andEvery="b")})
    story.fire("b")
    story.apply({"u": task("z")})
    story.touch()
    assert story.statuses() == {"t#0": "failed", "t#1": "cancelled"}
    story.apply(first)
    assert names(story.replay("t#0")) == ["t#2"]
    story.finished("t#2")
    assert story.fire("a") == []
    assert "t#3" not in story.statuses()


def test_a_session_of_strangers_only_meets_configurations_too() -> None:
    story = Story({"t": task("a")})
    story.fire("stranger")
    story.apply({"t": task("b")}, at=100)
    story.fire("other", at=50)
    assert state_of(story).clock_us == START_US + 100 * SECOND


def test_a_migration_by_itself_leaves_no_trace() -> None:
    story = Story({"t": task("a", "b")})
    story.fire("a")
    story.apply({"t": task("a", "c")})
    assert migrate(story.rules, state_of(story), story.session).effect == NOTHING


def test_an_unknown_task_is_named() -> None:
    story = Story({"t": task("a")})
    story.fire("a")
    story.skip("u#7")
    assert story.result.effect == Refused(Why.UNKNOWN_INSTANCE, "the session has no instance of task u")


def test_a_timer_may_start_at_the_beginning_of_time() -> None:
    waiting = Instance(
        number=1, status=Status.DELAYED, created_us=0, changed_us=0, clone_of=0, waits_from_us=0, waits_us=5
    )
    assert due(read({"t": task("a")}).by_name[TaskName("t")], waiting) == Due(5, DueOf.RETRY)


# ---- decisions beyond a bound in bytes ------------------------------------------------------------


def test_a_skip_whose_next_command_would_be_too_long_is_refused() -> None:
    tasks: JsonObject = {"t": task("a"), "u": task("t", withParams={"x": "x" * 700})}
    story = Story({"$bounds": {"commandBytes": 700}, **tasks}, sizes=SIZES)
    story.fire("a")
    story.failed("t#0")
    story.skip("t#0", cascade=True)
    assert isinstance(story.result.effect, Refused)
    assert story.result.effect.why is Why.BOUND
    assert story.statuses() == {"t#0": "failed"}


def test_a_command_that_time_decides_and_the_state_has_no_room_for_is_not_sent() -> None:
    tasks: JsonObject = {"t": task("a", retry={"max": 1, "backoff": "5s"})}
    story = Story(tasks, sizes=SIZES)
    story.fire("a")
    story.failed("t#0")
    story.apply({"$bounds": {"stateBytes": 300}, **tasks})
    assert story.touch(at=10) == []
    instance = story.instance("t#1")
    assert (instance.status, instance.reason) == ("failed", "bound")
    assert instance.error == "the session's state would be too long ($bounds.stateBytes)"
    assert instance.ended_us == instance.changed_us == START_US + 5 * SECOND


@pytest.mark.parametrize(("limit", "sent"), [(2, 2), (1.5, 1)])
def test_commands_that_time_decides_share_the_bound_of_an_event(limit: float, sent: int) -> None:
    def tasks(bound: int) -> JsonObject:
        retry: JsonObject = {"max": 1, "backoff": "5s"}
        return {"$bounds": {"decidedBytes": bound}, **{n: task("a", retry=retry) for n in ("t", "u")}}

    story = Story(tasks(10_000_000), sizes=SIZES)
    story.fire("a")
    length = SIZES.command(story.commands[0])
    story.failed("t#0")
    story.failed("u#0")
    # A retry's command is some bytes longer: it has a number of tries of its own.
    story.apply(tasks(round(limit * (length + 20))))
    assert len(story.touch(at=10)) == sent


@pytest.mark.parametrize(("limit", "sent"), [(2, 2), (1.5, 0)])
def test_commands_that_a_trigger_decides_share_the_bound_of_an_event(limit: float, sent: int) -> None:
    def story_of(bound: int) -> Story:
        bounds: JsonObject = {"decidedBytes": bound}
        return Story({"$bounds": bounds, "t": task("a"), "u": task("a")}, sizes=SIZES)

    story = story_of(10_000_000)
    story.fire("a")
    story = story_of(round(limit * (SIZES.command(story.commands[0]) + 20)))
    assert len(story.fire("a")) == sent
    assert len(story.rejected) == (sent == 0)


def test_bytes_do_not_depend_on_when_events_are_collected() -> None:
    def told(*, between: bool) -> bytes:
        story = Story({"$bounds": {"resolvedInstances": 1}, "t": task("b", andEvery="a")})
        for number in range(4):
            for name in ("a", "b", "a", "b"):
                story.fire(name, {"n": number})
                if between:
                    story.state = wire.decode(wire.encode(state_of(story)))
            story.skipped(f"t#{2 * number}")
        return wire.encode(state_of(story))

    assert told(between=False) == told(between=True)


def test_events_that_nothing_needs_do_not_pile_up_between_two_batches() -> None:
    story = Story({"$bounds": {"resolvedInstances": 1, "digests": 1}, "t": task(andEvery="a")})
    for number in range(2_500):
        story.fire("a")
        story.skipped(f"t#{number}")
    state = state_of(story)
    assert sum(map(len, state.kept.values())) + len(state.recent) <= 1_100


# ---- what is forgotten ----------------------------------------------------------------------------


def test_an_event_is_forgotten_with_the_last_instance_that_captured_it() -> None:
    story = Story({"$bounds": {"resolvedInstances": 1}, "t": task(andEvery="a")})
    for number in range(3):
        story.fire("a")
        story.skipped(f"t#{number}")
    assert story.statuses() == {"t#2": "skipped"}
    assert state_of(story).needed_events() == {}


def test_the_instance_that_was_resolved_first_is_forgotten_first_whatever_its_task() -> None:
    def told(**bounds: int) -> Story:
        story = Story({"$bounds": dict(bounds), "t": task("a"), "u": task("a")}, sizes=SIZES)
        story.fire("a")
        story.finished("u#0", at=1)
        story.finished("t#0", at=2)
        return story

    length = SIZES.instance(told().instance("t#0"))
    assert told(resolvedBytes=2 * length).statuses() == {"t#0": "finished", "u#0": "finished"}
    assert told(resolvedBytes=2 * length - 1).statuses() == {"t#0": "finished"}
    assert told(resolvedBytes=length).statuses() == {"t#0": "finished"}
    assert told(resolvedBytes=length - 1).statuses() == {}


def test_events_of_instances_that_are_forgotten_for_their_length_are_not_kept_either() -> None:
    story = Story({"$bounds": {"resolvedBytes": 1_500}, "t": task(andEvery="a")}, sizes=SIZES)
    for number in range(6):
        story.fire("a", {"x": "x" * 500})
        story.skipped(f"t#{number}")
    state = state_of(story)
    kept = state.tasks[TaskName("t")].resolved.values()
    captured = {ref for instance in kept for _, ref in captured_refs(instance.captured)}
    latest = state.seen[TriggerName("a")].offset
    assert {offset for kept in state.needed_events().values() for offset in kept} == captured - {latest}
    assert resolved_bytes(state, SIZES) <= 1_500
    assert "t#0" not in story.statuses()
    assert "t#5" in story.statuses()


def test_as_many_instances_are_forgotten_at_once_as_a_smaller_bound_needs() -> None:
    tasks: JsonObject = {"t": task(andEvery="a")}
    story = Story(tasks, sizes=SIZES)
    for number in range(6):
        story.fire("a", {"x": "x" * 500})
        story.skipped(f"t#{number}")
    assert resolved_bytes(state_of(story), SIZES) > 3_000
    story.apply({"$bounds": {"resolvedBytes": 1_500}, **tasks})
    story.touch()
    assert 500 < resolved_bytes(state_of(story), SIZES) <= 1_500
