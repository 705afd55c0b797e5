"""An event costs the same, however much its session has done before: counted, not timed."""

from __future__ import annotations

import os
from functools import partial

import pytest

from tests.core.story import START_US, Story
from tests.core.test_cost import event, lines_run
from triggerstream.core.events import Event, Finished, Trigger
from triggerstream.core.fold import step
from triggerstream.core.ids import JsonObject, TaskName, TriggerName, instance_id
from triggerstream.core.results import Folded
from triggerstream.core.state import SessionState
from triggerstream.wire import retired, state

T = TaskName("t")
EVERY: JsonObject = {"t": {"after": [], "andEvery": "a", "run": "app.tasks.t"}}
BOUND = 100
"""Resolved instances that a session keeps of a task."""
POSITIONS = 50
"""Events after which the timeline has its full length."""


def run(story: Story, count: int) -> list[int]:
    """Instances that are each finished before the next is made; the bytes that each one's events wrote."""
    written = []
    known = story.state
    for n in range(0 if known is None else known.tasks[story.commands[0].task].next, count):
        size = 0
        for tell in (
            partial(story.fire, "a", {"n": 1_000 + n % 10}),
            partial(story.finished, f"t#{n}", {"ok": True}),
        ):
            tell()
            assert story.state is not None
            size += len(state.encode(story.state.collected()))
            size += sum(len(retired.encode(one)) for one in story.result.retired)
        written.append(size)
    return written


def test_the_bytes_that_an_event_writes_do_not_grow_with_the_past() -> None:
    written = run(Story(EVERY), 400)
    few = max(written[POSITIONS : POSITIONS + 10])
    # Numbers and offsets have one digit more.
    assert max(written[-10:]) <= 1.05 * few
    assert few < 20_000


def test_the_work_of_an_event_does_not_grow_with_the_past() -> None:
    if "MUTANT_UNDER_TEST" in os.environ:
        pytest.skip("waits for a run without mutmut, which wraps each function in others")
    story = Story(EVERY)
    run(story, 10)
    few = work(story)
    run(story, BOUND + 10)
    beyond = work(story)
    assert beyond <= 1.25 * few, "the tenth makes an entry; from the bound on, each event also deletes one"
    run(story, 400)
    assert work(story) <= 1.02 * beyond


def work(story: Story) -> int:
    """The lines of Python that an instance takes: decoding, folding and encoding its two events."""
    assert story.state is not None
    stored = state.encode(story.state.collected())
    number = story.state.tasks[story.commands[0].task].next
    named = instance_id(story.commands[0].task, number)
    first = event(story.offset, Trigger(name=TriggerName("a"), data={"n": 1}))
    finished = Finished(instance=named, command=story.command(named), result={"ok": True})
    second = Event(
        session=story.session,
        offset=story.offset + 1,
        arrival_us=first.arrival_us,
        time_us=first.arrival_us,
        type="triggerstream.task.finished",
        body=finished,
    )

    def fold() -> None:
        known = folded(story, state.decode(stored), first)
        folded(story, state.decode(state.encode(known)), second)

    return lines_run(fold)


def folded(story: Story, known: SessionState, one: Event) -> SessionState:
    """The state after an event, whose entries are encoded."""
    result = step(story.rules, known, one)
    assert isinstance(result, Folded)
    for entry in result.retired:
        retired.encode(entry)
    return result.state.collected()


def test_a_session_with_few_finished_instances_writes_no_entry_and_no_number() -> None:
    story = Story({**EVERY, "u": {"after": ["b"], "run": "app.tasks.u"}})
    run(story, 8)
    story.fire("b")
    story.finished("u#0")
    assert story.state is not None
    encoded = state.encode(story.state.collected())
    assert b"retired" not in encoded
    assert b"undecided" not in encoded
    assert not story.entries.stored[story.session]


@pytest.mark.parametrize("counts", [(60, 200), (400, 900)], ids=["columns as lists", "columns as JSON"])
def test_an_outcome_goes_through_no_open_instances_one_by_one(counts: tuple[int, int]) -> None:
    if "MUTANT_UNDER_TEST" in os.environ:
        pytest.skip("waits for a run without mutmut, which wraps each function in others")
    few, many = (lines_of_an_outcome(count) for count in counts)
    assert many <= 1.02 * few


def lines_of_an_outcome(count: int) -> int:
    """The lines of Python that an outcome takes in a session with open instances, and with retired ones."""
    story = Story(EVERY)
    for n in range(count):
        story.fire("a", {"n": n})
    for n in range(0, 40, 2):
        story.finished(f"t#{n}")
    assert story.state is not None
    stored = state.encode(story.state)
    finished = Finished(instance=instance_id(T, 41), command=story.command("t#41"), result=None)
    one = Event(
        session=story.session,
        offset=story.offset,
        arrival_us=START_US,
        time_us=START_US,
        type="",
        body=finished,
    )

    def fold() -> None:
        result = step(story.rules, state.decode_lazily(stored), one)
        assert isinstance(result, Folded)
        state.encode(result.state)

    return lines_run(fold)
