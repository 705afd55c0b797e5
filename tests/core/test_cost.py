"""What an event costs depends on the tasks that its session has to do with, not on all that there are."""

from __future__ import annotations

import os
import sys
from _collections_abc import dict_items, dict_values
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from types import FrameType
from typing import Any, NoReturn

import pytest
from msgspec import Struct

from tests.core.story import START_US, Story
from triggerstream.core import draft, held, lazy, sequences, slots, takers
from triggerstream.core.commands import Command
from triggerstream.core.conditions import AllOf, Condition, Leaf
from triggerstream.core.events import Event, Timer, Trigger
from triggerstream.core.fold import migrate, next_due, step
from triggerstream.core.held import Members
from triggerstream.core.ids import (
    ConfigHash,
    InstanceId,
    Json,
    JsonObject,
    LeafName,
    SessionId,
    TaskName,
    TriggerName,
)
from triggerstream.core.listing import tags_of
from triggerstream.core.places import count_places
from triggerstream.core.projections import explain, waits_for
from triggerstream.core.results import Folded
from triggerstream.core.state import Instance, SessionState, TaskPlaces, TaskRecord
from triggerstream.core.takers import may_take
from triggerstream.core.tasks import AppliedConfiguration, Configuration, Rules, Task
from triggerstream.core.where import Where
from triggerstream.wire import blocks, changed_lines
from triggerstream.wire import state as wire

TASKS: JsonObject = {
    "t_retried": {"after": ["a"], "run": "x.y", "retry": {"max": 3, "backoff": "1h"}},
    "t_waits": {"after": ["a", "b"], "unless": ["c"], "run": "x.y"},
}


class Untouched(tuple[Task, ...]):
    """Tasks that nobody goes through one by one."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Task]:
        raise AssertionError("all tasks of the file were gone through")


class Unvisited(dict[int, Instance]):
    """Instances that nobody looks at."""

    __slots__ = ()

    def _visited(self, *_: object) -> NoReturn:
        raise AssertionError("an instance was visited")

    __iter__ = __getitem__ = get = items = values = copy = _visited


def test_nothing_goes_through_all_tasks_of_the_file() -> None:
    story = Story(TASKS)
    story.fire("a")
    story.failed("t_retried#0")
    state = story.state
    assert state is not None
    assert state.due_us is not None
    config = copy(story.rules.current.config)
    object.__setattr__(config, "tasks", Untouched(config.tasks))
    later = AppliedConfiguration(config=config, offset=state.offset + 1, arrival_us=START_US)
    rules = replace(story.rules, history=(*story.rules.history, later))
    session = SessionId("s")

    assert next_due(rules, state) is not None
    assert migrate(rules, state, session).state.unjudged
    assert waits_for(rules, state, session) == ("b",)
    assert tags_of(rules, session, state)
    assert explain(rules, session, state).tasks
    for name in ("d", "b"):
        body = Trigger(name=TriggerName(name), data={})
        folded = step(rules, state, event(state.offset + 2, body))
        assert isinstance(folded, Folded)
        state = folded.state
    folded = step(rules, state, event(state.offset + 1, Timer(), arrival_us=START_US + 7_200_000_000))
    assert isinstance(folded, Folded)
    assert [decision.instance for decision in folded.decisions] == ["t_retried#1"]


def test_a_trigger_that_no_task_uses_visits_no_instance() -> None:
    story = Story({"t": {"after": ["b"], "andEvery": "a", "run": "x.y"}})
    for _ in range(5):
        story.fire("a")
        story.fire("other")
    state = story.state
    assert state is not None
    for record in state.tasks.values():
        record.open = Unvisited(record.open)
    for offset in range(2):
        body = Trigger(name=TriggerName("other"), data={"n": offset})
        folded = step(story.rules, state, event(state.offset + 1 + offset, body))
        assert isinstance(folded, Folded)
        state = folded.state
    assert state.seen[TriggerName("other")].data == {"n": 1}


class Visited(dict[int, Instance]):
    """Instances that are counted when an event goes through all of them."""

    __slots__ = ("count",)

    def __init__(self, known: dict[int, Instance], count: list[int]) -> None:
        super().__init__(known)
        self.count = count

    def __iter__(self) -> Iterator[int]:
        self.count[0] += len(self)
        return super().__iter__()

    def values(self) -> dict_values[int, Instance]:
        self.count[0] += len(self)
        return super().values()

    def items(self) -> dict_items[int, Instance]:
        self.count[0] += len(self)
        return super().items()

    def copy(self) -> Visited:
        return Visited(self, self.count)


def count_visits(state: SessionState, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of instances that the next events visit, as the only element."""
    count = [0]

    def counted(instance: Instance, leaf: LeafName | None) -> bool:
        count[0] += 1
        return may_take(instance, leaf)

    monkeypatch.setattr(takers, "may_take", counted)
    for record in state.tasks.values():
        record.open = Visited(dict(record.open), count)
    return count


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"after": ["ok"]},
        {"after": ["ok"], "deadline": "9h"},
        {"after": ["ok"], "unless": ["no"], "deadline": "9h"},
        {"delay": "9h"},
    ],
)
def test_timeouts_that_make_an_instance_each_visit_few_of_those_made_before(
    monkeypatch: pytest.MonkeyPatch, keys: JsonObject
) -> None:
    story = Story(
        {
            "t": {"after": ["b"], "andEvery": "a", "deadline": "1h", "run": "x.y"},
            "u": {"after": [], "andEvery": "t.timeout", "run": "x.y", **keys},
        }
    )
    story.fire("a")
    for n in range(300):
        story.fire("a", at=5_000 + n / 1_000)
    assert story.state is not None
    assert list(story.state.tasks) == ["t", "u"]
    count = count_visits(story.state, monkeypatch)
    folded = step(story.rules, story.state, event(story.offset, Timer(), arrival_us=START_US + 9_000_000_000))
    assert isinstance(folded, Folded)
    assert folded.created == 300
    assert count[0] <= 5 * 300


@pytest.mark.parametrize("leaf", ["a", {"trigger": "a", "where": "data.n > 0"}])
def test_an_event_visits_no_instances_that_can_take_nothing(
    monkeypatch: pytest.MonkeyPatch, leaf: Json
) -> None:
    story = Story(
        {"t": {"after": [leaf], "andEvery": "a", "run": "x.y", "retry": {"max": 1, "backoff": "1h"}}}
    )
    for _ in range(100):
        story.fire("a", {"n": 1})
    for number in range(50):
        story.failed(f"t#{number}")
    story.fire("a", {"n": 1})
    assert story.state is not None
    count = count_visits(story.state, monkeypatch)
    story.fire("a", {"n": 1})
    assert len(story.commands) == 102
    assert count[0] <= 1


def test_a_command_is_measured_once() -> None:
    measured: list[InstanceId] = []

    class Sizes(wire.EncodedSizes):
        def command(self, command: Command) -> int:
            measured.append(command.instance)
            return super().command(command)

    story = Story({"t": {"after": ["a"], "run": "x.y"}, "u": {"after": ["a"], "run": "x.y"}}, sizes=Sizes())
    story.fire("a")
    assert measured == ["t#0", "u#0"]


def test_where_is_evaluated_once_for_an_event_and_a_leaf_however_many_instances_wait() -> None:
    evaluated: list[int] = []

    def matches(data: JsonObject, time_us: int, *_: object) -> bool:
        del data
        evaluated.append(time_us)
        return True

    story = Story({"t": {"after": [], "andEvery": "x", "run": "x.y"}})
    story.rules = rules_of(
        story,
        Task(
            name=TaskName("t"),
            run="x.y",
            after=Condition(
                root=AllOf(
                    members=(
                        Leaf(name=LeafName("x"), trigger=TriggerName("x")),
                        Leaf(
                            name=LeafName("a"),
                            trigger=TriggerName("a"),
                            where=Where(text="true", matches=matches),
                            count=2,
                        ),
                    )
                )
            ),
            every=LeafName("x"),
        ),
    )
    for _ in range(50):
        story.fire("x")
    story.fire("a")
    assert len(evaluated) == 1
    assert len(story.statuses()) == 50
    story.fire("other")
    assert len(evaluated) == 1


def test_a_leaf_that_holds_a_thousand_keys_is_copied_once_for_an_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the events that the state keeps are copied only now and then."""
    each: JsonObject = {"trigger": "b", "key": "data.k", "each": {"of": "a", "list": "data.ids"}}
    made: list[int] = []

    class Counted(Members, frozen=True, tag_field="holds", tag="members", kw_only=True):
        """What is made for an event."""

        def __post_init__(self) -> None:
            made.append(len(self.by))

    monkeypatch.setattr(slots, "Members", Counted)
    story = Story({"t": {"after": ["a", each, "c"], "run": "x.y"}})
    story.fire("a", {"ids": [f"k{n}" for n in range(1_000)]})
    made.clear()
    copied = 0
    for n in range(1_000):
        before = story.state
        story.fire("b", {"k": f"k{n}"})
        assert before is not None
        assert story.state is not None
        copied += story.state.kept is not before.kept
    assert len(made) == 1_000
    assert copied <= 1_000 // 30
    story.fire("c")
    assert len(story.commands) == 1


def count_sorts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of the lists that are sorted for sequences from now on."""
    sorts: list[int] = []

    def counted(items: Iterable[Any]) -> list[Any]:
        done = sorted(items)
        sorts.append(len(done))
        return done

    for module in (slots, sequences, held):
        monkeypatch.setattr(module, "sorted", counted, raising=False)
    return sorts


def test_an_event_of_one_leaf_of_a_full_sequence_sorts_no_events(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story({"t": {"after": [{"sequence": [f"s{n}" for n in range(20)]}, "go"], "run": "x.y"}})
    for n in range(20):
        for _ in range(sequences.MOST_IN_SEQUENCE + 1):
            story.fire(f"s{n}")
    sorts = count_sorts(monkeypatch)
    story.fire("s10")
    assert not sorts
    story.fire("go")
    assert len(story.commands) == 1


def test_an_event_that_all_leaves_of_a_sequence_match_looks_at_each_leaf_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where each leaf is full and drops an event."""
    leaves: list[Json] = [{"trigger": "a", "as": f"l{n}"} for n in range(40)]
    story = Story({"t": {"after": [{"sequence": leaves}, "go"], "run": "x.y"}})
    for _ in range(sequences.MOST_IN_SEQUENCE + 45):
        story.fire("a")
    sorts = count_sorts(monkeypatch)
    asked: list[str] = []
    first_after = held.InSequence.first_after

    def counted(self: held.InSequence, moment: held.Moment | None, count: int) -> held.Chosen | None:
        asked.append(self.of)
        return first_after(self, moment, count)

    monkeypatch.setattr(held.InSequence, "first_after", counted)
    story.fire("a")
    # Twice where an event was dropped that met its leaf: as it was before, and as it is now.
    assert len(leaves) <= len(asked) <= 2 * len(leaves)
    assert not sorts


def test_an_event_that_matches_no_leaf_of_a_task_visits_none_of_its_instances() -> None:
    story = Story(
        {"t": {"after": ["b", {"trigger": "a", "where": "data.n > 1"}], "andEvery": "x", "run": "x.y"}}
    )
    for _ in range(5):
        story.fire("x")
    state = story.state
    assert state is not None
    for record in state.tasks.values():
        record.open = Unvisited(record.open)
    folded = step(story.rules, state, event(state.offset + 1, Trigger(name=TriggerName("a"), data={"n": 1})))
    assert isinstance(folded, Folded)
    assert TriggerName("a") in folded.state.seen


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of values of states that are decoded because they are looked at, from now on."""
    found: list[str] = []
    get = lazy.Block.get

    def counted(self: lazy.Block[Any, Any], key: Any) -> Any:  # noqa: ANN401 - of any block
        if key in self and key not in self._decoded:
            found.append(str(key))
        return get(self, key)

    monkeypatch.setattr(lazy.Block, "get", counted)
    return found


OPEN_INSTANCES: dict[str, JsonObject] = {
    "scheduled": {"after": [], "andEvery": "a", "run": "r"},
    "that wait": {"after": ["b"], "andEvery": "a", "unless": ["no"], "run": "r"},
}


@pytest.mark.parametrize("what", OPEN_INSTANCES)
def test_an_event_decodes_none_of_the_open_instances_that_it_does_not_concern(
    what: str, decoded: list[str]
) -> None:
    story = Story({"t": OPEN_INSTANCES[what], "u": {"after": ["c"], "run": "r"}})
    for n in range(300):
        story.fire("a", {"n": n})
    for name in ("a", "other", "c", "other"):
        assert story.state is not None
        state = wire.decode_lazily(wire.encode(story.state))
        story.state = state
        story.fire(name, {"n": -1})
        assert story.state is not None
        assert next_due(story.rules, story.state) is None
        assert tags_of(story.rules, SessionId("s"), story.state)
        assert waits_for(story.rules, story.state, SessionId("s")) == (("b",) if what == "that wait" else ())
    assert decoded == []
    assert len(story.statuses()) == 302


def test_an_outcome_decodes_its_own_instance_and_splits_no_block(
    decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story({"t": OPEN_INSTANCES["scheduled"]})
    for n in range(300):
        story.fire("a", {"n": n})
    for module in (lazy, changed_lines):
        monkeypatch.setattr(module, "split_lines", None)
    for number in (7, 250, 100):
        assert story.state is not None
        story.state = wire.decode_lazily(wire.encode(story.state))
        story.started(f"t#{number}")
    assert decoded == ["7", "250", "100"]
    assert story.state is not None
    state = wire.decode_lazily(wire.encode(story.state))
    monkeypatch.undo()
    assert {name for name, status in story.statuses().items() if status == "running"} == {
        "t#7",
        "t#250",
        "t#100",
    }
    assert state.tasks[TaskName("t")].open == story.state.tasks[TaskName("t")].open


def test_a_state_that_was_read_encodes_only_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story({"t": OPEN_INSTANCES["scheduled"]})
    for n in range(300):
        story.fire("a", {"n": n})
    assert story.state is not None
    story.state = wire.decode_lazily(wire.encode(story.state))
    story.fire("a", {"n": 300})
    assert story.state is not None
    made: list[object] = []
    encode, encode_lines = blocks.encode_value, blocks.encode_lines

    def counted(value: Struct) -> bytes:
        made.append(value)
        return encode(value)

    def counted_lines(values: Sequence[Struct]) -> bytes:
        made.extend(values)
        return encode_lines(values)

    monkeypatch.setattr(blocks, "encode_value", counted)
    monkeypatch.setattr(blocks, "encode_lines", counted_lines)
    wire.encode(story.state)
    # The parts of its command twice, to find those that have the same; it; the event of the one before.
    assert len(made) == 4


def test_packing_many_instances_and_events_encodes_them_together(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story({"t": OPEN_INSTANCES["scheduled"]})
    for n in range(300):
        story.fire("a", {"n": n})
    assert story.state is not None
    encoded: list[str] = []
    encode = blocks.encode_value

    def counted(value: Struct) -> bytes:
        encoded.append(type(value).__name__)
        return encode(value)

    monkeypatch.setattr(blocks, "encode_value", counted)
    packed = wire.pack(story.state)
    assert encoded == ["Sent"]  # the one that all have
    read = wire.decode(wire.encode_packed(packed))
    assert read.tasks[TaskName("t")].open == story.state.tasks[TaskName("t")].open
    assert read.seen == story.state.seen
    assert read.kept == story.state.collected().kept


def test_an_event_decodes_none_of_the_events_of_many_other_triggers(decoded: list[str]) -> None:
    story = Story({"t": {"after": [f"a{n}" for n in range(200)], "run": "r"}})
    for n in range(199):
        story.fire(f"a{n}", {"n": n})
        assert story.state is not None
        story.state = wire.decode_lazily(wire.encode(story.state))
    assert decoded == []
    story.fire("a199")
    assert len(decoded) == 8  # and then all others together
    assert len(story.commands[0].kwargs) == 200


def rules_of(story: Story, task: Task) -> Rules:
    """The rules of a story with one task."""
    config = Configuration(hash=ConfigHash("h"), text="{}", tasks=(task,))
    return Rules(
        app=story.app, history=(AppliedConfiguration(config=config, offset=-1, arrival_us=START_US),)
    )


def event(offset: int, body: Trigger | Timer, *, arrival_us: int = START_US) -> Event:
    """An event of the session."""
    kind = body.name if isinstance(body, Trigger) else "triggerstream.timer"
    return Event(
        session=SessionId("s"), offset=offset, arrival_us=arrival_us, time_us=arrival_us, type=kind, body=body
    )


def test_places_are_counted_once_however_many_instances_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []

    def count(record: TaskRecord) -> TaskPlaces:
        counted.append(len(record.open))
        return count_places(record)

    monkeypatch.setattr(draft, "count_places", count)
    story = Story({"t": {"after": [], "andEvery": "a", "run": "x.y", "maxConcurrency": 1}})
    for _ in range(100):
        story.fire("a")
    for number in range(100):
        story.finished(f"t#{number}")
    assert len(story.commands) == 100
    assert counted == [1]


def test_a_task_without_a_limit_counts_no_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draft, "count_places", None)
    story = Story(TASKS | {"limited": {"after": ["z"], "run": "x.y", "maxConcurrency": 1}})
    story.fire("a")
    story.failed("t_retried#0")
    story.fire("b", at=7_200)
    assert len(story.commands) == 3


def test_tasks_come_in_the_order_of_the_file() -> None:
    rules = Story(TASKS).rules
    names = [TaskName(name) for name in ("t_waits", "t_gone", "t_retried")]
    assert [task.name for task in rules.current.config.among(names)] == ["t_retried", "t_waits"]
    assert Rules(app=rules.app).current.config.among(names) == []


@pytest.mark.parametrize(
    ("leaf", "most"),
    [
        ({"trigger": "a", "count": 1_000}, 0),
        # The time of the earlier event of the same key.
        ({"trigger": "a", "count": 1_000, "key": "data.by"}, 1),
    ],
)
def test_an_event_of_a_leaf_that_holds_its_newest_asks_for_no_times(
    monkeypatch: pytest.MonkeyPatch, leaf: JsonObject, most: int
) -> None:
    story = Story({"t": {"after": [leaf, "b"], "within": "1d", "run": "x.y"}})
    for n in range(1_000):
        story.fire("a", {"by": n})
    asked: list[int] = []
    time_of = SessionState.time_of

    def counted(state: SessionState, name: TriggerName, ref: int) -> int:
        asked.append(ref)
        return time_of(state, name, ref)

    monkeypatch.setattr(SessionState, "time_of", counted)
    for n in (0, 5, 5_000):
        asked.clear()
        story.fire("a", {"by": n})
        assert len(asked) <= most
    story.fire("b")
    assert len(story.commands) == 1


def lines_run(run: Callable[[], object]) -> int:
    """The lines of Python that ``run`` executes: a measure of work that no other process changes."""
    count = 0

    def note(_frame: FrameType, event: str, _: object) -> Any:  # noqa: ANN401 - a trace function returns itself
        nonlocal count
        count += event == "line"
        return note

    before = sys.gettrace()
    sys.settrace(note)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


TIMERS: dict[str, JsonObject] = {
    "deadlines": {"t": {"after": ["b"], "andEvery": "a", "deadline": "1h", "run": "r"}},
    "delays": {"t": {"after": [], "andEvery": "a", "delay": "1h", "run": "r"}},
    "retries": {"t": {"after": [], "andEvery": "a", "retry": {"max": 1, "backoff": "1h"}, "run": "r"}},
    "timeouts that each begin an instance": {
        "t": {"after": ["b"], "andEvery": "a", "deadline": "1h", "run": "r"},
        "u": {"after": [], "andEvery": "t.timeout", "run": "r"},
    },
    "timeouts that each begin an instance with a deadline": {
        "t": {"after": ["b"], "andEvery": "a", "deadline": "1h", "run": "r"},
        "u": {"after": ["ok"], "andEvery": "t.timeout", "deadline": "9h", "run": "r"},
    },
    "timeouts that one instance takes": {
        "t": {"after": ["b"], "andEvery": "a", "deadline": "1h", "run": "r"},
        "u": {"after": [{"trigger": "t.timeout", "count": 1_000}], "run": "r"},
    },
    "rounds": {"t": {"after": ["a"], "repeat": {"every": "1s", "max": 1_000}, "run": "r"}},
}


@pytest.mark.parametrize("what", TIMERS)
def test_timers_of_one_session_that_are_due_at_once_cost_each_as_much_however_many_they_are(
    what: str,
) -> None:
    if "MUTANT_UNDER_TEST" in os.environ:
        pytest.skip("waits for a run without mutmut, which wraps each function in others")

    def work(count: int) -> int:
        story = Story(TIMERS[what])
        for _ in range(1 if what == "rounds" else count):
            story.fire("a", at=0)
            if what == "retries":
                story.failed(f"t#{story.result.state.tasks[TaskName('t')].next - 1}", at=0)
        silence_s = count if what == "rounds" else 7_200
        known, rules = story.state, story.rules
        late = Event(
            session=SessionId("s"),
            offset=10**6,
            arrival_us=START_US + silence_s * 1_000_000,
            time_us=START_US,
            type="",
            body=Timer(),
        )
        return lines_run(lambda: step(rules, known, late))

    few, many = work(100), work(400)
    # A heap of four times as many takes two comparisons more for each, which are no lines of Python.
    assert few > 100 * 10
    assert many < 4.4 * few
