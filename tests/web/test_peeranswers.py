"""What workers answer has the shape that workers take: on the states of every scenario, after each record."""

from __future__ import annotations

import pytest
from msgspec import Struct

from tests.core.scenarios import Check, Partition, Scenario, scenarios
from triggerstream.adapters.memory import MemoryDatabase, MemoryReader
from triggerstream.core.answers import OwnerRow, SessionsPage
from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import Instant, JsonObject
from triggerstream.core.listing import Filter
from triggerstream.engine.queries.answers import Overview, PartitionRow, WorkerRow
from triggerstream.engine.queries.inspector import described, explained, listed
from triggerstream.web.peeranswers import read_answer
from triggerstream.wire.answers import to_json
from triggerstream.wire.json import dumps

SCENARIOS = {scenario.name: scenario for scenario in scenarios()}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())
async def test_every_state_of_a_scenario_is_taken(scenario: Scenario) -> None:
    partition = Partition()
    for step in scenario.steps:
        if isinstance(step, Check):
            continue
        partition.process([step])
        rows = []
        for session, state in partition.stored.items():
            shown = await explained(
                partition.rules,
                session,
                state,
                reader=MemoryReader(MemoryDatabase()),
                retired=MemoryReader(MemoryDatabase()),
                partition=0,
            )
            taken(shown)
            row = listed(partition.rules, session, state, wanted=Filter())
            assert row is not None
            rows.append(row)
        page = SessionsPage(sessions=rows, after=None, complete=True)
        taken(page)
        if (config := described(partition.rules.current)) is not None:
            taken(config)


def test_an_overview_is_taken() -> None:
    for recovered in (None, 3):
        row = PartitionRow(partition=0, owner=None, own=False, phase="unknown", recovered=recovered)
        worker = WorkerRow(url=None, own=False, says="away")
        owner = OwnerRow(host="here", pid=7, since_us=Instant(5), generation=recovered, partitions=[0, 1])
        taken(Overview(app="app", workers=[worker], partitions=[row], owners=[owner]))


def taken(answer: Struct) -> None:
    """Check that a worker takes that answer of another one."""
    assert read_answer(200, dumps(to_json(answer)), type(answer)) == answer


def test_fields_of_a_newer_release_are_ignored() -> None:
    page = to_json(SessionsPage(sessions=[], after=None, complete=True))
    shown = read_answer(200, dumps({**page, "later": 1}), SessionsPage)
    assert shown == SessionsPage(sessions=[], after=None, complete=True)


def test_a_refusal_says_where() -> None:
    row = to_json(PartitionRow(partition=0, owner=None, own=False, phase=""))
    overview: JsonObject = {"app": "", "workers": [], "partitions": [{**row, "lag": "1"}]}
    with pytest.raises(DecodeError, match=r"got `str` - at `\$\.partitions\[0\]\.lag`$"):
        read_answer(200, dumps(overview), Overview)
    with pytest.raises(DecodeError, match=r"^Object missing required field `sessions`$"):
        read_answer(200, b"{}", SessionsPage)
    session: JsonObject = {
        "session": "s",
        "waiting": 0,
        "running": 0,
        "failed": 0,
        "done": 0,
        "closed": False,
    }
    page: JsonObject = {"sessions": [{**session, "clock": "soon", "waitsFor": [], "failures": []}]}
    with pytest.raises(DecodeError, match=r"must be an RFC 3339 instant.* is `soon`"):
        read_answer(200, dumps(page), SessionsPage)
    with pytest.raises(DecodeError, match=r"^503: busy$"):
        read_answer(503, b'{"error": "busy"}', Overview)
