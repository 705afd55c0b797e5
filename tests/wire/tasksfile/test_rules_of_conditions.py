"""What is doubtful about conditions that are nested, filtered and counted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.language_files import CONSTRUCTS, DATA, tasks_files
from tests.core.strategies import TRIGGERS, play, rules_of
from triggerstream.core.events import Event, Trigger
from triggerstream.core.ids import Json, JsonObject, SessionId, TriggerName
from triggerstream.wire.tasksfile import check


def codes(tasks: JsonObject) -> list[tuple[str, str]]:
    _, findings = check(json.dumps(tasks), name="tasks.json")
    return [(finding.code, finding.path) for finding in findings]


def messages(tasks: JsonObject) -> list[str]:
    _, findings = check(json.dumps(tasks), name="tasks.json")
    return [finding.message for finding in findings]


def task(after: list[Json], *, unless: list[Json] | None = None, **more: Json) -> JsonObject:
    return {"after": after, "run": "x", **({} if unless is None else {"unless": unless}), **more}


def either(*members: Json) -> Json:
    return {"any": list(members)}


def some(need: int, *members: Json) -> Json:
    return {"atLeast": need, "of": list(members)}


def leaf(trigger: str, **more: Json) -> Json:
    return {"trigger": trigger, **({"as": more.pop("name")} if "name" in more else {}), **more}


HIGH: Json = leaf("a", where="data.score > 3")
LOW: Json = leaf("a", where="data.score <= 3")
FOR_EACH: Json = leaf("t_b", key="data.id", each={"of": "a", "list": "data.ids"})


# ---- tasks that wait for one another ------------------------------------------------------------


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        ({"t_a": task([either("t_a", "b")])}, []),
        ({"t_a": task([either("t_a", "t_b")]), "t_b": task(["b"])}, []),
        ({"t_a": task([either("t_a", ["t_a", "b"])])}, [("never-starts", "/t_a/after/0/any/0")]),
        ({"t_a": task([some(2, "t_a", "b", "c")])}, []),
        ({"t_a": task([some(3, "b", "t_a", "c")])}, [("never-starts", "/t_a/after/0/of/1")]),
        ({"t_a": task([{"sequence": ["b", "t_a"]}])}, [("never-starts", "/t_a/after/0/sequence/1")]),
        (
            {
                "t_a": task(["a", leaf("t_b", name="x")]),
                "t_b": task([either("t_a", "t_c")]),
                "t_c": task(["t_b"]),
            },
            [("never-starts", "/t_a/after/1/trigger")],
        ),
        # its list may be empty, but has no other use
        ({"t_b": task(["a", FOR_EACH])}, [("finishes-once", "/t_b/after/1/each")]),
        ({"t_b": task(["a"], andEvery=leaf("t_b", count=2))}, [("endless-loop", "/t_b/andEvery/trigger")]),
        ({"t_b": task([leaf("t_b", name="x")], andEvery="x")}, [("endless-loop", "/t_b/andEvery")]),
        ({"t_b": task([either("a", "t_b")], andEvery="a")}, []),
        (
            {
                "t_a": task([either("a", "t_b")], andEvery="t_b"),
                "t_b": task([leaf("t_a", name="x")], andEvery="x"),
            },
            [("endless-loop", "/t_a/andEvery")],
        ),
    ],
)
def test_rings_are_found_whatever_the_conditions(tasks: JsonObject, expected: list[tuple[str, str]]) -> None:
    assert codes(tasks) == expected


# ---- tasks that finish less often than is waited for --------------------------------------------


def once(**more: Json) -> JsonObject:
    return {"t_one": task(["a"]), **more}


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        (once(t=task([leaf("t_one", count=3)])), [("never-starts", "/t/after/0/count")]),
        (once(t=task([leaf("t_one", count=1)])), []),
        (once(t=task([leaf("t_one", key="data.id", count=2)])), [("never-starts", "/t/after/0/count")]),
        (once(t=task([], andEvery=leaf("t_one", count=2))), [("never-starts", "/t/andEvery/count")]),
        ({"t_one": task([], andEvery="a"), "t": task([leaf("t_one", count=3)])}, []),
        # each run of t_two needs one of t_one
        (
            once(t_two=task([], andEvery="t_one"), t=task([leaf("t_two", count=2)])),
            [("never-starts", "/t/after/0/count")],
        ),
        # t_two may start with b, and once more with t_one
        (
            once(t_two=task([either("t_one", "b")], andEvery="t_one"), t=task([leaf("t_two", count=2)])),
            [],
        ),
        (
            once(t_two=task([either("t_one", "b")], andEvery="t_one"), t=task([leaf("t_two", count=3)])),
            [("never-starts", "/t/after/0/count")],
        ),
        (
            once(t=task([{"sequence": ["t_one", leaf("t_one", name="again")]}])),
            [("never-starts", "/t/after/0/sequence/1/trigger")],
        ),
        (
            once(t=task([{"sequence": ["b", leaf("t_one", count=2)]}])),
            [("never-starts", "/t/after/0/sequence/1/count")],
        ),
        (once(t=task([{"sequence": ["a", "t_one"]}])), []),
        (once(t=task(["t_one", leaf("t_one", where="data.x > 1", name="again")])), []),
        (once(t=task([either("b", leaf("t_one", count=2))])), [("finishes-once", "/t/after/0/any/1/count")]),
        (
            once(t=task(["a"], unless=[leaf("t_one", count=2)], unlessFrom="instance")),
            [("finishes-once", "/t/unless/0/count")],
        ),
        (
            once(t=task(["a", leaf("t_one", key="data.id", each={"of": "a", "list": "data.ids"})])),
            [("finishes-once", "/t/after/1/each")],
        ),
        # its `andEvery` is unknown, so nothing is concluded
        (
            {"t_one": task(["a"], andEvery=5), "t": task([leaf("t_one", count=3)])},
            [("wrong-type", "/t_one/andEvery")],
        ),
    ],
)
def test_more_finishes_than_a_task_has_are_a_warning(
    tasks: JsonObject, expected: list[tuple[str, str]]
) -> None:
    assert codes(tasks) == expected


def test_the_warning_says_how_often_a_task_finishes() -> None:
    (message,) = messages(once(t=task([leaf("t_one", count=3)])))
    assert message == (
        "`t_one` finishes once in a session (only `andEvery` and `repeat` make a task run again), and 3 are "
        "waited for, so this can never start unless an application fires a trigger of that name"
    )


def test_leaves_of_one_name_in_after_and_unless_are_told_apart() -> None:
    after: list[Json] = [leaf("t_one", name="x", count=2)]
    unless: list[Json] = [leaf("a", name="x", count=2)]
    tasks = once(t=task(after, unless=unless, unlessFrom="instance"))
    assert codes(tasks) == [("never-starts", "/t/after/0/count")]
    tasks = once(t=task(unless, unless=after, unlessFrom="instance"))
    assert codes(tasks) == [("finishes-once", "/t/unless/0/count")]


# ---- after and unless ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "unless"),
    [
        (["a", "b"], [either("a", "c")]),
        ([either("a", "b")], [either("b", "a")]),
        ([either(["a", "b"], ["a", "c"])], ["a"]),
        ([some(2, "a", "b", "c")], [either("a", "b")]),
        ([some(2, "a", "b", "c")], [some(2, "c", "b", "a")]),
        ([{"sequence": ["a", "b"]}], ["b", "a"]),
        ([leaf("a", count=2), "b"], ["a"]),
        ([HIGH], ["a"]),
        ([HIGH], [HIGH]),
        ([leaf("a", name="x")], [leaf("a", name="y")]),
    ],
)
def test_a_task_that_is_abandoned_whenever_it_could_start(after: list[Json], unless: list[Json]) -> None:
    (found, *_) = codes({"t": task(after, unless=unless)})
    assert found[0] == "never-starts"
    assert found[1].startswith("/t/unless/0")


@pytest.mark.parametrize(
    ("after", "unless", "expected"),
    [
        ([either("a", "b")], ["a"], ["`a` is also waited for: once it has arrived, it abandons"]),
        (
            [some(2, "a", "b", "c")],
            ["a", "b"],
            [
                f"`{name}` is also waited for: once the others of `unless` have arrived, it abandons"
                for name in "ab"
            ],
        ),
        (["a"], [HIGH], []),
        ([HIGH], [LOW], []),
        # an empty list meets `each` without an event
        (
            ["a", leaf("b", key="data.id", each={"of": "a", "list": "data.ids"})],
            ["b"],
            ["`b` is also waited for: once it has arrived, it abandons"],
        ),
    ],
)
def test_other_tasks_that_may_be_abandoned_by_what_they_wait_for(
    after: list[Json], unless: list[Json], expected: list[str]
) -> None:
    assert messages({"t": task(after, unless=unless)}) == expected


def test_what_made_an_instance_does_not_count_after_it() -> None:
    assert codes({"t": task(["a"], unless=["a"], unlessFrom="instance")}) == []


def test_conditions_with_too_many_ways_are_left_alone() -> None:
    names: list[Json] = [f"n{n}" for n in range(30)]
    assert {code for code, _ in codes({"t": task([some(15, *names)], unless=["n1"])})} == {"after-and-unless"}
    pairs = [either(f"l{n}", f"r{n}") for n in range(20)]
    assert {code for code, _ in codes({"t": task(pairs, unless=["l1"])})} == {"after-and-unless"}


# ---- lists and leaves ---------------------------------------------------------------------------


def test_alternatives_in_unless_are_answered_with_any() -> None:
    (message,) = messages(
        {"t": task(["a"], unless=["orderRejected", leaf("orderCancelled", where="data.x")])}
    )
    assert message.endswith('if any one should abandon it, write `[{"any": […]}]`')


@pytest.mark.parametrize(
    "unless",
    [
        [either("orderRejected", "orderCancelled")],
        [{"all": ["orderRejected", "orderCancelled"]}],
        [either("a", ["orderRejected", "orderCancelled"])],
        ["orderRejected", either("orderCancelled", "b")],
    ],
)
def test_who_combines_conditions_means_them(unless: list[Json]) -> None:
    assert codes({"t": task(["module1Received"], unless=unless)}) == []


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (["a", leaf("a", name="x")], [("equal-leaves", "/t/after/1/as")]),
        (
            [HIGH, either(leaf("a", where="data.score > 3", name="x"), "b")],
            [("equal-leaves", "/t/after/1/any/0/as")],
        ),
        ([HIGH, leaf("a", where="data.score > 4", name="x")], []),
        ([leaf("a", count=2), leaf("a", name="x")], []),
        ([{"sequence": ["a", leaf("a", name="x")]}], []),
        ([either({"sequence": ["a", "b"]}, leaf("a", name="x"))], []),
    ],
)
def test_leaves_that_differ_in_their_names_only(after: list[Json], expected: list[tuple[str, str]]) -> None:
    assert codes({"t": task(after)}) == expected


def test_equal_leaves_are_told_to_count() -> None:
    (message,) = messages({"t": task(["a", leaf("a", name="x")])})
    assert message == (
        "`x` is the same as `a` at 1:18 but for its name, so the same event meets both: to count events "
        "write `count`"
    )


def test_and_every_on_the_trigger_of_another_leaf_is_an_equal_leaf() -> None:
    assert codes({"t": task([leaf("a", name="x")], andEvery="a")}) == [("equal-leaves", "/t/andEvery")]


def test_names_that_are_no_identifiers_are_told_of_as() -> None:
    tasks: JsonObject = {"t": task(["a-b", leaf("c-d", name="e"), leaf("f", name="g-h")], unless=["i-j"])}
    assert [(code, path) for code, path in codes(tasks) if code != "not-an-identifier"] == []
    assert [path for _, path in codes(tasks)] == ["/t/after/0", "/t/after/2/as"]
    first, second = messages(tasks)
    assert first.endswith("through `**kwargs`: give it an `as`")
    assert second.endswith("through `**kwargs`: give it another `as`")


def test_parameters_are_by_leaf() -> None:
    after: list[Json] = [leaf("approved", name="late")]
    (found,) = messages({"t": task(after, withParams={"approved": {"n": 1}})})
    assert found.endswith("did you mean `late`?")
    assert codes({"t": task(after, withParams={"late": {"n": 1}})}) == []


def test_a_member_that_stands_twice_in_a_list_is_a_warning() -> None:
    assert codes({"t": task([either("a", "b"), "c", either("a", "b")])}) == [
        ("repeated-trigger", "/t/after/2")
    ]
    assert codes({"t": task([{"all": ["a", "a"]}])}) == [("repeated-trigger", "/t/after/0/all/1")]
    assert codes({"t": task([["a", "b"], ["a", "c"]])}) == []


def test_unless_from_without_unless_is_a_warning() -> None:
    assert codes({"t": task(["a"], unlessFrom="instance")}) == [("no-effect", "/t/unlessFrom")]


def test_nothing_is_concluded_from_what_could_not_be_made_out() -> None:
    tasks: JsonObject = {"t": task(["t", {"whre": "x"}], unless=["t"])}
    assert codes(tasks) == [("unknown-key", "/t/after/1/whre"), ("after-and-unless", "/t/unless/0")]


def test_similar_names_are_those_of_triggers_not_of_leaves() -> None:
    tasks: JsonObject = {"t": task([leaf("orderApproved", name="orderAproved"), leaf("b", name="c\u200b")])}
    assert codes(tasks) == [("not-an-identifier", "/t/after/1/as"), ("invisible-character", "/t/after/1/as")]
    tasks = {"t": task([either("orderApproved", leaf("orderAproved", name="x"))])}
    assert codes(tasks) == [("nearly-alike", "/t/after/0/any/1/trigger")]


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("true", "matches every event: leave it out"),
        ("1 > 2", "matches no event: the leaf is never met"),
        ("1", "matches no event: the leaf is never met"),
        ("data.x > 1", None),
    ],
)
def test_an_expression_that_is_constant_is_a_warning(where: str, says: str | None) -> None:
    tasks: JsonObject = {"t": task(["a", either("b", leaf("c", where=where))])}
    assert codes(tasks) == ([] if says is None else [("constant-where", "/t/after/1/any/1/where")])
    assert messages(tasks) == ([] if says is None else [says])


@pytest.mark.parametrize("where", ["2 <= data.level <= 4", "!data.score == 3", "data.x || !data.score == 3"])
def test_a_comparison_of_two_types_is_a_warning(where: str) -> None:
    assert codes({"t": task([leaf("a", where=where)])}) == [("mixed-types", "/t/after/0/where")]


# ---- against the fold ---------------------------------------------------------------------------

EVENTS = st.lists(st.tuples(st.sampled_from(TRIGGERS), st.sampled_from(DATA)), max_size=12)


@pytest.mark.laws
@given(tasks_files(constructs=CONSTRUCTS - {"cascade", "unlessFrom"}), EVENTS)
def test_a_task_that_never_starts_is_never_decided(
    file: JsonObject, events: list[tuple[TriggerName, JsonObject]]
) -> None:
    config, findings = check(json.dumps(file), name="tasks.json")
    assert config is not None
    never = {finding.path.split("/")[1] for finding in findings if finding.code == "never-starts"}
    entries = [
        Event(
            session=SessionId("s"),
            offset=offset,
            arrival_us=offset,
            time_us=offset,
            type=name,
            body=Trigger(name=name, data=data),
        )
        for offset, (name, data) in enumerate(events)
    ]
    assert never.isdisjoint(command.task for command in play(rules_of(config), entries).commands())
