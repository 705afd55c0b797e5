"""The published schema of explained sessions is that of the types, and the examples are answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from tests.core.compared import Folding, Reading
from tests.core.logs_of_conditions import numbered_scenario
from tests.wire import explained_schema
from triggerstream.core.answers import ExplainedSession
from triggerstream.core.errors import DecodeError
from triggerstream.core.projections import explain
from triggerstream.wire.answers import from_json, to_json

EXAMPLES = sorted((explained_schema.FILE.parent / "examples/valid/explained-sessions").glob("*.json"))
VALIDATOR = Draft202012Validator(
    explained_schema.schema(), format_checker=Draft202012Validator.FORMAT_CHECKER
)


def test_the_schema_is_up_to_date() -> None:
    text = explained_schema.FILE.read_text(encoding="utf-8")
    assert text == explained_schema.text(), "run `python -m tests.wire.explained_schema`"
    Draft202012Validator.check_schema(json.loads(text))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_an_answer(path: Path) -> None:
    fields = json.loads(path.read_text(encoding="utf-8"))
    VALIDATOR.validate(fields)
    assert to_json(from_json(fields, ExplainedSession)) == fields


def test_explained_sessions_pass_the_schema_and_are_read_as_they_were_written() -> None:
    reader = Reading()
    for number in range(20):
        scenario = numbered_scenario(number)
        folding = Folding.of(scenario.file, reader)
        for line in scenario.lines:
            folding.read(line)
        for session, state in folding.states.items():
            found = explain(folding.rules, session, state)
            fields = json.loads(json.dumps(to_json(found)))
            VALIDATOR.validate(fields)
            assert from_json(fields, ExplainedSession) == found


@pytest.mark.parametrize(
    ("node", "says"),
    [
        (7, "Expected `object`, got `int`"),
        ({"leaf": "a"}, "missing required field `trigger`"),
        ({"all": {}}, "`all` must be a list of conditions"),
        ({"any": [{"leaf": 1}], "need": 1, "have": 0, "met": False}, "Expected `str`, got `int`"),
        ({"any": [], "need": "1", "have": 0, "met": False}, "Expected `int`, got `str`"),
    ],
)
def test_what_is_no_condition_is_refused(node: object, says: str) -> None:
    fields = json.loads(EXAMPLES[0].read_text(encoding="utf-8"))
    fields["tasks"][0]["instances"][0]["after"] = node
    with pytest.raises(DecodeError, match=says):
        from_json(fields, ExplainedSession)


def test_conditions_nested_without_end_are_refused() -> None:
    node: dict[str, object] = {"all": [], "need": 0, "have": 0, "met": True}
    for _ in range(30):
        node = {"all": [node], "need": 1, "have": 1, "met": True}
    test_what_is_no_condition_is_refused(node, "at most 20 levels deep")
