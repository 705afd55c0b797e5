"""Which events leaves take, when conditions are satisfied, and what they bring.

The rules: docs/semantics.md, R3.6 to R3.12, R4.10 to R4.14, R5.7 to R5.9.
"""

from __future__ import annotations

import pytest

from tests.core.story import SECOND, START_US, Story, names
from triggerstream.core import draft
from triggerstream.core.events import Event, Trigger
from triggerstream.core.ids import Json, JsonObject, TriggerName
from triggerstream.wire import state as wire

SIZES = wire.EncodedSizes()


def task(after: Json, **keys: Json) -> JsonObject:
    """A task of a tasks file; keys are spelt as there."""
    return {"after": after, "run": "my_app.tasks.run", **keys}


def fire_at(story: Story, name: str, at: float, data: JsonObject | None = None) -> list[str]:
    """Fire an event that happened ``at`` seconds after the story began."""
    body = Trigger(name=TriggerName(name), data=data or {})
    return names(story.tell(body, time=at))


# ---- matching -------------------------------------------------------------------------------------


def test_an_event_that_does_not_match_makes_no_instance_and_is_only_remembered() -> None:
    story = Story({"t": task([{"trigger": "a", "where": "data.n > 1"}])})
    assert story.fire("a", {"n": 1}) == []
    assert story.statuses() == {}
    assert names(story.fire("a", {"n": 2})) == ["t#0"]
    assert story.commands[0].kwargs == {"a": {"n": 2}}


@pytest.mark.parametrize(
    ("data", "matches"),
    [
        ({"o": {"by": "x"}}, True),
        ({"o": {"by": 5}}, True),
        ({"o": {"by": True}}, False),
        ({"o": {"by": None}}, False),
        ({"o": {"by": 5.0}}, False),
        ({"o": {}}, False),
        ({"o": [1]}, False),
        ({}, False),
    ],
)
def test_a_key_is_a_string_or_an_integer(data: JsonObject, *, matches: bool) -> None:
    story = Story({"t": task([{"trigger": "a", "key": "data.o.by", "count": 1}])})
    assert bool(story.fire("a", data)) is matches


@pytest.mark.parametrize(
    ("ids", "usable"),
    [
        (["x", 5, "x"], True),
        ([], True),
        (["x"] * 1_000, True),
        (["x"] * 1_001, False),
        ([True], False),
        ([1.5], False),
        ([None], False),
        ("x", False),
        (None, False),
    ],
)
def test_an_event_matches_a_leaf_that_brings_a_list_only_with_a_usable_one(
    ids: Json, *, usable: bool
) -> None:
    each: JsonObject = {"trigger": "b", "key": "data.by", "each": {"of": "a", "list": "data.ids"}}
    story = Story({"t": task(["a", each])})
    story.fire("a", {"ids": ids})
    assert bool(story.statuses()) is usable


def test_where_knows_the_time_the_session_and_the_id_of_its_event() -> None:
    where = "time == timestamp('2026-01-01T00:00:07Z') && session == 's' && id == 'e1'"
    story = Story({"t": task([{"trigger": "a", "where": where}])})
    body = Trigger(name=TriggerName("a"), data={})
    assert story.tell(body, time=7) == []
    assert story.tell(body, time=6, id="e1") == []
    assert names(story.tell(body, time=7, id="e1", source="app")) == ["t#0"]


def test_one_event_may_match_several_leaves_of_a_task() -> None:
    leaves: Json = [{"trigger": "a", "as": "one"}, {"trigger": "a", "where": "data.n > 1", "as": "two"}]
    story = Story({"t": task(leaves)})
    assert story.fire("a", {"n": 1}) == []
    assert names(story.fire("a", {"n": 2})) == ["t#0"]
    assert story.commands[0].kwargs == {"one": {"n": 1}, "two": {"n": 2}}
    assert [(cause.trigger, cause.offset) for cause in story.commands[0].causes] == [("a", 0), ("a", 1)]


def test_an_event_that_two_leaves_hold_is_named_once() -> None:
    story = Story({"t": task([{"trigger": "a", "as": "one"}, {"trigger": "a", "as": "two"}])})
    story.fire("a")
    assert [cause.offset for cause in story.commands[0].causes] == [0]


# ---- the rows of the table ------------------------------------------------------------------------


def test_count_takes_the_first_events() -> None:
    story = Story({"t": task([{"trigger": "a", "count": 2}, "b"])})
    for n in range(3):
        story.fire("a", {"n": n})
    assert story.stored() == {"t#0": {"a": [{"n": 0}, {"n": 1}]}}
    story.fire("b")
    assert story.commands[0].kwargs == {"a": [{"n": 0}, {"n": 1}], "b": {}}


def test_count_of_one_brings_a_list() -> None:
    story = Story({"t": task([{"trigger": "a", "count": 1}])})
    story.fire("a", {"n": 0})
    assert story.commands[0].kwargs == {"a": [{"n": 0}]}


def test_count_with_a_key_takes_the_first_of_each_key() -> None:
    story = Story({"t": task([{"trigger": "a", "count": 2, "key": "data.by"}])})
    assert story.fire("a", {"by": 5, "n": 0}) == []
    assert story.fire("a", {"by": "5", "n": 1}) == [], "5 and '5' are one key"
    assert names(story.fire("a", {"by": "x", "n": 2})) == ["t#0"]
    assert story.commands[0].kwargs == {"a": [{"by": 5, "n": 0}, {"by": "x", "n": 2}]}


EACH: JsonObject = {"trigger": "file", "key": "data.name", "each": {"of": "list", "list": "data.names"}}


def test_each_waits_for_one_event_of_every_element() -> None:
    story = Story({"t": task(["list", EACH])})
    story.fire("file", {"name": "y", "n": 0})
    story.fire("file", {"name": "other"})
    story.fire("list", {"names": ["x", "y", "x"]})
    assert story.stored()["t#0"]["file"] == {"y": {"name": "y", "n": 0}}
    assert story.fire("file", {"name": "z"}) == []
    assert story.fire("file", {"name": "y", "n": 1}) == []
    assert names(story.fire("file", {"name": "x"})) == ["t#0"]
    assert story.commands[0].kwargs["file"] == {"x": {"name": "x"}, "y": {"name": "y", "n": 0}}


def test_each_of_an_empty_list_is_met_at_once() -> None:
    story = Story({"t": task(["list", EACH])})
    assert names(story.fire("list", {"names": []})) == ["t#0"]
    assert story.commands[0].kwargs == {"list": {"names": []}, "file": {}}


def test_events_that_come_before_their_list_can_complete_it() -> None:
    story = Story({"t": task(["list", EACH])})
    story.fire("file", {"name": "x"})
    assert names(story.fire("list", {"names": ["x"]})) == ["t#0"]


def test_a_leaf_that_holds_a_thousand_keys_is_full_until_its_list_arrives() -> None:
    story = Story({"t": task(["list", EACH])})
    for n in range(1_000):
        story.fire("file", {"name": f"f{n}"})
    story.fire("file", {"name": "f7"})
    assert story.notes()[-1] == ("arrived", None), "its key is held already"
    story.fire("file", {"name": "one more"})
    assert story.notes()[-1] == ("arrived", "t#0: leaf `file` is full")
    assert len(story.stored()["t#0"]["file"]) == 1_000  # type: ignore[arg-type]  # an object
    assert story.fire("list", {"names": ["f7", "one more"]}) == []
    assert names(story.fire("file", {"name": "one more"})) == ["t#0"]


# ---- shapes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "fired", "decided"),
    [
        ([{"any": ["a", "b"]}], "a", True),
        ([{"any": [["a", "b"], ["a", "c"]]}], "ac", True),
        ([{"any": [["a", "b"], ["a", "c"]]}], "bc", False),
        ([{"atLeast": 2, "of": ["a", "b", "c"]}], "ca", True),
        ([{"atLeast": 2, "of": ["a", "b", "c"]}], "cc", False),
        ([{"all": ["a", {"any": ["b", "c"]}]}], "ac", True),
        (["a", {"any": ["b", {"sequence": ["c", "d"]}]}], "cda", True),
        (["a", {"any": ["b", {"sequence": ["c", "d"]}]}], "dca", False),
    ],
)
def test_shapes(after: Json, fired: str, *, decided: bool) -> None:
    story = Story({"t": task(after)})
    for at, name in enumerate(fired):
        fire_at(story, name, at)
    assert bool(story.commands) is decided


def test_a_condition_that_is_satisfied_takes_no_further_events() -> None:
    story = Story({"t": task([{"any": ["a", "b"]}], retry={"max": 1, "backoff": "5s"})})
    story.fire("a", {"n": 1})
    story.fire("b", {"n": 2})
    assert story.stored() == {"t#0": {"a": {"n": 1}}}
    story.failed("t#0")
    story.fire("b", {"n": 3})
    story.timer(at=10)
    assert story.commands[1].kwargs == {"a": {"n": 1}}


# ---- sequences ------------------------------------------------------------------------------------


def test_a_sequence_goes_by_event_time_whatever_the_order_of_arrival() -> None:
    story = Story({"t": task([{"sequence": ["a", "b"]}])})
    assert fire_at(story, "b", 2, {"n": 1}) == []
    assert fire_at(story, "a", 3) == []
    assert fire_at(story, "a", 1, {"n": 2}) == ["t#0"]
    assert story.commands[0].kwargs == {"a": {"n": 2}, "b": {"n": 1}}


def test_an_event_that_is_too_early_does_not_use_its_place_up() -> None:
    story = Story({"t": task([{"sequence": ["a", "b"]}])})
    assert [fire_at(story, name, at) for at, name in enumerate("bab")] == [[], [], ["t#0"]]
    assert [cause.offset for cause in story.commands[0].causes] == [1, 2]


def test_equal_times_count_in_log_order() -> None:
    story = Story({"t": task([{"sequence": ["a", "b"]}])})
    assert [fire_at(story, name, 1) for name in "bab"] == [[], [], ["t#0"]]


def test_one_trigger_may_stand_in_several_places_of_a_sequence() -> None:
    places: Json = [{"trigger": "a", "as": "one"}, {"trigger": "a", "as": "two"}]
    story = Story({"t": task([{"sequence": places}])})
    assert [fire_at(story, "a", at, {"n": at}) for at in range(2)] == [[], ["t#0"]]
    assert story.commands[0].kwargs == {"one": {"n": 0}, "two": {"n": 1}}


def test_a_count_in_a_sequence_is_met_by_the_earliest() -> None:
    story = Story({"t": task([{"sequence": [{"trigger": "a", "count": 2}, "b"]}])})
    for at, name in ((5, "a"), (1, "a"), (3, "b"), (2, "a")):
        fire_at(story, name, at, {"at": at})
    assert story.commands[0].kwargs == {"a": [{"at": 1}, {"at": 2}], "b": {"at": 3}}


def test_met_leaves_of_an_unfinished_sequence_are_passed() -> None:
    story = Story({"t": task([{"any": [{"sequence": ["a", "b"]}, "c"]}])})
    fire_at(story, "a", 1, {"n": 1})
    fire_at(story, "b", 0)
    fire_at(story, "c", 2)
    assert story.commands[0].kwargs == {"a": {"n": 1}, "c": {}}


def test_beyond_a_hundred_the_first_leaf_drops_the_newest_and_others_the_oldest() -> None:
    story = Story({"t": task([{"sequence": ["a", "b"]}, "c"])})
    for at in range(200, 301):
        fire_at(story, "a", at)
    for at in range(101):
        fire_at(story, "b", at)
    held = story.instance("t#0").captured
    times = {name: [us - START_US for us in one.times] for name, one in held.items()}  # type: ignore[union-attr]
    assert times["a"] == [at * SECOND for at in range(200, 300)]  # type: ignore[index]  # a leaf's name
    assert times["b"] == [at * SECOND for at in range(1, 101)]  # type: ignore[index]


def test_an_event_that_is_dropped_does_not_undo_a_satisfied_sequence() -> None:
    story = Story({"t": task([{"sequence": ["a", "b", "c"]}, "d"])})
    for at, name in ((1, "a"), (2, "b"), (3, "c")):
        fire_at(story, name, at)
    for at in range(10, 120):
        fire_at(story, "b", at)
    assert fire_at(story, "d", 500) == ["t#0"]
    assert [cause.offset for cause in story.commands[0].causes] == [0, 1, 2, 113]


# ---- unless ---------------------------------------------------------------------------------------


def test_unless_counts_whatever_the_session_has_seen_or_only_what_came_after_the_instance() -> None:
    for unless_from, status in (("session", "abandoned"), ("instance", "unstarted")):
        story = Story({"t": task(["a", "b"], unless=["no"], unlessFrom=unless_from)})
        if unless_from == "instance":
            story.fire("no")
            assert story.statuses() == {}, "an event of unless alone makes no instance"
        else:
            story.fire("no")
        story.fire("a")
        assert story.statuses() == {"t#0": status}


def test_the_event_that_makes_an_instance_does_not_count_for_its_unless() -> None:
    story = Story({"t": task(["a", "b"], unless=["a"], unlessFrom="instance")})
    story.fire("a")
    assert story.statuses() == {"t#0": "unstarted"}
    story.fire("a")
    assert story.statuses() == {"t#0": "abandoned"}


@pytest.mark.parametrize(
    ("unless", "fired"),
    [
        ([{"trigger": "no", "count": 2}], [("no", {}), ("no", {})]),
        ([{"trigger": "no", "count": 2, "key": "data.by"}], [("no", {"by": "x"}), ("no", {"by": "y"})]),
        ([{"sequence": ["no", "never"]}], [("never", {}), ("no", {}), ("never", {})]),
        (["list", EACH], [("file", {"name": "x"}), ("list", {"names": ["x"]})]),
        ([{"any": ["no", "never"]}], [("never", {})]),
        ([{"trigger": "no", "where": "data.n > 1"}], [("no", {"n": 1}), ("no", {"n": 2})]),
    ],
)
def test_unless_has_all_conditions(unless: Json, fired: list[tuple[str, JsonObject]]) -> None:
    story = Story({"t": task(["a", "b"], unless=unless, unlessFrom="instance")})
    story.fire("a")
    for at, (name, data) in enumerate(fired, 1):
        assert story.statuses() == {"t#0": "unstarted"}
        fire_at(story, name, at, data)
    assert story.statuses() == {"t#0": "abandoned"}


# ---- andEvery, and what leaves remember -----------------------------------------------------------


def test_an_event_makes_a_further_instance_only_if_it_matches_the_leaf_of_and_every() -> None:
    every: JsonObject = {"trigger": "a", "where": "data.n > 1"}
    story = Story({"t": task([], andEvery=every)})
    for n in (1, 2, 1, 3):
        story.fire("a", {"n": n})
    assert story.stored() == {"t#0": {"a": {"n": 2}}, "t#1": {"a": {"n": 3}}}


def test_an_event_that_an_instance_takes_for_its_count_makes_no_further_one() -> None:
    story = Story({"t": task([{"trigger": "a", "count": 2}], andEvery="a")})
    for n in range(4):
        story.fire("a", {"n": n})
    assert story.stored() == {"t#0": {"a": [{"n": 0}, {"n": 1}]}, "t#1": {"a": [{"n": 2}, {"n": 3}]}}


def test_a_leaf_of_a_repeatable_task_remembers_the_latest_event_that_it_matched() -> None:
    story = Story({"t": task([{"trigger": "a", "where": "data.n > 1"}], andEvery="b")})
    story.fire("b")
    for n in (5, 1, 0):
        story.fire("a", {"n": n})
    story.state = wire.decode(wire.encode(story.state)) if story.state else None
    story.fire("b")
    assert story.commands[1].kwargs == {"a": {"n": 5}, "b": {}}
    story.fire("a", {"n": 7})
    assert story.state is not None
    assert story.state.remembered == {}
    story.fire("b")
    assert story.commands[2].kwargs["a"] == {"n": 7}


def test_a_leaf_of_any_other_task_remembers_the_latest_event_of_its_trigger() -> None:
    story = Story({})
    story.fire("a", {"n": 5})
    story.fire("a", {"n": 1})
    story.apply({"t": task([{"trigger": "a", "where": "data.n > 1"}, "b"])})
    assert story.fire("b") == []
    assert story.statuses() == {"t#0": "unstarted"}
    assert story.state is not None
    assert story.state.remembered == {}


def test_a_closing_empties_what_leaves_remember() -> None:
    story = Story({"t": task([{"trigger": "a", "where": "data.n > 1"}], andEvery="b")})
    story.fire("a", {"n": 5})
    story.fire("a", {"n": 1})
    story.close()
    story.fire("b")
    assert story.statuses() == {"t#0": "unstarted"}


def test_memory_of_unless_needs_no_data() -> None:
    story = Story({"t": task(["b"], andEvery="c", unless=[{"trigger": "no", "where": "data.n > 1"}])})
    story.fire("no", {"n": 5})
    story.fire("no", {"n": 1})
    story.fire("c")
    assert story.statuses() == {"t#0": "abandoned", "t#1": "abandoned"}
    assert story.state is not None
    assert b'"n":5' not in wire.encode(story.state)


# ---- kwargs ---------------------------------------------------------------------------------------


def test_with_params_is_merged_under_each_element() -> None:
    params: JsonObject = {"a": {"p": 1, "n": 9}, "file": {"p": 2}, "extra": 3}
    after: Json = [{"trigger": "a", "count": 2}, "list", EACH]
    story = Story({"t": task(after, withParams=params)})
    story.fire("a", {"n": 0})
    story.fire("a")
    story.fire("list", {"names": ["x"]})
    story.fire("file", {"name": "x"})
    kwargs = story.commands[0].kwargs
    assert kwargs == {
        "a": [{"p": 1, "n": 0}, {"p": 1, "n": 9}],
        "list": {"names": ["x"]},
        "file": {"x": {"p": 2, "name": "x"}},
        "extra": 3,
    }
    story.apply({"t": task(["a"], withParams={"a": {"other": 1}})})
    story.resend("t#0")
    assert story.commands[1].kwargs == kwargs


def test_a_plain_leaf_that_is_not_met_is_passed_as_with_params_has_it_a_counting_one_not_at_all() -> None:
    after: Json = [{"any": ["a", "b", {"trigger": "c", "count": 2}]}]
    params: JsonObject = {"a": {"p": 1}, "b": {"p": 2}, "c": {"p": 3}}
    story = Story({"t": task(after, withParams=params)})
    story.fire("c")
    story.fire("a", {"n": 1})
    assert story.commands[0].kwargs == {"a": {"p": 1, "n": 1}, "b": {"p": 2}}


def test_a_clone_has_its_origins_events_with_the_params_of_the_file_in_force() -> None:
    story = Story({"t": task([{"trigger": "a", "count": 2}])})
    story.fire("a", {"n": 0})
    story.fire("a", {"n": 1})
    story.failed("t#0")
    story.apply({"t": task([{"trigger": "a", "count": 3}], withParams={"a": {"p": 1}})})
    story.replay("t#0")
    assert story.commands[1].kwargs == {"a": [{"p": 1, "n": 0}, {"p": 1, "n": 1}]}
    story.failed("t#1")
    story.replay("t#1", kwargs={"a": [{"n": 7}, 8]})
    assert story.commands[2].kwargs == {"a": [{"p": 1, "n": 7}, 8]}


def test_a_command_names_a_hundred_causes_and_how_many_there_are() -> None:
    story = Story({"t": task([{"trigger": "a", "count": 101}])}, sizes=SIZES)
    for _ in range(101):
        story.fire("a")
    (command,) = story.commands
    assert (len(command.causes), command.cause_count) == (100, 101)
    story = Story({"t": task([{"trigger": "a", "count": 100}])})
    for _ in range(100):
        story.fire("a")
    assert (len(story.commands[0].causes), story.commands[0].cause_count) == (100, None)


# ---- the stored form ------------------------------------------------------------------------------


def test_only_a_file_of_the_language_has_fold_two() -> None:
    plain = Story({"t": task(["a", "b"], unless=["c"], andEvery="a")}).rules.current.config
    assert plain.fold_version == 1
    further: list[JsonObject] = [
        {"after": [{"trigger": "a", "where": "true"}]},
        {"after": [{"trigger": "a", "as": "b"}]},
        {"after": [{"any": ["a", "b"]}]},
        {"unlessFrom": "instance", "unless": ["b"]},
        {"appliesTo": "existing"},
        {"andEvery": {"trigger": "c", "as": "d"}},
    ]
    for keys in further:
        config = Story({"t": {**task(["a"]), **keys}}).rules.current.config
        assert config.fold_version == 2, keys


def test_a_plain_file_stores_nothing_new() -> None:
    story = Story({"t": task(["a", "b"], unless=["no"], andEvery="c")})
    for name in ("a", "c", "c", "no", "b", "c"):
        story.fire(name)
    assert story.state is not None
    stored = wire.encode(story.state)
    for field in (b"madeBy", b"holds", b"remembered", b"perElement"):
        assert field not in stored


def test_an_event_far_back_in_the_log_is_kept_as_long_as_a_leaf_holds_it() -> None:
    story = Story({"t": task([{"trigger": "a", "count": 3}])})
    for n in range(2):
        story.fire("a", {"n": n})
        story.state = wire.decode(wire.encode(story.state)) if story.state else None
    for n in range(2, 4):
        story.fire("a", {"n": n})
    assert story.commands[0].kwargs == {"a": [{"n": n} for n in range(3)]}
    assert isinstance(story.take(again(story)), list)


def again(story: Story) -> Event:
    """An event that is included already."""
    body = Trigger(name=TriggerName("a"), data={})
    return Event(session=story.session, offset=0, arrival_us=START_US, time_us=START_US, type="a", body=body)


def test_what_a_leaf_remembers_is_not_dropped_while_unneeded_events_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(draft, "_RECENT", 1)
    monkeypatch.setattr(draft, "_COLLECTED", 1)
    monkeypatch.setattr(draft, "_COLLECTED_AGAIN", 0)
    story = Story({"t": task([{"trigger": "a", "where": "data.n > 1"}], andEvery="b")})
    for n in (5, 0, 6, 0, 7, 0):
        story.fire("a", {"n": n})
        assert story.state is not None
        assert wire.decode(wire.encode(story.state)) == story.state.collected()
    story.fire("b")
    assert story.commands[0].kwargs == {"a": {"n": 5}, "b": {}}
    story.fire("b")
    assert story.commands[1].kwargs == {"a": {"n": 7}, "b": {}}


@pytest.mark.parametrize("pairs", range(21, 26))
def test_an_event_that_a_leaf_begins_to_remember_stays_when_unneeded_events_are_dropped(pairs: int) -> None:
    """The event at which unneeded ones are dropped is the one that two leaves need: one took it before."""
    story = Story(
        {
            "t": task([{"trigger": "n", "count": 1_000}, "never"]),
            "u": task([{"trigger": "a", "where": "data.x == 1"}], andEvery="go"),
        }
    )
    for n in range(1_024):
        story.fire("n", {"n": n})
    story.fire("a", {"x": 1})
    story.fire("go")
    for n in range(pairs):
        story.fire("a", {"x": 1, "n": n})
        story.fire("a", {"x": 0})
        assert story.state is not None
        if n > 19:
            assert wire.decode(wire.encode(story.state)) == story.state.collected()
    story.fire("go")
    assert story.commands[1].kwargs == {"a": {"x": 1, "n": pairs - 1}, "go": {}}


@pytest.mark.parametrize("stored", [False, True])
def test_times_of_noted_events_do_not_depend_on_where_a_batch_ends(stored: bool) -> None:  # noqa: FBT001
    """An event that nothing needs is forgotten, also while the fold still has it."""
    uses: JsonObject = {"u": task([], andEvery="x"), "$bounds": {"resolvedInstances": 1}}
    story = Story({**uses, "t": task(["never"], unless=["x", "y"])})
    story.fire("x")
    story.fire("x")
    for number in (0, 1):
        story.finished(f"u#{number}")
    assert story.state is not None
    if stored:
        story.state = wire.decode(wire.encode(story.state))
    in_order = task(["never"], unless=[{"sequence": ["x", "y"]}], unlessFrom="instance")
    story.apply({**uses, "t": in_order})
    story.fire("y", at=100)
    assert story.statuses()["t#0"] == "unstarted"
