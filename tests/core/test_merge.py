"""How kwargs are put together: the ancestor's scenarios M1 to M8.

M2, a shallow merge of nested objects, has no counterpart: here every merge is deep.
"""

from __future__ import annotations

from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.reference import merged
from triggerstream.core.ids import JsonObject
from triggerstream.core.merge import deep_merge

_objects: st.SearchStrategy[JsonObject] = st.recursive(
    st.dictionaries(st.sampled_from("abc"), st.none() | st.integers(0, 3), max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner | st.integers(0, 3), max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("under", "over", "result"),
    [
        pytest.param({"a": 1, "b": 1}, {"b": 2, "c": 2}, {"a": 1, "b": 2, "c": 2}, id="M1, M5 plain"),
        pytest.param(
            {"a": {"x": 1, "y": 1}}, {"a": {"y": 2, "z": 2}}, {"a": {"x": 1, "y": 2, "z": 2}}, id="M6 nested"
        ),
        pytest.param({"a": 1}, {"a": {"x": 2}}, {"a": {"x": 2}}, id="M3, M7 object over scalar"),
        pytest.param({"a": {"x": 1}}, {"a": 2}, {"a": 2}, id="M4, M8 scalar over object"),
        pytest.param({"a": {"x": 1}}, {"a": None}, {"a": None}, id="null over object"),
        pytest.param({"a": {"x": 1}}, {"a": {}}, {"a": {"x": 1}}, id="empty object over object"),
        pytest.param({"a": [1, 2]}, {"a": [3]}, {"a": [3]}, id="arrays are replaced"),
        pytest.param({}, {"a": 1}, {"a": 1}, id="over nothing"),
        pytest.param({"a": 1}, {}, {"a": 1}, id="nothing over it"),
    ],
)
def test_merge(under: JsonObject, over: JsonObject, result: JsonObject) -> None:
    assert deep_merge(under, over) == result


@pytest.mark.laws
@given(_objects, _objects)
def test_merge_changes_neither_argument_and_agrees_with_a_naive_one(
    under: JsonObject, over: JsonObject
) -> None:
    before = deepcopy((under, over))
    assert deep_merge(under, over) == merged(under, over)
    assert (under, over) == before


@pytest.mark.laws
@given(_objects, _objects, _objects)
def test_nothing_is_neutral_and_a_second_merge_of_the_same_changes_nothing(
    one: JsonObject, two: JsonObject, three: JsonObject
) -> None:
    assert deep_merge(one, {}) == deep_merge({}, one) == one
    laid = deep_merge(deep_merge(one, two), three)
    assert deep_merge(laid, three) == laid
