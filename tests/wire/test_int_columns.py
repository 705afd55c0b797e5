"""Columns of whole numbers that stay JSON."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggerstream.core.errors import DecodeError
from triggerstream.wire import int_columns
from triggerstream.wire.int_columns import IntColumn, read_column

NUMBERS = st.integers(min_value=-(2**63) + 1, max_value=2**63 - 1) | st.integers(-20, 200)
LISTS = st.lists(NUMBERS, min_size=1, max_size=60)


def column_of(values: list[int]) -> IntColumn:
    """The column as it is read."""
    return read_column(msgspec.Raw(msgspec.json.encode(values)))


@given(LISTS, st.data())
def test_a_column_answers_as_the_list_does(values: list[int], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(values) - 1))
    other = data.draw(NUMBERS)
    assert len(column_of(values)) == len(values)
    assert column_of(values)[at] == values[at]
    assert column_of(values)[-1] == values[-1]
    assert values[at] in column_of(values)
    assert (other in column_of(values)) is (other in values)
    assert 0 <= column_of(values).part_before(other) < 1
    assert column_of(values).values == list(column_of(values)) == values
    ascending = sorted(set(values))
    for known in (column_of(ascending), IntColumn(values=ascending)):
        assert known.place(values[at]) == ascending.index(values[at])
        assert known.place(other) == (ascending.index(other) if other in ascending else None)


@given(LISTS, LISTS, st.data())
def test_a_changed_column_is_the_changed_list(
    values: list[int], more: list[int], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(values) - 1))
    for column in (column_of(values), IntColumn(values=values)):
        for found, wanted in (
            (column.without(at), values[:at] + values[at + 1 :]),
            (column.extended(more), values + more),
            (column.without(at).extended(more), values[:at] + values[at + 1 :] + more),
        ):
            assert found.text == msgspec.json.encode(wanted)
            assert found.values == wanted
            assert len(found) == len(wanted)
        assert column.values == values
    ascending = sorted(set(values))
    left = [value for value in ascending if value != values[at]]
    for column in (column_of(ascending), IntColumn(values=ascending)):
        assert column.without_value(values[at]).text == msgspec.json.encode(left)


def test_a_column_that_is_written_in_another_way_is_read() -> None:
    assert read_column(msgspec.Raw(b"[1 , 2,\t3]")).text == b"[1,2,3]"
    assert read_column(msgspec.Raw(b"[]")).values == []


@pytest.mark.parametrize("text", [b"{}", b'"[1]"', b"7", b"null", b"[[1]]", b"[null]", b'["1"]', b"[1.5]"])
def test_anything_else_is_refused(text: bytes) -> None:
    with pytest.raises(DecodeError):
        _ = read_column(msgspec.Raw(text)).values


def test_a_long_column_is_not_decoded_to_look_up_append_and_remove(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int_columns, "_decoded", None)
    for values in (list(range(900)), list(range(10**12, 10**12 + 90_000, 100)), [5] * 900):
        column = column_of(values)
        for at in (0, 1, 450, 899):
            assert column[at] == values[at]
            shorter = column.without(at).extended([10**13])
            assert shorter[-1] == 10**13
            assert len(shorter) == 900
        assert values[450] in column
        assert 17**17 not in column
