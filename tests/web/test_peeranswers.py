"""What workers answer has the shape that workers take: on the states of every scenario, after each record."""

from __future__ import annotations

import pytest

from tests.core.scenarios import Check, Partition, Scenario, scenarios
from triggerstream.core.answers import ExplainedSession, SessionsPage
from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import JsonObject
from triggerstream.core.listing import Filter
from triggerstream.engine.queries.inspector import described, explained, listed, partition_row
from triggerstream.web.peeranswers import (
    CONFIGURATION,
    OVERVIEW,
    Fields,
    check_shape,
    read_answer,
)
from triggerstream.wire.answers import to_json
from triggerstream.wire.json import dumps

SCENARIOS = {scenario.name: scenario for scenario in scenarios()}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())
def test_every_state_of_a_scenario_is_taken(scenario: Scenario) -> None:
    partition = Partition()
    for step in scenario.steps:
        if isinstance(step, Check):
            continue
        partition.process([step])
        rows = []
        for session, state in partition.stored.items():
            shown = explained(partition.rules, session, state, partition=0)
            assert read_answer(200, dumps(to_json(shown)), ExplainedSession) == shown
            row = listed(partition.rules, session, state, wanted=Filter())
            assert row is not None
            rows.append(row)
        page = SessionsPage(sessions=rows, after=None, complete=True)
        assert read_answer(200, dumps(to_json(page)), SessionsPage) == page
        if (config := described(partition.rules.current)) is not None:
            taken(config, CONFIGURATION)


def test_a_row_of_the_overview_is_taken() -> None:
    for recovered in (None, 3):
        row = partition_row(0, owner=None, own=False, phase="unknown", recovered=recovered)
        taken({"partitions": [row]}, OVERVIEW)


def taken(found: JsonObject, shape: Fields) -> None:
    """Check that a worker takes that answer of another one."""
    assert read_answer(200, dumps(found), shape) == found


def test_a_refusal_says_where() -> None:
    with pytest.raises(DecodeError, match=r"^/partitions/0/lag: must be int or NoneType$"):
        check_shape(
            {"partitions": [{**partition_row(0, owner=None, own=False, phase=""), "lag": "1"}]}, OVERVIEW, ""
        )
    with pytest.raises(DecodeError, match=r"^Object missing required field `sessions`$"):
        read_answer(200, b"{}", SessionsPage)
    row: JsonObject = {"session": "s", "waiting": 0, "running": 0, "failed": 0, "done": 0, "closed": False}
    page: JsonObject = {"sessions": [{**row, "clock": "soon", "waitsFor": [], "failures": []}]}
    with pytest.raises(DecodeError, match=r"must be an RFC 3339 instant.* is `soon`"):
        read_answer(200, dumps(page), SessionsPage)
    with pytest.raises(DecodeError, match=r"^503: busy$"):
        read_answer(503, b'{"error": "busy"}', OVERVIEW)
