"""`Simulation`: the golden scenarios as lines of `simulate`, and places of lines in every form of a list."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.core.scenarios import FOLDER, shown
from triggerstream.core.commands import Command
from triggerstream.core.ids import AppId, JsonObject, SessionId, command_id, split_instance_id
from triggerstream.engine.replay.simulate import Simulation, instances_of
from triggerstream.wire import tasksfile

APP = AppId("golden")


def golden() -> list[Any]:
    found = [json.loads(path.read_text()) for path in sorted(FOLDER.rglob("*.json"))]
    return [pytest.param(one, id=one["name"]) for one in found if one["name"] not in REFUSED]


REFUSED = {"absence_without_a_start", "config_invalid_is_ignored", "zero_deadline_is_refused"}
"""Scenarios with a tasks file that `simulate` refuses with its place, where an engine ignores it."""


def by_hand(step: dict[str, Any]) -> dict[str, Any]:
    """A line of a scenario as a person writes it, without the ids of commands of the own generation."""
    data = step.get("data")
    command = data.get("command") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(command, str) or not command.startswith("$"):
        return step
    named, _, generation = command[1:].partition("@")
    if not generation:
        return {**step, "data": {key: value for key, value in data.items() if key != "command"}}
    parts = split_instance_id(named)
    assert parts is not None
    session, (task, number) = SessionId(step["session"]), parts
    old = command_id(APP, session, generation=int(generation), task=task, number=number)
    return {**step, "data": {**data, "command": old}}


@pytest.mark.parametrize("fields", golden())
def test_a_golden_scenario_simulates_to_its_commands_and_states(fields: dict[str, Any]) -> None:
    steps = [by_hand(step) for step in fields["events"] if "check" not in step]
    text = fields["text"] if "text" in fields else json.dumps(fields["tasks"])
    simulation = Simulation(tasksfile.read(text, name="tasks.json"), app=APP, name=fields["name"])
    steps[0] = steps[0] if "time" in steps[0] else {"received": "2026-01-01T00:00:00Z", **steps[0]}
    # The offsets say that the log is one of an engine, which touches no session by itself.
    lines = [json.dumps({**step, "offset": offset}).encode() for offset, step in enumerate(steps)]
    decided = [one for one in simulation.run(lines) if isinstance(one, Command)]
    expected = [command for command in fields["commands"] if "revoke" not in command]
    for found, wanted in zip(decided, expected, strict=True):
        without_generation = {key: value for key, value in wanted.items() if key != "generation"}
        assert shown(found, without_generation) == without_generation
    states = dict(simulation.sessions())
    for session, instances in fields["state"].items():
        assert _essence(instances_of(states[SessionId(session)])) == _essence(instances)


def _essence(instances: JsonObject) -> JsonObject:
    """Statuses, and the arguments of all instances that have taken the last event that they can take."""
    return {
        name: {
            "status": fields["status"],
            "kwargs": fields["kwargs"] if fields["status"] != "unstarted" else None,
        }
        for name, fields in instances.items()
        if isinstance(fields, dict)
    }
