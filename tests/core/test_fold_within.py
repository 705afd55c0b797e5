"""``within``: what satisfies ``after`` lies within a time (docs/semantics.md, R3.13, R3.14)."""

from __future__ import annotations

import pytest

from tests.core.story import SECOND, START_US, Story, names
from triggerstream.core.events import Trigger
from triggerstream.core.held import Keyed, Several
from triggerstream.core.ids import Json, JsonObject, LeafName, TriggerName
from triggerstream.core.projections import explain
from triggerstream.wire import state as wire


def task(*after: Json, within: str | None = "10s", **keys: Json) -> JsonObject:
    """A task of a tasks file; keys are spelt as there."""
    times: JsonObject = {} if within is None else {"within": within}
    return {"after": [*after], "run": "my_app.tasks.run", **times, **keys}


def story(*after: Json, within: str | None = "10s", **keys: Json) -> Story:
    return Story({"t": task(*after, within=within, **keys)})


def happened(told: Story, name: str, second: float, **data: Json) -> list[str]:
    """Fire an event that happened at a second of the story; returns what it decided."""
    return names(told.tell(Trigger(name=TriggerName(name), data=data), time=second))


def says(told: Story, leaf: str, *, instance: int = 0) -> str | None:
    """Why the latest event of a leaf's trigger does not count."""
    assert told.state is not None
    (found,) = explain(told.rules, told.session, told.state).tasks
    after = found.instances[instance].after
    last = next(one.last for one in after.leaves() if one.leaf == leaf)
    return None if last is None else last.says


# ---- the window ---------------------------------------------------------------------------------


def test_what_satisfies_a_condition_lies_within_the_time() -> None:
    told = story("a", "b")
    happened(told, "a", 0)
    assert happened(told, "b", 11) == []
    assert told.stored() == {"t#0": {"b": {}}}
    assert happened(told, "a", 20, n=2) == ["t#0"]
    assert told.commands[0].kwargs == {"a": {"n": 2}, "b": {}}


def test_an_event_exactly_so_much_older_counts() -> None:
    told = story("a", "b")
    happened(told, "a", 0)
    assert happened(told, "b", 10) == ["t#0"]


def test_an_event_that_comes_too_late_is_not_held() -> None:
    told = story("a", "b")
    happened(told, "b", 11)
    assert happened(told, "a", 0) == []
    assert told.stored() == {"t#0": {"b": {}}}
    assert told.notes()[-1][1] == (
        "t#0: event 1 of `a` does not count: it is more than 10s older than event 0 (`within`)"
    )


def test_arrival_does_not_matter() -> None:
    told = story("a", "b")
    told.tell(Trigger(name=TriggerName("a"), data={}), at=0, time=0)
    assert names(told.tell(Trigger(name=TriggerName("b"), data={}), at=1_000, time=9)) == ["t#0"]


def test_count_forgets_what_falls_out() -> None:
    told = story({"trigger": "a", "count": 3})
    for second in (0, 5, 11):
        assert happened(told, "a", second, n=second) == []
    assert told.stored() == {"t#0": {"a": [{"n": 5}, {"n": 11}]}}
    assert happened(told, "a", 14, n=14) == ["t#0"]
    assert told.commands[0].kwargs == {"a": [{"n": 5}, {"n": 11}, {"n": 14}]}


def test_keys_are_met_by_events_within_the_time() -> None:
    told = story({"trigger": "a", "key": "data.by", "count": 2})
    happened(told, "a", 0, by="x")
    happened(told, "a", 11, by="y")
    assert told.stored() == {"t#0": {"a": [{"by": "y"}]}}
    assert happened(told, "a", 15, by="y") == []
    assert happened(told, "a", 16, by="x") == ["t#0"]
    assert told.commands[0].kwargs == {"a": [{"by": "y"}, {"by": "x"}]}


def test_a_sequence_forgets_what_falls_out() -> None:
    told = story({"sequence": ["a", "b"]})
    happened(told, "a", 0)
    happened(told, "a", 8, n=2)
    assert happened(told, "b", 12) == ["t#0"]
    assert told.commands[0].kwargs == {"a": {"n": 2}, "b": {}}


def test_a_sequence_of_which_the_first_event_falls_out_waits_on() -> None:
    told = story({"sequence": ["a", "b"]}, "go")
    happened(told, "a", 0)
    happened(told, "b", 5)
    happened(told, "go", 12)
    assert told.stored() == {"t#0": {"go": {}}}
    happened(told, "a", 13)
    assert happened(told, "b", 14) == ["t#0"]


def test_a_state_stored_meanwhile_forgets_the_same() -> None:
    told = story(
        {"trigger": "a", "count": 3}, {"trigger": "b", "key": "data.by", "count": 2}, {"sequence": ["c", "d"]}
    )
    for second in (0, 4):
        happened(told, "a", second)
        happened(told, "b", second, by=second)
        happened(told, "c", second)
    assert told.state is not None
    told.state = wire.decode(wire.encode(told.state))
    happened(told, "d", 12)
    captured = told.instance("t#0").captured
    assert captured[LeafName("a")] == Several(of=TriggerName("a"), at=[3])
    assert captured[LeafName("b")] == Keyed(of=TriggerName("b"), by={"4": 4})
    assert told.state is not None
    assert wire.decode(wire.encode(told.state)) == told.state.collected()
    assert {ref for refs in told.state.needed_events().values() for ref in refs} <= {3, 4, 5}


def test_the_newest_event_of_any_leaf_ends_the_window() -> None:
    told = story({"any": [["a", "b"], ["c", "d"]]})
    happened(told, "a", 0)
    happened(told, "c", 11)
    assert told.stored() == {"t#0": {"c": {}}}
    assert happened(told, "b", 5) == []


def test_a_leaf_of_an_earlier_file_ends_no_window() -> None:
    told = story("a", "b", "c")
    happened(told, "c", 100)
    told.apply({"t": task("a", "b")})
    happened(told, "a", 0)
    assert happened(told, "b", 5) == ["t#0"]


# ---- new instances ------------------------------------------------------------------------------


def test_a_new_instance_forgets_at_once_what_it_remembers_too_late() -> None:
    told = story("a", within="10s", andEvery="b")
    happened(told, "a", 0)
    assert happened(told, "b", 5) == ["t#0"]
    assert happened(told, "b", 11) == []
    assert told.stored()["t#1"] == {"b": {}}
    assert told.notes()[-1][1] == (
        "t#1: event 0 of `a` does not count: it is more than 10s older than event 2 (`within`)"
    )


def test_an_event_too_late_is_accepted() -> None:
    told = story("a", "b", andEvery="a")
    happened(told, "b", 20)
    happened(told, "a", 0)
    assert list(told.stored()) == ["t#0"]


def test_unless_has_no_window() -> None:
    told = story("a", "go", unless=["b", "c"], unlessFrom="instance")
    happened(told, "a", 0)
    happened(told, "b", 0)
    happened(told, "c", 1_000)
    assert told.statuses() == {"t#0": "abandoned"}


def test_unless_holds_its_first_events() -> None:
    told = story("go", unless=["b", "c"])
    happened(told, "b", 0)
    happened(told, "b", 1)
    assert told.instance("t#0").noted == {"b": 0}


# ---- a changed file -----------------------------------------------------------------------------


def test_a_shorter_time_forgets_when_the_instance_is_judged() -> None:
    told = story("a", "b", "c", within="1h")
    happened(told, "a", 0)
    happened(told, "b", 50)
    told.apply({"t": task("a", "b", within="10s")})
    assert told.touch() == []
    assert told.stored() == {"t#0": {"b": {}}}
    assert told.notes()[-1][1] == (
        "t#0: event 0 of `a` does not count: it is more than 10s older than event 1 (`within`)"
    )


def test_a_shorter_time_that_was_a_mistake_forgets_nothing() -> None:
    told = story("a", "b", within="1h")
    happened(told, "a", 0)
    told.apply({"t": task("a", "b", within="1s")})
    told.apply({"t": task("a", "b", within="1h")})
    assert happened(told, "b", 50) == ["t#0"]


def test_a_time_that_a_file_brings_counts_for_the_events_that_are_held() -> None:
    told = story("a", "b", "c", within=None)
    happened(told, "a", 0)
    happened(told, "b", 50)
    told.apply({"t": task("a", "b", within="10s")})
    assert told.touch() == []
    assert told.stored() == {"t#0": {"b": {}}}
    assert happened(told, "a", 60) == ["t#0"]


def test_a_time_that_goes_leaves_what_is_held() -> None:
    told = story("a", "b", "c", within="10s")
    happened(told, "a", 0)
    happened(told, "b", 5)
    told.apply({"t": task("a", "b", within=None)})
    assert names(told.touch()) == ["t#0"]


def test_the_same_file_again_changes_nothing() -> None:
    told = story("a", "b", "c")
    happened(told, "a", 0)
    happened(told, "b", 50)
    notes = told.notes()
    told.apply({"t": task("a", "b", "c")})
    told.touch()
    assert told.stored() == {"t#0": {"b": {}}}
    assert told.notes() == notes


def test_a_leaf_that_says_something_else_is_offered_what_it_held() -> None:
    told = story({"trigger": "a", "count": 3}, "b")
    for second in (0, 4, 8):
        happened(told, "a", second, n=second)
    told.apply({"t": task({"trigger": "a", "count": 2}, "b")})
    assert happened(told, "b", 14) == ["t#0"]
    assert told.commands[0].kwargs == {"a": [{"n": 4}, {"n": 8}], "b": {}}


def test_what_is_satisfied_stays_so() -> None:
    told = Story({"t": task("a", "b", within="1h", retry={"max": 1, "backoff": "1m"})})
    happened(told, "a", 0)
    happened(told, "b", 50)
    told.failed("t#0")
    told.apply({"t": task("a", "b", within="1s", retry={"max": 1, "backoff": "1m"})})
    assert names(told.timer(at=1_000)) == ["t#1"]
    assert told.commands[-1].kwargs == {"a": {}, "b": {}}


# ---- explain ------------------------------------------------------------------------------------


def test_a_leaf_says_that_its_event_was_forgotten() -> None:
    told = story("a", "b")
    happened(told, "a", 0)
    happened(told, "b", 11)
    assert says(told, "a") == "too old: it is more than 10s older than event 1 (`within`)"
    assert says(told, "b") is None


@pytest.mark.parametrize(
    ("leaf", "says_"),
    [
        ("a", "the leaf holds event 1, which happened later"),
        ({"trigger": "a", "count": 2}, "the leaf has its `count` of 2, which happened later"),
        ({"trigger": "a", "key": "data.by", "count": 3}, 'event 1 of the key "x" happened later'),
        (
            {"trigger": "a", "key": "data.by", "count": 2, "where": "true || data.n > 1"},
            'event 1 of the key "x" happened later',
        ),
    ],
)
def test_a_leaf_says_that_what_it_holds_happened_later(leaf: Json, says_: str) -> None:
    told = story(leaf, "b")
    for second, key in ((5, "y"), (9, "x"), (4, "x")):
        happened(told, "a", second, by=key)
    assert says(told, "a") == says_


def test_forgotten_events_beyond_three_are_counted() -> None:
    told = story({"trigger": "a", "count": 9}, "b")
    for second in range(5):
        happened(told, "a", second)
    happened(told, "b", 100)
    assert told.notes()[-1][1] == (
        "t#0: event 0, event 1, event 2 and 2 more of `a` do not count: "
        "they are more than 10s older than event 5 (`within`)"
    )


def test_event_times_before_1970_are_compared() -> None:
    told = story("a", "b")
    start = -(START_US / SECOND) - 100
    happened(told, "a", start)
    assert happened(told, "b", start + 11) == []
    assert happened(told, "a", start + 12) == ["t#0"]
