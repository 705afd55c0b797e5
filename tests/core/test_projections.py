"""What people are told of a session: explain, timeline, and what it waits for."""

from __future__ import annotations

from typing import Any

from tests.core.story import SECOND, START_US, Story, task
from triggerstream.core.ids import TaskName
from triggerstream.core.projections import explain, timeline, waits_for
from triggerstream.wire.answers import to_json
from triggerstream.wire.instants import format_instant


def explained(story: Story, **only: TaskName) -> Any:  # noqa: ANN401 - JSON, looked into by the tests
    assert story.state is not None
    return to_json(explain(story.rules, story.session, story.state, **only))


def says(story: Story) -> dict[str, str]:
    return {i["instance"]: i["says"] for t in explained(story)["tasks"] for i in t["instances"]}


def test_condition_is_shown_leaf_by_leaf() -> None:
    story = Story({"t": task("a", "b", unless=["no"], andEvery="c")})
    story.fire("a", {"n": 1}, id="e-1", source="shop", at=3)
    (shown,) = explained(story)["tasks"]
    assert shown["task"] == "t"
    assert shown["inForce"] is True
    assert shown["after"] == ["a", "b", "c"]
    assert shown["andEvery"] == "c"
    assert shown["unless"] == ["no"]
    (instance,) = shown["instances"]
    assert instance["status"] == "unstarted"
    assert instance["says"] == "waits for b and c"
    assert instance["after"] == [
        {
            "trigger": "a",
            "met": True,
            "by": {"offset": 0, "time": format_instant(START_US + 3 * SECOND), "id": "e-1", "source": "shop"},
            "data": {"n": 1},
        },
        {"trigger": "b", "met": False},
        {"trigger": "c", "met": False},
    ]
    assert instance["unless"] == [{"trigger": "no", "arrived": False, "offset": None}]


def test_decided_instance_shows_its_command_and_its_arguments() -> None:
    story = Story({"t": task("a", withParams={"a": {"m": 2}})})
    story.fire("a", {"n": 1}, at=1)
    (instance,) = explained(story)["tasks"][0]["instances"]
    assert instance["command"] == story.commands[0].id
    assert instance["kwargs"] == {"a": {"m": 2, "n": 1}}
    assert instance["run"] == "my_app.tasks.run"
    assert instance["decided"] == format_instant(START_US + SECOND)
    assert instance["says"] == "was decided and handed over; no worker has reported yet"


def test_each_status_is_said_in_words() -> None:
    story = Story(
        {
            "waits": task("a", "b", "c"),
            "blocked": task("a", "b", unless=["no"]),
            "half": task("a", "b", unless=["no", "never"]),
            "again": task("a", retry={"max": 1, "backoff": "1h"}),
            "fails": task("a"),
            "runs": task("a"),
            "ends": task("a"),
            "drops": task("a"),
            "stops": task("a"),
            "passes": task("a"),
        }
    )
    story.fire("a")
    story.fire("no")
    story.failed("again#0")
    story.failed("fails#0", "KeyError: 'x'")
    story.started("runs#0")
    story.finished("ends#0")
    story.revoked("drops#0")
    story.cancel("stops#0", reason="wrong order", by="ada")
    story.skipped("passes#0")
    assert says(story) == {
        "waits#0": "waits for b and c",
        "blocked#0": "is blocked by `unless`: no arrived first",
        "half#0": "waits for b; abandoned once never arrives too",
        "again#0": "was replayed as a later instance",
        "again#1": "waits to be tried again",
        "fails#0": "failed: KeyError: 'x'",
        "runs#0": "is running",
        "ends#0": "finished",
        "drops#0": "expired: the executor dropped it before it ran",
        "stops#0": "was cancelled (wrong order (ada))",
        "passes#0": "was skipped",
    }


def test_delayed_instance_says_when_it_is_due() -> None:
    story = Story({"t": task("a", retry={"max": 1, "backoff": "10s"})})
    story.fire("a", at=0)
    story.failed("t#0", at=5)
    instance = explained(story)["tasks"][0]["instances"][1]
    assert instance["due"] == format_instant(START_US + 15 * SECOND)
    assert instance["cloneOf"] == "t#0"


def test_failure_that_unless_keeps_from_another_try_says_so() -> None:
    story = Story({"t": task("a", unless=["no"], retry={"max": 1})})
    story.fire("a")
    story.fire("no")
    story.failed("t#0")
    assert says(story) == {"t#0": "failed: boom; not tried again, because its `unless` was fulfilled"}


def test_task_without_an_instance_can_be_asked_for_by_name() -> None:
    story = Story({"t": task("a"), "u": task("b")})
    story.fire("a")
    assert [t["task"] for t in explained(story)["tasks"]] == ["t"]
    (shown,) = explained(story, task=TaskName("u"))["tasks"]
    assert shown["says"] == "no instance: none of its triggers has arrived since it exists"
    (shown,) = explained(story, task=TaskName("nowhere"))["tasks"]
    assert shown["says"] == "no such task"
    assert shown["inForce"] is False


def test_removed_task_is_still_shown() -> None:
    story = Story({"t": task("a"), "u": task("a", "b")})
    story.fire("a")
    story.apply({"v": task("x")})
    shown = explained(story)["tasks"]
    assert [(t["task"], t["inForce"]) for t in shown] == [("t", False), ("u", False)]
    assert says(story) == {
        "t#0": "was decided and handed over; no worker has reported yet",
        "u#0": "was cancelled (task removed)",
    }


def test_session_is_shown_as_its_next_event_will_find_it() -> None:
    story = Story({"t": task("a", "b")})
    story.fire("a", {"n": 1})
    story.fire("c", {"n": 3})
    before = story.rules.current.config.hash
    story.apply({"t": task("a", "c")})
    shown = explained(story)
    assert shown["config"] == {"met": before, "inForce": story.rules.current.config.hash}
    assert says(story) == {"t#0": "has all it needs and is judged at the session's next event"}
    assert shown["waitsFor"] == []


def test_decision_of_an_earlier_configuration_is_marked() -> None:
    story = Story({"t": task("a")})
    story.fire("a")
    story.apply({"t": task("a", queue="other")})
    assert says(story)["t#0"].endswith("; decided under an earlier configuration")


def test_triggers_that_no_task_uses_are_shown_as_seen() -> None:
    story = Story({"t": task("a")})
    story.fire("a")
    story.fire("spare", at=2)
    assert [(s["trigger"], s["usedBy"]) for s in explained(story)["seen"]] == [("a", ["t"]), ("spare", [])]


def test_forgotten_instances_are_counted() -> None:
    story = Story({"$bounds": {"resolvedInstances": 2}, "t": task(andEvery="a")})
    for n in range(5):
        story.fire("a")
        story.finished(f"t#{n}")
    (shown,) = explained(story)["tasks"]
    assert shown["forgotten"] == 3
    assert [i["instance"] for i in shown["instances"]] == ["t#3", "t#4"]


def test_waits_for_names_what_unstarted_instances_lack_each_once() -> None:
    story = Story({"t": task("a", "b", "c"), "u": task("b", "a", "d"), "v": task("x")})
    story.fire("a")
    assert story.state is not None
    assert waits_for(story.rules, story.state, story.session) == ("b", "c", "d")
    story.cancel("u#0")
    assert waits_for(story.rules, story.state, story.session) == ("b", "c")


def test_timeline_shows_events_decisions_and_refusals_in_order() -> None:
    story = Story({"t": task("a", "b"), "u": task("t")})
    story.fire("b", id="1")
    story.fire("b", id="1")
    story.fire("a", at=2)
    story.started("t#0")
    story.finished("t#0", at=4)
    story.finished("t#0")
    story.close("done")
    assert story.state is not None
    rows: Any = [to_json(row) for row in timeline(story.rules, story.session, story.state)]
    assert [(r["offset"], r["what"], r.get("instance", r.get("note"))) for r in rows] == [
        (0, "arrived", None),
        (1, "ignored", "duplicate: an event of this source and id is included already"),
        (2, "arrived", None),
        (2, "decided", "t#0"),
        (3, "reported", "t#0 running"),
        (4, "reported", "t#0 finished"),
        (4, "decided", "u#0"),
        (5, "refused", "t#0 is finished: a second outcome changes nothing"),
        (6, "ordered", "session closed: done"),
    ]
    decided = rows[3]
    assert decided["because"] == [
        {"trigger": "b", "by": {"offset": 0, "time": format_instant(START_US), "id": "1"}},
        {"trigger": "a", "by": {"offset": 2, "time": format_instant(START_US + 2 * SECOND)}},
    ]
    assert decided["command"] == story.commands[0].id


def test_closed_session_is_explained_with_the_commands_that_it_had() -> None:
    story = Story({"t": task("a")})
    story.fire("a")
    story.close()
    shown = explained(story)
    assert (shown["closed"], shown["generation"]) == (True, 1)
    assert shown["tasks"][0]["instances"][0]["command"] == story.commands[0].id
