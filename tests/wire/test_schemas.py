"""The published schemas and the parsers say the same, in both directions.

What no schema can say lies in ``invalid/<kind>/beyond-schema``; ``schemas/README.md`` lists it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from tests.wire.values import NAME, TEXT, bodies, decisions, json_values, states
from triggerstream.core.commands import Decision
from triggerstream.core.errors import DecodeError
from triggerstream.core.events import TYPES, Body, ConfigApplied, Event
from triggerstream.core.ids import JsonObject, TaskName
from triggerstream.core.retired import Retired
from triggerstream.core.state import SessionState
from triggerstream.wire import commands, events, retired, state
from triggerstream.wire.records import Record

SCHEMAS = Path(__file__).parents[2] / "schemas"
EXAMPLES = SCHEMAS / "examples"


def _pattern(
    _validator: object, pattern: str, instance: object, _schema: object
) -> Iterator[ValidationError]:
    """As ECMA-262, which JSON Schema means, reads it: to Python ``$`` matches before a last newline too."""
    if isinstance(instance, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


# To a schema 1.0 is an integer; the parsers want it written as one.
STRICT = extend(  # type: ignore[no-untyped-call] # the stubs leave it so
    Draft202012Validator,
    {"pattern": _pattern},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)


# ---- the three kinds ----------------------------------------------------------------------------


def read_event(text: bytes) -> object:
    """An event that has the key it should have; what its bytes alone say is all that is tested here."""
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    key: str | None = "42"
    if isinstance(fields, dict):
        said = fields.get("session")
        if fields.get("type") == TYPES[ConfigApplied] or isinstance(said, str):
            key = None
    return events.decode(
        Record(partition=0, offset=1, arrival_us=5, key=None if key is None else key.encode(), value=text)
    )


def write_event(event: object) -> bytes:
    """The same event once more; when it arrived is not its own."""
    if isinstance(event, ConfigApplied):
        return events.encode(event)
    assert isinstance(event, Event)
    return events.encode(
        event.body,
        id=event.id,
        source=event.source,
        time_us=event.time_us,
        session=event.session,
        traceparent=event.traceparent,
    )


def read_retired(text: bytes) -> Retired:
    """The entry of an instance of any task: its key says of which."""
    return retired.decode(TaskName("t"), text)


@dataclass(frozen=True)
class Kind:
    """A kind of value on the wire, with both of its contracts."""

    name: str
    schema_file: str
    decode: Callable[[bytes], object]
    encode: Callable[[Any], bytes]
    part: str | None = None
    """The definition in the schema that describes it; None: the schema itself."""

    @property
    def schema(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((SCHEMAS / self.schema_file).read_text(encoding="utf-8"))
        if self.part is None:
            return loaded
        return {"$schema": loaded["$schema"], **loaded["$defs"][self.part], "$defs": loaded["$defs"]}

    def accepts(self, text: bytes) -> bool:
        try:
            self.decode(text)
        except DecodeError:
            return False
        return True


KINDS = {
    "events": Kind("events", "event.schema.json", read_event, write_event),
    "commands": Kind("commands", "command.schema.json", commands.decode, commands.encode),
    "states": Kind("states", "session-state.schema.json", state.decode, state.encode),
    "retired": Kind("retired", "session-state.schema.json", read_retired, retired.encode, part="retired"),
}
VALIDATORS = {name: STRICT(kind.schema) for name, kind in KINDS.items()}


def examples(verdict: str, *, within: str = "") -> list[Any]:
    """Every example file of the three kinds, as a parameter with a readable id."""
    found = []
    for name, kind in KINDS.items():
        paths = sorted((EXAMPLES / verdict / name / within).glob("*.json"))
        assert paths, f"no examples: {verdict}/{name}/{within}"
        found += [pytest.param(kind, path, id=f"{name}/{path.stem}") for path in paths]
    return found


# ---- examples, both ways ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_a_schema_is_one(kind: Kind) -> None:
    Draft202012Validator.check_schema(kind.schema)


@pytest.mark.parametrize(("kind", "path"), examples("valid"))
def test_a_valid_example_passes_schema_and_parser(kind: Kind, path: Path) -> None:
    text = path.read_bytes()
    VALIDATORS[kind.name].validate(json.loads(text))
    value = kind.decode(text)
    again = kind.encode(value)
    VALIDATORS[kind.name].validate(json.loads(again))
    assert kind.decode(again) == value


@pytest.mark.parametrize(("kind", "path"), examples("invalid"))
def test_an_invalid_example_fails_schema_and_parser(kind: Kind, path: Path) -> None:
    text = path.read_bytes()
    assert not VALIDATORS[kind.name].is_valid(json.loads(text))
    if not path.stem.endswith(".newline"):  # see _pattern
        assert not Draft202012Validator(kind.schema).is_valid(json.loads(text))
    with pytest.raises(DecodeError):
        kind.decode(text)


@pytest.mark.parametrize(("kind", "path"), examples("invalid", within="beyond-schema"))
def test_what_no_schema_can_say_fails_the_parser(kind: Kind, path: Path) -> None:
    text = path.read_bytes()
    assert Draft202012Validator(kind.schema).is_valid(json.loads(text)), "a schema can say it: move it up"
    with pytest.raises(DecodeError):
        kind.decode(text)


def test_the_readme_lists_what_no_schema_can_say() -> None:
    readme = (SCHEMAS / "README.md").read_text(encoding="utf-8")
    names = {
        path.stem for kind in KINDS for path in (EXAMPLES / "invalid" / kind / "beyond-schema").iterdir()
    }
    assert not [name for name in sorted(names) if f"`{name}`" not in readme]


def test_every_type_of_the_engine_has_a_schema_and_an_example() -> None:
    schema = KINDS["events"].schema
    types = set(TYPES.values())
    assert set(schema["properties"]["type"]["anyOf"][1]["enum"]) == types
    assert {rule["if"]["properties"]["type"]["const"] for rule in schema["allOf"][1:]} == types
    shown = {json.loads(path.read_bytes())["type"] for path in (EXAMPLES / "valid" / "events").glob("*.json")}
    assert types <= shown


# ---- what a schema says about itself ------------------------------------------------------------


def described(schema: object, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every subschema that stands for a value with a name of its own."""
    if isinstance(schema, dict):
        for key, below in schema.items():
            if key in {"properties", "$defs"}:
                for name, item in below.items():
                    if isinstance(item, dict) and not re.search("/(if|then|anyOf|allOf)(/|$)", path):
                        yield f"{path}/{key}/{name}", item
            if key not in {"examples", "enum", "const"}:
                yield from described(below, f"{path}/{key}")
    elif isinstance(schema, list):
        for number, below in enumerate(schema):
            yield from described(below, f"{path}/{number}")


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_every_field_is_titled_and_described(kind: Kind) -> None:
    bare = [
        path
        for path, item in described(kind.schema)
        if not {"title", "description"} <= item.keys() and set(item) != {"$ref"}
    ]
    assert not bare


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_the_examples_in_a_schema_are_valid(kind: Kind) -> None:
    schema = kind.schema
    for path, item in described(schema):
        within = STRICT(item | {"$defs": schema.get("$defs", {})})
        for example in item.get("examples", []):
            assert within.is_valid(example), f"{path}: {example}"
    for example in schema["examples"]:
        VALIDATORS[kind.name].validate(example)
        kind.decode(json.dumps(example).encode())


# ---- laws ---------------------------------------------------------------------------------------


@pytest.mark.laws
@given(bodies(), st.none() | NAME, st.none() | TEXT, st.none() | TEXT)
def test_events_as_written_satisfy_the_schema(
    body: Body, event_id: str | None, source: str | None, traceparent: str | None
) -> None:
    value = events.encode(body, id=event_id, source=source, time_us=5, traceparent=traceparent)
    VALIDATORS["events"].validate(json.loads(value))


@pytest.mark.laws
@given(decisions())
def test_commands_as_written_satisfy_the_schema(decision: Decision) -> None:
    VALIDATORS["commands"].validate(json.loads(commands.encode(decision)))


@pytest.mark.laws
@given(states())
def test_states_as_written_satisfy_the_schema(known: SessionState) -> None:
    VALIDATORS["states"].validate(json.loads(state.encode(known)))


BEYOND_SCHEMA = re.compile(
    r"nested deeper|beyond ±2|RFC 3339 instant|SHA-256|`next`, or stands twice|whole digests of 8"
    r"|/instance: must be `.*` and a number, is|a session id of|neither `seen` nor `kept` has"
    r"|/retired: must be ranges|is among the `retired`|/events: has no `"
)
"""What the parsers say about rules that no schema can express."""

ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2**63 - 1, -(2**63), 0.5, 1e300, "", "a", "t#0", "\0", "1.0", "run"),
    *([], {}, [[]], [None], {"a": {}}, "2026-03-01T12:00:00Z", "AAAAAAAAAAA=", "delayed", "finished"),
    *("triggerstream.timer", "triggerstream.task.started", "revoke"),
]
FIELDS = [
    *("type", "data", "id", "time", "session", "specversion", "data_base64", "instance", "command", "kind"),
    *("after", "kwargs", "force", "status", "waitsFrom", "sent", "config", "seen", "tasks", "open", "x"),
    *("kept", "captured"),
]


ORIGINALS: dict[str, list[JsonObject]] = {
    name: [
        document
        for path in sorted((EXAMPLES / "valid" / name).glob("*.json"))
        if isinstance(document := json.loads(path.read_bytes()), dict)
    ]
    for name in KINDS
}


def places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every value inside ``value``, its own included."""
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*path, key))


@st.composite
def mutated(draw: st.DrawFn, kind: str) -> Any:  # noqa: ANN401
    """A valid document with one to three values replaced, removed, added or doubled."""
    root: Any = [deepcopy(draw(st.sampled_from(ORIGINALS[kind])))]
    for _ in range(draw(st.integers(min_value=1, max_value=3))):
        path = draw(st.sampled_from([path for path in places(root) if path]))
        holder = root
        for key in path[:-1]:
            holder = holder[key]
        key = path[-1]
        change = draw(st.sampled_from(["replace", "remove", "add", "double"]))
        odd = deepcopy(draw(st.sampled_from(ODD) | json_values()))
        if change == "add" and isinstance(holder[key], dict):
            holder[key][draw(st.sampled_from(FIELDS))] = odd
        elif change == "double" and isinstance(holder[key], list):
            holder[key] += deepcopy(holder[key])
        elif change == "remove" and isinstance(holder, dict):
            del holder[key]
        else:
            holder[key] = odd
    return root[0]


def agree(kind: Kind, document: object) -> None:
    """Fail unless schema and parser give ``document`` the same verdict, as far as a schema can."""
    text = json.dumps(document).encode()
    validator = VALIDATORS[kind.name]
    by_schema = validator.is_valid(document)
    try:
        value = kind.decode(text)
    except DecodeError as exc:
        refusal = str(exc)
    else:
        assert by_schema, f"only the schema refuses: {next(validator.iter_errors(document)).message}"
        assert kind.decode(kind.encode(value)) == value
        return
    assert not by_schema or BEYOND_SCHEMA.search(refusal), f"only the parser refuses: {refusal}"


@pytest.mark.laws
@given(mutated("events"))
def test_schema_and_parser_agree_about_changed_events(document: object) -> None:
    agree(KINDS["events"], document)


@pytest.mark.laws
@given(mutated("commands"))
def test_schema_and_parser_agree_about_changed_commands(document: object) -> None:
    agree(KINDS["commands"], document)


@pytest.mark.laws
@given(mutated("states"))
def test_schema_and_parser_agree_about_changed_states(document: object) -> None:
    # The schema is that of this version; an earlier one is upcast.
    assume(not (isinstance(document, dict) and document.get("version") == 1))
    agree(KINDS["states"], document)


@pytest.mark.parametrize("left", [None, -1, 0, 1])
def test_schema_and_parser_agree_about_the_number_of_missing_elements(left: int | None) -> None:
    captured = {"each": {"holds": "members", "of": "b", "by": {"x": None}, "left": left}}
    instance = {"number": 0, "status": "unstarted", "created": 1, "changed": 2, "captured": captured}
    agree(
        KINDS["states"],
        {
            "version": 2,
            "generation": 0,
            "offset": 9,
            "config": 0,
            "tasks": {"t": {"next": 1, "open": [instance]}},
        },
    )


@pytest.mark.laws
@given(mutated("retired"))
def test_schema_and_parser_agree_about_changed_entries_of_retired_instances(document: object) -> None:
    agree(KINDS["retired"], document)
