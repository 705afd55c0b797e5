"""The parts of a result besides state and decisions, and the trigger that follows from an outcome.

The rules: docs/semantics.md, R1.2, R2.4, R2.5 and R6.9.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.core.story import Story, names, task
from triggerstream.core.effects import NOTHING, Applied, Effect, Ignored, Refused, Why
from triggerstream.core.events import (
    Body,
    Cancel,
    Close,
    Erase,
    Failed,
    Finished,
    Replay,
    Resend,
    Revoked,
    Skip,
)
from triggerstream.core.events import FailureReason as Failure
from triggerstream.core.ids import DIGEST_BYTES, CommandId, InstanceId, TriggerName, event_digest
from triggerstream.wire import state as wire


def test_a_result_says_what_the_event_did() -> None:
    story = Story({"t": task("a")})
    effects: list[Effect] = []
    lines: list[Callable[[], object]] = [
        lambda: story.fire("a", id="1"),
        lambda: story.fire("a", id="1"),
        lambda: story.skip("t#7"),
        lambda: story.started("t#0"),
        story.touch,
    ]
    for line in lines:
        line()
        effects.append(story.result.effect)
    assert effects == [
        Applied(),
        Ignored(Why.DUPLICATE, "duplicate: an event of this source and id is included already"),
        Refused(Why.UNKNOWN_INSTANCE, "the session has no instance t#7, or keeps it no longer"),
        Applied("t#0 running"),
        NOTHING,
    ]


def test_the_trigger_that_follows_is_the_event_of_its_outcome() -> None:
    story = Story({"t": task("a"), "next": task("t")})
    story.fire("a")
    body = Finished(instance=InstanceId("t#0"), command=story.command("t#0"), result={"n": 1})
    assert names(story.tell(body, id="7", source="worker", at=5, time=4)) == ["next#0"]
    (cause,) = story.commands[-1].causes
    assert (cause.trigger, cause.offset, cause.id) == ("t", 1, "7")
    assert story.state is not None
    arrival = story.state.seen[TriggerName("t")]
    assert (arrival.id, arrival.source, arrival.data) == ("7", "worker", {"n": 1})
    assert arrival.time_us == story.state.positions[-1][2]


T = InstanceId("t#0")


def scheduled(**bounds: int) -> Story:
    """A story whose `t#0` is scheduled."""
    story = Story(
        {"$bounds": dict(bounds), "t": task("a", unless=["no"]), "next": task("t")}, sizes=wire.EncodedSizes()
    )
    story.fire("a")
    return story


def failed(**bounds: int) -> Story:
    story = scheduled(**bounds)
    story.failed("t#0")
    return story


def running(**bounds: int) -> Story:
    story = scheduled(**bounds)
    story.started("t#0")
    return story


def resent(**bounds: int) -> Story:
    story = scheduled(**bounds)
    story.resend("t#0")
    return story


def without_the_task() -> Story:
    story = failed()
    story.apply({"u": task("z")})
    return story


def with_shorter_commands() -> Story:
    story = scheduled()
    story.apply({"$bounds": {"commandBytes": 100}, "t": task("a")})
    return story


def closed() -> Story:
    story = failed()
    story.close()
    return story


def blocked() -> Story:
    story = failed()
    story.fire("no")
    return story


REFUSALS: list[tuple[Why, Callable[[], Story], Callable[[Story], object]]] = [
    (Why.UNKNOWN_INSTANCE, failed, lambda s: s.skip("t")),
    (Why.UNKNOWN_INSTANCE, failed, lambda s: s.skip("u#0")),
    (Why.UNKNOWN_INSTANCE, failed, lambda s: s.skip("t#1")),
    (Why.WRONG_STATUS, scheduled, lambda s: s.skip("t#0")),
    (Why.OTHER_GENERATION, failed, lambda s: s.tell(Skip(instance=T, generation=1))),
    (Why.WRONG_STATUS, scheduled, lambda s: s.replay("t#0")),
    (Why.OTHER_GENERATION, failed, lambda s: s.tell(Replay(instance=T, generation=1))),
    (Why.TASK_REMOVED, without_the_task, lambda s: s.replay("t#0")),
    (Why.SESSION_CLOSED, closed, lambda s: s.replay("t#0")),
    (Why.UNLESS, blocked, lambda s: s.replay("t#0")),
    (Why.BOUND, lambda: failed(commandBytes=600), lambda s: s.replay("t#0", kwargs={"x": "x" * 600})),
    (Why.BOUND, lambda: failed(stateBytes=1_500), lambda s: s.skip("t#0", cascade=True, result="x" * 1_500)),
    (Why.WRONG_STATUS, failed, lambda s: s.cancel("t#0")),
    (Why.OTHER_GENERATION, scheduled, lambda s: s.tell(Cancel(instance=T, generation=1))),
    (Why.WRONG_STATUS, failed, lambda s: s.resend("t#0")),
    (Why.OTHER_GENERATION, scheduled, lambda s: s.tell(Resend(instance=T, generation=1))),
    (Why.OTHER_ATTEMPT, scheduled, lambda s: s.tell(Resend(instance=T, attempt=1))),
    (Why.BOUND, with_shorter_commands, lambda s: s.resend("t#0")),
    (Why.OTHER_GENERATION, scheduled, lambda s: s.tell(Close(generation=1))),
    (Why.SESSION_CLOSED, closed, lambda s: s.close()),
    (Why.OTHER_GENERATION, scheduled, lambda s: s.tell(Erase(generation=1))),
    (Why.OTHER_COMMAND, scheduled, lambda s: s.tell(Finished(instance=T, command=CommandId("x")))),
    (Why.WRONG_STATUS, failed, lambda s: s.finished("t#0")),
    (Why.WRONG_STATUS, running, lambda s: s.revoked("t#0")),
    (Why.WRONG_STATUS, scheduled, lambda s: s.retried("t#0")),
    (Why.OTHER_ATTEMPT, resent, lambda s: s.tell(Revoked(instance=T, command=s.command("t#0"), attempt=0))),
    (
        Why.OTHER_ATTEMPT,
        resent,
        lambda s: s.tell(
            Failed(instance=T, command=s.command("t#0"), error="e", reason=Failure.WORKER_LOST, attempt=0)
        ),
    ),
]


@pytest.mark.parametrize(("why", "before", "event"), REFUSALS)
def test_a_refused_event_says_why_and_changes_nothing_but_their_count(
    why: Why, before: Callable[[], Story], event: Callable[[Story], object]
) -> None:
    story = before()
    statuses, refused = story.statuses(), story.refused()
    event(story)
    effect = story.result.effect
    assert isinstance(effect, Refused)
    assert effect.why is why
    assert story.refused() == refused + 1
    assert (story.statuses(), story.result.decisions) == (statuses, ())
    assert (story.result.created, story.result.resolved) == (0, 0)


def test_a_result_counts_instances_that_were_made_took_the_event_and_were_resolved() -> None:
    story = Story({"t": task("a", "b"), "u": task("a", "b"), "v": task("t", "u"), "w": task("t")})

    def counts() -> tuple[int, int, int]:
        result = story.result
        return result.created, result.taken, result.resolved

    story.fire("a")
    assert counts() == (2, 2, 0)
    story.fire("a")
    assert counts() == (0, 0, 0)
    story.fire("b")
    assert counts() == (0, 2, 0)
    story.started("t#0")
    assert counts() == (0, 0, 0)
    story.finished("t#0")
    assert counts() == (2, 2, 1)
    story.cancel("u#0")
    assert counts() == (0, 0, 1)
    story.finished("u#0", {"n": 1})
    assert counts() == (0, 0, 1), "the result of a cancelled instance is kept"
    story.close()
    assert counts() == (0, 0, 1)


def test_instances_that_a_configuration_resolves_count_with_the_event_that_meets_it() -> None:
    story = Story({"t": task("a"), "u": task("a", "b")})
    story.fire("a")
    story.cancel("t#0")
    story.apply({"t": task("a")})
    story.finished("t#0", {"n": 1})
    assert story.statuses() == {"t#0": "cancelled", "u#0": "cancelled"}
    assert story.result.resolved == 2


def test_a_trigger_is_offered_to_an_instance_behind_one_that_was_decided_under_another_file() -> None:
    story = Story({"t": task("a", andEvery="b")})
    story.fire("a")
    assert names(story.fire("b")) == ["t#0"]
    story.apply({"t": task("a", "c", andEvery="b")})
    assert story.fire("b") == []
    assert story.statuses() == {"t#0": "scheduled", "t#1": "unstarted"}
    assert names(story.fire("c")) == ["t#1"]


ORDERS: list[tuple[Callable[[], Story], Body, str]] = [
    (failed, Skip(instance=T, reason="disk full", by="ann"), "t#0 skipped"),
    (failed, Replay(instance=T, reason="disk full", by="ann"), "t#0 replayed as t#1"),
    (scheduled, Cancel(instance=T, reason="disk full", by="ann"), "t#0 cancelled"),
    (scheduled, Resend(instance=T, reason="disk full", by="ann"), "t#0 sent again, attempt 1"),
    (scheduled, Close(reason="disk full", by="ann"), "session closed"),
]


@pytest.mark.parametrize(("before", "order", "what"), ORDERS)
def test_the_timeline_names_an_orders_reason_and_author(
    before: Callable[[], Story], order: Body, what: str
) -> None:
    story = before()
    story.tell(order)
    assert story.result.effect == Applied(f"{what}: disk full (ann)")


@pytest.mark.parametrize(("before", "order"), [one[:2] for one in ORDERS[:3]])
def test_an_instance_that_an_order_ends_keeps_its_reason_and_author(
    before: Callable[[], Story], order: Body
) -> None:
    story = before()
    story.tell(order)
    assert story.instance("t#0").note == "disk full (ann)"


def test_digests_are_compared_where_they_begin() -> None:
    """A digest that is found across two others is none; nor does one hide the digest itself."""
    story = Story({"t": task("a", andEvery="a")})
    story.fire("a", id="0")
    digest, filler = event_digest(None, "1"), bytes(DIGEST_BYTES - 1)
    across = b"\0" + digest + filler
    assert story.state is not None
    story.state.digests = {TriggerName("a"): across}
    story.fire("a", id="1")
    assert story.result.effect == Applied()
    for digests in (digest + across, across + digest + across):
        story.state.digests = {TriggerName("a"): digests}
        story.fire("a", id="1")
        assert isinstance(story.result.effect, Ignored)
