"""A configuration as it is shown: its conditions stand there as in the file."""

from __future__ import annotations

import json

import pytest

from triggerstream.core.ids import Json, JsonObject
from triggerstream.core.tasks import AppliedConfiguration
from triggerstream.engine.queries.inspector import described
from triggerstream.wire.answers import to_json
from triggerstream.wire.tasksfile import read


@pytest.mark.parametrize(
    "task",
    [
        {"after": ["a", "b"], "andEvery": None, "unless": []},
        {"after": ["a"], "andEvery": "b", "unless": ["c"]},
        {"after": [], "andEvery": {"trigger": "a", "count": 10}, "unless": []},
        {"after": [{"any": ["a", "b"]}], "andEvery": "b", "unless": [{"any": ["c", "d"]}]},
        {
            "after": [{"trigger": "a", "as": "x", "where": "data.y > 1"}, {"all": ["b", "c"]}],
            "andEvery": None,
            "unless": [],
        },
    ],
)
def test_conditions_are_shown_as_they_stand_in_the_file(task: JsonObject) -> None:
    config = read(json.dumps({"t": {"run": "app.t", **task}}), name="tasks.json")
    found = described(AppliedConfiguration(config=config, offset=0, arrival_us=0))
    assert found is not None
    shown = to_json(found)["tasks"]
    expected: list[Json] = [{"task": "t", "run": "app.t", **task, "time": [], "places": []}]
    assert shown == expected


def test_keys_of_time_are_shown_in_words() -> None:
    tasks: JsonObject = {"t": {"after": ["a"], "delay": "1h", "run": "app.t"}}
    found = described(
        AppliedConfiguration(config=read(json.dumps(tasks), name="tasks.json"), offset=0, arrival_us=0)
    )
    assert found is not None
    assert found.tasks[0].time == ["delay 1 h"]


def test_limits_of_places_are_shown_in_words() -> None:
    tasks: JsonObject = {
        "t": {"after": ["a"], "paused": True, "maxConcurrency": 1000, "run": "app.t"},
        "u": {"after": ["a"], "maxConcurrency": 2, "run": "app.u"},
    }
    found = described(
        AppliedConfiguration(config=read(json.dumps(tasks), name="tasks.json"), offset=0, arrival_us=0)
    )
    assert found is not None
    assert [row.places for row in found.tasks] == [
        ["paused", "at most 1,000 at a time"],
        ["at most 2 at a time"],
    ]
