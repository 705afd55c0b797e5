"""The published schema of the tasks file and the reader say the same."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from triggerstream.core.ids import Json
from triggerstream.core.tasks import MOST_DIGESTS, Bounds
from triggerstream.wire.tasksfile import check
from triggerstream.wire.tasksfile.jsonc import parse
from triggerstream.wire.tasksfile.keys import BOUND_KEYS, LATER_KEYS, RETRY_KEYS, TASK_KEYS, TOP_KEYS
from triggerstream.wire.tasksfile.tree import plain
from triggerstream.wire.xtests import COMMAND_KEYS, TEST_KEYS, TESTS_KEY

SCHEMAS = Path(__file__).parents[3] / "schemas"
VALID = sorted((SCHEMAS / "examples/valid/tasks").iterdir())
INVALID = sorted(path for path in (SCHEMAS / "examples/invalid/tasks").iterdir() if path.is_file())
BEYOND_SCHEMA = sorted((SCHEMAS / "examples/invalid/tasks/beyond-schema").iterdir())
NO_JSON = sorted((SCHEMAS / "examples/invalid/tasks/no-json").iterdir())

schema: dict[str, Any] = json.loads((SCHEMAS / "tasks.schema.json").read_text(encoding="utf-8"))
validator = Draft202012Validator(schema)
task_schema: dict[str, Any] = schema["$defs"]["task"]


def errors(text: str | bytes) -> list[str]:
    _, findings = check(text, name="tasks.json")
    return [finding.code for finding in findings if finding.severity == "error"]


def value(path: Path) -> Json:
    document = parse(path.read_bytes())
    assert document.root is not None
    return plain(document.root)


def code(path: Path) -> str:
    """An invalid example is named after what is found in it: ``wrong-type.after-is-null.json``."""
    return path.name.split(".")[0]


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.name)
def test_valid_examples_pass_both(path: Path) -> None:
    assert errors(path.read_bytes()) == []
    assert list(validator.iter_errors(value(path))) == []


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.name)
def test_invalid_examples_pass_neither(path: Path) -> None:
    assert errors(path.read_bytes()) == [code(path)]
    assert not validator.is_valid(value(path))


@pytest.mark.parametrize("path", BEYOND_SCHEMA, ids=lambda path: path.name)
def test_what_no_schema_can_say_is_refused_all_the_same(path: Path) -> None:
    assert errors(path.read_bytes()) == [code(path)]
    assert validator.is_valid(json.loads(path.read_bytes()))


@pytest.mark.parametrize("path", NO_JSON, ids=lambda path: path.name)
def test_what_is_no_json_is_refused(path: Path) -> None:
    assert set(errors(path.read_bytes())) == {code(path)}
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(path.read_bytes())


def test_the_schema_knows_the_same_keys() -> None:
    assert tuple(task_schema["properties"]) == TASK_KEYS
    assert tuple(task_schema["propertyNames"]["not"]["enum"]) == LATER_KEYS
    assert tuple(task_schema["properties"]["retry"]["properties"]) == RETRY_KEYS
    assert tuple(schema["properties"]) == (*TOP_KEYS, TESTS_KEY)
    test = schema["properties"][TESTS_KEY]["items"]
    assert tuple(test["properties"]) == TEST_KEYS
    assert tuple(test["properties"]["commands"]["items"]["properties"]) == COMMAND_KEYS
    assert schema["propertyNames"]["then"]["enum"] == list(TOP_KEYS)
    assert schema["else"]["additionalProperties"]["propertyNames"]["anyOf"][0]["enum"] == list(TASK_KEYS)


def test_the_schema_publishes_the_bounds() -> None:
    published = schema["properties"]["$bounds"]["properties"]
    standard = {key: getattr(Bounds(), name) for key, name in BOUND_KEYS.items()}
    assert {key: bound["default"] for key, bound in published.items()} == standard
    assert {key: bound["maximum"] for key, bound in published.items()} == {
        **standard,
        "digests": MOST_DIGESTS,
    }
    assert set(BOUND_KEYS.values()) == {field.name for field in fields(Bounds)}


def test_the_schema_explains_every_key() -> None:
    described = [
        schema,
        task_schema,
        *schema["$defs"].values(),
        *schema["properties"].values(),
        *schema["properties"]["$bounds"]["properties"].values(),
        *task_schema["properties"].values(),
        *task_schema["properties"]["retry"]["properties"].values(),
    ]
    for entry in described:
        assert entry["title"]
        assert entry["description"].endswith(".")


def test_the_examples_in_the_schema_are_valid() -> None:
    for name, definition in task_schema["properties"].items():
        for example in definition.get("examples", ()):
            task = {"after": ["a"], "run": "x", name: example}
            assert errors(json.dumps({"t": task})) == []
            assert validator.is_valid({"t": task})
    for example in task_schema["examples"]:
        assert errors(json.dumps({"t": example})) == []


# Values like those of a tasks file, right and wrong. There are no repeated keys and no loops of `andEvery`,
# durations are below a hundred years: the rest is what a schema cannot say.

RUNS = ["my_app.tasks:app", "tasks:app", "ns:task", "tasks.py", "$x", "a.b.__main__", "__main__.f"]
names = st.sampled_from(
    ["a", "b", "module1Received", "a-b", "", "triggerstream.timer", "triggerstreams", "x-a", "$a"]
)
WRONG: list[Any] = [None, True, 0, -1, 1, 1.0, 2.5, "", "a", "10s", [], ["a"], [1], {}, {"n": {}}, {"n": 1}]
wrong = st.sampled_from(WRONG)
durations = st.sampled_from(
    ["10s", "1h30m", "0s", "00d0s", "30m1h", "5", "", "10s\n", " 10s", "-1s", "1.5h", "٣s", "x"]
)
lists = st.lists(names | st.sampled_from([1, None, ["a"], {"any": ["a"]}]), max_size=3) | st.lists(
    names, max_size=2
)


def mostly(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(strategy, strategy, strategy, wrong)


tasks = st.fixed_dictionaries(
    {},
    optional={
        "after": mostly(lists),
        "run": mostly(st.sampled_from(["x", "my_app.tasks.Report", "celery.chord", "celery", "", *RUNS])),
        "unless": mostly(lists),
        "andEvery": mostly(names),
        "withParams": mostly(st.dictionaries(st.sampled_from(["p", "q"]), wrong, max_size=2)),
        "using": mostly(st.sampled_from(["celery", "airflow"])),
        "retry": mostly(
            st.fixed_dictionaries(
                {},
                optional={
                    "max": mostly(st.integers(-1, 1_000_001)),
                    "backoff": mostly(durations),
                    "factor": mostly(st.floats(-1, 10)),
                    "maxBackoff": mostly(durations),
                    "x-note": wrong,
                },
            )
        ),
        "queue": mostly(names),
        "expires": mostly(durations),
        "x-note": wrong,
        "unles": wrong,
        "within": durations,
    },
)
good_tasks = tasks.map(lambda task: {"after": ["a"], "run": "x"} | task)
files = st.fixed_dictionaries(
    {},
    optional={
        "t_report": mostly(good_tasks | tasks),
        "t_other": good_tasks,
        "x-note": wrong,
        "triggerstream.x": good_tasks,
        "": good_tasks,
        "$schema": wrong,
        "$extra": wrong,
        "$extras": st.sampled_from(["keep", "keep", "drop", None]),
        "$bounds": mostly(
            st.dictionaries(
                st.sampled_from([*BOUND_KEYS, "state_bytes"]),
                mostly(st.integers(0, 300) | st.sampled_from([1.5, 50.0])),
                max_size=3,
            )
        ),
    },
)
small = st.fixed_dictionaries({}, optional={"t_report": good_tasks, "$extras": st.just("keep")})


@pytest.mark.laws
@given(files | small | wrong)
def test_schema_and_reader_agree_on_any_value(file: Json) -> None:
    # No schema can compare bounds with what the tasks need.
    found = [code for code in errors(json.dumps(file)) if code != "beyond-bounds"]
    assert validator.is_valid(file) == (not found), found
