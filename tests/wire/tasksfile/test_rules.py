"""What is doubtful about well-formed tasks, compared with what the fold makes of them."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggerstream.core.commands import Command
from triggerstream.core.errors import Finding
from triggerstream.core.events import Body, Event, Finished, Trigger
from triggerstream.core.fold import step
from triggerstream.core.ids import AppId, ConfigHash, Json, JsonObject, SessionId, TriggerName
from triggerstream.core.results import Folded
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import AppliedConfiguration, Configuration, Rules, Task
from triggerstream.wire.tasksfile import check
from triggerstream.wire.tasksfile.jsonc import parse
from triggerstream.wire.tasksfile.keys import read_tasks
from triggerstream.wire.tasksfile.nodes import Findings
from triggerstream.wire.tasksfile.rings import check_rings
from triggerstream.wire.tasksfile.rules import check_rules
from triggerstream.wire.tasksfile.task_keys import TASK_KEYS
from triggerstream.wire.tasksfile.tried_keys import INSTEAD, Operator, instead_of_operator


def findings_of(tasks: JsonObject) -> list[Finding]:
    _, findings = check(json.dumps(tasks, ensure_ascii=False), name="tasks.json")
    return list(findings)


def codes(tasks: JsonObject) -> list[tuple[str, str]]:
    return [(finding.code, finding.path) for finding in findings_of(tasks)]


def task(
    after: Sequence[Json], every: str | None = None, unless: Sequence[Json] | None = None, **more: object
) -> JsonObject:
    made: JsonObject = {"after": list(after), "run": "x"}
    if every is not None:
        made["andEvery"] = every
    if unless is not None:
        made["unless"] = list(unless)
    return json.loads(json.dumps(made | more))  # type: ignore[no-any-return]  # an object stays one


# Tasks that start one another for ever


def test_a_task_that_repeats_on_its_own_name_is_an_error() -> None:
    (finding,) = findings_of({"t_a": task([], "t_a")})
    assert (finding.severity, finding.code, finding.path) == ("error", "endless-loop", "/t_a/andEvery")
    assert finding.message.startswith("`t_a` would start itself for ever")


def test_tasks_that_repeat_on_one_another_are_one_error() -> None:
    tasks: JsonObject = {
        "t_z": task(["a"], "t_c", ["u"]),
        "t_a": task([], "t_z"),
        "t_c": task(["t_z"], "t_a"),
        "t_d": task([], "t_c"),
    }
    (finding,) = findings_of(tasks)
    assert (finding.code, finding.path) == ("endless-loop", "/t_z/andEvery")
    assert finding.message.startswith("`t_z`, `t_a` and `t_c` would start one another for ever")


def test_two_loops_are_two_errors() -> None:
    tasks: JsonObject = {
        name: task([], every) for name, every in (("a", "b"), ("b", "a"), ("c", "d"), ("d", "c"))
    }
    assert codes(tasks) == [("endless-loop", "/a/andEvery"), ("endless-loop", "/c/andEvery")]


def test_a_chain_of_repeating_tasks_is_fine() -> None:
    assert codes({"t_a": task([], "a"), "t_b": task([], "t_a"), "t_c": task(["t_a"], "t_b")}) == []


def test_a_loop_is_found_beside_other_errors() -> None:
    assert codes({"t_a": {"after": [], "andEvery": "t_a"}}) == [
        ("missing-key", "/t_a"),
        ("endless-loop", "/t_a/andEvery"),
    ]


# Tasks that never start


def test_a_task_that_waits_for_itself_is_a_warning() -> None:
    (finding,) = findings_of({"t_a": task(["a", "t_a"])})
    assert (finding.severity, finding.code, finding.path) == ("warning", "never-starts", "/t_a/after/1")
    assert "unless an application fires a trigger of that name" in finding.message


def test_tasks_that_wait_for_one_another_are_one_warning() -> None:
    tasks: JsonObject = {
        "t_a": task(["a", "t_c"]),
        "t_b": task(["t_a"]),
        "t_c": task([], "t_b"),
        "t_d": task(["t_c"]),
    }
    (finding,) = findings_of(tasks)
    assert (finding.severity, finding.code, finding.path) == ("warning", "never-starts", "/t_a/after/1")
    assert finding.message.startswith("`t_a`, `t_b` and `t_c` wait for one another in a ring")


def test_a_chain_of_two_thousand_repeating_tasks_is_read_in_a_moment() -> None:
    """Nothing limits how often its tasks run: a walk through all of it for each of them takes minutes."""
    tasks: JsonObject = {f"t_{i}": task([], f"t_{i - 1}" if i else "a") for i in range(2_000)}
    assert codes(tasks) == []


@pytest.mark.slow
def test_a_ring_of_ten_thousand_tasks_is_found() -> None:
    tasks: JsonObject = {f"t_{i}": task([f"t_{(i + 1) % 10_000}"]) for i in range(10_000)}
    assert codes(tasks) == [("never-starts", "/t_0/after/0")]


def test_a_task_abandoned_by_all_that_it_waits_for_is_a_warning() -> None:
    assert codes({"t_a": task(["a", "b"], unless=["b"])}) == [("never-starts", "/t_a/unless/0")]
    assert codes({"t_a": task(["a"], "b", unless=["b", "a"])}) == [("never-starts", "/t_a/unless/0")]


def test_a_trigger_in_after_and_unless_is_a_warning() -> None:
    assert codes({"t_a": task(["a", "b"], unless=["c", "b"])}) == [("after-and-unless", "/t_a/unless/1")]


# Other doubts


@pytest.mark.parametrize(
    "unless",
    [
        ["orderRejected", "orderCancelled"],
        ["order.cancelled", "order.withdrawn"],
        ["cancel_order", "reject_order"],
        ["paymentConfirmed", "paymentCompleted"],
        ["reportOpened", "reportClosed"],
        ["orderApproved", "a", "orderRejected"],
        ["ORDER_REJECTED", "ORDER_EXPIRED"],
        ["t_ship", "t_ship.timeout"],
        ["t_ship.timeout", "a", "t_ship"],
    ],
)
def test_alternatives_in_unless_are_a_warning(unless: list[str]) -> None:
    assert codes({"t_a": task(["module1Received"], unless=unless)}) == [
        ("unless-alternatives", "/t_a/unless")
    ]


@pytest.mark.parametrize(
    "unless",
    [
        ["orderRejected"],
        ["module1Failed", "module2Failed"],
        ["emailBounced", "smsFailed"],
        ["consentMissing", "surveyClosed"],
        ["cancelled", "expired"],
        ["surveyTimedOut", "surveyClosed"],
        ["a", "b"],
        ["t_ship", "t_pay.timeout"],
    ],
)
def test_other_lists_in_unless_are_taken_at_their_word(unless: list[str]) -> None:
    assert codes({"t_a": task(["module1Received"], unless=unless)}) == []


def test_names_that_no_python_function_can_have_as_parameters_are_a_warning() -> None:
    found = findings_of({"t-a": task(["a-b", "class", "größe"], "c.d", ["e-f"], withParams={"g h": 1})})
    assert [(f.code, f.path) for f in found if f.code == "not-an-identifier"] == [
        ("not-an-identifier", "/t-a/after/0"),
        ("not-an-identifier", "/t-a/after/1"),
        ("not-an-identifier", "/t-a/andEvery"),
        ("not-an-identifier", "/t-a/withParams/g h"),
    ]
    assert len(found) == 4
    assert "**kwargs" in found[0].message


def test_a_parameter_with_another_number_than_a_trigger_is_no_typing_error() -> None:
    params: dict[str, object] = {"module2Received": {}, "module10Recieved": {}}
    (finding,) = findings_of({"t_a": task(["module1Received", "module10Received"], withParams=params)})
    assert (finding.code, finding.path) == ("params-key-typo", "/t_a/withParams/module10Recieved")
    assert finding.message.endswith("did you mean `module10Received`?")


def test_a_parameter_that_nearly_names_a_trigger_is_a_warning() -> None:
    (finding,) = findings_of(
        {"t_a": task(["module1Received"], withParams={"module1Recieved": {}, "language": 1})}
    )
    assert (finding.code, finding.path) == ("params-key-typo", "/t_a/withParams/module1Recieved")
    assert "did you mean `module1Received`?" in finding.message
    both: JsonObject = {"module1Received": {}, "module2Received": {}}
    assert codes({"t_a": task(["module1Received"], withParams=both)}) == []


# The rules against the fold

NAMES = ("t_a", "t_b", "t_c", "t_d")
MOST_COMMANDS = 200


@st.composite
def configurations(
    draw: st.DrawFn, *, unless: bool = True, loop: bool = False, nested: bool = False
) -> tuple[tuple[Task, ...], list[Finding]]:
    """Tasks as the fold takes them, usable or not, and what is said about them."""
    names = NAMES[: draw(st.integers(1, 4))]
    pool = st.sampled_from(["a", "b", *names])
    plain: st.SearchStrategy[list[Json]] = st.lists(pool, max_size=3, unique=True)
    needs = _conditions(pool) if nested else plain
    repeats = {name: draw(st.none() | st.sampled_from(["a", "b", *names])) for name in names}
    if loop:
        ring = draw(st.permutations(names))[: draw(st.integers(1, len(names)))]
        repeats.update(zip(ring, [*ring[1:], ring[0]], strict=True))
    file: JsonObject = {}
    for name, every in repeats.items():
        after = draw(needs)
        file[name] = task(after if after or every else ["a"], every, draw(needs) if unless else None)
    document = parse(json.dumps(file))
    findings = Findings(document)
    assert document.root is not None
    read = read_tasks(document.root, findings, name="tasks.json")
    check_rings(read.entries, findings)
    check_rules(read.entries, findings)
    tasks = tuple(entry.task for entry in read.entries if entry.task is not None)
    assert len(tasks) == len(file)
    return tasks, findings.sorted()


def _conditions(names: st.SearchStrategy[str]) -> st.SearchStrategy[list[Json]]:
    """Lists of conditions that `config check` has no error about."""

    def groups(inner: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
        members = st.lists(inner, min_size=1, max_size=3, unique_by=json.dumps)
        return st.one_of(
            members,
            members.map(lambda found: {"any": found}),
            st.tuples(members, st.integers(0, 2)).map(
                lambda found: {"atLeast": found[1] % len(found[0]) + 1, "of": found[0]}
            ),
        )

    return st.lists(st.recursive(names, groups, max_leaves=4), max_size=3, unique_by=json.dumps)


def commands(tasks: tuple[Task, ...], triggers: Iterable[str]) -> list[Command]:
    """What is decided if the triggers are fired in turn and every command finishes at once."""
    config = Configuration(hash=ConfigHash(""), text="", tasks=tasks)
    rules = Rules(app=AppId("app"), history=(AppliedConfiguration(config=config, offset=-1, arrival_us=0),))
    state: SessionState | None = None
    decided: list[Command] = []
    offset = 0
    for name in triggers:
        queue: deque[tuple[str, Body]] = deque([(name, Trigger(name=TriggerName(name), data={}))])
        while queue and len(decided) < MOST_COMMANDS:
            kind, body = queue.popleft()
            event = Event(
                session=SessionId("s"), offset=offset, arrival_us=offset, time_us=offset, type=kind, body=body
            )
            offset += 1
            folded = step(rules, state, event)
            assert isinstance(folded, Folded)
            state = folded.state
            new = [decision for decision in folded.decisions if isinstance(decision, Command)]
            decided += new
            queue.extend(
                ("triggerstream.task.finished", Finished(instance=c.instance, command=c.id)) for c in new
            )
    return decided


@pytest.mark.laws
@given(
    configurations() | configurations(nested=True),
    st.lists(st.sampled_from(["a", "b", *NAMES]), max_size=6),
)
def test_tasks_without_the_error_always_come_to_an_end(
    made: tuple[tuple[Task, ...], list[Finding]], fired: list[str]
) -> None:
    tasks, findings = made
    if all(finding.code != "endless-loop" for finding in findings):
        assert len(commands(tasks, fired)) < MOST_COMMANDS


@pytest.mark.laws
@given(configurations(unless=False, loop=True))
def test_tasks_with_the_error_go_on_for_ever(made: tuple[tuple[Task, ...], list[Finding]]) -> None:
    tasks, findings = made
    assert "endless-loop" in {finding.code for finding in findings}
    assert len(commands(tasks, ["a", "b", *NAMES, *NAMES])) >= MOST_COMMANDS


@pytest.mark.laws
@given(configurations() | configurations(nested=True), st.lists(st.sampled_from(["a", "b"]), max_size=6))
def test_a_task_that_never_starts_never_starts(
    made: tuple[tuple[Task, ...], list[Finding]], fired: list[str]
) -> None:
    tasks, findings = made
    never = {
        name
        for finding in findings
        if finding.code == "never-starts"
        for name in (
            finding.path.split("/")[1],
            *(re.findall("`(t_.)`", finding.message) if "ring" in finding.message else ()),
        )
    }
    assert never.isdisjoint(command.task for command in commands(tasks, fired))


@pytest.mark.laws
@given(configurations(unless=False) | configurations(unless=False, nested=True))
def test_tasks_without_a_finding_all_start(made: tuple[tuple[Task, ...], list[Finding]]) -> None:
    tasks, findings = made
    if not findings:
        assert {command.task for command in commands(tasks, ["a", "b"])} == {task.name for task in tasks}


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("x or y", "or"),
        ("x OR y or z", "or"),
        ("x||y", "or"),
        ("x | y", "or"),
        ("x and y", "and"),
        ("x && y", "and"),
    ],
)
def test_a_condition_in_a_name_is_answered(name: str, like: str) -> None:
    for key in ("after", "unless"):
        task: JsonObject = {"after": ["a"], "run": "x", key: [name]}
        (found,) = findings_of({"t": task})
        assert (found.severity, found.code, found.path) == ("warning", "condition-in-name", f"/t/{key}/0")
        instead = INSTEAD["except" if (key, like) == ("unless", "and") else like]
        assert found.message == f"`{name}` is read as the name of one trigger: {instead}"


@pytest.mark.parametrize("name", ["oror", "order", "and b", "x ory"])
def test_other_names_are_no_conditions(name: str) -> None:
    assert "condition-in-name" not in [code for code, _ in codes({"t": {"after": [name], "run": "x"}})]


@pytest.mark.parametrize(
    ("after", "path", "like"),
    [
        (["x1", "or", "y1"], "/t/after/1", "or"),
        (["x1", "OR", "y1"], "/t/after/1", "or"),
        (["||", "x1", "y1"], "/t/after/0", "or"),
        (["x1", "and", "y1"], "/t/after/1", "and"),
        (["x1", "not", "y1"], "/t/after/1", "not"),
        ([{"any": ["x1", "or", "y1"]}], "/t/after/0/any/1", "or"),
        (["x1, y1"], "/t/after/0", "several"),
        (["x1;y1,z1"], "/t/after/0", "several"),
        (["x1", "y1", "x1/y1"], "/t/after/2", "several"),
    ],
)
def test_an_operator_between_names_is_answered(after: list[Json], path: str, like: Operator) -> None:
    (found,) = findings_of({"t": {"after": after, "run": "x"}})
    assert (found.severity, found.code, found.path) == ("warning", "condition-in-name", path)
    assert found.message.endswith(f" is read as the name of one trigger: {instead_of_operator(like)}")


@pytest.mark.parametrize("name", ["orders/created", "x1/y1", "x1/y1/z1"])
def test_a_slash_may_stand_in_a_name(name: str) -> None:
    (found,) = findings_of({"t": {"after": [name, "x1"], "run": "x"}})
    assert found.code == "not-an-identifier"
    assert found.message.endswith(
        'give it an `as`; if these are several triggers, all of several are `["a", "b"]`, any one of several '
        'is `{"any": ["a", "b"]}`'
    )


@pytest.mark.parametrize("name", ["1,000", "x,", ", x", "a, b c", "2/3", "x1/", "https://a.b"])
def test_a_comma_or_a_slash_that_joins_no_names_is_no_condition(name: str) -> None:
    (found, *_) = findings_of({"t": {"after": [name], "run": "x"}})
    assert found.code == "not-an-identifier"
    assert found.message.endswith("give it an `as`")


def test_an_operator_alone_in_a_list_is_read_as_one() -> None:
    (finding,) = findings_of({"t_a": task(["or"])})
    assert (finding.code, finding.path) == ("condition-in-name", "/t_a/after/0")
    assert '{"any": ["a", "b"]}' in finding.message


@pytest.mark.parametrize("key", sorted(TASK_KEYS))
def test_a_key_of_the_task_in_a_condition_is_answered_with_its_place(key: str) -> None:
    conditions: list[JsonObject] = [{"trigger": "a", key: "1d"}, {"any": ["a", "b"], key: "1d"}, {key: "1d"}]
    for condition in conditions:
        (finding,) = findings_of({"t_a": task([condition])})
        assert (finding.code, finding.path) == ("unknown-key", f"/t_a/after/0/{key}")
        assert finding.message.endswith(
            "is a key of the task, not of a condition: write it beside the task's `after`"
        )
