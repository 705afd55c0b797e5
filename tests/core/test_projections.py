"""What people are told of a session: explain, timeline, and what it waits for."""

from __future__ import annotations

from typing import Any

from tests.core.story import SECOND, START_US, Story, task
from triggerstream.core.answers import HandOver, HandOverState
from triggerstream.core.events import FailureReason
from triggerstream.core.ids import InstanceId, Instant, JsonObject, TaskName
from triggerstream.core.projections import Seen, explain, silent_commands, stored, waits_for
from triggerstream.core.reruns import rerun_words
from triggerstream.core.state import Status
from triggerstream.core.tasks import Rules
from triggerstream.core.timeline import timeline
from triggerstream.wire.answers import to_json
from triggerstream.wire.instants import format_instant


def explained(story: Story, **only: Any) -> Any:  # noqa: ANN401 - JSON, looked into by the tests
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
    time = format_instant(START_US + 3 * SECOND)
    event = {"offset": 0, "time": time, "id": "e-1", "source": "shop", "data": {"n": 1}}
    assert instance["after"] == {
        "all": [
            {"leaf": "a", "trigger": "a", "met": True, "need": 1, "have": 1, "by": [event]},
            {"leaf": "b", "trigger": "b", "met": False, "need": 1, "have": 0},
            {"leaf": "c", "trigger": "c", "met": False, "need": 1, "have": 0},
        ],
        "need": 3,
        "have": 1,
        "met": False,
    }
    blocker = {"leaf": "no", "trigger": "no", "met": False, "need": 1, "have": 0}
    assert instance["unless"] == {"all": [blocker], "need": 1, "have": 0, "met": False}


def test_decided_instance_shows_its_command_and_its_arguments() -> None:
    story = Story({"t": task("a", withParams={"a": {"m": 2}})})
    story.fire("a", {"n": 1}, at=1)
    (instance,) = explained(story)["tasks"][0]["instances"]
    assert instance["command"] == story.commands[0].id
    assert instance["kwargs"] == {"a": {"m": 2, "n": 1}}
    assert instance["run"] == "my_app.tasks.run"
    assert instance["decided"] == format_instant(START_US + SECOND)
    assert instance["says"] == "was decided; no worker has started it yet"


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
        "again#0": "failed; tried again as again#1 (retry 1 of 1)",
        "again#1": "waits to be tried again (retry 1 of 1)",
        "fails#0": "failed: KeyError: 'x'",
        "runs#0": "is running",
        "ends#0": "finished",
        "drops#0": "the worker dropped it: revoked",
        "stops#0": "was cancelled: wrong order (ada)",
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
    assert shown["says"] == "no instance yet: none of its triggers has arrived since the task was added"
    (shown,) = explained(story, task=TaskName("nowhere"))["tasks"]
    assert shown["says"] == "no such task"
    assert "forgotten" not in shown
    assert shown["inForce"] is False


def test_removed_task_is_still_shown() -> None:
    story = Story({"t": task("a"), "u": task("a", "b")})
    story.fire("a")
    story.apply({"v": task("x")})
    shown = explained(story)["tasks"]
    assert [(t["task"], t["inForce"]) for t in shown] == [("t", False), ("u", False)]
    assert says(story) == {
        "t#0": "was decided; no worker has started it yet",
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
    assert says(story) == {"t#0": "has all its triggers; it is decided at the session's next event"}
    assert shown["waitsFor"] == []


def test_decision_of_an_earlier_configuration_is_marked() -> None:
    story = Story({"t": task("a")})
    story.fire("a")
    story.apply({"t": task("a", queue="other")})
    assert says(story) == {
        "t#0": "was decided; no worker has started it yet; decided under an earlier configuration"
    }


def leaves(story: Story) -> dict[str, list[tuple[str, bool]]]:
    return {
        i["instance"]: [(leaf["trigger"], leaf["met"]) for leaf in i["after"]["all"]]
        for t in explained(story)["tasks"]
        for i in t["instances"]
    }


def test_an_instance_that_was_decided_shows_the_triggers_that_it_was_decided_with() -> None:
    story = Story({"t": task("a", "c"), "later": task("a", retry={"max": 1, "backoff": "1h"})})
    story.fire("c")
    story.fire("a")
    for name in ("t#0", "later#0"):
        story.failed(name)
    story.apply({"t": task("x"), "later": task("x", "a", retry={"max": 1, "backoff": "1h"})})
    decided = [("a", True), ("c", True)]
    assert leaves(story) == {
        "t#0": [("a", True), ("c", True)],
        "later#0": [("a", True)],
        "later#1": [("a", True)],
    }
    story.replay("t#0")
    assert {name: leaves(story)[name] for name in ("t#0", "t#1")} == {"t#0": decided, "t#1": decided}
    story.apply({"t": task("a", "x", "c")})
    assert leaves(story)["t#0"] == [("a", True), ("c", True)]


def test_an_instance_that_was_never_decided_shows_what_its_task_requires() -> None:
    story = Story({"t": task("a", "b")})
    story.fire("a")
    story.apply({"t": task("x", "a")})
    assert leaves(story) == {"t#0": [("x", False), ("a", True)]}
    story.cancel("t#0", reason="wrong order", by="ada")
    assert leaves(story) == {"t#0": [("x", False), ("a", True)]}


def test_triggers_that_no_task_uses_are_shown_as_seen() -> None:
    story = Story({"t": task("a")})
    story.fire("a")
    story.fire("spare", at=2)
    assert [(s["trigger"], s["usedBy"]) for s in explained(story)["seen"]] == [("a", ["t"]), ("spare", [])]


def test_a_trigger_that_no_task_uses_is_shown_with_the_one_that_was_perhaps_meant() -> None:
    story = Story({"t": task("module1Received"), "u": task("other")})
    for name in ("module1Recieved", "spare", "other"):
        story.fire(name)
    story.finished("u#0")
    seen = {one["trigger"]: (one.get("unused"), one.get("nearest")) for one in explained(story)["seen"]}
    assert seen == {
        "module1Recieved": (True, "module1Received"),
        "spare": (True, None),
        "other": (None, None),
        "u": (None, None),  # a task's result need not be used
    }


def test_a_trigger_that_an_instance_used_is_not_among_those_that_no_task_uses() -> None:
    story = Story(
        {"first": task("a"), "next": task("first", unless=["no"]), "waits": task("b", "c"), "rest": task("r")}
    )
    for name in ("a", "b", "no", "spare"):
        story.fire(name)
    story.finished("first#0")
    story.apply({"rest": task("r")})
    story.fire("a")  # again: the name is known from an instance
    story.fire("late")
    seen = {one["trigger"]: one.get("unused", False) for one in explained(story)["seen"]}
    assert seen == {
        "a": False,
        "b": False,
        "no": False,
        "spare": True,
        "first": False,  # follows from a removed task
        "late": True,
    }


def test_forgotten_instances_are_counted() -> None:
    story = Story({"$bounds": {"resolvedInstances": 2}, "t": task(andEvery="a")})
    found = []
    for n in range(5):
        story.fire("a")
        story.finished(f"t#{n}")
        found.append(explained(story)["tasks"][0].get("forgotten"))
    assert found == [None, None, 1, 2, 3]
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


def at(seconds: int) -> str:
    return format_instant(START_US + seconds * SECOND)


def full_story() -> Story:
    """A retried and resent instance, a cancelled, a skipped and a finished one; times tell facts apart."""
    story = Story(
        {
            "t": task(
                "a", "b", unless=["no"], retry={"max": 1, "backoff": "10s"}, withParams={"a": {"m": 2}}
            ),
            "u": task("a", andEvery="c"),
            "w": task("a"),
            "x": task("a"),
        }
    )
    story.fire("a", {"n": 1}, id="e-1", source="shop", at=1)
    story.fire("b", at=3)
    story.started("t#0", at=4)
    story.failed("t#0", "KeyError: 'x'", at=5)
    story.timer(at=15)
    story.resend("t#1")
    story.started("t#1", at=17)
    story.fire("no", at=18)
    story.failed("t#1", "ValueError", reason=FailureReason.WORKER_LOST, at=19)
    story.skipped("w#0", {"why": "empty"}, at=20)
    story.cancel("u#0", reason="wrong order", by="ada")
    story.finished("x#0", {"rows": 3}, at=21)
    return story


ORIGIN_A: JsonObject = {"offset": 0, "time": at(1), "id": "e-1", "source": "shop"}
ORIGIN_B: JsonObject = {"offset": 1, "time": at(3)}


def leaf(name: str, *events: JsonObject) -> JsonObject:
    shown: JsonObject = {"leaf": name, "trigger": name, "met": bool(events), "need": 1, "have": len(events)}
    return {**shown, "by": list(events)} if events else shown


def all_of(*leaves: JsonObject) -> JsonObject:
    have = sum(bool(one["met"]) for one in leaves)
    return {"all": list(leaves), "need": len(leaves), "have": have, "met": have == len(leaves)}


LEAF_A = leaf("a", {**ORIGIN_A, "data": {"n": 1}})
LEAF_B = leaf("b", {**ORIGIN_B, "data": {}})


def test_retried_instance_is_explained_with_all_its_facts() -> None:
    story = full_story()
    shown = explained(story)["tasks"][0]
    assert {key: value for key, value in shown.items() if key != "instances"} == {
        "task": "t",
        "inForce": True,
        "run": "my_app.tasks.run",
        "after": ["a", "b"],
        "unless": ["no"],
    }
    assert shown["instances"][1] == {
        "instance": "t#1",
        "status": "failed",
        "says": "failed: ValueError (worker lost)",
        "after": all_of(LEAF_A, LEAF_B),
        "created": at(5),
        "changed": at(19),
        "unless": all_of(leaf("no", {"offset": 7, "time": at(18)})),
        "completedBy": {"trigger": "b", "by": ORIGIN_B},
        "command": story.command("t#1"),
        "run": "my_app.tasks.run",
        "kwargs": {"a": {"m": 2, "n": 1}, "b": {}},
        "config": story.rules.current.hash,
        "attempt": 1,
        "retries": 1,
        "maxRetries": 1,
        "cloneOf": "t#0",
        "decided": at(15),
        "decidedAt": 4,
        "started": at(17),
        "ended": at(19),
        "reason": "worker lost",
        "error": "ValueError",
    }


def test_a_retry_is_told_from_an_operators_replay() -> None:
    story = Story({"t": task("a", retry={"max": 2, "backoff": "10s"})})
    story.fire("a")
    story.failed("t#0", "boom")
    says = "failed; tried again as t#1 (retry 1 of 2)"
    first, delayed = explained(story)["tasks"][0]["instances"]
    assert (first["status"], first["says"], first["retriedAs"]) == ("replayed", says, "t#1")
    assert (delayed["status"], delayed["cloneOf"], delayed["retries"]) == ("delayed", "t#0", 1)
    story.timer(at=11)
    story.started("t#1")
    story.retried("t#1", after=3)
    story.timer(at=15)
    story.failed("t#2", "boom")
    story.replay("t#2")
    _, second, third, fourth = explained(story)["tasks"][0]["instances"]
    assert (second["says"], second["retriedAs"]) == ("asked to be tried again: t#2 (retry 2)", "t#2")
    assert (third["says"], third["replayedAs"]) == ("was replayed as t#3", "t#3")
    assert "retriedAs" not in third
    assert (fourth["cloneOf"], fourth["retries"]) == ("t#2", 0)
    # The state keeps the sentences of the fold; the timeline has those for people.
    assert story.state is not None
    assert [note for *_, note in story.state.positions][1:4:2] == ["t#0 replayed", "t#1 replayed as t#2"]
    notes = [note for _, note in story.notes()]
    assert notes == [
        None,
        f"t#0 {says}",
        "t#1 running",
        "t#1 asked to be tried again: t#2 (retry 2)",
        "t#2 failed",
        "t#2 replayed as t#3",
    ]
    story.apply({"t": task("a")})
    first = explained(story)["tasks"][0]["instances"][0]
    assert first["says"] == "failed; tried again as t#1 (retry 1)"  # the file in force has no `retry`


def test_an_instance_whose_rerun_is_forgotten_says_that_it_was_run_again() -> None:
    story = Story({"t": task("a", retry={"max": 1, "backoff": "1h"})})
    story.fire("a")
    story.failed("t#0")
    assert rerun_words(None, story.instance("t#0"), None) == "was run again as a later instance"


def test_ended_instances_are_explained_with_what_their_end_left() -> None:
    story = full_story()
    _, cancelled, skipped, finished = explained(story)["tasks"]
    assert cancelled["instances"] == [
        {
            "instance": "u#0",
            "status": "cancelled",
            "says": "was cancelled: wrong order (ada)",
            "after": all_of(LEAF_A, leaf("c")),
            "created": at(1),
            "changed": at(20),
            "ended": at(20),
            "note": "wrong order (ada)",
        }
    ]
    common = {
        "after": all_of(LEAF_A),
        "completedBy": {"trigger": "a", "by": ORIGIN_A},
        "created": at(1),
        "run": "my_app.tasks.run",
        "kwargs": {"a": {"n": 1}},
        "config": story.rules.current.hash,
        "attempt": 0,
        "retries": 0,
        "decided": at(1),
        "decidedAt": 0,
    }
    assert skipped["instances"] == [
        {
            "instance": "w#0",
            "status": "skipped",
            "says": "was skipped",
            "command": story.command("w#0"),
            "changed": at(20),
            "ended": at(20),
            "metadata": {"why": "empty"},
            **common,
        }
    ]
    assert finished["instances"] == [
        {
            "instance": "x#0",
            "status": "finished",
            "says": "finished",
            "command": story.command("x#0"),
            "changed": at(21),
            "ended": at(21),
            "result": {"rows": 3},
            **common,
        }
    ]


def test_explained_session_has_its_own_facts() -> None:
    story = full_story()
    story.finished("x#0")
    shown = explained(story)
    assert {key: shown[key] for key in shown.keys() - {"tasks", "timeline"}} == {
        "session": "s",
        "generation": 0,
        "closed": False,
        "clock": at(21),
        "lastEvent": at(21),
        "offset": 12,
        "config": {"met": story.rules.current.hash, "inForce": story.rules.current.hash},
        "waitsFor": [],
        "seen": [
            {"trigger": "a", "by": ORIGIN_A, "usedBy": ["t", "u", "w", "x"]},
            {"trigger": "b", "by": ORIGIN_B, "usedBy": ["t"]},
            {"trigger": "no", "by": {"offset": 7, "time": at(18)}, "usedBy": ["t"]},
            {"trigger": "x", "by": {"offset": 11, "time": at(21)}, "usedBy": []},
        ],
        "refused": 1,
    }


def test_session_that_waits_says_for_what_and_has_met_no_configuration_before_the_first() -> None:
    story = Story({"t": task("a", "b")})
    assert story.fire("a") == []
    assert explained(story)["waitsFor"] == ["b"]
    story.rules = Rules(app=story.app)
    shown = explained(story)
    assert shown["config"] == {"met": None, "inForce": None}


def test_rows_of_the_timeline_have_all_their_facts() -> None:
    story = full_story()
    story.finished("x#0")
    rows = explained(story)["timeline"]
    assert rows[0] == {"offset": 0, "time": at(1), "what": "arrived", "type": "a"}
    assert [row for row in rows if row.get("instance") in {"t#0", "t#1"}] == [
        {
            "offset": offset,
            "time": at(seconds),
            "what": "decided",
            "instance": instance,
            "run": "my_app.tasks.run",
            **({"dueOf": "retry"} if instance == "t#1" else {}),
            "command": story.command(instance),
            "because": [{"trigger": "a", "by": ORIGIN_A}, {"trigger": "b", "by": ORIGIN_B}],
        }
        for offset, seconds, instance in ((1, 3, "t#0"), (4, 15, "t#1"))
    ]
    assert rows[-2:] == [
        {
            "offset": 11,
            "time": at(21),
            "what": "reported",
            "type": "triggerstream.task.finished",
            "note": "x#0 finished",
        },
        {
            "offset": 12,
            "time": at(21),
            "what": "refused",
            "type": "triggerstream.task.finished",
            "why": "wrong status",
            "note": "x#0 is finished: a second outcome changes nothing",
        },
    ]


def test_stored_session_has_the_facts_of_its_instances() -> None:
    story = full_story()
    assert story.state is not None
    shown: Any = to_json(stored(story.session, story.state))
    instances = shown.pop("instances")
    assert shown == {
        "session": "s",
        "generation": 0,
        "closed": False,
        "offset": 11,
        "clock": at(21),
        "lastEvent": at(21),
        "refused": 0,
        "seen": ["a", "b", "no", "x"],
    }
    assert list(instances) == ["t#0", "t#1", "u#0", "w#0", "x#0"]
    decided = {"kwargs": {"a": {"n": 1}}, "attempt": 0, "retries": 0, "created": at(1), "decided": at(1)}
    assert instances["t#1"] == {
        "status": "failed",
        "kwargs": {"a": {"n": 1}, "b": {}},
        "error": "ValueError",
        "reason": "worker lost",
        "attempt": 1,
        "retries": 1,
        "created": at(5),
        "decided": at(15),
        "started": at(17),
        "ended": at(19),
        "changed": at(19),
    }
    assert instances["u#0"] == {
        "status": "cancelled",
        "kwargs": {"a": {"n": 1}},
        "note": "wrong order (ada)",
        "attempt": 0,
        "retries": 0,
        "created": at(1),
        "ended": at(20),
        "changed": at(20),
    }
    assert instances["w#0"] == decided | {
        "status": "skipped",
        "metadata": {"why": "empty"},
        "ended": at(20),
        "changed": at(20),
    }
    assert instances["x#0"] == decided | {
        "status": "finished",
        "result": {"rows": 3},
        "ended": at(21),
        "changed": at(21),
    }
    story.finished("x#0")
    story.close()
    closed: Any = to_json(stored(story.session, story.state))
    assert (closed["generation"], closed["closed"], closed["refused"]) == (1, True, 1)


def test_a_failure_without_an_error_is_said_in_words_too() -> None:
    story = Story({"t": task("a", "b", "c", "d")})
    story.fire("a")
    assert says(story) == {"t#0": "waits for b, c and d"}
    story.instance("t#0").status = Status.FAILED
    assert says(story) == {"t#0": "failed: no error was given"}


def test_decisions_from_before_the_timeline_are_left_out_of_it() -> None:
    story = Story({"t": task("a"), "u": task("b")})
    story.fire("a")
    story.fire("b")
    state = story.state
    assert state is not None

    def decided() -> list[str | None]:
        rows = timeline(story.rules, story.session, state)
        return [row.instance for row in rows if row.what == "decided"]

    assert decided() == ["t#0", "u#0"]
    state.positions = state.positions[1:]
    assert decided() == ["u#0"]
    state.positions = []
    assert decided() == ["t#0", "u#0"]


def test_instance_is_found_by_its_id() -> None:
    story = full_story()
    assert story.state is not None
    session = explain(story.rules, story.session, story.state)
    for name in ("t#0", "t#1", "u#0", "x#0"):
        found = session.find(InstanceId(name))
        assert found is not None
        assert found.instance == name
    assert session.find(InstanceId("t#2")) is None


# ---- progress of a hand-over ------------------------------------------------------------------------


def looked(story: Story, state: HandOverState | None, *, at_s: int | None = None, now_s: int) -> Any:  # noqa: ANN401 - JSON
    """The only instance, explained with what somebody saw of its hand-over at ``now_s``."""
    at_us = None if at_s is None else Instant(START_US + at_s * SECOND)
    seen = {} if state is None else {InstanceId("t#0"): HandOver(state=state, at_us=at_us, why=None)}
    (shown,) = explained(story, beside=Seen(seen, START_US + now_s * SECOND))["tasks"]
    return shown["instances"][0]


def test_a_command_counts_as_handed_over_only_where_the_broker_has_confirmed_it() -> None:
    story = Story({"t": task("a", queue="reports")})
    story.fire("a", at=0)
    for state, says in (
        (HandOverState.DECIDED, "was decided; not handed over to Celery yet"),
        (HandOverState.UNCONFIRMED, "was decided; the Celery broker has not confirmed it, and may have it"),
        (HandOverState.HANDED_OVER, "was handed over to Celery; no worker has reported yet"),
        (HandOverState.UNKNOWN, "was decided; whether it was handed over to Celery is not known"),
    ):
        shown = looked(story, state, at_s=2, now_s=3)
        assert shown["says"] == says
        assert shown["handOver"] == {"state": state.value, "at": format_instant(START_US + 2 * SECOND)}
        assert "advice" not in shown
    assert looked(story, None, now_s=3)["says"] == "was decided; no worker has started it yet"


def test_after_five_minutes_without_a_report_people_are_told_what_to_look_for() -> None:
    story = Story({"t": task("a", queue="reports")})
    story.fire("a", at=0)
    before = looked(story, HandOverState.HANDED_OVER, at_s=100, now_s=399)
    assert "advice" not in before
    shown = looked(story, HandOverState.HANDED_OVER, at_s=100, now_s=400)
    assert "the queue reports" in shown["advice"]
    assert "triggerstream.celery.install" in shown["advice"]
    assert "doctor --broker" in shown["advice"]
    assert "bridge" in looked(story, HandOverState.UNCONFIRMED, at_s=2, now_s=302)["advice"]
    assert "install" in looked(story, None, now_s=300)["advice"]
    story.started("t#0")
    running = looked(story, HandOverState.HANDED_OVER, at_s=2, now_s=9_999)
    assert not {"advice", "handOver"} & running.keys()


def test_silent_commands_are_those_that_no_worker_has_reported_about() -> None:
    story = Story({"t": task("a"), "u": task("a"), "w": task("a", "b")})
    story.fire("x")
    story.fire("a")
    story.started("u#0")
    story.resend("t#0")
    assert story.state is not None
    (found,) = silent_commands(story.rules, story.session, story.state)
    assert (found.instance, found.attempt, found.decided_at) == ("t#0", 1, 1)
    assert [(one.id == found.command, one.decided_at) for one in story.commands] == [
        (True, 1),
        (False, 1),
        (True, 3),
    ]
