"""Constructs that the reader knows and this version refuses."""

from __future__ import annotations

import pytest

from triggerstream.wire.tasksfile import check, conditions, keys

PLACES = {
    "where": '{"trigger": "a", "where": "data.x"}',
    "as": '{"trigger": "a", "as": "b"}',
    "all": '["a", "b"]',
    "any": '{"any": ["a", "b"]}',
    "atLeast": '{"atLeast": 1, "of": ["a", "b"]}',
    "count": '{"trigger": "a", "count": 2}',
    "key": '{"trigger": "a", "key": "data.x", "count": 2}',
    "each": '{"trigger": "a", "key": "data.x", "each": {"of": "c", "list": "data.y"}}',
    "sequence": '{"sequence": ["a", "b"]}',
}


def codes(text: str) -> set[str]:
    return {finding.code for finding in check(text, name="tasks.json")[1]}


@pytest.mark.parametrize("construct", PLACES)
def test_a_construct_behind_a_gate_is_refused(construct: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f'{{"t": {{"after": ["c", {PLACES[construct]}], "run": "x"}}}}'
    assert codes(text) == set()
    monkeypatch.setattr(conditions, "NOT_YET", frozenset({construct}))
    assert codes(text) == {"unsupported-condition"}


@pytest.mark.parametrize(("key", "value"), [("unlessFrom", "instance"), ("appliesTo", "existing")])
def test_a_key_behind_a_gate_is_refused(key: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f'{{"t": {{"after": ["c"], "unless": ["d"], "run": "x", "{key}": "{value}"}}}}'
    assert codes(text) == set()
    monkeypatch.setattr(keys, "NOT_YET_KEYS", frozenset({key}))
    assert codes(text) == {"unsupported-key"}
