"""The reference evaluator says of every golden scenario what was written down for it by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.core.reference_of_conditions import Json, Line, Reference, Session
from tests.core.scenarios import APP, FOLDER, START_US
from triggerstream.core.ids import split_instance_id
from triggerstream.wire import tasksfile
from triggerstream.wire.instants import parse_instant

PATHS = {path.stem: path for path in sorted(FOLDER.rglob("*.json"))}
BEYOND = {
    "bound_leaves_out_a_trigger": "bounds",
    "dead_letters_do_not_stop_a_batch": "records that are no events",
    "survey": "comments in a file",
    "set_of_several_hundred": "so many events that looking at all of them each time takes minutes",
}
"""Scenarios with what the reference does not know."""


def lines_of(fields: dict[str, Any]) -> Iterator[Line | dict[str, Any]]:
    """The log of a scenario, and what must hold between its lines."""
    arrival_us, offset = START_US, 1
    for step in fields["events"]:
        if "check" in step:
            yield step["check"]
            continue
        texts = [step[name] for name in ("received", "time") if name in step]
        arrival_us = parse_instant(texts[0]) if texts else arrival_us
        time_us = parse_instant(step["time"]) if "time" in step else arrival_us
        if "apply" in step:
            if is_usable(step["apply"]):  # else the file before it stays in force
                yield Line(offset=offset, arrival_us=arrival_us, file=tasks_of(step["apply"]))
        else:
            yield Line(
                offset=offset,
                arrival_us=arrival_us,
                session=step["session"],
                type=step["type"],
                data=with_command(step["session"], step.get("data") or {}),
                time_us=time_us,
                id=step.get("id"),
                source=step.get("source", ""),
            )
        offset += 1


def with_command(session: str, data: Json) -> dict[str, Json]:
    """Data with the command id for which a placeholder such as ``$t#0@1`` stands."""
    command = data.get("command", "")
    if not command.startswith("$"):
        return {**data}
    name, _, generation = command[1:].partition("@")
    parts = split_instance_id(name)
    assert parts is not None
    reference = Reference(APP, {})
    there = Session(name=session, generation=int(generation or 0))
    one = reference.create(there, parts[0], 0)
    one.number = parts[1]
    return {**data, "command": reference.command(there, one)}


def is_usable(file: Any) -> bool:  # noqa: ANN401 - a tasks file, or its text
    """Whether engines put a tasks file in force: the reference reads usable ones only."""
    text = file if isinstance(file, str) else json.dumps(file)
    return tasksfile.check(text, name="tasks.json")[0] is not None


def tasks_of(file: Any) -> dict[str, Any]:  # noqa: ANN401 - a tasks file, or its text
    """The tasks of a file."""
    tasks = json.loads(file) if isinstance(file, str) else file
    return {name: task for name, task in tasks.items() if not name.startswith("$")}


def assert_holds(reference: Reference, expected: dict[str, dict[str, Json]]) -> None:
    for session, instances in expected.items():
        assert reference.statuses(session) == {name: one["status"] for name, one in instances.items()}
        for name, kwargs in reference.stored(session).items():
            assert kwargs == instances[name]["kwargs"], name


@pytest.mark.parametrize("path", [path for name, path in PATHS.items() if name not in BEYOND], ids=str)
def test_reference_says_what_the_scenario_expects(path: Path) -> None:
    fields = json.loads(path.read_text())
    reference = Reference(APP, tasks_of(fields["text"] if "text" in fields else fields["tasks"]))
    sessions = set()
    for line in lines_of(fields):
        if isinstance(line, Line):
            sessions.add(line.session)
            reference.read(line)
        else:
            assert_holds(reference, line["state"])
    assert_holds(reference, fields["state"])
    for session in sessions - {""}:
        expected = [command for command in fields["commands"] if command["session"] == session]
        found = reference.asked(session)
        assert [(one.instance, one.run, one.kwargs, one.attempt, one.retries) for one in found] == [
            (
                command.get("instance", command.get("revoke")),
                command.get("run", ""),
                command.get("kwargs"),
                command.get("attempt", 0),
                command.get("retries", 0),
            )
            for command in expected
        ]
        for one, command in zip(found, expected, strict=True):
            if "decided" in command:
                assert one.decided_us == parse_instant(command["decided"])


def test_every_scenario_beyond_the_reference_is_there() -> None:
    assert set(BEYOND) <= set(PATHS)
