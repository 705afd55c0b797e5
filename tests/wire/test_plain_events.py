"""The faster way to read an event: the same events as the way that reads all forms, or none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.values import bodies, headers, keys
from triggerstream.core.events import Body
from triggerstream.wire.bounds import EVENT_BYTES, SESSION_ID_BYTES, TRACE_CHARS
from triggerstream.wire.engine_events import text_hash
from triggerstream.wire.events import decode_any, encode
from triggerstream.wire.plain_events import decode_plain_event
from triggerstream.wire.records import Headers, Record

ARRIVAL_US = 1_700_000_000_000_000
NOON = "2026-03-01T12:00:00Z"
CONFIG = {"text": "{}", "hash": text_hash("{}"), "fold": 1}


def record(value: bytes | None, *, key: bytes | None = b"42", headers: Headers = ()) -> Record:
    return Record(partition=3, offset=7, arrival_us=ARRIVAL_US, key=key, value=value, headers=headers)


def is_read_alike(one: Record) -> bool:
    """True if the faster way reads ``one``; it is then the same event, down to the types of numbers."""
    plain = decode_plain_event(one)
    if plain is not None:
        assert repr(plain) == repr(decode_any(one))
    return plain is not None


# ---- laws ---------------------------------------------------------------------------------------

DIGITS = st.text("0123456789", min_size=1, max_size=24)
NUMBERS = st.one_of(
    st.tuples(
        st.sampled_from(["", "-", "+"]),
        DIGITS,
        st.just("") | DIGITS.map(".{}".format),
        st.just("") | st.tuples(st.sampled_from("eE"), st.sampled_from(["", "-", "+"]), DIGITS).map("".join),
    ).map("".join),
    st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64, 10**400]).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
)
ESCAPED = st.sampled_from(
    ["\\u0000", "\\ud800", "\\udc00\\ud800", "\\ud83d\\ude00", "\\/", "\\x", "\x01", "é", "\u2028"]
)
STRINGS = st.one_of(st.text(max_size=6).map(json.dumps), ESCAPED.map('"{}"'.format))
SPACE = st.sampled_from(["", "", "", " ", "\n\t", "\u00a0"])
NAMES = STRINGS | st.sampled_from(["type", "data", "id", "a"]).map(json.dumps)


def objects(values: st.SearchStrategy[str], names: st.SearchStrategy[str] = NAMES) -> st.SearchStrategy[str]:
    """Text of objects; a name may stand twice, and a comma too much."""
    fields = st.lists(st.tuples(names, SPACE, values).map("{0[0]}{0[1]}:{0[2]}".format), max_size=4)
    return st.tuples(fields.map(",".join), st.sampled_from(["", "", "", ","])).map("{{{0[0]}{0[1]}}}".format)


VALUES: st.SearchStrategy[str] = st.recursive(
    st.one_of(NUMBERS, STRINGS, st.sampled_from(["null", "true", "false", "NaN", "nul", ""])),
    lambda inner: st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]") | objects(inner),
    max_leaves=12,
)
ATTRIBUTES = (
    *("type", "data", "id", "source", "time", "session", "traceparent"),
    *("specversion", "datacontenttype", "subject", "data_base64", "other"),
)
TEXTS = ("a", "", "42", "1.0", NOON, "x" * (TRACE_CHARS + 1), "triggerstream.task.started")
ENVELOPES = st.tuples(
    SPACE,
    objects(
        VALUES | st.sampled_from(TEXTS).map(json.dumps) | objects(VALUES),
        st.sampled_from(ATTRIBUTES).map(json.dumps),
    ),
    SPACE,
).map("".join)


@pytest.mark.laws
@given(ENVELOPES, keys(), headers())
def test_a_trigger_is_read_alike_by_both_ways(text: str, key: bytes | None, named: Headers) -> None:
    is_read_alike(record(text.encode(), key=key, headers=named))
    is_read_alike(record(text.encode()))


@pytest.mark.laws
@given(VALUES)
def test_data_of_any_form_is_read_alike_by_both_ways(text: str) -> None:
    is_read_alike(record(f'{{"type":"a","data":{{"x":{text}}}}}'.encode()))


@pytest.mark.laws
@given(st.binary(max_size=8), st.integers(0, 60), st.integers(0, 8))
def test_bytes_changed_anywhere_are_read_alike_by_both_ways(some: bytes, at: int, cut: int) -> None:
    value = b'{"type":"a","id":"1","data":{"n":-12.5e1,"s":"\xc3\xa9","l":[1,{"b":null}]}}'
    is_read_alike(record(value[:at] + some + value[at + cut :]))


@pytest.mark.laws
@given(bodies(), st.binary(max_size=4), st.integers(0, 200), st.integers(0, 4))
def test_an_event_of_any_kind_is_read_alike_by_both_ways(body: Body, some: bytes, at: int, cut: int) -> None:
    value = encode(body, id="1", time_us=ARRIVAL_US)
    is_read_alike(record(value))
    is_read_alike(record(value[:at] + some + value[at + cut :]))


# ---- what is plain, and what is not -------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "a"},
        {"type": "a", "data": {}},
        {"type": "a", "id": "1", "source": "s", "data": {"score": 3, "ok": True, "none": None, "f": 1.5}},
        {"type": "a", "data": {"deep": [[[{"a": {"b": [1]}}]]]}},
        {"type": "a", "data": {"n": [-(2**63), 2**63 - 1]}},
        {"type": "a", "id": None, "source": None, "time": None, "session": None, "traceparent": None},
        {"type": "a", "time": NOON, "session": "42", "subject": "", "traceparent": "x" * (TRACE_CHARS + 1)},
        {"type": "a", "specversion": "1.0", "datacontenttype": "application/json", "source": ""},
        {"type": "triggerstream.session.close"},
        {"type": "triggerstream.task.started", "id": "1", "data": {"instance": "t#0", "command": "c"}},
    ],
)
def test_a_plain_event_is_read_by_the_faster_way(fields: dict[str, Any]) -> None:
    assert is_read_alike(record(json.dumps(fields).encode()))


@pytest.mark.parametrize(
    "one",
    [
        record(b'{"type":"a"}', key=b"a" * SESSION_ID_BYTES),
        record(b'{"type":"a"}'.ljust(EVENT_BYTES)),
    ],
)
def test_an_event_at_a_bound_is_read_by_the_faster_way(one: Record) -> None:
    assert is_read_alike(one)


@pytest.mark.parametrize(("chars", "kept"), [(TRACE_CHARS, True), (TRACE_CHARS + 1, False)])
def test_a_trace_is_kept_unless_it_is_too_long(chars: int, kept: bool) -> None:  # noqa: FBT001
    one = record(json.dumps({"type": "a", "traceparent": "x" * chars}).encode())
    assert is_read_alike(one)
    event = decode_plain_event(one)
    assert event is not None
    assert event.traceparent == ("x" * chars if kept else None)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"type": ""},
        {"type": 1},
        {"type": "triggerstream.config", "data": CONFIG},
        {"type": "triggerstream.other"},
        {"type": "triggerstream.task.started"},
        {"type": "a", "data": None},
        {"type": "a", "data": []},
        {"type": "a", "id": ""},
        {"type": "a", "id": 1},
        {"type": "a", "time": "yesterday"},
        {"type": "a", "session": "43"},
        {"type": "a", "specversion": "0.3"},
        {"type": "a", "rehomedfrom": "0:1"},
        {"type": "a", "data": {"n": 2**63}},
        {"type": "a", "data": {"deep": [[[[[[[[1]]]]]]]]}},
    ],
)
def test_any_other_event_is_left_to_the_way_that_reads_all_forms(fields: dict[str, Any]) -> None:
    assert decode_plain_event(record(json.dumps(fields).encode())) is None


@pytest.mark.parametrize(
    "one",
    [
        record(None),
        record(b"{"),
        record(b'{"type":"a"}', key=None),
        record(b'{"type":"a"}', key=b""),
        record(b'{"type":"a"}', key=b"\0a"),
        record(b'{"type":"a"}', key=b"\xff"),
        record(b'{"type":"a"}', key=b"a" * (SESSION_ID_BYTES + 1)),
        record(b'{"type":"a"}', headers=(("traceparent", b"00"),)),
        record(b'{"type":"a"}' + b" " * EVENT_BYTES),
    ],
)
def test_a_record_of_another_form_is_left_to_the_way_that_reads_all_forms(one: Record) -> None:
    assert decode_plain_event(one) is None
