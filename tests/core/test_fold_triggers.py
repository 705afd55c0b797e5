"""What one trigger does to each task, and when a command is decided (docs/semantics.md, section 4)."""

from __future__ import annotations

from msgspec.structs import replace

from tests.core.story import START_US, Story, names, task
from triggerstream.core.commands import Cause, Command
from triggerstream.core.events import Event, Trigger
from triggerstream.core.ids import JsonObject, TriggerName, find_digest


def test_task_runs_once_all_its_triggers_have_arrived() -> None:
    story = Story({"t": task("a", "b")})
    assert story.fire("b") == []
    assert story.statuses() == {"t#0": "unstarted"}
    assert names(story.fire("a")) == ["t#0"]
    assert story.statuses() == {"t#0": "scheduled"}


def test_first_kwargs_of_a_trigger_win() -> None:
    story = Story({"t": task("a", "b")})
    story.fire("a", {"n": 1})
    story.fire("a", {"n": 2})
    story.fire("b")
    assert story.commands[0].kwargs == {"a": {"n": 1}, "b": {}}


def test_trigger_of_an_undecided_task_is_stored_even_after_many_others() -> None:
    story = Story({"t": task("a", "b")})
    story.fire("a", {"n": 1})
    for _ in range(300):
        story.fire("unused")
    assert names(story.fire("b")) == ["t#0"]


def test_task_that_does_not_use_a_trigger_gets_no_instance() -> None:
    story = Story({"t": task("a"), "other": task("b")})
    story.fire("a")
    assert story.statuses() == {"t#0": "scheduled"}


def test_trigger_of_unless_creates_the_instance_too() -> None:
    story = Story({"t": task("a", unless=["no", "never"])})
    story.fire("no")
    assert story.statuses() == {"t#0": "unstarted"}


def test_new_instance_is_seeded_with_what_the_session_saw_before_any_task_used_it() -> None:
    story = Story({"t": task("a", "b")})
    story.apply({"t": task("b", "c")})
    story.fire("a", {"n": 1})  # used by no task
    story.apply({"t": task("a", "b")})
    assert names(story.fire("b", {"n": 2})) == ["t#0"]
    assert story.commands[0].kwargs == {"a": {"n": 1}, "b": {"n": 2}}


def test_new_instance_is_seeded_with_the_latest_kwargs_of_every_other_trigger() -> None:
    story = Story({"t": task("a", andEvery="b")})
    story.fire("a", {"n": 1})
    story.fire("b", {"n": 1})
    story.fire("a", {"n": 2})
    story.fire("b", {"n": 2})
    assert [c.kwargs for c in story.commands] == [
        {"a": {"n": 1}, "b": {"n": 1}},
        {"a": {"n": 2}, "b": {"n": 2}},
    ]


def test_new_instance_is_seeded_with_the_unless_triggers_already_seen() -> None:
    story = Story({"t": task("a", andEvery="b", unless=["no", "never"])})
    story.fire("no")
    story.fire("never")
    assert story.statuses() == {"t#0": "abandoned"}
    story.fire("b")
    assert story.statuses() == {"t#0": "abandoned", "t#1": "abandoned"}
    assert story.commands == []


def test_every_event_of_and_every_makes_one_instance_at_most() -> None:
    story = Story({"t": task(andEvery="b")})
    for n in range(3):
        assert names(story.fire("b", {"n": n})) == [f"t#{n}"]
    assert [c.kwargs for c in story.commands] == [{"b": {"n": n}} for n in range(3)]


def test_event_of_and_every_that_an_instance_accepted_makes_no_other() -> None:
    story = Story({"t": task("a", andEvery="b")})
    story.fire("a")
    assert names(story.fire("b")) == ["t#0"]
    assert story.statuses() == {"t#0": "scheduled"}


def test_one_event_is_taken_by_every_instance_that_lacks_it() -> None:
    story = Story({"t": task("a", andEvery="b")})
    story.fire("b", {"n": 0})
    story.fire("b", {"n": 1})
    assert names(story.fire("a")) == ["t#0", "t#1"]
    assert [c.kwargs["b"] for c in story.commands] == [{"n": 0}, {"n": 1}]


def test_and_every_that_stands_in_after_too_is_one_trigger() -> None:
    story = Story({"t": task("a", "b", andEvery="b")})
    story.fire("a")
    assert names(story.fire("b")) == ["t#0"]
    assert names(story.fire("b")) == ["t#1"]


def test_and_every_noted_as_unless_is_accepted_and_makes_no_instance() -> None:
    story = Story({"t": task("a", andEvery="b", unless=["b", "no"])})
    story.fire("a")
    story.fire("b")
    assert story.statuses() == {"t#0": "scheduled"}


def test_unless_is_judged_before_after() -> None:
    story = Story({"t": task("a", unless=["a"])})
    assert story.fire("a") == []
    assert story.statuses() == {"t#0": "abandoned"}


def test_task_without_and_every_runs_at_most_once_in_a_session() -> None:
    story = Story({"t": task("a")})
    story.fire("a")
    story.finished("t#0")
    assert story.fire("a") == []
    assert story.statuses() == {"t#0": "finished"}


def test_commands_come_in_the_order_of_the_file_then_of_the_numbers() -> None:
    story = Story(
        {"z": task("a"), "m": task("b", andEvery="a"), "b": task("a"), "e": task("a", andEvery="c")}
    )
    story.fire("c")
    story.fire("c")
    assert names(story.fire("a")) == ["z#0", "b#0", "e#0", "e#1"]


def test_params_are_merged_under_what_arrived_leaf_by_leaf() -> None:
    params: JsonObject = {"a": {"x": 1, "deep": {"k": 1, "l": 1}}, "extra": [1], "b": {"y": 1}}
    story = Story({"t": task("a", "b", withParams=params)})
    story.fire("a", {"x": 2, "deep": {"k": 2}})
    story.fire("b")
    assert story.commands[0].kwargs == {
        "a": {"x": 2, "deep": {"k": 2, "l": 1}},
        "extra": [1],
        "b": {"y": 1},
    }
    assert story.stored() == {"t#0": {"a": {"x": 2, "deep": {"k": 2}}, "b": {}}}


def test_null_that_arrived_wins_over_params() -> None:
    story = Story({"t": task("a", withParams={"a": {"x": {"y": 1}}})})
    story.fire("a", {"x": None})
    assert story.commands[0].kwargs == {"a": {"x": None}}


def test_application_may_fire_a_trigger_that_bears_a_tasks_name() -> None:
    story = Story({"t": task("a"), "u": task("t")})
    assert names(story.fire("t", {"by": "hand"})) == ["u#0"]
    assert story.commands[0].kwargs == {"t": {"by": "hand"}}


def test_command_says_what_completed_it() -> None:
    story = Story({"t": task("a", "b", queue="slow", expires="1h")})
    story.fire("unused", at=1)
    story.fire("b", {"n": 1}, id="e-1", at=2)
    story.fire("a", at=3, traceparent="00-1")
    assert story.commands == [
        Command(
            id=story.command("t#0"),
            session=story.session,
            task=story.commands[0].task,
            instance=story.commands[0].instance,
            run="my_app.tasks.run",
            kwargs={"a": {}, "b": {"n": 1}},
            config=story.rules.current.config.hash,
            causes=[
                Cause(trigger=TriggerName("b"), offset=1, id="e-1"),
                Cause(trigger=TriggerName("a"), offset=2),
            ],
            decided_us=START_US + 3_000_000,
            decided_at=2,
            queue="slow",
            expires_us=3_600_000_000,
            traceparent="00-1",
        )
    ]


# ---- duplicates ---------------------------------------------------------------------------------


def test_second_event_of_one_source_and_id_is_no_event() -> None:
    story = Story({"t": task(andEvery="a")})
    story.fire("a", {"n": 1}, id="1", source="app")
    assert story.fire("a", {"n": 2}, id="1", source="app") == []
    assert story.statuses() == {"t#0": "scheduled"}
    assert story.notes()[-1][0] == "ignored"
    assert story.refused() == 0


def test_copies_of_one_record_without_an_id_are_one_event_and_show_no_id() -> None:
    story = Story({"t": task(andEvery="a")})
    event = Event(
        session=story.session,
        offset=0,
        arrival_us=START_US,
        time_us=START_US,
        type="a",
        body=Trigger(name=TriggerName("a"), data={}),
        source="/shop",
        origin="3:7",
    )
    (command,) = story.take(event)
    assert isinstance(command, Command)
    assert command.causes[0].id is None
    assert story.take(replace(event, offset=1)) == []
    assert story.notes()[-1][0] == "ignored"
    assert len(story.take(replace(event, offset=2, origin="3:8"))) == 1
    assert story.state is not None
    seen = story.state.seen[TriggerName("a")]
    assert (seen.id, seen.source) == (None, "/shop")


def test_equal_ids_of_two_sources_are_two_events() -> None:
    story = Story({"t": task(andEvery="a")})
    for source in ("app", "other", None):
        story.fire("a", id="1", source=source)
    assert len(story.commands) == 3


def test_equal_bodies_with_two_ids_are_two_events() -> None:
    story = Story({"t": task(andEvery="a")})
    story.fire("a", {"n": 1}, id="1")
    story.fire("a", {"n": 1}, id="2")
    assert len(story.commands) == 2


def test_every_record_without_an_id_counts() -> None:
    story = Story({"t": task(andEvery="a")})
    story.fire("a")
    story.fire("a")
    assert len(story.commands) == 2


def test_ids_are_told_apart_by_trigger() -> None:
    story = Story({"t": task("a", "b")})
    story.fire("a", id="1")
    assert names(story.fire("b", id="1")) == ["t#0"]


def test_duplicate_does_not_become_the_latest_kwargs_of_its_trigger() -> None:
    story = Story({"t": task("a", andEvery="b")})
    story.fire("a", {"n": 1}, id="1")
    story.fire("a", {"n": 2}, id="1")
    story.fire("b")
    story.fire("b")
    assert [c.kwargs["a"] for c in story.commands] == [{"n": 1}, {"n": 1}]


def test_last_256_ids_of_each_trigger_are_remembered() -> None:
    story = Story({"t": task(andEvery="a"), "u": task("b")})
    story.fire("b", id="0")
    for n in range(257):
        story.fire("a", id=str(n))
    assert len(story.commands) == 258
    assert story.fire("a", id="1") == []  # the oldest of the last 256
    assert story.fire("b", id="0") == []  # another trigger's ids push nothing out
    assert names(story.fire("a", id="0")) == ["t#257"]  # forgotten
    assert story.state is not None
    assert {name: len(digests) for name, digests in story.state.digests.items()} == {"a": 2048, "b": 8}


def test_an_id_that_is_seen_again_becomes_the_newest() -> None:
    story = Story({"$bounds": {"digests": 3}, "t": task(andEvery="a")})
    for one in ("1", "2", "3"):
        story.fire("a", id=one)
    assert story.fire("a", id="1") == []
    assert names(story.fire("a", id="4")) == ["t#3"]
    assert story.fire("a", id="1") == []
    assert story.fire("a", id="3") == []
    assert names(story.fire("a", id="2")) == ["t#4"]


def test_identities_that_are_forgotten_are_counted() -> None:
    story = Story({"$bounds": {"digests": 3}, "t": task(andEvery="a")})
    for n in range(3):
        story.fire("a", id=str(n))
        assert story.result.forgotten_ids == 0
    story.fire("a", id="0")
    assert story.result.forgotten_ids == 0
    story.fire("a", id="3")
    assert story.result.forgotten_ids == 1
    story.apply({"$bounds": {"digests": 1}, "t": task(andEvery="a")})
    story.fire("a", id="4")
    assert repr(story.result.forgotten_ids) == "3"


def test_a_file_may_ask_for_10_000_identities() -> None:
    story = Story({"$bounds": {"digests": 10_000}, "t": task("b", "a")})
    for n in range(10_000):
        story.fire("a", id=str(n))
    assert story.fire("a", id="0") == []
    story.fire("a", id="new")
    assert story.notes()[-1][1] is None
    story.fire("a", id="0")
    assert (story.notes()[-1][1] or "").startswith("duplicate")
    assert story.state is not None
    assert len(story.state.digests[TriggerName("a")]) == 80_000


def test_ids_of_triggers_that_no_task_uses_are_not_kept() -> None:
    story = Story({"t": task("a")})
    story.fire("unused", id="1")
    story.fire("unused", {"n": 2}, id="1")
    assert story.state is not None
    assert story.state.digests == {}
    assert story.state.seen[TriggerName("unused")].data == {"n": 2}


def test_record_at_or_below_the_offset_of_the_state_is_ignored() -> None:
    story = Story({"t": task(andEvery="a")})
    story.fire("a", at=1)
    story.offset = 0
    before = story.state
    assert story.fire("a", {"n": 2}, at=500) == []
    assert story.state == before


def test_every_and_every_trigger_makes_an_instance_even_if_unless_names_it_too() -> None:
    story = Story({"t": task("d", andEvery="c", unless=["c", "d2"])})
    story.fire("c", {"n": 1})
    story.fire("c", {"n": 2})
    assert names(story.fire("d")) == ["t#0", "t#1"]
    assert [command.kwargs["c"] for command in story.commands] == [{"n": 1}, {"n": 2}]


def test_an_instance_notes_the_first_event_of_an_unless_trigger() -> None:
    story = Story({"t": task("d", unless=["c", "e"])})
    story.fire("c")
    story.fire("c")
    assert story.instance("t#0").noted == {"c": 0}


def test_a_digest_is_found_where_its_bytes_also_lie_across_two_others() -> None:
    digest = b"\x01" * 8
    assert find_digest(b"\x00" * 7 + b"\x01" + digest, digest) == 8
    assert find_digest(b"\x00" * 7 + digest + b"\x00", digest) == -1
    assert find_digest(digest, digest) == 0
