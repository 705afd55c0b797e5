"""The published schema of the tasks file and the reader say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from triggerstream.core.ids import Json, JsonObject
from triggerstream.core.tasks import MOST_DIGESTS, MOST_PRIORITY, Bounds
from triggerstream.wire.tasksfile import check
from triggerstream.wire.tasksfile.conditions import GROUP_KEYS
from triggerstream.wire.tasksfile.jsonc import parse
from triggerstream.wire.tasksfile.keys import (
    BOUND_KEYS,
    KEPT_UNDER_EXTRAS,
    MOST_CONCURRENT,
    REFUSED_KEYS,
    TOP_KEYS,
)
from triggerstream.wire.tasksfile.leaves import EACH_KEYS, LEAF_KEYS, MOST_COUNT, MOST_COUNT_IN_SEQUENCE
from triggerstream.wire.tasksfile.task_keys import TASK_KEYS
from triggerstream.wire.tasksfile.time_keys import DEBOUNCE_KEYS, MOST_ROUNDS, REPEAT_KEYS, RETRY_KEYS
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
leaf_in_sequence: dict[str, Any] = schema["$defs"]["leafInSequence"]["properties"]


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
    assert tuple(task_schema["propertyNames"]["not"]["enum"]) == REFUSED_KEYS
    assert set(schema["then"]["additionalProperties"]["properties"]) == KEPT_UNDER_EXTRAS
    keys = task_schema["properties"]
    assert tuple(keys["retry"]["properties"]) == RETRY_KEYS
    assert tuple(keys["debounce"]["anyOf"][1]["properties"]) == DEBOUNCE_KEYS
    assert tuple(keys["repeat"]["properties"]) == REPEAT_KEYS
    assert keys["repeat"]["properties"]["max"]["maximum"] == MOST_ROUNDS
    assert keys["maxConcurrency"]["maximum"] == MOST_CONCURRENT
    assert keys["priority"]["maximum"] == MOST_PRIORITY
    assert tuple(schema["properties"]) == (*TOP_KEYS, TESTS_KEY)
    test = schema["properties"][TESTS_KEY]["items"]
    assert tuple(test["properties"]) == TEST_KEYS
    assert tuple(test["properties"]["commands"]["items"]["properties"]) == COMMAND_KEYS
    leaf = schema["$defs"]["leaf"]["properties"]
    assert tuple(leaf) == LEAF_KEYS
    assert tuple(leaf["each"]["properties"]) == EACH_KEYS
    assert {leaf["count"]["maximum"], leaf_in_sequence["count"]["maximum"]} == {
        MOST_COUNT,
        MOST_COUNT_IN_SEQUENCE,
    }
    groups = [
        key for name in ("all", "any", "atLeast", "sequence") for key in schema["$defs"][name]["properties"]
    ]
    assert tuple(groups) == GROUP_KEYS
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


def described() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every part of the schema that says what a key or a value is, with its place."""
    yield "", schema
    places: list[tuple[str, Any]] = [
        ("", schema),
        *((f"$defs/{name}", one) for name, one in schema["$defs"].items()),
    ]
    for place, one in places:
        if "$comment" in one:
            continue  # a rule about keys that are explained elsewhere
        if place.startswith("$defs/") and "/" not in place.removeprefix("$defs/"):
            yield place, one
        if "properties" in one.get("items", {}):
            places.append((f"{place}[]", one["items"]))
        places += [(place, inner) for inner in one.get("anyOf", ()) if "properties" in inner]
        for key, value in [*one.get("properties", {}).items(), *one.get("patternProperties", {}).items()]:
            if value is not False and value.get("type") != "null" and "$ref" not in value:
                yield f"{place}/{key}", value
                places.append((f"{place}/{key}", value))


DESCRIBED = dict(described())


def test_the_schema_explains_every_key() -> None:
    assert len(DESCRIBED) > 50
    for place, one in DESCRIBED.items():
        assert one["title"], place
        assert one["description"].endswith("."), place
        assert "`" not in one["description"], place
        assert one["markdownDescription"], place
        if not place.startswith("$defs/") or place.count("/") > 1:
            assert one.get("examples") or not place, place


def test_editors_may_write_comments_and_trailing_commas() -> None:
    assert schema["allowComments"] is True
    assert schema["allowTrailingCommas"] is True


@pytest.mark.parametrize("place", [place for place in DESCRIBED if place])
def test_examples_of_a_key_are_valid_where_it_stands(place: str) -> None:
    parent, _, key = place.rpartition("/")
    for example in DESCRIBED[place].get("examples", ()):
        if place.startswith("$defs/") and place.count("/") == 1:
            continue
        file = _file_with(parent, key, example)
        assert errors(json.dumps(file)) == [], file
        assert validator.is_valid(file), file


def _file_with(parent: str, key: str, example: Json) -> dict[str, Any]:
    """A valid file with ``example`` as value of ``key``."""
    task: dict[str, Any] = {"after": ["a"], "run": "x"}
    here: dict[str, Any] = {key: example}
    match parent:
        case "":
            return {key if key != "^x-" else "x-a": example}
        case "/$bounds":
            return {"$bounds": here, "t": task} if key != "stateBytes" else {"$bounds": here}
        case "/x-tests[]":
            test = {"name": "a test", "events": ["42 a"], "commands": [{"instance": "t#0"}]}
            return {"t": task, "x-tests": [test | here]}
        case "/x-tests[]/commands[]":
            test = {"name": "a test", "events": ["42 a"], "commands": [{"instance": "t#0", **here}]}
            return {"t": task, "x-tests": [test]}
        case "$defs/task":
            return {"t": task | ({"x-a": example} if key == "^x-" else here)}
        case "$defs/task/retry":
            return {"t": task | {"retry": {"max": 1, "backoff": "1s"} | here}}
        case "$defs/task/repeat":
            return {"t": task | {"repeat": {"every": "1d", "max": 3} | here}}
        case "$defs/task/debounce":
            return {"t": task | {"debounce": {"quiet": "5m"} | here}}
        case "$defs/leaf":
            beside: dict[str, dict[str, Any]] = {"key": {"count": 2}, "each": {"key": "data.id"}}
            more = beside.get(key, {})
            return {"t": task | {"after": ["batchStarted", {"trigger": "a", **more, **here}]}}
        case "$defs/leaf/each":
            each: dict[str, Any] = {"of": "batchStarted", "list": "data.ids"} | here
            return {"t": task | {"after": ["batchStarted", {"trigger": "a", "key": "data.id", "each": each}]}}
        case "$defs/leafInSequence":
            return {"t": task | {"after": [{"sequence": [{"trigger": "a", **here}, "b"]}]}}
        case "$defs/atLeast":
            group: dict[str, Any] = {"atLeast": 2, "of": ["a", "b"]}
            return {"t": task | {"after": [group | here]}}
        case _:
            return {"t": task | {"after": [here]}}


def test_every_block_in_a_description_is_read_without_a_finding() -> None:
    blocks = [
        block
        for one in DESCRIBED.values()
        for block in re.findall(r"```jsonc\n(.*?)\n```", one["markdownDescription"], re.DOTALL)
    ]
    assert len(blocks) > 10
    for block in blocks:
        _, findings = check(block if block.startswith("{") else f"{{{block}}}", name="tasks.json")
        assert findings == (), block


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
paths = st.sampled_from(
    ["data.id", "data['x y'].z", 'data["\\""]', "data", "id", "data[0]", "data.id\n", "data..x", "datax.y"]
)
expressions = st.sampled_from(["data.score > 3", "data.x", "true", "", "session == 'é'"])


def mostly(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(strategy, strategy, strategy, wrong)


def keys(**optional: st.SearchStrategy[Any]) -> st.SearchStrategy[JsonObject]:
    return st.fixed_dictionaries({}, optional=optional)


leaves = keys(
    trigger=mostly(names),
    where=mostly(expressions),
    key=mostly(paths),
    count=mostly(st.integers(-1, 1_001)),
    each=mostly(keys(of=mostly(names), list=mostly(paths), x=wrong)),
    **{"as": mostly(names), "wher": wrong},
)
good_leaves = st.builds(lambda one, name: {"trigger": name} | one, leaves, names)
every_leaf = names | good_leaves | leaves
conditions: st.SearchStrategy[Json] = st.recursive(
    every_leaf,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        keys(
            all=mostly(st.lists(inner, max_size=3)),
            any=mostly(st.lists(inner, max_size=3)),
            sequence=mostly(st.lists(every_leaf, max_size=3)),
        ),
        *(
            st.builds(lambda members, key: {key: members}, st.lists(inner, max_size=3), st.just(key))
            for key in ("all", "any")
        ),
        st.builds(lambda members: {"sequence": members}, st.lists(every_leaf, max_size=3)),
        keys(atLeast=mostly(st.integers(-1, 3)), of=mostly(st.lists(inner, max_size=3)), trigger=names),
    ),
    max_leaves=6,
)

tasks = st.fixed_dictionaries(
    {},
    optional={
        "after": mostly(lists | st.lists(conditions, max_size=3)),
        "run": mostly(st.sampled_from(["x", "my_app.tasks.Report", "celery.chord", "celery", "", *RUNS])),
        "unless": mostly(lists | st.lists(conditions, max_size=3)),
        "andEvery": mostly(names | every_leaf | conditions),
        "unlessFrom": mostly(st.sampled_from(["session", "instance", "other"])),
        "appliesTo": mostly(st.sampled_from(["new", "existing", "all"])),
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
        "onTimeout": wrong,
        "within": mostly(durations),
        "deadline": mostly(durations),
        "delay": mostly(durations),
        "debounce": mostly(durations | keys(quiet=mostly(durations), atMost=mostly(durations), x=wrong)),
        "repeat": mostly(keys(every=mostly(durations), max=mostly(st.integers(-1, 1_001)), x=wrong)),
        "priority": mostly(st.integers(-1, 10)),
        "maxConcurrency": mostly(st.integers(-1, 1_001)),
        "paused": mostly(st.booleans()),
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


BEYOND = {"beyond-bounds", "ambiguous-leaf", "unknown-leaf", "bad-where"}
"""What no schema can say: it compares parts of the file with one another, or reads expressions."""


@pytest.mark.laws
@given(files | small | wrong)
def test_schema_and_reader_agree_on_any_value(file: Json) -> None:
    codes = errors(json.dumps(file))
    found = [code for code in codes if code not in BEYOND]
    if not found and "bad-where" in codes:
        return  # a schema finds an expression wrong only if it is empty or too long
    assert validator.is_valid(file) == (not found), found
