"""Entries of retired instances as bytes: their keys and values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.wire.values import NAME
from triggerstream.core.errors import DecodeError
from triggerstream.core.held import One, Several, ref_after
from triggerstream.core.ids import LeafName, SessionId, TaskName, TriggerName
from triggerstream.core.retired import Retired
from triggerstream.core.state import Arrival, Instance, Status
from triggerstream.wire.marks import CHECKPOINT_KEY, RESERVED
from triggerstream.wire.retired import (
    RETIRED_PREFIX,
    RetiredKey,
    decode,
    decode_key,
    encode,
    encode_key,
    session_prefix,
)

KEYS = st.builds(
    RetiredKey,
    NAME.map(SessionId),
    NAME.map(TaskName),
    st.integers(min_value=0, max_value=10**18 - 1),
)
BROKEN = [
    b"",
    b"s",
    RETIRED_PREFIX,
    RETIRED_PREFIX + b"1:s",
    RETIRED_PREFIX + b"1:st#01",
    RETIRED_PREFIX + b"01:st#1",
    RETIRED_PREFIX + b"9:st#1",
    RETIRED_PREFIX + b"-1:st#1",
    RETIRED_PREFIX + b" 1:st#1",
    RETIRED_PREFIX + b"1:s\xff#1",
    RETIRED_PREFIX + b"1" * 5_000 + b":st#1",
    CHECKPOINT_KEY,
]


def test_a_key_is_readable() -> None:
    key = RetiredKey(SessionId("42"), TaskName("t_report"), 7)
    assert encode_key(key) == b"\x00i2:42t_report#7"
    assert encode_key(RetiredKey(SessionId("ü"), TaskName("t"), 0)) == b"\x00i2:\xc3\xbct#0"


@pytest.mark.laws
@given(KEYS)
@example(RetiredKey(SessionId("a\x00b:1#2"), TaskName("3:t#4"), 5))
def test_a_key_survives_its_encoding(key: RetiredKey) -> None:
    encoded = encode_key(key)
    assert encoded.startswith(RESERVED)
    assert encoded.startswith(session_prefix(key.session))
    assert decode_key(encoded) == key


@pytest.mark.laws
@given(st.lists(KEYS, min_size=2, max_size=2))
@example(
    [RetiredKey(SessionId("a"), TaskName("bc"), 1), RetiredKey(SessionId("ab"), TaskName("c"), 1)],
)
def test_different_instances_have_different_keys(keys: list[RetiredKey]) -> None:
    one, two = keys
    assert (encode_key(one) == encode_key(two)) is (one == two)
    if one.session != two.session:
        assert not encode_key(one).startswith(session_prefix(two.session))


@pytest.mark.laws
@given(st.binary(max_size=60))
@example(b'{"version":1,"generation":0,"instance":{"number":0,"status":"finished","created":1,"changed":1}}')
def test_any_bytes_are_an_entry_or_a_decode_error(value: bytes) -> None:
    try:
        found = decode(TaskName("t"), value)
    except DecodeError:
        return
    assert decode(TaskName("t"), encode(found)) == found


@pytest.mark.laws
@given(st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(RETIRED_PREFIX.__add__)))
def test_any_bytes_are_a_key_or_a_decode_error(key: bytes) -> None:
    try:
        found = decode_key(key)
    except DecodeError:
        return
    assert encode_key(found) == key


@pytest.mark.parametrize("key", BROKEN)
def test_other_bytes_are_no_key(key: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_key(key)
    assert str(caught.value) == f"{key[:80]!r}: not the key of a retired instance"


A, B, T = TriggerName("a"), TriggerName("b"), TaskName("t")
FIRED = ref_after(3, 3)
"""An event that a timer fired right after the one at offset 3."""


def entry() -> Retired:
    """An instance that holds two events of one trigger, one of them fired by a timer, and one of another."""
    instance = Instance(
        number=4,
        status=Status.FINISHED,
        created_us=1,
        changed_us=2,
        captured={LeafName("a"): Several(of=A, at=[FIRED, 5]), LeafName("c"): One(of=B, ref=2)},
    )
    events = {
        A: {5: Arrival(data={"n": 5}, offset=5, time_us=5), FIRED: Arrival(data={}, offset=FIRED, time_us=4)},
        B: {2: Arrival(data={}, offset=2, time_us=2)},
    }
    return Retired(task=T, generation=3, instance=instance, events=events)


def test_an_entry_is_read_as_it_was_written() -> None:
    assert decode(T, encode(entry())) == entry()


def test_an_entry_has_its_version_and_its_events_in_the_order_of_the_log() -> None:
    fields = json.loads(encode(entry()))
    assert (fields["version"], fields["generation"]) == (1, 3)
    assert [one["offset"] for one in fields["events"]["a"]] == [FIRED, 5]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"generation": -1}, "not a retired instance: Expected `int` >= 0 - at `$.generation`"),
        ({"events": {}}, f"/events: has no `a` at offset {FIRED}"),
        ({"events": {"a": []}}, f"/events: has no `a` at offset {FIRED}"),
    ],
)
def test_an_entry_that_breaks_a_rule_is_refused(fields: dict[str, Any], error: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(T, json.dumps(json.loads(encode(entry())) | fields).encode())
    assert str(caught.value) == error


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"status": "running"}, "/instance/status: cannot be running"),
        ({"capturedAt": [[0, 0]]}, "/instance/capturedAt: cannot be there in an entry"),
        ({"captured": {"x" * 99: 0}}, f"/events: has no `{'x' * 80}` at offset 0"),
    ],
)
def test_an_entry_whose_instance_breaks_a_rule_is_refused(fields: dict[str, Any], error: str) -> None:
    stored = json.loads(encode(entry()))
    with pytest.raises(DecodeError) as caught:
        decode(T, json.dumps(stored | {"instance": stored["instance"] | fields}).encode())
    assert str(caught.value) == error


def test_a_newer_entry_is_refused_with_its_version() -> None:
    with pytest.raises(DecodeError, match="/version: 2 is newer than this release"):
        decode(TaskName("t"), b'{"version":2,"else":1}')
