"""Every cell of the table of transitions: what each event does in each status (docs/semantics.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
from msgspec.structs import replace

from tests.core.story import SECOND, START_US, Story, names, task
from triggerstream.core.events import (
    Body,
    Cancel,
    Failed,
    Finished,
    Order,
    Release,
    Replay,
    Resend,
    Retried,
    Revoked,
    Skip,
    Skipped,
    Started,
)
from triggerstream.core.ids import CommandId, InstanceId, Json, JsonObject, TaskName
from triggerstream.core.orders import ORDERS, applicable_orders, applicable_statuses
from triggerstream.core.state import Status
from triggerstream.wire import state as wire

T = InstanceId("t#0")
CLONE = InstanceId("t#1")
TASKS: JsonObject = {
    "t": task("a", unless=["no"], retry={"max": 0}),
    "again": task("a2", retry={"max": 1, "backoff": "1h"}),
    "next": task("t"),
}


def unstarted() -> tuple[Story, str]:
    story = Story({**TASKS, "t": task("a", "b", unless=["no"])})
    story.fire("a")
    return story, "t#0"


def delayed() -> tuple[Story, str]:
    story = Story({**TASKS, "t": task("a", retry={"max": 1, "backoff": "1h"})})
    story.fire("a")
    story.failed("t#0")
    return story, "t#1"


def held() -> tuple[Story, str]:
    """No task of today's language is held; a state of tomorrow's may be."""
    story, _ = unstarted()
    assert story.state is not None
    story.state = wire.decode(wire.encode(story.state))
    story.state.tasks[TaskName("t")].open[0].status = Status.HELD
    return story, "t#0"


def scheduled() -> tuple[Story, str]:
    story = Story(TASKS)
    story.fire("a")
    return story, "t#0"


def running() -> tuple[Story, str]:
    story, name = scheduled()
    story.started("t#0")
    return story, name


def failed() -> tuple[Story, str]:
    story, name = running()
    story.failed("t#0")
    return story, name


def finished() -> tuple[Story, str]:
    story, name = running()
    story.finished("t#0", {"n": 1})
    return story, name


def skipped() -> tuple[Story, str]:
    story, name = running()
    story.skipped("t#0")
    return story, name


def replayed() -> tuple[Story, str]:
    story, name = failed()
    story.replay("t#0")
    return story, name


def abandoned() -> tuple[Story, str]:
    story, name = unstarted()
    story.fire("no")
    return story, name


def expired() -> tuple[Story, str]:
    story, name = scheduled()
    story.revoked("t#0")
    return story, name


def cancelled() -> tuple[Story, str]:
    story, name = running()
    story.cancel("t#0")
    return story, name


STATUSES: dict[str, Callable[[], tuple[Story, str]]] = {
    "unstarted": unstarted,
    "delayed": delayed,
    "held": held,
    "scheduled": scheduled,
    "running": running,
    "failed": failed,
    "finished": finished,
    "skipped": skipped,
    "replayed": replayed,
    "abandoned": abandoned,
    "expired": expired,
    "cancelled": cancelled,
}

EVENTS: dict[str, Callable[[InstanceId, CommandId], Body]] = {
    "started": lambda i, c: Started(instance=i, command=c, metadata={"of": "started"}),
    "finished": lambda i, c: Finished(instance=i, command=c, result={"n": 2}, metadata={"of": "finished"}),
    "failed": lambda i, c: Failed(instance=i, command=c, error="boom", metadata={"of": "failed"}),
    "skipped": lambda i, c: Skipped(instance=i, command=c, metadata={"of": "skipped"}),
    "retried": lambda i, c: Retried(instance=i, command=c, after_us=60 * SECOND, metadata={"of": "retried"}),
    "revoked": lambda i, c: Revoked(instance=i, command=c, metadata={"of": "revoked"}),
    "skip": lambda i, _: Skip(instance=i),
    "skip, cascade": lambda i, _: Skip(instance=i, cascade=True, result={"n": 3}),
    "replay": lambda i, _: Replay(instance=i),
    "replay, force": lambda i, _: Replay(instance=i, force=True),
    "resend": lambda i, _: Resend(instance=i),
    "release": lambda i, _: Release(instance=i),
    "cancel": lambda i, _: Cancel(instance=i),
}

# (event, from) → (to, what is decided). Whatever is not here changes nothing.
TABLE: dict[tuple[str, str], tuple[str, list[str]]] = {
    ("started", "scheduled"): ("running", []),
    ("finished", "scheduled"): ("finished", ["next#0"]),
    ("finished", "running"): ("finished", ["next#0"]),
    ("failed", "scheduled"): ("failed", []),
    ("failed", "running"): ("failed", []),
    ("skipped", "scheduled"): ("skipped", []),
    ("skipped", "running"): ("skipped", []),
    ("retried", "running"): ("replayed", []),
    ("revoked", "scheduled"): ("expired", []),
    ("skip", "failed"): ("skipped", []),
    ("skip, cascade", "failed"): ("skipped", ["next#0"]),
    ("replay", "failed"): ("replayed", ["t#1"]),
    ("replay, force", "failed"): ("replayed", ["t#1"]),
    ("replay, force", "scheduled"): ("replayed", ["t#1"]),
    ("replay, force", "running"): ("replayed", ["t#1"]),
    ("resend", "scheduled"): ("scheduled", ["t#0"]),
    ("resend", "running"): ("running", ["t#0"]),
    ("release", "delayed"): ("scheduled", ["t#1"]),
    ("release", "held"): ("scheduled", ["t#0"]),
    ("cancel", "unstarted"): ("cancelled", []),
    ("cancel", "delayed"): ("cancelled", []),
    ("cancel", "held"): ("cancelled", []),
    ("cancel", "scheduled"): ("cancelled", ["-t#0"]),
    ("cancel", "running"): ("cancelled", ["-t#0"]),
}
CELLS = [(event, status) for event in EVENTS for status in STATUSES]


@pytest.mark.parametrize("event", [event for event in EVENTS if event.partition(",")[0] in ORDERS])
@pytest.mark.parametrize("status", STATUSES)
def test_an_order_applies_to_the_statuses_that_the_table_of_orders_has(event: str, status: str) -> None:
    story, name = STATUSES[status]()
    order = EVENTS[event](InstanceId(name), story.command(name))
    assert isinstance(order, Order)
    story.tell(order)
    assert (story.refused() == 0) == (Status(status) in applicable_statuses(order))


def test_every_kind_of_order_has_a_name() -> None:
    assert set(ORDERS.values()) == set(get_args(Order))
    assert set(ORDERS) == {"skip", "replay", "resend", "release", "cancel"}


@pytest.mark.parametrize("status", STATUSES)
def test_orders_that_a_page_offers_apply(status: str) -> None:
    applied = []
    for order, kind in ORDERS.items():
        story, name = STATUSES[status]()
        story.tell(kind(instance=InstanceId(name)))
        if not story.refused():
            applied.append(order)
    assert applicable_orders(Status(status)) == applied


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_can_be_reached(status: str) -> None:
    story, name = STATUSES[status]()
    assert story.statuses()[name] == status


@pytest.mark.parametrize(("event", "status"), [cell for cell in CELLS if cell in TABLE])
def test_transition_of_the_table_takes_place(event: str, status: str) -> None:
    story, name = STATUSES[status]()
    to, decided = TABLE[event, status]
    assert names(story.tell(EVENTS[event](InstanceId(name), story.command(name)))) == decided
    assert story.statuses()[name] == to
    assert story.refused() == 0
    order = event.startswith(("skip,", "replay", "resend", "release", "cancel")) or event == "skip"
    assert story.notes()[-1][0] == ("ordered" if order else "reported")


@pytest.mark.parametrize(
    ("event", "status"),
    [
        cell
        for cell in CELLS
        if cell not in TABLE and cell not in {("finished", "cancelled"), ("started", "running")}
    ],
)
def test_what_is_not_in_the_table_changes_nothing_and_is_counted(event: str, status: str) -> None:
    story, name = STATUSES[status]()
    before = story.state
    assert before is not None
    assert story.tell(EVENTS[event](InstanceId(name), story.command(name))) == []
    after = story.state
    assert after is not None
    unchanged = replace(after, refused=before.refused, offset=before.offset, positions=before.positions)
    assert unchanged == before
    assert after.refused == before.refused + 1
    what, note = story.notes()[-1]
    assert what == "refused"
    assert note is not None
    assert f"{name} is" in note


def test_repeated_started_of_one_attempt_takes_no_place_in_the_timeline() -> None:
    """Its worker was lost: that another one runs it now is heard of, and is no news."""
    story, name = running()
    before = story.notes()
    for number in range(64):
        metadata: JsonObject = {"worker": f"w{number}"}
        body = Started(instance=InstanceId(name), command=story.command(name), metadata=metadata)
        assert story.tell(body, at=story.now_s + 1) == []
    assert story.notes() == before
    assert story.refused() == 0
    assert story.statuses()[name] == "running"
    assert story.instance(name).metadata == {"worker": "w63"}
    assert story.instance(name).changed_us == START_US + round(story.now_s * SECOND)


def test_started_of_the_next_attempt_has_a_place_in_the_timeline() -> None:
    story, name = running()
    story.tell(EVENTS["resend"](InstanceId(name), story.command(name)))
    assert story.instance(name).started_us is None
    story.started(name, at=story.now_s + 5)
    assert story.notes()[-1] == ("reported", f"{name} running")
    assert story.instance(name).started_us == START_US + round(story.now_s * SECOND)
    noted = story.notes()
    story.started(name)
    assert story.notes() == noted


def test_finished_after_a_cancel_is_noted_and_does_not_cascade() -> None:
    story, name = cancelled()
    assert story.finished(name, {"n": 1}) == []
    assert story.statuses() == {"t#0": "cancelled"}
    assert story.instance(name).result == {"n": 1}
    what, note = story.notes()[-1]
    assert what == "reported"
    assert note == "t#0 was cancelled before it finished: its result is kept, nothing follows from it"


@pytest.mark.parametrize("event", ["started", "finished", "failed", "skipped", "retried", "revoked"])
@pytest.mark.parametrize("status", ["scheduled", "running"])
def test_outcome_of_another_command_changes_nothing(event: str, status: str) -> None:
    story, name = STATUSES[status]()
    before = story.state
    assert before is not None
    for command in (story.command("t#1"), story.command("t#0", generation=1), CommandId("no such")):
        assert story.tell(EVENTS[event](InstanceId(name), command)) == []
        assert story.statuses() == {"t#0": status}
        assert story.notes()[-1][0] == "refused"
    assert story.refused() == 3


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("name", ["t#7", "other#0"])
def test_event_of_an_unknown_instance_changes_nothing(event: str, name: str) -> None:
    story, _ = scheduled()
    assert story.tell(EVENTS[event](InstanceId(name), story.command(name))) == []
    assert story.statuses() == {"t#0": "scheduled"}
    assert story.refused() == 1
    assert story.notes()[-1][0] == "refused"


@pytest.mark.parametrize("event", EVENTS)
def test_event_of_an_unknown_session_changes_nothing(event: str) -> None:
    story = Story(TASKS)
    assert story.tell(EVENTS[event](T, story.command("t#0"))) == []
    assert story.state is None
    assert story.unknown == 1


@pytest.mark.parametrize("second", ["finished", "failed", "skipped"])
@pytest.mark.parametrize("first", ["finished", "failed", "skipped"])
def test_second_outcome_changes_nothing(first: str, second: str) -> None:
    story, name = running()
    story.tell(EVENTS[first](T, story.command(name)))
    before = story.instance(name)
    assert story.tell(EVENTS[second](T, story.command(name))) == []
    assert story.instance(name) == before
    assert story.refused() == 1


@pytest.mark.parametrize(
    ("result", "kwargs"),
    [
        (None, {}),
        ({}, {}),
        ({"n": 1}, {"n": 1}),
        (5, {"result": 5}),
        (False, {"result": False}),
        ("", {"result": ""}),
        ([], {"result": []}),
    ],
)
def test_result_is_what_the_tasks_name_fires_with(result: Json, kwargs: Json) -> None:
    story, name = running()
    story.tell(Finished(instance=T, command=story.command(name), result=result))
    assert [c.kwargs for c in story.commands] == [{"a": {}}, {"t": kwargs}]


def test_outcomes_settle_their_command_so_that_it_is_not_handed_over_again() -> None:
    story, name = scheduled()
    story.started(name)
    assert story.settled == []
    story.finished(name)
    assert story.settled == [story.command(name)]


def test_refused_outcome_of_a_command_that_is_still_out_settles_nothing() -> None:
    story, name = running()
    story.tell(Revoked(instance=T, command=story.command(name)))
    assert story.statuses()[name] == "running"
    assert story.settled == []


def test_metadata_of_the_last_outcome_is_kept() -> None:
    story, name = scheduled()
    story.tell(Started(instance=T, command=story.command(name), metadata={"worker": 1}))
    story.tell(Skipped(instance=T, command=story.command(name)))
    assert story.instance(name).metadata == {"worker": 1}
    story, name = scheduled()
    story.tell(Skipped(instance=T, command=story.command(name), metadata={"why": "nothing to do"}))
    assert story.instance(name).metadata == {"why": "nothing to do"}
