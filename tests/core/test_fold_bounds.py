"""Bounds: a trigger is folded whole or not at all; all other events are always folded.

The rules: docs/semantics.md, section 10.
"""

from __future__ import annotations

import msgspec
import pytest

from tests.core.story import START_US, Story, names, task
from triggerstream.core.effects import Applied, Refused, Why
from triggerstream.core.events import Failed, Skip, Started
from triggerstream.core.ids import InstanceId, Json, JsonObject, TaskName, TriggerName
from triggerstream.core.results import LeftOut
from triggerstream.core.sizes import TEXT_BYTES, cut_text, resolved_bytes
from triggerstream.wire import state as wire

SIZES = wire.EncodedSizes()
ONE = {"unresolvedInstances": 1}
FULL = "a session holds at most 1 unresolved instances ($bounds.unresolvedInstances)"
NO_ROOM = "the session's state would be too long ($bounds.stateBytes)"
TOO_LONG = "its command would be too long ($bounds.commandBytes)"


def bounded(tasks: JsonObject, **bounds: int) -> Story:
    return Story({"$bounds": dict(bounds), **tasks}, sizes=SIZES)


# ---- the trigger that follows -------------------------------------------------------------------


PAGES: JsonObject = {
    "t_page": task(andEvery="page"),
    "t_x": task("close", andEvery="t_page"),
    "t_y": task("close", andEvery="t_page"),
}


def test_outcome_is_folded_and_the_trigger_that_follows_is_left_out_whole() -> None:
    story = bounded(PAGES, **ONE)
    story.fire("page")
    assert story.finished("t_page#0", {"n": 1}, at=5) == []
    assert story.rejected == []
    assert story.settled == [story.command("t_page#0")]
    assert story.statuses() == {"t_page#0": "finished"}
    assert story.left_out == [
        LeftOut(
            trigger=TriggerName("t_page"),
            data={"n": 1},
            time_us=START_US + 5_000_000,
            id=story.command("t_page#0"),
            reason=FULL,
        )
    ]
    assert story.notes()[-1] == (
        "reported",
        f"t_page#0 finished; the trigger `t_page` that follows is left out: {FULL}",
    )
    assert TriggerName("t_page") not in (story.state.seen if story.state else {})


def test_an_outcome_whose_trigger_is_left_out_keeps_the_bound_in_bytes_of_resolved_instances() -> None:
    story = bounded(PAGES, resolvedBytes=1_000, **ONE)
    story.fire("page")
    story.finished("t_page#0", {"x": "x" * 1_000})
    assert [one.reason for one in story.left_out] == [FULL]
    assert story.statuses() == {}


def test_left_out_trigger_can_be_fired_once_there_is_room_and_counts_once() -> None:
    story = bounded(PAGES, **ONE)
    story.fire("page")
    story.finished("t_page#0")
    story.apply({"$bounds": {"unresolvedInstances": 2}, **PAGES})
    (left_out,) = story.left_out
    for _ in range(2):
        story.fire(left_out.trigger, left_out.data, id=left_out.id)
    assert story.statuses() == {"t_page#0": "finished", "t_x#0": "unstarted", "t_y#0": "unstarted"}


def test_trigger_that_follows_is_left_out_for_names_for_commands_and_for_the_state() -> None:
    cases: list[tuple[dict[str, int], JsonObject, JsonObject]] = [
        ({"triggerNames": 1}, {"t": task("a")}, {}),
        ({"commandBytes": 600}, {"t": task("a"), "u": task("t", withParams={"x": "x" * 600})}, {}),
        ({"stateBytes": 1_500}, {"t": task("a"), "u": task("t", "never")}, {"x": "x" * 1_500}),
    ]
    for bounds, tasks, result in cases:
        story = bounded(tasks, **bounds)
        story.fire("stranger")
        story.fire("a")
        assert story.finished("t#0", result) == []
        assert story.rejected == []
        assert story.statuses() == {"t#0": "finished"}
        (left_out,) = story.left_out
        assert f"($bounds.{next(iter(bounds))})" in left_out.reason
        assert left_out.data == result


def test_skipped_instances_trigger_is_left_out_where_there_are_too_many_instances() -> None:
    story = bounded(PAGES, **ONE)
    story.fire("page")
    story.failed("t_page#0")
    story.skip("t_page#0", cascade=True, result=[1])
    assert story.statuses() == {"t_page#0": "skipped"}
    assert [(one.trigger, one.data, one.id) for one in story.left_out] == [
        ("t_page", {"result": [1]}, story.command("t_page#0"))
    ]
    assert story.refused() == 0


def test_skip_whose_result_does_not_fit_is_refused() -> None:
    story = bounded({"t": task("a"), "u": task("t", "never")}, stateBytes=1_500)
    story.fire("a")
    story.failed("t#0")
    story.skip("t#0", cascade=True, result="x" * 1_500)
    assert story.statuses() == {"t#0": "failed"}
    assert (story.left_out, story.refused()) == ([], 1)
    what, note = story.notes()[-1]
    assert what == "refused"
    assert note is not None
    assert note.startswith("t#0 is not skipped, its result does not fit: the state would have ")
    story.skip("t#0", cascade=True, result="x")
    assert story.statuses() == {"t#0": "skipped", "u#0": "unstarted"}


def test_time_passes_and_timers_fire_with_an_outcome_whose_trigger_is_left_out() -> None:
    story = bounded(
        {
            "t": task("a"),
            "r": task("a", retry={"max": 1, "backoff": "10s"}),
            "n": task("never", andEvery="t"),
        },
        unresolvedInstances=2,
    )
    story.fire("a")
    story.failed("r#0", at=1)
    assert names(story.finished("t#0", at=60)) == ["r#1"]
    assert story.statuses() == {"t#0": "finished", "r#0": "replayed", "r#1": "scheduled", "n#0": "unstarted"}
    assert story.left_out == []


# ---- retries and orders -------------------------------------------------------------------------


def lowered() -> Story:
    """A session with two open instances where a new file allows one."""
    tasks: JsonObject = {"t": task("a", retry={"max": 3}), "u": task("a")}
    story = bounded(tasks)
    story.fire("a")
    story.started("t#0")
    story.apply({"$bounds": dict(ONE), **tasks})
    return story


def test_retry_that_has_no_place_is_not_made_and_the_timeline_says_so() -> None:
    story = lowered()
    story.failed("t#0")
    assert story.statuses() == {"t#0": "failed", "u#0": "scheduled"}
    assert story.instance("t#0").reason == "bound"
    assert story.prevented == 1
    assert story.notes()[-1] == ("reported", f"t#0 failed; it is not retried: {FULL}")


def test_retried_without_a_place_fails_with_the_reason_bound() -> None:
    story = lowered()
    story.retried("t#0")
    assert story.statuses() == {"t#0": "failed", "u#0": "scheduled"}
    assert (story.instance("t#0").reason, story.instance("t#0").error) == ("bound", FULL)
    assert story.settled == [story.command("t#0")]
    assert story.prevented == 1
    assert story.notes()[-1] == ("reported", f"t#0 is not retried: {FULL}")


def test_replay_without_a_place_is_refused() -> None:
    story = lowered()
    story.failed("t#0")
    assert story.replay("t#0") == []
    assert story.statuses() == {"t#0": "failed", "u#0": "scheduled"}
    assert story.notes()[-1] == ("refused", f"t#0 is not replayed: {FULL}")


@pytest.mark.parametrize("after", [0, 60])
@pytest.mark.parametrize("bound", ["commandBytes", "stateBytes"])
def test_retried_with_kwargs_that_do_not_fit_fails_with_the_reason_bound(bound: str, after: int) -> None:
    story = bounded({"t": task("a")}, **{bound: 1_000})
    story.fire("a")
    story.started("t#0")
    assert story.retried("t#0", kwargs={"a": {"x": "x" * 1_000}}, after=after) == []
    assert story.statuses() == {"t#0": "failed"}
    assert story.instance("t#0").reason == "bound"
    assert f"($bounds.{bound})" in str(story.instance("t#0").error)
    assert names(story.replay("t#0", kwargs={"a": {"x": "x"}})) == ["t#1"]


@pytest.mark.parametrize("bound", ["commandBytes", "stateBytes"])
def test_replay_with_kwargs_that_do_not_fit_is_refused(bound: str) -> None:
    story = bounded({"t": task("a")}, **{bound: 1_000})
    story.fire("a")
    story.failed("t#0")
    assert story.replay("t#0", kwargs={"a": {"x": "x" * 1_000}}) == []
    assert story.statuses() == {"t#0": "failed"}
    what, note = story.notes()[-1]
    assert what == "refused"
    assert f"($bounds.{bound})" in str(note)
    assert names(story.replay("t#0")) == ["t#1"]


def test_resend_that_would_be_a_byte_too_long_is_refused() -> None:
    story = bounded({"t": task("a")})
    (decided,) = story.fire("a", {"x": "x" * 100})
    size = SIZES.command(story.commands[0])
    assert decided == story.commands[0]
    # One byte more: the ninth resend is at offset 10, and a command has the offset at which it was decided.
    size += 1
    story.apply({"$bounds": {"commandBytes": size}, "t": task("a")})
    for attempt in range(1, 10):
        assert names(story.resend("t#0")) == ["t#0"], attempt
    assert story.resend("t#0") == []  # the tenth has one digit more
    assert story.instance("t#0").attempt == 9
    too_long = f"a command would have {size + 1:,} bytes: at most {size:,} ($bounds.commandBytes)"
    assert story.notes()[-1] == (
        "refused",
        f"t#0 is not sent again: {too_long}",
    )


# ---- what time and configurations decide --------------------------------------------------------


def test_retry_whose_command_has_become_too_long_fails_when_it_is_due() -> None:
    tasks: JsonObject = {"t": task("a", retry={"max": 1, "backoff": "10s"})}
    story = bounded(tasks, commandBytes=600)
    story.fire("a")
    story.failed("t#0", at=1)
    longer = task("a", retry={"max": 1, "backoff": "10s"}, withParams={"x": "x" * 600})
    story.apply({"$bounds": {"commandBytes": 600}, "t": longer})
    assert story.timer(at=60) == []
    assert story.statuses() == {"t#0": "replayed", "t#1": "failed"}
    assert (story.instance("t#1").reason, story.instance("t#1").error) == ("bound", TOO_LONG)
    assert story.instance("t#1").sent is None
    assert "too long" not in str(story.notes())
    assert story.prevented == 1
    assert story.replay("t#1") == []  # refused, as long as it is so
    story.apply({"$bounds": {"commandBytes": 600}, **tasks})
    assert names(story.replay("t#1")) == ["t#2"]


def test_what_time_decides_fails_one_by_one_where_the_state_has_no_room() -> None:
    retried = task("b", andEvery="a", retry={"max": 1, "backoff": "10s"})
    story = bounded({"t": retried})
    story.fire("b")
    for _ in range(6):
        story.fire("a")
        story.failed(story.commands[-1].instance)
    longer: JsonObject = {**retried, "withParams": {"x": "x" * 1_000}}
    assert story.state is not None
    room = SIZES.state(story.state) + 2_500
    story.apply({"$bounds": {"stateBytes": room}, "t": longer})
    assert names(story.timer(at=60)) == ["t#1", "t#3"]
    statuses = list(story.statuses().values())
    assert (statuses.count("scheduled"), statuses.count("failed")) == (2, 4)
    assert story.prevented == 4
    assert SIZES.state(story.state) < room + 4 * 1_000


def test_configuration_seeds_nothing_where_the_state_has_no_room() -> None:
    name = "b" * 500
    story = bounded({"t": task("never", andEvery="a")})
    story.fire(name)
    for _ in range(20):
        story.fire("a")
    assert story.state is not None
    room = SIZES.state(story.state) + 5_000
    story.apply({"$bounds": {"stateBytes": room}, "t": task("never", name, andEvery="a")})
    story.touch()
    assert SIZES.state(story.state) <= room
    assert all(name not in one.captured for one in story.state.tasks[TaskName("t")].open.values())
    assert story.notes()[-1] == ("ordered", f"the configuration at offset 21 seeds nothing: {NO_ROOM}")
    assert story.prevented == 1
    story.apply({"t": task("never", name, andEvery="a")})  # a file with room for it seeds what is missing
    story.touch()
    assert all(name in one.captured for one in story.state.tasks[TaskName("t")].open.values())


# ---- texts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("character", ["x", "ä", "😀", '"', "\x01", "\n"])
def test_texts_are_cut(character: str) -> None:
    long = character * 10_000
    story = bounded({"t": task("a"), "u": task("b"), "v": task("c", "d")})
    for name in ("a", "b", "c"):
        story.fire(name)
    story.failed("t#0", long)
    story.cancel("u#0", reason=long, by=long)
    story.resend(f"{long}#0")
    story.close(long)
    error = story.instance("t#0").error
    assert error is not None
    assert error.endswith("…")
    assert TEXT_BYTES - 6 <= json_bytes(error) <= TEXT_BYTES
    for text in (
        story.instance("u#0").note,
        story.instance("v#0").note,
        *(note for _, note in story.notes() if note),
    ):
        assert text is not None
        assert json_bytes(text) <= TEXT_BYTES


def json_bytes(text: str) -> int:
    """Without the quotes."""
    return len(msgspec.json.encode(text)) - 2


def test_short_texts_are_as_they_were() -> None:
    for text in ("", "boom", "x" * TEXT_BYTES, "ä" * (TEXT_BYTES // 2)):
        assert cut_text(text) == text


def test_metadata_that_does_not_fit_is_left_out() -> None:
    story = bounded({"t": task("a")}, stateBytes=1_000)
    story.fire("a")
    metadata: JsonObject = {"log": "x" * 1_000}
    failed = Failed(instance=InstanceId("t#0"), command=story.command("t#0"), error="boom", metadata=metadata)
    story.tell(failed)
    assert (story.statuses(), story.instance("t#0").metadata) == ({"t#0": "failed"}, None)
    assert story.notes()[-1] == (
        "reported",
        "t#0 failed; its metadata is left out: the state would be too long ($bounds.stateBytes)",
    )


# ---- resolved instances -------------------------------------------------------------------------


def test_resolved_instances_of_longest_ago_go_first_with_what_only_they_captured() -> None:
    story = bounded({"t": task(andEvery="a"), "u": task("c", andEvery="b")}, resolvedBytes=5_000)
    story.fire("b", {"x": "x" * 1_000})
    for number in range(10):
        story.fire("a", {"x": "y" * 1_000})
        story.finished(f"t#{number}", "z" * 100)
    assert story.state is not None
    record = story.state.tasks[TaskName("t")]
    assert resolved_bytes(story.state, SIZES) <= 5_000
    assert list(record.resolved) == [6, 7, 8, 9]
    assert record.next == 10
    assert len(wire.encode(story.state)) < 10_000
    assert wire.decode(wire.encode(story.state)) == story.state.collected()


def test_one_that_is_too_long_by_itself_is_not_kept() -> None:
    story = bounded({"t": task(andEvery="a")}, resolvedBytes=1_000)
    story.fire("a")
    story.finished("t#0", "z" * 2_000)
    assert story.statuses() == {}
    assert names(story.fire("a")) == ["t#1"]
    story.finished("t#0")
    assert story.notes()[-1][0] == "refused"


def test_removed_task_that_returns_begins_anew_also_where_its_instance_is_forgotten() -> None:
    tasks: JsonObject = {"t": task("a", "b"), "u": task(andEvery="c")}
    story = bounded(tasks, resolvedBytes=1_500)
    story.fire("a", {"x": "x" * 500})
    story.apply({"$bounds": {"resolvedBytes": 1_500}, "u": task(andEvery="c")})
    for number in range(3):
        story.fire("c")
        story.finished(f"u#{number}", "z" * 500)
    assert "t#0" not in story.statuses()
    story.apply({"$bounds": {"resolvedBytes": 1_500}, **tasks})
    assert names(story.fire("b")) == ["t#1"]


def test_resolved_instances_do_not_count_in_the_states_bound() -> None:
    result: Json = "z" * 1_000
    story = bounded({"t": task(andEvery="a")}, stateBytes=6_000, resolvedBytes=30_000)
    for number in range(20):
        story.fire("a", {"x": "y" * 100})
        story.finished(f"t#{number}", result if number else None)
    assert story.rejected == []
    assert story.left_out == []
    assert len(story.statuses()) == 20
    assert story.state is not None
    assert SIZES.state(story.state) < 6_000
    assert len(wire.encode(story.state)) > 2 * 6_000


# ---- tries that a task asks for -----------------------------------------------------------------


@pytest.mark.parametrize("tries", [0, 8])
def test_a_retry_with_kwargs_is_checked_with_the_bytes_of_its_own_command(tries: int) -> None:
    """The number of tries is part of a command, and has one digit more from the tenth on."""

    def told(**bounds: int) -> Story:
        story = bounded({"t": task("a")}, **bounds)
        story.fire("a")
        for number in range(tries):
            story.started(f"t#{number}")
            story.retried(f"t#{number}")
        story.started(f"t#{tries}")
        story.retried(f"t#{tries}", kwargs={"x": "x" * 1_000})
        return story

    length = SIZES.command(told().commands[-1])
    assert told(commandBytes=length).statuses()[f"t#{tries + 1}"] == "scheduled"
    refused = told(commandBytes=length - 1)
    assert refused.instance(f"t#{tries}").reason == "bound"
    assert f"t#{tries + 1}" not in refused.statuses()


def test_a_retry_that_is_forbidden_anyway_is_not_measured() -> None:
    story = bounded({"t": task("a", unless=["no"])}, commandBytes=700)
    story.fire("a")
    story.fire("no")
    story.started("t#0")
    story.retried("t#0", kwargs={"x": "x" * 700}, at=5)
    instance = story.instance("t#0")
    assert (instance.status, instance.reason, instance.error) == ("failed", "unless", None)
    assert instance.changed_us == instance.ended_us == START_US + 5_000_000
    assert story.prevented == 0


def test_a_retry_takes_the_room_of_its_origin() -> None:
    story = bounded({"t": task("a")}, **ONE)
    story.fire("a")
    story.started("t#0")
    story.retried("t#0", after=9)
    assert story.statuses() == {"t#0": "replayed", "t#1": "delayed"}


def test_all_that_bounds_prevent_in_one_event_is_counted() -> None:
    def tasks(**keys: Json) -> JsonObject:
        return {"t": task("a"), "u": task("a", retry={"max": 1, "backoff": "5s"}, **keys)}

    story = bounded(tasks(), commandBytes=700)
    story.fire("a")
    story.started("t#0")
    story.failed("u#0")
    story.apply({"$bounds": {"commandBytes": 700}, **tasks(withParams={"x": "x" * 700})})
    story.retried("t#0", kwargs={"x": "x" * 700}, at=10)
    assert story.statuses() == {"t#0": "failed", "u#0": "replayed", "u#1": "failed"}
    assert story.result.prevented == 2


def test_a_replay_with_kwargs_is_checked_with_the_bytes_of_its_own_command() -> None:
    def told(**bounds: int) -> Story:
        story = bounded({"t": task("a")}, **bounds)
        story.fire("a")
        story.failed("t#0")
        story.replay("t#0", kwargs={"x": "x" * 1_000})
        return story

    length = SIZES.command(told().commands[-1])
    assert told(commandBytes=length).statuses() == {"t#0": "replayed", "t#1": "scheduled"}
    assert told(commandBytes=length - 1).statuses() == {"t#0": "failed"}


def test_a_replay_that_adds_nothing_to_a_state_beyond_its_bound_is_decided() -> None:
    story = bounded({"t": task("a")})
    story.fire("a", {"x": "x" * 1_000})
    story.started("t#0")
    story.failed("t#0")
    story.apply({"$bounds": {"stateBytes": 500}, "t": task("a")})
    assert names(story.replay("t#0")) == ["t#1"]
    assert story.statuses() == {"t#0": "replayed", "t#1": "scheduled"}


# ---- seeding ------------------------------------------------------------------------------------


def test_seeds_of_two_configurations_met_together_are_measured_by_what_each_adds() -> None:
    def told(**bounds: int) -> Story:
        story = bounded({"t": task("a", "z")}, **bounds)
        for name in ("x", "y", "a"):
            story.fire(name)
        story.apply({"$bounds": dict(bounds), "t": task("a", "x", "z")})
        story.apply({"$bounds": dict(bounds), "t": task("a", "x", "y", "z")})
        story.touch()
        return story

    story = told()
    assert set(story.instance("t#0").captured) == {"a", "x", "y"}
    assert story.state is not None
    # While it is measured, a state that is to be judged has a field more.
    room = SIZES.state(story.state) + 40
    assert SIZES.instance(story.instance("t#0")) > 40
    story = told(stateBytes=room)
    assert set(story.instance("t#0").captured) == {"a", "x", "y"}
    assert story.prevented == 0


# ---- the length of a state ----------------------------------------------------------------------


def test_a_trigger_fits_up_to_the_last_byte_of_the_bound() -> None:
    def told(**bounds: int) -> Story:
        story = bounded({"t": task("a", "b")}, **bounds)
        story.fire("a", {"x": "x" * 1_000})
        return story

    state = told().state
    assert state is not None
    length = SIZES.state(state)
    assert told(stateBytes=length).state == state
    story = told(stateBytes=length - 1)
    assert story.state is None
    limit = f"at most {length - 1:,} ($bounds.stateBytes)"
    assert story.rejected == [f"the state would have {length:,} bytes: {limit}"]


def test_a_replay_with_kwargs_fits_up_to_the_last_byte_of_the_bound() -> None:
    def told(**bounds: int) -> Story:
        story = bounded({"t": task("a")}, **bounds)
        story.fire("a")
        story.failed("t#0")
        return story

    kwargs: JsonObject = {"x": "x" * 1_000}
    story = told()
    assert story.state is not None
    before = SIZES.state(story.state)
    # The error is not counted: a clone has room wherever its origin had.
    origin = SIZES.instance(msgspec.structs.replace(story.instance("t#0"), error=None))
    story.replay("t#0", kwargs=kwargs)
    room = before + SIZES.instance(story.instance("t#1")) - origin
    for limit, status in ((room, "replayed"), (room - 1, "failed")):
        story = told(stateBytes=limit)
        story.replay("t#0", kwargs=kwargs)
        assert story.statuses()["t#0"] == status


# ---- metadata -----------------------------------------------------------------------------------


def told_of(story: Story, kind: type[Started | Failed], metadata: JsonObject) -> None:
    command = story.command("t#0")
    if kind is Started:
        story.tell(Started(instance=InstanceId("t#0"), command=command, metadata=metadata))
    else:
        story.tell(Failed(instance=InstanceId("t#0"), command=command, error="e", metadata=metadata))


def test_metadata_without_room_leaves_that_of_the_attempt_before() -> None:
    story = bounded({"t": task("a")}, stateBytes=1_500)
    story.fire("a")
    told_of(story, Started, {"worker": "one"})
    told_of(story, Failed, {"worker": "x" * 1_500})
    assert story.instance("t#0").metadata == {"worker": "one"}
    assert story.notes()[-1] == (
        "reported",
        "t#0 failed; its metadata is left out: the state would be too long ($bounds.stateBytes)",
    )


def test_metadata_that_is_shorter_than_before_has_room_in_a_state_beyond_its_bound() -> None:
    story = bounded({"t": task("a")})
    story.fire("a")
    told_of(story, Started, {"worker": "x" * 1_000})
    story.apply({"$bounds": {"stateBytes": 500}, "t": task("a")})
    told_of(story, Failed, {"worker": "x" * 900})
    assert story.instance("t#0").metadata == {"worker": "x" * 900}


# ---- effects that bounds prevent, in the timeline entry of the event ------------------------------


def with_instances_that_no_longer_fit() -> Story:
    def tasks(*after: str, **keys: Json) -> JsonObject:
        return {name: task(*after, **keys) for name in ("u", "v")}

    story = bounded(tasks("a", "b"), commandBytes=700)
    story.fire("a")
    story.apply({"$bounds": {"commandBytes": 700}, **tasks("a", withParams={"x": "x" * 700})})
    return story


def with_timers_that_no_longer_fit() -> Story:
    def tasks(**keys: Json) -> JsonObject:
        return {name: task("a", retry={"max": 1, "backoff": "5s"}, **keys) for name in ("u", "v")}

    story = bounded(tasks(), commandBytes=700)
    story.fire("a")
    story.failed("u#0")
    story.failed("v#0")
    story.apply({"$bounds": {"commandBytes": 700}, **tasks(withParams={"x": "x" * 700})})
    return story


PREVENTED = f"u#0 failed: {TOO_LONG}; v#0 failed: {TOO_LONG}"


@pytest.mark.parametrize("kind", ["touch", "timer"])
def test_what_bounds_prevent_while_timers_fire_stands_at_the_instances_alone(kind: str) -> None:
    """An entry would be that of a timer's record where there is one, else of another event."""
    story = with_timers_that_no_longer_fit()
    before = story.notes()
    getattr(story, kind)(at=10)
    assert story.prevented == 2
    assert story.notes() == before
    assert [story.instance(name).error for name in ("u#1", "v#1")] == [TOO_LONG, TOO_LONG]


def test_an_event_without_an_entry_of_its_own_has_one_for_what_bounds_prevented() -> None:
    story = with_instances_that_no_longer_fit()
    story.touch(at=10)
    assert story.result.effect == Applied(PREVENTED)


def test_a_refused_event_says_what_bounds_prevented_beside_its_own_reason() -> None:
    story = with_instances_that_no_longer_fit()
    story.tell(Skip(instance=InstanceId("u#7")), at=10)
    why = "the session has no instance u#7, or keeps it no longer"
    assert story.result.effect == Refused(Why.UNKNOWN_INSTANCE, f"{why}; {PREVENTED}")


def test_a_trigger_says_what_bounds_prevented() -> None:
    story = with_instances_that_no_longer_fit()
    story.fire("z", at=10)
    assert story.result.effect == Applied(PREVENTED)
