"""Orders say what they were given for, so that a second copy changes nothing.

The rules: docs/semantics.md, R7.1, R7.7, R7.8.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.core.story import Story
from triggerstream.core.commands import Command
from triggerstream.core.events import Body, Cancel, Close, Erase, Replay, Resend, Skip
from triggerstream.core.ids import InstanceId, JsonObject, TaskName
from triggerstream.core.state import SessionState
from triggerstream.core.timeline import timeline

TASKS: JsonObject = {
    "t": {"after": ["a"], "run": "tasks.t"},
    "u": {"after": [], "andEvery": "a", "run": "tasks.u"},
}
T0 = InstanceId("t#0")


def known(story: Story) -> SessionState:
    assert story.state is not None
    return story.state


def last_note(story: Story) -> tuple[str, str | None]:
    row = timeline(story.rules, story.session, known(story))[-1]
    return row.what, row.note


def test_a_close_of_another_generation_is_refused() -> None:
    story = Story(TASKS)
    story.fire("a")
    captured = Close(generation=0)
    story.tell(captured)
    story.fire("a")
    before = known(story)
    assert story.tell(captured) == []
    assert (known(story).generation, known(story).closed, known(story).tasks) == (1, False, before.tasks)
    assert last_note(story) == ("refused", "the session is in generation 1, the order was given for 0")
    assert known(story).refusal(3) == "the session is in generation 1, the order was given for 0"
    assert known(story).refusal(2) is None
    story.tell(Close(generation=1))
    assert known(story).generation == 2


def test_an_erase_of_another_generation_is_refused() -> None:
    story = Story(TASKS)
    story.fire("a")
    captured = Erase(generation=0)
    story.tell(captured)
    assert known(story) == SessionState(generation=1, offset=1)
    story.fire("a")
    story.tell(captured)
    assert TaskName("t") in known(story).tasks
    assert last_note(story) == ("refused", "the session is in generation 1, the order was given for 0")
    story.tell(Erase(generation=1))
    assert known(story).is_empty()


def test_a_new_session_is_in_generation_0() -> None:
    story = Story(TASKS)
    story.fire("a")
    story.tell(Close(generation=1))
    assert last_note(story)[0] == "refused"
    story.tell(Close(generation=0))
    assert known(story).generation == 1


def test_a_resend_of_another_attempt_is_refused() -> None:
    story = Story(TASKS)
    story.fire("a")
    captured = Resend(instance=T0, generation=0, attempt=0)
    [command] = story.tell(captured)
    assert isinstance(command, Command)
    assert command.attempt == 1
    assert story.tell(captured) == []
    assert last_note(story) == ("refused", "t#0 is at attempt 1, the order was given for 0")
    [command] = story.tell(replace(captured, attempt=1))
    assert isinstance(command, Command)
    assert command.attempt == 2


@pytest.mark.parametrize(
    "order",
    [
        Skip(instance=T0, generation=0),
        Replay(instance=T0, generation=0, force=True),
        Cancel(instance=T0, generation=0),
        Resend(instance=T0, generation=0, attempt=0),
    ],
)
def test_an_order_does_not_reach_the_same_id_of_a_later_generation(order: Body) -> None:
    story = Story(TASKS)
    story.fire("a")
    story.close()
    story.fire("a")
    story.failed("t#0")
    if not isinstance(order, Skip):
        story = Story(TASKS)
        story.fire("a")
        story.close()
        story.fire("a")
    assert story.tell(order) == []
    assert last_note(story) == ("refused", "the session is in generation 1, the order was given for 0")


def test_the_instances_of_a_closed_session_are_of_the_generation_before() -> None:
    story = Story(TASKS)
    story.fire("a")
    story.close()
    decided = story.tell(Cancel(instance=T0, generation=0))
    assert len(decided) == 1, "what runs is revoked, though the session is closed"


def test_without_expectations_an_order_is_for_whatever_is_there() -> None:
    story = Story(TASKS)
    story.fire("a")
    story.close()
    story.fire("a")
    assert len(story.resend("t#0")) == 1
    assert len(story.resend("t#0")) == 1
    story.close()
    assert known(story).generation == 2


@st.composite
def lives(draw: st.DrawFn) -> list[tuple[str, int]]:
    steps = ("fire", "fail", "finish", "skip", "replay", "cancel", "resend", "close", "erase")
    return draw(st.lists(st.tuples(st.sampled_from(steps), st.integers(0, 2)), min_size=2, max_size=25))


@pytest.mark.laws
@given(lives(), st.data())
def test_an_order_that_is_appended_once_more_changes_nothing(
    life: list[tuple[str, int]], data: st.DataObject
) -> None:
    """Whoever reads the log may append what was signed, at any later time."""
    story = Story(TASKS)
    applied: list[Body] = []
    for kind, number in life:
        state = story.state or SessionState()
        instance = InstanceId(f"u#{number}")
        generation, record = state.instances_generation, state.tasks.get(TaskName("u"))
        found = None if record is None else record.find(number)
        order: Body | None = None
        match kind:
            case "fire":
                story.fire("a")
            case "fail" if found is not None:
                story.failed(instance)
            case "finish" if found is not None:
                story.finished(instance)
            case "skip":
                order = Skip(instance=instance, generation=generation)
            case "replay":
                order = Replay(instance=instance, generation=generation, force=bool(number))
            case "cancel":
                order = Cancel(instance=instance, generation=generation)
            case "resend":
                attempt = 0 if found is None else found.attempt
                order = Resend(instance=instance, generation=generation, attempt=attempt)
            case "close":
                order = Close(generation=state.generation)
            case "erase":
                order = Erase(generation=state.generation)
            case _:
                pass
        if order is not None:
            offset = story.offset
            story.tell(order)
            if story.state is not None and story.state.refusal(offset) is None:
                applied.append(order)
        if applied and story.state is not None:
            captured = data.draw(st.sampled_from(applied))
            before = known(story)
            assert story.tell(captured) == []
            after = known(story)
            for name in ("clock_us", "offset", "positions", "refused"):
                after = replace(after, **{name: getattr(before, name)})
            assert after == before
