"""Values as they may stand on the wire, for the laws of the codecs."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

INT64 = st.integers(min_value=-(2**63), max_value=2**63 - 1)
TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
NAME = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)

_SCALARS = st.none() | st.booleans() | INT64 | st.floats(allow_nan=False, allow_infinity=False) | TEXT


def json_values() -> st.SearchStrategy[Any]:
    """Any value of RFC 8259 with 64-bit integers and valid Unicode."""
    return st.recursive(
        _SCALARS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
        max_leaves=10,
    )


def json_objects() -> st.SearchStrategy[dict[str, Any]]:
    """Objects of such values."""
    return st.dictionaries(TEXT, json_values(), max_size=4)
