"""What a changed file does to leaves, memory and new tasks: each cell lazily, and at once.

The rules: docs/semantics.md, R4.13, R9.9 to R9.12.
"""

from __future__ import annotations

import pytest

from tests.core.story import Story, names
from triggerstream.core.events import Trigger
from triggerstream.core.fold import migrate, needs_touch
from triggerstream.core.ids import Json, JsonObject, TaskName, TriggerName
from triggerstream.wire import state as wire

SIZES = wire.EncodedSizes()


class Told(Story):
    """A story whose session meets each file at once, if ``at_once``, and is stored after each line."""

    at_once = False

    def apply(self, tasks: JsonObject | str, *, at: float | None = None) -> None:
        super().apply(tasks, at=at)
        if self.at_once and self.state is not None:
            self.state = migrate(self.rules, self.state, self.session).state
            self.store()

    def store(self) -> None:
        """Store the state and read it again."""
        if self.state is not None:
            self.state = wire.decode(wire.encode(self.state))


@pytest.fixture(params=[False, True], ids=["lazily", "at once"])
def told(request: pytest.FixtureRequest) -> type[Told]:
    """The two ways in which a session meets a file."""
    return type("Telling", (Told,), {"at_once": request.param})


def task(after: Json, **keys: Json) -> JsonObject:
    """A task of a tasks file; keys are spelt as there."""
    return {"after": after, "run": "my_app.tasks.run", **keys}


def leaf(trigger: str, where: str | None = None, **keys: Json) -> JsonObject:
    """A leaf of a tasks file."""
    return {"trigger": trigger, **({} if where is None else {"where": where}), **keys}


BIG = "data.n > 1"


# ---- leaves of after ------------------------------------------------------------------------------


def test_what_a_leaf_held_that_is_gone_stays_and_is_not_passed(told: type[Told]) -> None:
    story = told({"t": task(["a", leaf("b", **{"as": "x"}), "c"])})
    story.fire("b", {"n": 1})
    story.apply({"t": task(["a"])})
    assert story.touch() == []
    assert story.stored() == {"t#0": {"x": {"n": 1}}}
    assert names(story.fire("a")) == ["t#0"]
    assert story.commands[0].kwargs == {"a": {}}


def test_a_leaf_that_comes_back_has_what_it_held_as_far_as_it_matches(told: type[Told]) -> None:
    story = told({"t": task([leaf("a", count=3), "c"])})
    for n in range(3):
        story.fire("a", {"n": n})
    story.apply({"t": task(["c", "d"])})
    story.touch()
    story.apply({"t": task([leaf("a", "data.n != 1", count=2), "c"])})
    assert names(story.fire("c")) == ["t#0"]
    assert story.commands[0].kwargs == {"a": [{"n": 0}, {"n": 2}], "c": {}}


def test_a_new_leaf_is_offered_the_latest_event_of_its_trigger(told: type[Told]) -> None:
    story = told({"t": task(["a", "b"])})
    story.fire("a")
    story.fire("c", {"n": 1})
    story.fire("c", {"n": 2})
    story.apply({"t": task(["a", leaf("c", **{"as": "x"}), "d"])})
    story.touch()
    assert story.stored()["t#0"] == {"a": {}, "x": {"n": 2}}


def test_a_new_leaf_gets_nothing_where_the_latest_event_does_not_match(told: type[Told]) -> None:
    story = told({"t": task(["a", "b"])})
    story.fire("a")
    story.fire("c", {"n": 2})
    story.fire("c", {"n": 1})
    story.apply({"t": task(["a", leaf("c", BIG)])})
    assert story.touch() == []
    assert story.stored()["t#0"] == {"a": {}}


def test_a_changed_leaf_is_offered_what_it_held_in_log_order(told: type[Told]) -> None:
    story = told({"t": task([leaf("a", count=4), "b"])})
    for n in (3, 1, 5):
        story.fire("a", {"n": n})
    story.apply({"t": task([leaf("a", BIG, count=1), "b"])})
    story.fire("b")
    assert story.commands[0].kwargs["a"] == [{"n": 3}]


def test_a_changed_leaf_that_is_left_with_nothing_is_offered_what_it_remembers(told: type[Told]) -> None:
    story = told({"t": task(["a", "b"])})
    story.fire("a", {"n": 1})
    story.fire("a", {"n": 7})
    story.apply({"t": task([leaf("a", BIG), "b"])})
    story.fire("b")
    assert story.commands[0].kwargs["a"] == {"n": 7}


def test_a_leaf_with_another_trigger_begins_anew(told: type[Told]) -> None:
    story = told({"t": task([leaf("a", **{"as": "x"}), "b"])})
    story.fire("a")
    story.fire("c", {"n": 7})
    story.apply({"t": task([leaf("c", **{"as": "x"}), "b"])})
    story.fire("b")
    assert story.commands[0].kwargs["x"] == {"n": 7}


@pytest.mark.parametrize(
    ("before", "after", "stored"),
    [
        (leaf("a"), leaf("a", count=3), [{"by": "x", "n": 0}]),
        (leaf("a", count=2), leaf("a"), {"by": "x", "n": 0}),
        (leaf("a", count=3), leaf("a", count=2), [{"by": "x", "n": 0}, {"by": "x", "n": 1}]),
        (
            leaf("a", count=3),
            leaf("a", count=3, key="data.by"),
            [{"by": "x", "n": 0}, {"by": "y", "n": 2}],
        ),
        (
            leaf("a", count=3, key="data.by"),
            leaf("a", count=3),
            [{"by": "x", "n": 0}, {"by": "y", "n": 2}],
        ),
    ],
)
def test_a_leaf_that_takes_in_another_way_is_offered_what_it_held(
    told: type[Told], before: Json, after: Json, stored: Json
) -> None:
    story = told({"t": task([before, "b"])})
    for n, by in enumerate(("x", "x", "y")):
        story.fire("a", {"by": by, "n": n})
    story.apply({"t": task([after, "b", "c"])})
    story.touch()
    assert story.stored()["t#0"]["a"] == stored


def test_a_leaf_that_gets_a_place_in_a_sequence_keeps_its_event(told: type[Told]) -> None:
    story = told({"t": task(["a", "b", "c"])})
    for at, name in ((2, "a"), (1, "b")):
        story.tell(Trigger(name=TriggerName(name), data={"at": at}), time=at)
    story.apply({"t": task([{"sequence": ["a", "b"]}])})
    assert story.touch() == []
    assert names(story.tell(Trigger(name=TriggerName("b"), data={"at": 3}), time=3)) == ["t#0"]
    assert story.commands[0].kwargs == {"a": {"at": 2}, "b": {"at": 3}}


def test_another_order_of_a_sequence_is_judged_at_the_next_event(told: type[Told]) -> None:
    story = told({"t": task([{"sequence": ["a", "b"]}])})
    story.tell(Trigger(name=TriggerName("b"), data={}), time=1)
    story.tell(Trigger(name=TriggerName("a"), data={}), time=2)
    story.apply({"t": task([{"sequence": ["b", "a"]}])})
    story.timer(at=0)
    assert story.commands == []
    assert names(story.touch()) == ["t#0"]


EACH: JsonObject = leaf("file", key="data.name", each={"of": "list", "list": "data.names"})


def test_a_changed_list_is_asked_for_again(told: type[Told]) -> None:
    story = told({"t": task(["list", EACH])})
    story.fire("file", {"name": "x"})
    story.fire("list", {"names": ["x", "y"], "fewer": ["x"]})
    story.apply({"t": task(["list", {**EACH, "each": {"of": "list", "list": "data.fewer"}}])})
    assert names(story.touch()) == ["t#0"]
    assert story.commands[0].kwargs["file"] == {"x": {"name": "x"}}


def test_a_list_whose_event_no_longer_matches_is_withdrawn(told: type[Told]) -> None:
    story = told({"t": task(["list", EACH])})
    story.fire("file", {"name": "x"})
    story.fire("list", {"names": ["x", "y"]})
    story.apply({"t": task([leaf("list", "has(data.final)"), EACH])})
    story.fire("file", {"name": "z"})
    assert story.stored()["t#0"] == {"file": {"x": {"name": "x"}, "z": {"name": "z"}}}
    assert names(story.fire("list", {"names": ["x"], "final": True})) == ["t#0"]


def test_shape_is_judged_at_the_next_event_that_is_no_timer(told: type[Told]) -> None:
    story = told({"t": task(["a", "b"])})
    story.fire("a")
    story.apply({"t": task([{"any": ["a", "b"]}])})
    assert story.timer(at=1) == []
    assert names(story.touch()) == ["t#0"]


def test_a_clone_that_waits_keeps_what_its_origin_had(told: type[Told]) -> None:
    story = told({"t": task([leaf("a", count=1)], retry={"max": 1, "backoff": "5s"})})
    story.fire("a", {"n": 1})
    story.failed("t#0")
    story.apply({"t": task([leaf("a", BIG), "b"], withParams={"a": {"p": 1}}, retry={"max": 1})})
    story.timer(at=10)
    assert story.commands[1].kwargs == {"a": [{"n": 1}]}


# ---- leaves of unless -----------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["unstarted", "scheduled"])
def test_a_changed_leaf_of_unless_forgets_what_it_noted(told: type[Told], status: str) -> None:
    """Of an instance that is decided, a retry shows what has been noted."""
    after: Json = ["a", "b"] if status == "unstarted" else ["a"]
    keys: JsonObject = {"unless": ["no", "never"], "retry": {"max": 1, "backoff": "5s"}}
    story = told({"t": task(after, **keys)})
    story.fire("a")
    story.fire("no", {"n": 1})
    assert story.statuses() == {"t#0": status}
    changed: JsonObject = {**keys, "unless": [leaf("no", BIG)]}
    story.apply({"t": task(after, **changed)})
    story.touch()
    assert story.statuses() == {"t#0": status}
    if status == "scheduled":
        story.failed("t#0")
        assert story.statuses()["t#1"] == "delayed"


@pytest.mark.parametrize(
    ("unless_from", "fired", "status"),
    [
        ("session", "first", "abandoned"),
        ("session", "later", "abandoned"),
        ("instance", "first", "unstarted"),
        ("instance", "later", "abandoned"),
    ],
)
def test_a_new_leaf_of_unless_is_offered_what_it_remembers(
    told: type[Told], unless_from: str, fired: str, status: str
) -> None:
    story = told({"t": task(["a", leaf("b", BIG)], unless=["never"], unlessFrom=unless_from)})
    for name in ("no", "a") if fired == "first" else ("a", "no"):
        story.fire(name)
    story.apply({"t": task(["a", leaf("b", BIG)], unless=["no"], unlessFrom=unless_from)})
    story.touch()
    assert story.statuses() == {"t#0": status}


def test_what_is_noted_stays_where_only_unless_from_changes(told: type[Told]) -> None:
    story = told({"t": task(["a", "b"], unless=["no", "never"])})
    story.fire("no")
    story.fire("a")
    story.apply({"t": task(["a", "b"], unless=["no", "never"], unlessFrom="instance")})
    story.fire("never")
    assert story.statuses() == {"t#0": "abandoned"}


def test_unless_from_the_session_offers_what_is_remembered_to_leaves_that_noted_nothing(
    told: type[Told],
) -> None:
    story = told({"t": task(["a", "b"], unless=["no"], unlessFrom="instance")})
    story.fire("no")
    story.fire("a")
    story.apply({"t": task(["a", "b"], unless=["no"])})
    story.touch()
    assert story.statuses() == {"t#0": "abandoned"}


def test_a_count_of_unless_may_change_without_forgetting(told: type[Told]) -> None:
    keys: JsonObject = {"unlessFrom": "instance"}
    story = told({"t": task(["a", "b"], unless=[leaf("no", count=3)], **keys)})
    story.fire("a")
    story.fire("no")
    story.fire("no")
    story.apply({"t": task(["a", "b"], unless=[leaf("no", count=2)], **keys)})
    story.touch()
    assert story.statuses() == {"t#0": "abandoned"}


def test_leaves_of_unless_that_get_places_in_a_sequence_keep_their_events(told: type[Told]) -> None:
    keys: JsonObject = {"unlessFrom": "instance"}
    story = told({"t": task(["a", "b"], unless=["no", "never", "more"], **keys)})
    story.fire("a")
    for at, name in ((2, "no"), (1, "never")):
        story.tell(Trigger(name=TriggerName(name), data={}), time=at)
    for _ in range(2):
        story.fire("no")
        story.fire("never")
    story.store()
    story.apply({"t": task(["a", "b"], unless=[{"sequence": ["never", "no"]}], **keys)})
    story.touch()
    assert story.statuses() == {"t#0": "abandoned"}


def test_an_instance_of_a_plain_file_counts_from_the_event_that_made_it(told: type[Told]) -> None:
    plain: JsonObject = {"t": task(["a", "b"], unless=["never"])}
    later: JsonObject = {"t": task(["a", "b"], unless=["no"], unlessFrom="instance")}
    for order, status in (("no a other", "unstarted"), ("a no other", "abandoned")):
        story = told(plain)
        for name in order.split():
            story.fire(name)
        story.apply(later)
        story.touch()
        assert story.statuses() == {"t#0": status}


# ---- memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("leaf_now", "every", "stored"),
    [
        (leaf("a", BIG), "b", {"a": {"n": 5}, "b": {}}),
        (leaf("a", "data.n > 2"), "b", {"b": {}}),
        (leaf("a", "data.n < 2"), "b", {"a": {"n": 0}, "b": {}}),
        (leaf("a", BIG, count=1), "b", {"a": [{"n": 5}], "b": {}}),
    ],
)
def test_a_leaf_with_another_filter_remembers_the_latest_event_only(
    told: type[Told], leaf_now: Json, every: str, stored: JsonObject
) -> None:
    story = told({"t": task([leaf("a", BIG), "c"], andEvery="b")})
    for n in (5, 0):
        story.fire("a", {"n": n})
    story.cancel("t#0")
    story.apply({"t": task([leaf_now, "c"], andEvery=every)})
    story.fire("b")
    assert story.stored()["t#1"] == stored


def test_a_task_that_becomes_repeatable_remembers_from_there(told: type[Told]) -> None:
    story = told({"t": task([leaf("a", BIG), "c", "b"])})
    for n in (5, 0):
        story.fire("a", {"n": n})
    story.fire("b")
    story.cancel("t#0")
    story.apply({"t": task([leaf("a", BIG), "c"], andEvery="b")})
    story.fire("b")
    assert story.stored()["t#1"] == {"b": {}}
    for n in (6, 0):
        story.fire("a", {"n": n})
    story.fire("b")
    assert story.stored()["t#1"] == story.stored()["t#2"] == {"a": {"n": 6}, "b": {}}


def test_a_task_that_is_no_longer_repeatable_forgets(told: type[Told]) -> None:
    story = told({"t": task([leaf("a", BIG)], andEvery="b")})
    for n in (5, 0):
        story.fire("a", {"n": n})
    story.apply({"t": task([leaf("a", BIG), "b"])})
    story.touch()
    assert story.state is not None
    assert story.state.remembered == {}
    story.store()
    assert b'"n":5' in wire.encode(story.state), "an instance holds it"
    story.apply({})
    story.touch()
    story.close()
    story.fire("z")
    assert b'"n":5' not in wire.encode(story.state)


# ---- appliesTo ------------------------------------------------------------------------------------


def existing(after: Json, **keys: Json) -> JsonObject:
    """A task that begins in existing sessions at once."""
    return task(after, appliesTo="existing", **keys)


def test_a_task_for_existing_sessions_begins_at_once(told: type[Told]) -> None:
    story = told({})
    story.fire("a", {"n": 1})
    story.apply({"new": existing(["a", "b"]), "t": task(["a"])})
    assert story.state is not None
    assert needs_touch(story.rules, story.session, story.state) is not story.at_once
    assert story.timer(at=1) == []
    assert story.statuses() == {"new#0": "unstarted"}
    assert names(story.fire("b")) == ["new#0"]


def test_its_instance_is_judged_at_the_next_event_that_is_no_timer(told: type[Told]) -> None:
    story = told({})
    story.fire("a", {"n": 1})
    story.apply({"new": existing(["a"])})
    assert story.state is not None
    assert needs_touch(story.rules, story.session, story.state)
    assert story.timer(at=1) == []
    assert names(story.touch()) == ["new#0"]
    assert not needs_touch(story.rules, story.session, story.state)


@pytest.mark.parametrize(
    ("data", "closed", "made"), [({"n": 2}, False, True), ({"n": 1}, False, False), ({"n": 2}, True, False)]
)
def test_it_begins_only_where_a_leaf_of_after_remembers_an_event(
    told: type[Told], data: JsonObject, *, closed: bool, made: bool
) -> None:
    story = told({})
    story.fire("a", data)
    story.fire("no")
    if closed:
        story.close()
    story.apply({"new": existing([leaf("a", BIG), "b"], unless=["no", "never"])})
    story.touch()
    assert bool(story.statuses()) is made


def test_it_does_not_begin_where_it_has_ever_had_an_instance(told: type[Told]) -> None:
    story = told({"new": existing(["a", "b"])})
    story.fire("a")
    story.cancel("new#0")
    story.apply({"new": existing(["a", "b", "c"])})
    story.touch()
    assert story.statuses() == {"new#0": "cancelled"}


def test_unless_of_the_session_counts_for_it_and_that_of_the_instance_counts_from_the_file(
    told: type[Told],
) -> None:
    for unless_from, status in (("session", "abandoned"), ("instance", "unstarted")):
        story = told({})
        story.fire("a")
        story.fire("no")
        story.apply({"new": existing(["a", "b"], unless=["no"], unlessFrom=unless_from)})
        story.touch()
        assert story.statuses() == {"new#0": status}
        story.fire("no")
        assert story.statuses() == {"new#0": "abandoned"}


def test_a_file_that_comes_before_its_judging_meets_it_as_any_instance(told: type[Told]) -> None:
    story = told({})
    story.fire("a")
    story.apply({"new": existing(["a"])})
    story.apply({"new": task(["a", "b"])})
    assert story.touch() == []
    assert story.statuses() == {"new#0": "unstarted"}


def test_each_file_with_the_task_tries_again_where_the_bound_of_instances_was_reached(
    told: type[Told],
) -> None:
    bounds: JsonObject = {"$bounds": {"unresolvedInstances": 1}}
    story = told({**bounds, "t": task(["a", "b"])})
    story.fire("a")
    story.apply({**bounds, "t": task(["a", "b"]), "new": existing(["a", "c"])})
    if not story.at_once:
        story.touch()
        assert story.prevented == 1
        assert story.notes()[-1][1] == (
            "the configuration at offset 1 makes no instance of new: "
            "a session holds at most 1 unresolved instances ($bounds.unresolvedInstances)"
        )
    assert list(story.statuses()) == ["t#0"]
    story.cancel("t#0")
    story.apply({"t": task(["a", "b"]), "new": existing(["a", "c"]), "u": task(["z"])})
    story.touch()
    assert story.statuses() == {"t#0": "cancelled", "new#0": "unstarted"}


def test_it_is_not_made_where_the_state_has_no_room() -> None:
    story = Story({}, sizes=SIZES)
    story.fire("a", {"text": "x" * 500})
    assert story.state is not None
    length = SIZES.state(story.state)
    bounds: JsonObject = {"stateBytes": length + 40}
    story.apply({"$bounds": bounds, "new": existing(["a", "b"])})
    story.touch()
    assert (story.statuses(), story.prevented) == ({}, 1)
    assert story.state.open_count == 0
    assert TaskName("new") not in story.state.tasks


# ---- the event that made an instance under a file of lists of triggers ---------------------------------


OTHER: JsonObject = {"o": task(["z"])}


def test_an_instance_that_was_seeded_with_earlier_events_is_made_by_the_event_that_made_it() -> None:
    story = Story(OTHER)
    story.fire("a")
    story.fire("stop")
    story.apply({**OTHER, "t": task(["a", "b", "c"])})
    story.fire("b")
    story.apply({**OTHER, "t": task(["a", "b", "c"], unless=["stop"], unlessFrom="instance")})
    story.fire("c")
    assert story.statuses() == {"t#0": "scheduled"}


def test_seeds_of_a_file_of_lists_do_not_change_which_event_made_an_instance() -> None:
    story = Story({**OTHER, "t": task(["b", "c"])})
    story.fire("a")
    story.fire("stop")
    story.fire("b")
    story.apply({**OTHER, "t": task(["a", "b", "c"])})
    story.fire("x")
    story.apply({**OTHER, "t": task(["a", "b", "c"], unless=["stop"], unlessFrom="instance")})
    story.fire("c")
    assert story.statuses() == {"t#0": "scheduled"}


def test_an_instance_that_nothing_was_seeded_in_does_not_store_which_event_made_it() -> None:
    story = Story({"t": task(["a", "b"], andEvery="c"), "u": task(["a"], unless=["b"])})
    for name in ("a", "b", "c", "c"):
        story.fire(name)
    assert story.state is not None
    assert b"madeBy" not in wire.encode(story.state)
