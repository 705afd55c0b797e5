"""Events of timers stand in the log between the records around them, whatever their event times."""

from __future__ import annotations

from tests.core.story import START_US, Story, names
from triggerstream.core.events import Trigger
from triggerstream.core.held import Ref, place_of
from triggerstream.core.ids import Json, JsonObject, TriggerName
from triggerstream.wire import state as wire


def task(*after: Json, **keys: Json) -> JsonObject:
    return {"after": [*after], "run": "my_app.tasks.run", **keys}


WAITS = task("x", andEvery="a", deadline="10s")
"""Each ``a`` makes an instance of it that expires 10 s later."""


def told(**tasks: JsonObject) -> Story:
    """``a`` at offsets 0 and 1, ``late`` at 2; the two timeouts come before the record ``end`` at offset 3.

    ``late`` happened when the two expired, and so did ``end``.
    """
    story = Story({"t": WAITS, **tasks})
    for n in range(2):
        story.fire("a", {"n": n}, at=0)
    story.tell(Trigger(name=TriggerName("late"), data={"n": 2}), at=5, time=10)
    assert story.state is not None
    story.state = wire.decode(wire.encode(story.state))
    story.tell(Trigger(name=TriggerName("end"), data={"n": 3}), at=20, time=10)
    assert story.statuses()["t#0"] == story.statuses()["t#1"] == "expired"
    return story


def timeouts_of(story: Story) -> list[Ref]:
    """The refs of the timeouts that the state has, in log order."""
    assert story.state is not None
    refs = {ref for refs in story.state.needed_events().values() for ref in refs}
    latest = story.state.seen[TriggerName("t.timeout")].offset
    return sorted((ref for ref in refs | {latest} if ref < 0), key=place_of)


TIMEOUTS: list[Json] = [{"a": {"n": 0}}, {"a": {"n": 1}}]


def test_timeouts_of_equal_time_have_their_order_in_a_sequence() -> None:
    places: Json = [
        "late",
        {"trigger": "t.timeout", "as": "one"},
        {"trigger": "t.timeout", "as": "two"},
        "end",
    ]
    story = told(u=task({"sequence": places}), v=task({"sequence": ["end", "t.timeout"]}))
    assert [command.instance for command in story.commands] == ["u#0"]
    assert story.commands[0].kwargs == {
        "late": {"n": 2},
        "one": {"a": {"n": 0}},
        "two": {"a": {"n": 1}},
        "end": {"n": 3},
    }


def test_a_leaf_with_a_count_brings_timeouts_in_log_order() -> None:
    for keys in ({}, {"within": "1d"}):
        story = told(u=task({"trigger": "t.timeout", "count": 2}, "end", **keys))
        assert story.commands[0].kwargs == {"t.timeout": TIMEOUTS, "end": {"n": 3}}


def test_the_newest_of_two_timeouts_is_the_later_one() -> None:
    story = told(u=task("t.timeout", "end", within="1d"))
    assert story.commands[0].kwargs["t.timeout"] == {"a": {"n": 1}}
    story = told(u=task("t.timeout", "end"))
    assert story.commands[0].kwargs["t.timeout"] == {"a": {"n": 0}}


def test_a_changed_leaf_is_offered_timeouts_in_log_order() -> None:
    count: JsonObject = {"trigger": "t.timeout", "count": 3}
    for keys, expected in (({}, TIMEOUTS[0]), ({"within": "1d"}, TIMEOUTS[1])):
        story = told(u=task(count, "x", **keys))
        assert story.state is not None
        assert len(timeouts_of(story)) == 2
        story.state = wire.decode(wire.encode(story.state))
        story.apply({"t": WAITS, "u": task({**count, "count": 1}, **keys)})
        assert names(story.touch()) == ["u#0"]
        assert story.commands[0].kwargs == {"t.timeout": [expected]}


def test_unless_from_the_instance_counts_timeouts_after_it_only() -> None:
    story = told(u=task("late", "x"), v=task("end", "x"))
    unless: JsonObject = {"unless": ["t.timeout"], "unlessFrom": "instance"}
    story.apply({"t": WAITS, "u": task("late", "x", **unless), "v": task("end", "x", **unless)})
    story.touch()
    assert story.statuses()["u#0"] == "abandoned", "the timeouts came after `late`"
    assert story.statuses()["v#0"] == "unstarted", "the timeouts came before `end`"


def test_what_a_timeout_made_is_later_than_the_record_before_it() -> None:
    story = told(u=task("t.timeout", "x", unless=["late"], unlessFrom="instance"))
    (first, _) = timeouts_of(story)
    assert story.instance("u#0").made_by == first
    assert story.statuses()["u#0"] == "unstarted"
    assert story.state is not None
    assert story.state.seen[TriggerName("t.timeout")].time_us == START_US + 10_000_000


def test_what_a_timeout_makes_a_leaf_forget_is_no_entry_of_a_timer() -> None:
    tasks = {"t": task("b", "x", deadline="10s"), "u": task("b", "t.timeout", "y", within="5s")}
    states = []
    for timer in (False, True):
        story = Story({**tasks})
        story.fire("b", at=0)
        if timer:
            story.timer(at=15)
        else:
            story.offset += 1
        story.fire("z", at=20)
        assert story.stored()["u#0"] == {"t.timeout": {"b": {}}}
        states.append(story.state)
    assert states[0] == states[1]
