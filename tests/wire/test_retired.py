"""Entries of retired instances as bytes: their keys and values."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.wire.values import NAME
from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import SessionId, TaskName
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
    with suppress(DecodeError):
        found = decode(TaskName("t"), value)
        assert decode(TaskName("t"), encode(found)) == found


@pytest.mark.laws
@given(st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(RETIRED_PREFIX.__add__)))
def test_any_bytes_are_a_key_or_a_decode_error(key: bytes) -> None:
    with suppress(DecodeError):
        assert encode_key(decode_key(key)) == key


@pytest.mark.parametrize("key", BROKEN)
def test_other_bytes_are_no_key(key: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_key(key)


def test_a_newer_entry_is_refused_with_its_version() -> None:
    with pytest.raises(DecodeError, match="/version: 2 is newer than this release"):
        decode(TaskName("t"), b'{"version":2,"else":1}')
