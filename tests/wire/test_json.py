from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.wire.values import json_values
from triggerstream.core.errors import DecodeError
from triggerstream.wire.bounds import JSON_DEPTH
from triggerstream.wire.json import dumps, loads
from triggerstream.wire.values import value_to_json

LEAST, GREATEST = -(2**63), 2**63 - 1

PIECES = (
    *(b"{", b"}", b"[", b"]", b":", b",", b" ", b"\n", b'"', b"\\", b"\\u", b"\\ud83d", b"\\ude00"),
    *(b"true", b"null", b"NaN", b"-", b"+", b".", b"e", b"E", b"0", b"1", b"19", b'"a"', b'"a":1', b"1e400"),
    *(b"9223372036854775807", b"9223372036854775808", b'"9223372036854775808"', b"\xef\xbb\xbf", b"\xff"),
)


def nested(depth: int, *, inner: bytes = b"") -> bytes:
    """Arrays in one another, ``depth`` of them."""
    return b"[" * depth + inner + b"]" * depth


def read_by_the_standard_library(text: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """The value in ``json``'s eyes, without the liberties that it takes; a byte-order mark is skipped."""

    def refuse(_constant: str) -> None:
        raise ValueError

    return json.loads(text.decode("utf-8-sig"), parse_constant=refuse)


# ---- laws ---------------------------------------------------------------------------------------


@pytest.mark.laws
@given(json_values(), st.booleans(), st.sampled_from([None, 0, 1, "\t"]))
def test_valid_json_reads_as_the_standard_library_reads_it(
    value: Any,  # noqa: ANN401
    ascii_only: bool,  # noqa: FBT001
    indent: int | str | None,
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert loads(text) == json.loads(text) == value


@pytest.mark.laws
@given(json_values())
def test_a_value_comes_back_from_bytes(value: Any) -> None:  # noqa: ANN401
    assert loads(dumps(value)) == value_to_json(value, depth=64) == value


@pytest.mark.laws
@example(b"\xef\xbb\xbf20000000000000000001")
@given(st.binary() | st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join))
def test_bytes_are_a_value_of_the_standard_library_too_or_a_decode_error(text: bytes) -> None:
    try:
        value = loads(text)
    except DecodeError:
        return
    assert value == read_by_the_standard_library(text)


CONTEXTS: list[Callable[[bytes], bytes]] = [
    lambda number: number,
    lambda number: b" " + number + b"\n",
    lambda number: b"[1," + number + b"]",
    lambda number: b'{"a":' + number + b"}",
    lambda number: b'{"a": ' + number + b', "b": "x"}',
    lambda number: b'["\\"", ' + number + b"]",
    lambda number: b'["1234567890123456789012", ' + number + b"]",
]


@pytest.mark.laws
@given(
    st.integers() | st.integers(min_value=-(2**70), max_value=2**70) | st.sampled_from([LEAST, GREATEST]),
    st.integers(min_value=-2, max_value=2),
    st.sampled_from(CONTEXTS),
)
def test_an_integer_is_read_exactly_if_it_has_64_bits(
    middle: int, beside: int, context: Callable[[bytes], bytes]
) -> None:
    number = middle + beside
    text = context(str(number).encode())
    if LEAST <= number <= GREATEST:
        assert loads(text) == json.loads(text)
    else:
        with pytest.raises(DecodeError, match=r"is beyond ±2\^63: write it as a string"):
            loads(text)


@pytest.mark.laws
@given(st.text(alphabet='0123456789 :,-[]"\\', min_size=15), st.sampled_from(["", ".5", "e0", "E-3"]))
def test_long_digits_in_strings_and_fractions_are_no_integers(inside: str, tail: str) -> None:
    text = json.dumps([inside, {inside: None}, 1]).encode()
    assert loads(text) == json.loads(text)
    if tail:
        number = f"[{2**63}{tail}]".encode()
        assert loads(number) == json.loads(number)


# ---- bounds -------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", [b"", b"1"])
def test_depth_64_is_read_and_65_refused(inner: bytes) -> None:
    loads(nested(64, inner=inner))
    with pytest.raises(DecodeError, match="nested deeper than 64"):
        loads(nested(65, inner=inner))


def test_depth_is_counted_alike_in_objects() -> None:
    loads(b'{"a":' * 64 + b"1" + b"}" * 64)
    with pytest.raises(DecodeError, match="nested deeper than 64"):
        loads(b'{"a":' * 65 + b"1" + b"}" * 65)


@pytest.mark.parametrize("depth", [100, 1_000, 2_000, 100_000])
@pytest.mark.parametrize("closed", [True, False])
def test_any_depth_is_refused_without_another_error(depth: int, *, closed: bool) -> None:
    with pytest.raises(DecodeError):
        loads(b"[" * depth + b"]" * depth * closed)


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert loads(b"[" + b",".join([b"[]"] * 1_000) + b"]") == [[] for _ in range(1_000)]


def test_brackets_in_strings_are_not_deep() -> None:
    assert loads(b'"' + b"[" * 1_000 + b'"') == "[" * 1_000


def test_a_caller_may_allow_more_depth_for_what_wraps_an_event() -> None:
    loads(nested(70), depth=70)
    with pytest.raises(DecodeError, match="nested deeper than 70"):
        loads(nested(71), depth=70)


def test_the_published_depth_is_64() -> None:
    assert JSON_DEPTH == 64


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"9223372036854775807", GREATEST),
        (b"-9223372036854775808", LEAST),
        (b"9223372036854775808.0", 2.0**63),
        (b"92233720368547758080e-1", 2.0**63),
        (b"-0", 0),
        (b"1e308", 1e308),
        (b"1e-99999999999", 0.0),
        (b"0." + b"0" * 1_000 + b"1", 0.0),
        (b"9" * 300 + b".5", 1e300),
    ],
)
def test_numbers_at_the_edge_are_read(text: bytes, value: float) -> None:
    assert loads(text) == value


@pytest.mark.parametrize(
    "text",
    [
        b"9223372036854775808",
        b"-9223372036854775809",
        b"18446744073709551615",
        b"18446744073709551616",
        b"[-18446744073709551616]",
        b"9" * 300,
        b"9" * 5_000,
        b"[" + b"9" * 100_000 + b"]",
        b"1e400",
        b"-1e400",
        b"1e99999999999999999999",
        b"9" * 5_000 + b".5",
    ],
)
def test_numbers_beyond_the_edge_are_refused(text: bytes) -> None:
    with pytest.raises(DecodeError):
        loads(text)


def test_a_long_integer_is_named_with_its_place() -> None:
    with pytest.raises(DecodeError, match="integer 12345678901234567890 at byte 5 is beyond"):
        loads(b'{"a":12345678901234567890}')


# ---- what else is no JSON -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"{\xef\xbb\xbf}",
        b"\xef\xbb\xbf\xef\xbb\xbf{}",
        b'"\\ud800"',
        b'"\\ude00\\ud83d"',
        b'"\xed\xa0\x80"',
        b'"\xff"',
        b'"\x00"',
        b'"\t"',
        b"{} {}",
        b"[1,]",
        b'{"a":1,}',
        b"{'a':1}",
        b"// comment\n{}",
        b"01",
        b"+1",
        b".5",
        b"1.",
        b"0x10",
        b"True",
        '{"a":1}'.encode("utf-16"),
    ],
)
def test_what_rfc_8259_does_not_allow_is_refused(text: bytes) -> None:
    with pytest.raises(DecodeError, match="not JSON"):
        loads(text)


def test_of_duplicate_keys_the_last_one_counts() -> None:
    assert loads(b'{"a":1,"b":2,"a":3}') == {"a": 3, "b": 2}


def test_a_surrogate_pair_is_one_character() -> None:
    assert loads(b'"\\ud83d\\ude00"') == "\U0001f600"


def test_a_byte_order_mark_is_skipped_once() -> None:
    assert loads(b'\xef\xbb\xbf{"a": 9223372036854775807}') == {"a": 2**63 - 1}
    with pytest.raises(DecodeError):
        loads(b'\xef\xbb\xbf{"a": 9223372036854775809}')
