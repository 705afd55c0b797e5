from __future__ import annotations

import pytest

from triggerstream.core.errors import DecodeError
from triggerstream.wire.bounds import JSON_DEPTH
from triggerstream.wire.json import loads


def nested(depth: int, *, inner: bytes = b"") -> bytes:
    """Arrays in one another, ``depth`` of them."""
    return b"[" * depth + inner + b"]" * depth


@pytest.mark.parametrize("inner", [b"", b"1"])
def test_depth_64_is_read_and_65_refused(inner: bytes) -> None:
    loads(nested(64, inner=inner))
    with pytest.raises(DecodeError, match="nested deeper than 64"):
        loads(nested(65, inner=inner))


def test_depth_is_counted_alike_in_objects() -> None:
    loads(b'{"a":' * 64 + b"1" + b"}" * 64)
    with pytest.raises(DecodeError, match="nested deeper than 64"):
        loads(b'{"a":' * 65 + b"1" + b"}" * 65)


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
