"""A file compared with the tasks of an executor."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from functools import partial

import pytest

from triggerstream.core.ids import Json, JsonObject
from triggerstream.wire import tasksfile
from triggerstream.wire.tasksfile import Parameters, check_executor


def takes(function: Callable[..., object]) -> Parameters:
    return Parameters.of(inspect.signature(function))


def findings(task: JsonObject, **tasks: Parameters | None) -> list[tuple[str, str, str]]:
    named = {f"app.{name}": parameters for name, parameters in tasks.items()}
    further = partial(check_executor, tasks=named, where="the app shop:app", severity="error")
    _, found = tasksfile.check(json.dumps({"t": task}), name="f", further=[further])
    return [(one.code, one.path, one.message) for one in found]


def test_a_name_that_the_app_does_not_have_is_an_error_with_the_nearest() -> None:
    found = findings({"after": ["a"], "run": "app.reprot"}, report=None, mail=None)
    message = "there is no task `app.reprot` in the app shop:app: did you mean `app.report`?"
    assert found == [("unknown-task", "/t/run", message)]


def test_arguments_that_the_function_cannot_take_stand_where_the_file_names_them() -> None:
    def report(module1: object, *, language: str = "en") -> None: ...

    task: JsonObject = {"after": ["module1", "modul"], "run": "app.report", "withParams": {"langage": "de"}}
    assert findings(task, report=takes(report)) == [
        (
            "unexpected-argument",
            "/t/after/1",
            "`app.report` takes no argument `modul`: did you mean `module1`?",
        ),
        (
            "unexpected-argument",
            "/t/withParams/langage",
            "`app.report` takes no argument `langage`: did you mean `language`?",
        ),
    ]


def test_arguments_that_nothing_brings_are_named() -> None:
    def report(module1: object, language: object, more: object = None) -> None: ...

    found = findings({"after": ["module1"], "run": "app.report"}, report=takes(report))
    message = "`app.report` needs `language`, which neither a trigger of this task nor `withParams` brings"
    assert found == [("missing-argument", "/t/run", message)]
    brought: JsonObject = {"after": ["module1"], "run": "app.report", "withParams": {"language": 1}}
    assert findings(brought, report=takes(report)) == []


def test_an_argument_that_is_only_taken_by_position_cannot_be_passed() -> None:
    def report(a: object, /, **rest: object) -> None: ...

    def strict(a: object, /) -> None: ...

    assert findings({"after": ["a"], "run": "app.report"}, report=takes(report)) == []
    (found,) = findings({"after": ["a"], "run": "app.report"}, report=takes(strict))
    assert found[0] == "unexpected-argument"


@pytest.mark.parametrize(
    "parameters",
    [None, takes(lambda **triggers: triggers), Parameters(any=True), takes(lambda a, b=1: (a, b))],
)
def test_a_function_that_takes_what_arrives_is_fine(parameters: Parameters | None) -> None:
    assert findings({"after": ["a"], "run": "app.report"}, report=parameters) == []


def test_an_argument_that_not_every_way_brings_needs_a_default() -> None:
    def report(paid: object, sent: object = None) -> None: ...

    after: Json = [{"any": ["paid", "sent"]}]
    message = (
        "`app.report` needs `paid`, which is not passed where `after` is satisfied without it: give the "
        "parameter a default"
    )
    task: JsonObject = {"after": after, "run": "app.report"}
    assert findings(task, report=takes(report)) == [("missing-argument", "/t/run", message)]
    assert findings(task | {"withParams": {"paid": {}}}, report=takes(report)) == []


@pytest.mark.parametrize(
    ("after", "certain"),
    [
        ([{"any": [["a", "b"], ["b", "c"]]}], "b"),
        ([{"atLeast": 3, "of": ["b", "a", "c"]}], "b"),
        ([{"sequence": ["a", "b"]}], "b"),
        ([{"any": ["a", "c"]}, {"trigger": "x", "as": "b"}], "b"),
        ([{"atLeast": 2, "of": ["b", ["a", "b"], "c"]}], "b"),
    ],
)
def test_an_argument_that_every_way_brings_is_certain(after: Json, certain: str) -> None:
    parameters = Parameters(names=frozenset("abcx"), required=frozenset({certain}))
    assert findings({"after": after, "run": "app.report"}, report=parameters) == []


def test_a_leaf_with_count_is_not_passed_from_the_file_alone() -> None:
    after: Json = [{"any": [{"trigger": "a", "count": 2}, "b"]}]
    task: JsonObject = {"after": after, "run": "app.report", "withParams": {"a": {"n": 1}}}
    parameters = Parameters(names=frozenset("ab"), required=frozenset("a"))
    assert [code for code, _, _ in findings(task, report=parameters)] == ["missing-argument"]


def test_arguments_are_called_as_their_leaves() -> None:
    task: JsonObject = {"after": [{"trigger": "approved", "as": "late"}], "run": "app.report"}
    (found,) = findings(task, report=Parameters(names=frozenset({"approved"})))
    assert found[:2] == ("unexpected-argument", "/t/after/0/as")
