"""Conditions as trees: what meets each leaf, why the latest event does not count, and the laws of both."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest

from tests.core import reference_of_conditions as reference_
from tests.core.compared import Folding, Reading
from tests.core.logs_of_conditions import APP, Scenario, numbered_scenario
from tests.core.logs_of_time import numbered_timed_scenario
from tests.core.reference_of_conditions import File, Held, Line, Reference
from tests.core.reference_of_conditions import Session as Past
from triggerstream.core.condition_tree import GroupTree, LeafTree, TreeNode
from triggerstream.core.conditions import Condition
from triggerstream.core.explain import Conditions, Explainer
from triggerstream.core.ids import Json, JsonObject, LeafName, SessionId, TaskName, split_instance_id
from triggerstream.core.lacking import missing_in_words, missing_triggers
from triggerstream.core.projections import explain, statuses
from triggerstream.core.slots import met_leaves
from triggerstream.core.state import Instance, SessionState
from triggerstream.core.where import Evaluation, Where, evaluate_where
from triggerstream.wire.answers import from_json, to_json

SECOND_US = 1_000_000
START_US = 1_767_225_600 * SECOND_US
SATISFIED = {"delayed", "held", "scheduled", "running", "finished", "failed", "replayed"}


# ---- examples -----------------------------------------------------------------------------------


class Told:
    """A session whose tasks file uses the language, told event by event."""

    def __init__(self, file: File) -> None:
        self.folding = Folding.of(file, Reading())
        self.offset = 0

    def fire(self, trigger: str, *, time: int | None = None, **data: Json) -> None:
        """Fire a trigger; ``time`` is its event time in seconds."""
        arrival_us = START_US + self.offset * SECOND_US
        time_us = arrival_us if time is None else START_US + time * SECOND_US
        line = Line(
            offset=self.offset, arrival_us=arrival_us, session="s", type=trigger, data=data, time_us=time_us
        )
        self.read(line)

    def report(self, kind: str, instance: str, **data: Json) -> None:
        """Report an outcome."""
        command = self.explained()["tasks"]
        found = next(one for task in command for one in task["instances"] if one["instance"] == instance)
        data = {"instance": instance, "command": found["command"], **data}
        kind = f"triggerstream.task.{kind}"
        at_us = START_US + self.offset * SECOND_US
        self.read(
            Line(offset=self.offset, arrival_us=at_us, session="s", type=kind, data=data, time_us=at_us)
        )

    def apply(self, file: File) -> None:
        """Put another tasks file in force."""
        self.read(Line(offset=self.offset, arrival_us=START_US + self.offset * SECOND_US, file=file))

    def read(self, line: Line) -> None:
        self.folding.read(line)
        self.offset += 1

    def explained(self, task: str | None = None) -> Any:  # noqa: ANN401 - JSON, looked into by the tests
        state = self.folding.states[SessionId("s")]
        named = None if task is None else TaskName(task)
        found = explain(self.folding.rules, SessionId("s"), state, task=named)
        assert from_json(to_json(found), type(found)) == found
        return to_json(found)

    def instance(self, name: str = "t#0") -> Any:  # noqa: ANN401 - as above
        instances = [one for task in self.explained()["tasks"] for one in task["instances"]]
        return next(one for one in instances if one["instance"] == name)

    def leaf(self, name: str, *, side: str = "after", instance: str = "t#0") -> Any:  # noqa: ANN401 - as above
        return next(leaf for leaf in leaves(self.instance(instance)[side]) if leaf["leaf"] == name)

    def last(self, name: str, **where: str) -> str | None:
        """Why the latest event of a leaf's trigger does not count."""
        found = self.leaf(name, **where).get("last")
        if found is None:
            return None
        says: str = found["says"]
        return says


def leaves(node: JsonObject) -> Iterator[JsonObject]:
    """The leaves of a tree in JSON."""
    if "leaf" in node:
        yield node
        return
    first = next(iter(node.values()))
    assert isinstance(first, list)
    for member in first:
        assert isinstance(member, dict)
        yield from leaves(member)


def task(*after: Any, **keys: Json) -> JsonObject:  # noqa: ANN401 - conditions in JSON
    """A task; keys are spelt as in the file."""
    return {"after": list(after), "run": "app.run", **keys}


def test_a_tree_has_the_form_of_the_file() -> None:
    approved = {"trigger": "approved", "where": "data.level >= 2", "key": "data.by", "count": 2}
    either: JsonObject = {"atLeast": 1, "of": ["x", {"all": ["y", "z"]}]}
    told = Told({"t": task("ordered", approved, either, {"sequence": ["m", "n"]})})
    told.fire("ordered", n=1)
    told.fire("approved", level=2, by="ann")
    told.fire("y")
    told.fire("approved", level=1, by="bob")
    after = told.instance()["after"]
    assert [next(iter(node)) for node in after["all"]] == ["leaf", "leaf", "atLeast", "sequence"]
    assert (after["need"], after["have"], after["met"]) == (4, 1, False)
    assert after["all"][1] == {
        "leaf": "approved",
        "trigger": "approved",
        "where": "data.level >= 2",
        "met": False,
        "need": 2,
        "have": 1,
        "by": [
            {
                "offset": 1,
                "time": "2026-01-01T00:00:01Z",
                "key": "ann",
                "data": {"level": 2, "by": "ann"},
            }
        ],
        "last": {"offset": 3, "says": "its `where` is false"},
    }
    assert after["all"][2]["atLeast"][1] | {"all": []} == {"all": [], "need": 2, "have": 1, "met": False}
    assert told.instance()["says"] == "waits for 1 more approved, (x or z) and (m, then n)"
    assert told.explained()["waitsFor"] == ["approved", "x", "z", "m", "n"]


def test_what_a_leaf_did_not_take_is_said_with_the_reason() -> None:
    each = {"trigger": "file", "key": "data.name", "each": {"of": "batch", "list": "data.files"}}
    counted = {"trigger": "b", "count": 2, "key": "data.by", "as": "two"}
    told = Told(
        {
            "t": task(
                *("a", counted, {"trigger": "e", "where": "data.n"}, {"trigger": "f", "where": "data.n > 1"}),
                *("batch", each, {"sequence": ["q", "r"]}, "never", {"trigger": "g", "count": 1}),
                unless=[{"trigger": "no", "where": "data.n > 1"}, "never"],
                unlessFrom="instance",
            )
        }
    )
    told.fire("no", n=2)
    told.fire("a")
    assert told.last("no", side="unless") == "it came before the instance (`unlessFrom`)"
    told.fire("a")
    assert told.last("a") == "the leaf holds event 1 already"
    told.fire("b", by=True)
    assert told.last("two") == "it has no key: data.by is no string and no integer"
    told.fire("b", by=5)
    assert told.last("two") is None
    told.fire("b", by="5")
    assert told.last("two") == 'the leaf holds event 4 of the key "5" already'
    told.fire("b", by="x")
    told.fire("b", by="y")
    assert told.last("two") == "full: the leaf has its `count` of 2"
    told.fire("e", n=1)
    assert told.last("e") == "its `where` gives an integer, not true or false"
    told.fire("f")
    assert (told.last("f") or "").startswith("its `where` fails: ")
    told.fire("g")
    told.fire("g")
    assert told.last("g") == "full: the leaf has its `count` of 1"
    told.fire("batch", files=[1.5])
    assert told.last("batch") == (
        "data.files is no list of at most 1,000 strings and integers, which `file` needs"
    )
    told.fire("file", name="x")
    told.fire("batch", files=["x", "y", "x"])
    assert told.leaf("file")["missing"] == ["y"]
    told.fire("file", name="z")
    assert told.last("file") == 'the key "z" is not in the list'
    told.fire("r", time=50)
    assert told.last("r") == "too early for its place in the sequence: `q` is not met yet"
    told.fire("q", time=60)
    assert told.last("r") == "too early for its place in the sequence: it happened before event 17 of `q`"
    told.fire("q", time=70)
    assert told.last("q") == "not needed: event 17 holds its place in the sequence"


def test_an_event_that_has_an_earlier_place_of_its_sequence_is_not_too_early_for_a_later_one() -> None:
    places = [{"trigger": "s", "as": name} for name in ("x", "y", "z")]
    told = Told({"t": task({"sequence": places})})
    told.fire("s")
    assert [told.last(name) for name in ("x", "y", "z")] == [
        None,
        "it has the place `x` already",
        "it has the place `x` already",
    ]


def test_a_decided_instance_takes_no_more_and_shows_what_completed_it() -> None:
    told = Told({"t": task({"any": ["a", {"trigger": "b", "count": 2}]}, unless=["no"])})
    told.fire("b", n=1)
    told.fire("a", n=2)
    told.fire("b", n=3)
    instance = told.instance()
    assert instance["status"] == "scheduled"
    assert instance["completedBy"] == {"trigger": "a", "by": {"offset": 1, "time": "2026-01-01T00:00:01Z"}}
    assert instance["kwargs"] == {"a": {"n": 2}}
    assert instance["after"]["met"] is True
    assert told.last("b") == "the instance takes no more events: it is scheduled"
    told.fire("no")
    assert told.instance()["unless"]["met"] is True


def test_an_event_that_came_before_the_decision_is_told_from_one_that_came_too_late() -> None:
    told = Told({"t": task("a", unless=["no", "off"], unlessFrom="instance"), "u": task({"any": ["a", "b"]})})
    told.fire("no")
    told.fire("a")
    told.fire("b")
    last = told.leaf("no", side="unless")["last"]
    assert last == {"offset": 0, "says": "it came before the instance (`unlessFrom`)"}
    assert "last" not in told.leaf("off", side="unless")
    assert told.leaf("b", instance="u#0")["last"] == {
        "offset": 2,
        "says": "the instance takes no more events: it is scheduled",
        "late": True,
    }


def test_a_task_whose_unless_alone_has_arrived_says_why_it_has_no_instance() -> None:
    told = Told({"t": task("a", unless=["no"], unlessFrom="instance")})
    told.fire("no")
    (shown,) = told.explained()["tasks"]
    assert shown["instances"] == []
    says = "no instance yet: no: event 0 does not count: it begins no instance (`unlessFrom`)"
    assert shown["says"] == says
    told.apply({"u": task("a")})
    assert [one["task"] for one in told.explained()["tasks"]] == []


def test_triggers_that_complete_a_long_condition_with_repeated_leaves_are_all_waited_for() -> None:
    pairs: list[Json] = [[f"a{n}", f"a{n + 1}"] for n in range(20)]
    told = Told({"t": task({"any": pairs}, "b")})
    told.fire("b")
    assert told.explained()["waitsFor"] == [f"a{n}" for n in range(21)]


def test_a_leaf_on_the_name_of_a_task_says_what_became_of_the_task() -> None:
    told = Told({"t": task("u", "b"), "u": task("a", "c", andEvery="a"), "v": task("z")})
    told.fire("b")
    assert told.leaf("u")["became"] == []
    for _ in range(25):
        told.fire("a")
    became = told.leaf("u")["became"]
    assert became == [{"instance": f"u#{number}", "status": "unstarted"} for number in range(5, 25)]
    assert "became" not in told.leaf("b")


def test_an_instance_that_was_decided_under_an_earlier_file_is_shown_with_what_it_captured() -> None:
    decided = task({"any": ["a", "b"]}, {"trigger": "c", "count": 2, "as": "twice"})
    told = Told({"t": decided})
    for trigger in ("c", "a", "c"):
        told.fire(trigger)
    told.apply({"t": task("x", "twice")})
    told.fire("other")
    after = told.instance()["after"]
    assert (after["met"], [next(iter(node)) for node in after["all"]]) == (True, ["any", "leaf"])
    # As far as the partition keeps the file; otherwise what it captured stands in a list.
    rules = told.folding.rules
    told.folding.rules = rules.forget(rules.current.offset)
    after = told.instance()["after"]
    assert [(leaf["leaf"], leaf["trigger"], leaf["met"]) for leaf in after["all"]] == [
        ("a", "a", True),
        ("twice", "c", True),
    ]
    assert [event["offset"] for event in after["all"][1]["by"]] == [0, 2]


def test_a_cancelled_instance_whose_file_is_gone_does_not_claim_what_it_does_not_know() -> None:
    told = Told({"t": task("a", {"trigger": "b", "count": 3}, "c")})
    told.fire("a")
    told.fire("b")
    told.apply({"u": task("x")})
    told.fire("other")
    told.folding.rules = told.folding.rules.forget(told.folding.rules.current.offset)
    instance = told.instance()
    assert instance["status"] == "cancelled"
    a, b = instance["after"]["all"]
    assert (a["met"], b["met"], b.get("need"), b["have"]) == (True, False, None, 1)
    assert instance["after"]["met"] is False


def test_events_that_only_unless_took_are_named_by_offset() -> None:
    told = Told({"t": task("a", "b", unless=["no", "never"])})
    told.fire("no", secret=1)
    told.fire("a")
    for _ in range(60):
        told.fire("no")
    assert told.leaf("no", side="unless")["by"] == [{"offset": 0}]


def test_many_instances_evaluate_an_expression_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told({"t": task("b", {"trigger": "a", "where": "data.n > 1"}, andEvery="c")})
    for _ in range(200):
        told.fire("c")
    told.fire("a", n=1)
    evaluated: list[str] = []

    def evaluate(where: Where, data: JsonObject, **rest: Any) -> Evaluation:  # noqa: ANN401 - as they are
        evaluated.append(where.text)
        return evaluate_where(where, data, **rest)

    monkeypatch.setattr("triggerstream.core.untaken.evaluate_where", evaluate)
    (shown,) = told.explained()["tasks"]
    assert [next(leaves(one["after"]["all"][1]))["last"] for one in shown["instances"]] == [
        {"offset": 200, "says": "its `where` is false"}
    ] * 200
    assert len(evaluated) == 1


@pytest.mark.parametrize(
    ("after", "events", "says", "waits_for"),
    [
        ([{"any": ["a", "b"]}, "c"], ["c"], "a or b", ["a", "b"]),
        ([{"any": ["a", "b"]}, "c"], ["a"], "c", ["c"]),
        ([{"any": [["a", "b"], "c"]}], ["a"], "b or c", ["b", "c"]),
        ([{"atLeast": 2, "of": ["a", "b", "c"]}], ["b"], "a or c", ["a", "c"]),
        ([{"atLeast": 2, "of": ["a", "b", "c"]}, "d"], ["d"], "2 of a, b and c", ["a", "b", "c"]),
        ([{"atLeast": 2, "of": ["a", "b"]}, "d"], ["d"], "a and b", ["a", "b"]),
        ([{"sequence": ["a", "b", "c"]}, "d"], ["a"], "(b, then c) and d", ["b", "c", "d"]),
        ([{"trigger": "a", "count": 3}, "b"], ["b"], "3 a", ["a"]),
        ([{"trigger": "a", "count": 3}, "b"], ["b", "a"], "2 more a", ["a"]),
        ([{"trigger": "a", "as": "first"}, "b"], ["b"], "a as first", ["a"]),
        (
            [{"any": ["a", ["b", {"sequence": ["c", "d"]}]]}, "x", "y"],
            ["y"],
            "(a or [b and (c, then d)]) and x",
            ["a", "b", "c", "d", "x"],
        ),
        ([{"any": ["a", "b"]}, "a", "c"], ["c"], "a", ["a"]),
        ([{"any": ["a", ["a", "b"]]}, "c"], ["c"], "a", ["a"]),
        ([{"any": [["a", "b"], ["a", "c"]]}], ["b"], "a", ["a"]),
        ([{"any": [["a", "b"], ["a", "c"]]}], ["a"], "b or c", ["b", "c"]),
        ([{"atLeast": 2, "of": ["a", ["a", "b"], "c"]}], ["c"], "a", ["a"]),
        ([{"atLeast": 2, "of": ["a", ["a", "b"], "c"]}], ["a"], "b or c", ["b", "c"]),
        (
            [{"any": ["d", {"trigger": "a", "key": "data.k", "each": {"of": "b", "list": "data.l"}}]}, "b"],
            ["c", "a"],
            "(d or a for each element of b) and b",
            ["d", "a", "b"],
        ),
    ],
)
def test_what_a_condition_lacks_is_said_and_waited_for(
    after: list[Json], events: list[str], says: str, waits_for: list[str]
) -> None:
    told = Told({"t": task(*after)})
    for trigger in events:
        told.fire(trigger, k="k")
    assert told.instance()["says"] == f"waits for {says}"
    assert told.explained()["waitsFor"] == waits_for


def seeds(first: int) -> list[Any]:
    """Starts of tens of scenarios: 30 scenarios in a normal run, 1,000 in the full one."""
    few = [pytest.param(seed) for seed in range(first, first + 30, 10)]
    return few + [pytest.param(n, marks=pytest.mark.faults) for n in range(first + 30, first + 1_000, 10)]


# ---- laws, against the reference ----------------------------------------------------------------


reader = Reading()


class Compared:
    """A scenario told to the fold and to the reference evaluator."""

    def __init__(self, scenario: Scenario, *, changes: bool) -> None:
        self.folding = Folding.of(scenario.file, reader, at_once=True)
        self.reference = Reference(APP, scenario.file)
        self.changed = False
        self.lines = [line for line in scenario.lines if changes or line.file is None]

    def __iter__(self) -> Iterator[tuple[Past, SessionState]]:
        """After each line, the sessions that it may have changed, as both have them."""
        for line in self.lines:
            self.folding.read(line)
            self.reference.read(line)
            self.changed |= line.file is not None
            for session, state in self.folding.states.items():
                if line.file is not None or session == line.session:
                    yield self.reference.sessions[session], state

    def conditions(self, past: Past, state: SessionState, name: TaskName, instance: Instance) -> Conditions:
        """The conditions of an instance."""
        return Explainer(self.folding.rules, SessionId(past.name), state).conditions(name, instance)

    def instances(
        self, past: Past, state: SessionState
    ) -> Iterator[tuple[reference_.One, TaskName, Instance]]:
        """The instances that both keep."""
        known = {one.name: one for one in past.instances}
        for name, instance in statuses(state).items():
            parts = split_instance_id(name)
            assert parts is not None
            yield known[name], parts[0], instance


def check_node(node: TreeNode, said: Any, tree: Any, held: Held, *, events: bool = True) -> None:  # noqa: ANN401 - conditions in JSON
    """A node of the tree against the same node of the file; ``events``: those of the leaves, too."""
    assert node.met == reference_.is_satisfied(tree, said, held), (node, said)
    members = reference_.members_of(said)
    if members is None:
        assert isinstance(node, LeafTree)
        assert node.need is None or node.met == (node.have >= node.need)
        assert len(node.by) == node.have
        if events:
            check_leaf(node, tree, held)
        return
    assert isinstance(node, GroupTree)
    assert (node.met, node.have) == (node.have >= node.need, sum(member.met for member in node.members))
    for member, of_file in zip(node.members, members, strict=True):
        check_node(member, of_file, tree, held, events=events)


def check_leaf(leaf: LeafTree, tree: Any, held: Held) -> None:  # noqa: ANN401 - conditions in JSON
    of_file = reference_.leaves(tree)[leaf.leaf]
    assert leaf.trigger == of_file["trigger"]
    assert leaf.where == of_file.get("where")
    names = reference_.sequence_of(tree, leaf.leaf)
    events = held.get(leaf.leaf, [])
    if names is not None:
        in_sequence = reference_.in_sequence(tree, names, held)
        events = in_sequence.get(leaf.leaf, [])
        if leaf.leaf not in in_sequence and "count" in of_file:
            events = unfinished(names, leaf.leaf, in_sequence, held)
    in_log = [one.offset for one in sorted(events, key=lambda event: event.moment)]
    shown = [one.offset for one in leaf.by]
    assert (sorted(one or 0 for one in shown) if "each" in of_file else shown) == in_log
    if leaf.need is not None:
        assert leaf.met == (leaf.have >= leaf.need)
        assert leaf.have <= leaf.need
        if "each" in of_file:
            assert leaf.need - leaf.have == len(leaf.missing)


def unfinished(
    names: list[str], name: str, met: dict[str, list[reference_.Fired]], held: Held
) -> list[reference_.Fired]:
    """The events of a leaf with ``count`` in a sequence that could count, although there are too few."""
    before = names[: names.index(name)]
    if any(one not in met for one in before):
        return []
    last = met[before[-1]][-1] if before else None
    place = (-(2**63), -1) if last is None else (last.time_us, last.moment)
    return [one for one in held.get(name, []) if (one.time_us, one.moment) > place]


@pytest.mark.parametrize("seed", seeds(0))
def test_each_node_is_met_if_the_reference_says_so(seed: int) -> None:
    for number in range(seed, seed + 10):
        compared = Compared(numbered_scenario(number), changes=True)
        for past, state in compared:
            for one, name, instance in compared.instances(past, state):
                if one.status != "unstarted" or name not in compared.reference.file:
                    continue
                shown = compared.conditions(past, state, name, instance)
                of_file = compared.reference.file[name]
                tree = reference_.conditions(of_file, "after")
                check_node(shown.after.root, tree, tree, compared.reference.held(past, one, "after"))
                if shown.unless is not None:
                    tree = reference_.conditions(of_file, "unless")
                    held = compared.reference.held(past, one, "unless")
                    check_node(shown.unless.root, tree, tree, held, events=not compared.changed)


@pytest.mark.parametrize("seed", seeds(1000))
def test_the_tree_is_met_if_and_only_if_the_instance_was_satisfied(seed: int) -> None:
    for number in range(seed, seed + 10):
        compared = Compared(numbered_scenario(number), changes=False)
        for past, state in compared:
            for one, name, instance in compared.instances(past, state):
                shown = compared.conditions(past, state, name, instance)
                if one.status == "abandoned":
                    assert shown.unless is not None
                    assert shown.unless.met
                elif one.status in {"skipped", "cancelled", "expired"}:
                    assert shown.after.met or instance.decided_us is None
                else:
                    assert shown.after.met == (one.status in SATISFIED), one


@pytest.mark.parametrize("seed", seeds(1500))
def test_with_keys_of_time_the_tree_is_met_if_and_only_if_the_instance_was_satisfied(seed: int) -> None:
    for number in range(seed, seed + 10):
        compared = Compared(numbered_timed_scenario(number), changes=False)
        for past, state in compared:
            for one, name, instance in compared.instances(past, state):
                shown = compared.conditions(past, state, name, instance)
                if one.status in {"skipped", "cancelled", "expired", "abandoned"}:
                    assert shown.after.met or instance.decided_us is None
                else:
                    assert shown.after.met == (one.status in SATISFIED), one


@pytest.mark.parametrize("seed", seeds(2000))
def test_the_events_of_the_tree_are_those_of_the_kwargs(seed: int) -> None:
    for number in range(seed, seed + 10):
        compared = Compared(numbered_scenario(number), changes=True)
        for past, state in compared:
            for one, name, instance in compared.instances(past, state):
                if instance.sent is None or instance.kwargs is not None or one.replaced is not None:
                    continue
                shown = compared.conditions(past, state, name, instance)
                brought = {leaf.leaf: leaf for leaf in shown.after.leaves() if leaf.met}
                assert shown.after.met
                assert {str(leaf) for leaf in brought} == set(state.stored_kwargs(instance))
                for leaf, value in state.stored_kwargs(instance).items():
                    assert data_of(brought[LeafName(leaf)], value) == value, leaf


def data_of(leaf: LeafTree, kwarg: Json) -> Json:
    """The data of a leaf's events in the form of its kwarg: a list, an object by key, or one event's."""
    if isinstance(kwarg, list):
        return [event.data for event in leaf.by]
    if not leaf.by or leaf.by[0].key is not None:
        return {str(event.key): event.data for event in leaf.by}
    (event,) = leaf.by
    return event.data


@pytest.mark.parametrize("seed", seeds(3_000))
def test_waited_for_is_each_trigger_that_could_complete_a_condition(seed: int) -> None:
    for number in range(seed, seed + 10):
        compared = Compared(numbered_scenario(number), changes=False)
        for past, state in compared:
            for one, name, instance in compared.instances(past, state):
                if one.status != "unstarted":
                    continue
                condition = compared.folding.rules.current.config.by_name[name].after
                met = met_leaves(condition, instance.captured)
                needed = {condition.slots[leaf].leaf for leaf in completing(condition, met)}
                expected = {leaf.trigger for leaf in needed}
                waited_for = set(missing_triggers(condition, instance.captured))
                lists = {
                    condition.slots[leaf.each.of].leaf.trigger for leaf in needed if leaf.each is not None
                }
                assert expected <= waited_for <= expected | lists
                assert bool(waited_for) == (missing_in_words(condition, instance.captured) is not None)


def completing(condition: Condition, met: set[LeafName]) -> set[LeafName]:
    """The leaves that some others, met or not, leave a condition to be completed by."""
    open_ = [name for name in condition.slots if name not in met]
    return {
        name
        for name in open_
        for number in range(len(open_))
        for others in combinations([one for one in open_ if one != name], number)
        if not condition.is_satisfied({*met, *others}) and condition.is_satisfied({*met, *others, name})
    }
