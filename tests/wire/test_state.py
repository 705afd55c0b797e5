from __future__ import annotations

import json
import re
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.values import deep, states
from triggerstream.core.effects import Why
from triggerstream.core.errors import DecodeError
from triggerstream.core.held import Holding
from triggerstream.core.ids import LeafName, TaskName, TriggerName
from triggerstream.core.state import Arrival, Instance, NoEffect, SessionState, Status, TaskRecord
from triggerstream.wire import state
from triggerstream.wire.bounds import JSON_DEPTH

INSTANCE: dict[str, Any] = {"number": 0, "status": "unstarted", "created": 1, "changed": 1}
FULL: dict[str, Any] = {"version": 2, "generation": 0, "offset": 5, "config": 0}


def decoded(**fields: Any) -> SessionState:  # noqa: ANN401 - whatever JSON holds
    """The state that ``FULL`` with these fields is read as."""
    return state.decode(json.dumps(FULL | fields).encode())


def with_instance(fields: dict[str, Any], *, resolved: bool = False) -> SessionState:
    """A state of one instance with these fields."""
    held = "resolved" if resolved else "open"
    return decoded(tasks={"t": {"next": 1, held: [INSTANCE | fields]}})


# ---- laws ---------------------------------------------------------------------------------------


@pytest.mark.laws
@given(states())
def test_a_state_comes_back_from_bytes(known: SessionState) -> None:
    assert state.decode(state.encode(known)) == known


@pytest.mark.laws
@given(st.binary())
def test_bytes_are_a_state_or_a_decode_error(value: bytes) -> None:
    with pytest.raises(DecodeError):
        state.decode(value)


# ---- what is derived ----------------------------------------------------------------------------


def test_open_instances_are_counted_and_a_due_time_that_is_not_stored_is_looked_for() -> None:
    instances = [
        INSTANCE,
        INSTANCE | {"number": 1, "status": "delayed", "waitsFrom": 7},
        INSTANCE | {"number": 2, "status": "failed"},
    ]
    finished = INSTANCE | {"number": 3, "status": "finished"}
    known = decoded(tasks={"t": {"next": 4, "open": instances, "resolved": [finished]}})
    assert (known.open_count, known.due_us) == (3, 0)


def test_an_empty_state_has_met_every_configuration() -> None:
    known = state.decode(b'{"version":2,"generation":3,"offset":9}')
    assert known == SessionState(generation=3, offset=9)


def test_what_the_deepest_event_brought_can_be_read_back() -> None:
    """In binary mode ``data`` is the whole value, so it may be as deep as JSON may be."""
    arrival = Arrival(data={"k": deep(JSON_DEPTH - 1)}, offset=1, time_us=1)
    instance = Instance(
        number=0,
        status=Status.UNSTARTED,
        created_us=1,
        changed_us=1,
        captured={LeafName("a"): 1},
        kwargs={"a": deep(JSON_DEPTH - 1)},
        result=deep(JSON_DEPTH - 1),
    )
    full = SessionState(
        config=0,
        seen={TriggerName("a"): arrival},
        tasks={TaskName("t"): TaskRecord(next=1, open={0: instance})},
        open_count=1,
        latest_captured=frozenset({TriggerName("a")}),
    )
    assert state.decode(state.encode(full)) == full


def test_an_event_stands_once_however_many_instances_hold_it() -> None:
    a, b = TriggerName("a"), TriggerName("b")
    earlier = Arrival(data={"text": "earlier"}, offset=1, time_us=1)
    latest = Arrival(data={"text": "latest"}, offset=2, time_us=1)
    other = Arrival(data={"text": "other"}, offset=3, time_us=1)
    record = TaskRecord(next=3)
    held: list[dict[LeafName, Holding]] = [
        {LeafName(name): ref for name, ref in captured.items()}
        for captured in ({a: 1}, {a: 1, b: 3}, {a: 2, b: 3})
    ]
    for number, captured in enumerate(held):
        record.open[number] = Instance(
            number=number, status=Status.UNSTARTED, created_us=1, changed_us=1, captured=captured
        )
    full = SessionState(
        config=0,
        seen={a: latest, b: other},
        kept={a: {1: earlier}},
        tasks={TaskName("t"): record},
        open_count=3,
        latest_captured=frozenset({a, b}),
    )
    stored = state.encode(full)
    assert [stored.count(text) for text in (b"earlier", b"latest", b"other")] == [1, 1, 1]
    assert state.decode(stored) == full


# ---- what is refused ----------------------------------------------------------------------------


def test_a_newer_version_is_refused_and_named() -> None:
    with pytest.raises(DecodeError, match="/version: 4 is newer than this release, which reads up to 3"):
        decoded(version=4)


@pytest.mark.parametrize(
    "entry",
    [
        [True, "a", 1, None],
        [1, "a", True, None],
        [-1, "a", 1, None],
        [1, 2, 1, None],
        [1, "a", 1, 2],
        [1, "a", 1, ["refused"]],
        [1, "a", 1, ["refused", "why"]],
        [1, "a", 1, ["refused", "no code", "why"]],
        [1, "a", 1, ["applied", "bound", "why"]],
        [1, "a", 1, ["refused", "bound", None]],
        [1, "a", 1],
        [1, "a", 1, None, None],
        [1.0, "a", 1, None],
        {"offset": 1},
        "text",
    ],
)
def test_a_position_is_offset_type_time_and_note(entry: object) -> None:
    assert decoded(positions=[[1, "a", 1, None], [2, "b", -1, "note"]]).positions[1] == (2, "b", -1, "note")
    refused = decoded(positions=[[1, "a", 1, ["refused", "bound", "why"]]]).positions[0]
    assert refused == (1, "a", 1, (NoEffect.REFUSED, Why.BOUND, "why"))
    with pytest.raises(DecodeError, match=r"^/positions"):
        decoded(positions=[[1, "a", 1, None], entry])


@pytest.mark.parametrize("field", ["offset", "time", "data"])
@pytest.mark.parametrize("value", [None, True, 1.5, "1", []])
def test_an_arrival_has_data_offset_and_time(field: str, value: object) -> None:
    arrival = {"data": {}, "offset": 1, "time": 1}
    assert decoded(seen={"a": arrival}).seen
    with pytest.raises(DecodeError, match=rf"^/seen/…/{field}: Expected"):
        decoded(seen={"a": arrival | {field: value}})


def test_an_arrival_has_a_ref() -> None:
    with pytest.raises(DecodeError, match=r"^/seen/…/offset: Expected `int`, got `float`"):
        decoded(seen={"a": {"data": {}, "offset": 1.5, "time": 1}})
    assert decoded(seen={"a": {"data": {}, "offset": -1, "time": 1}}).seen[TriggerName("a")].offset == -1


@pytest.mark.parametrize("field", ["id", "source"])
def test_an_arrival_has_text_for_its_identity(field: str) -> None:
    with pytest.raises(DecodeError, match=rf"^/seen/…/{field}: Expected `str \| null`, got `int`"):
        decoded(seen={"a": {"data": {}, "offset": 1, "time": 1, field: 7}})


@pytest.mark.parametrize(
    "text",
    [
        b64encode(b"1234567").decode(),
        b64encode(b"12345678").decode() + "=",
        b64encode(b"12345678").decode() + "\n",
        b64encode(b"12345678").decode().rstrip("="),
        "é" * 11 + "=",
        "!",
        7,
        None,
    ],
)
def test_digests_are_base64_of_whole_digests(text: object) -> None:
    assert decoded(digests={"a": b64encode(b"12345678" * 3).decode()}).digests == {"a": b"12345678" * 3}
    with pytest.raises(DecodeError, match="/digests"):
        decoded(digests={"a": text})


@pytest.mark.parametrize("config", [-2, True, "1", 1.5])
def test_a_configuration_is_an_offset_even_where_it_means_nothing(config: object) -> None:
    with pytest.raises(DecodeError, match=r"^/config: Expected `int`"):
        decoded(config=config)


def test_a_state_with_instances_says_which_configuration_it_met() -> None:
    fields = FULL | {"tasks": {"t": {"next": 0}}}
    del fields["config"]
    with pytest.raises(DecodeError, match="/config: must be an integer of at least -1, is missing"):
        state.decode(json.dumps(fields).encode())


@pytest.mark.parametrize(
    "field",
    [
        *("number", "created", "changed", "attempt", "retries", "cloneOf", "waitsFrom", "waits"),
        *("decided", "decidedAt", "started", "ended"),
    ],
)
@pytest.mark.parametrize("value", [-1, True, 1.0, "1", []])
def test_a_count_or_an_instant_of_an_instance_is_an_integer(field: str, value: object) -> None:
    with_instance({field: 0})
    with pytest.raises(DecodeError, match=rf"^/tasks/…/open/0/{field}: Expected `int"):
        with_instance({field: value})


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        *(("kwargs", "object | null"), ("metadata", "object | null"), ("sent", "object | null")),
        *(("captured", "object"), ("noted", "object")),
        *(("reason", "str | null"), ("note", "str | null"), ("error", "str | null"), ("status", "str")),
    ],
)
def test_other_fields_of_an_instance_have_their_types(field: str, wanted: str) -> None:
    with pytest.raises(DecodeError, match=re.escape(f"/open/0/{field}: Expected `{wanted}`, got `int`")):
        with_instance({field: 7})


@pytest.mark.parametrize("offset", [-(2**63), True, 1.5, None, "1"])
def test_an_unless_is_noted_with_an_offset(offset: object) -> None:
    with pytest.raises(DecodeError, match=r"^/tasks/…/open/0/noted/…: Expected `int"):
        with_instance({"noted": {"a": offset}})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("run", ""), ("run", None), ("config", ""), ("config", 1), ("params", []), ("queue", 1)),
        *(("expires", 0), ("expires", 1.5), ("expires", True)),
    ],
)
def test_what_was_sent_has_its_types(field: str, value: object) -> None:
    sent = {"run": "app.t", "config": "h"}
    with_instance({"sent": sent})
    with pytest.raises(DecodeError, match=rf"^/tasks/…/open/0/sent/{field}: Expected"):
        with_instance({"sent": sent | {field: value}})


def test_a_status_is_one_of_the_known() -> None:
    with pytest.raises(DecodeError, match=r"^/tasks/…/open/0/status: Invalid enum value 'done'"):
        with_instance({"status": "done"})


@pytest.mark.parametrize("status", list(Status))
def test_open_and_resolved_instances_stand_apart(status: Status) -> None:
    fields = {"status": status, "waitsFrom": 1}
    open_ones = list(Status)[: list(Status).index(Status.FINISHED)]
    with_instance(fields, resolved=status not in open_ones)
    with pytest.raises(DecodeError, match=rf"^/tasks/t: instance 0 cannot be {status} among the"):
        with_instance(fields, resolved=status in open_ones)


def test_a_delayed_instance_says_since_when_it_waits() -> None:
    with pytest.raises(DecodeError, match=r"^/tasks/t: instance 0 is delayed and does not say since when"):
        with_instance({"status": "delayed"})


def test_a_number_is_below_the_next() -> None:
    with pytest.raises(DecodeError, match="is not below `next`"):
        with_instance({"number": 1})


def test_a_number_stands_once() -> None:
    finished = INSTANCE | {"status": "finished"}
    for record in ({"open": [INSTANCE, INSTANCE]}, {"open": [INSTANCE], "resolved": [finished]}):
        with pytest.raises(DecodeError, match="or stands twice"):
            decoded(tasks={"t": {"next": 1} | record})


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        *(({"seen": []}, "/seen"), ({"tasks": [1]}, "/tasks"), ({"digests": "x"}, "/digests")),
        *(({"positions": {}}, "/positions"), ({"seen": {"a": 1}}, "/seen/…")),
        *(({"tasks": {"t": 1}}, "/tasks"), ({"tasks": {"t": {}}}, "/tasks/….*`next`")),
        *(({"tasks": {"t": {"next": 1, "open": {}}}}, "/tasks/…/open"),),
        *(({"tasks": {"t": {"next": 1, "resolved": [1]}}}, "/tasks/…/resolved/0"),),
        *(({"closed": 1}, "/closed"), ({"unjudged": "yes"}, "/unjudged"), ({"refused": -1}, "/refused")),
        *(({"clock": 1.5}, "/clock"), ({"generation": -1}, "/generation"), ({"offset": -2}, "/offset")),
    ],
)
def test_a_wrong_shape_is_named(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(DecodeError, match=path):
        decoded(**fields)


@pytest.mark.parametrize("instant", [2**63, -(2**63) - 1, 2**64])
def test_an_instant_beyond_64_bits_is_refused(instant: int) -> None:
    with pytest.raises(DecodeError, match=r"^/seen/…/time: Expected `int` [<>]= "):
        decoded(seen={"a": {"data": {}, "offset": 1, "time": instant}})
