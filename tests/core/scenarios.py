"""The scenarios of ``tests/golden``: reading them, and folding one as an engine would, batch by batch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from triggerstream.core.commands import Command, Decision
from triggerstream.core.events import ConfigApplied
from triggerstream.core.ids import AppId, CommandId, JsonObject, SessionId, command_id, split_instance_id
from triggerstream.core.projections import statuses, waits_for
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import Rules
from triggerstream.core.timeline import timeline
from triggerstream.engine.checkpoint import Checkpoint, DeadLetter, keep_retired
from triggerstream.engine.processor import Processor
from triggerstream.engine.whole_sessions import add_retired
from triggerstream.wire import events as wire
from triggerstream.wire import state as states
from triggerstream.wire.engine_events import text_hash
from triggerstream.wire.instants import format_instant, parse_instant
from triggerstream.wire.records import Record
from triggerstream.wire.retired import RetiredKey

FOLDER = Path(__file__).parent.parent / "golden"
APP = AppId("golden")
START_US = parse_instant("2026-01-01T00:00:00Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What must hold at this place of the log."""

    state: dict[str, JsonObject]
    waits_for: dict[str, list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One file of ``tests/golden``; ``steps`` holds records and what must hold between them."""

    name: str
    covers: tuple[str, ...]
    says: str
    steps: tuple[Record | Check, ...]
    commands: list[JsonObject]
    end: Check
    refused: dict[str, int]
    rejected: int
    timeline: dict[str, list[list[str]]]

    @property
    def records(self) -> list[Record]:
        """The log."""
        return [step for step in self.steps if isinstance(step, Record)]


def scenarios() -> Iterator[Scenario]:
    """Every scenario, by name."""
    for path in sorted(FOLDER.rglob("*.json")):
        scenario = read_scenario(path.read_text())
        assert scenario.name == path.stem
        yield scenario


def read_scenario(text: str) -> Scenario:
    """The scenario in a file of ``tests/golden`` or in an example of a page."""
    fields = json.loads(text)
    return Scenario(
        name=fields["name"],
        covers=tuple(fields.get("covers", ())),
        says=fields["says"],
        steps=tuple(_steps(fields)),
        commands=fields["commands"],
        end=_check(fields),
        refused=fields.get("refused", {}),
        rejected=fields.get("rejected", 0),
        timeline=fields.get("timeline", {}),
    )


def _check(fields: Any) -> Check:  # noqa: ANN401 - a file of ours, read once
    return Check(state=fields["state"], waits_for=fields.get("waitsFor", {}))


def _steps(fields: Any) -> Iterator[Record | Check]:  # noqa: ANN401 - likewise
    first = fields["text"] if "text" in fields else fields["tasks"]
    arrival_us = START_US
    offset = 0
    for step in ({"apply": first}, *fields["events"]):
        if "check" in step:
            yield _check(step["check"])
            continue
        arrival_us = _arrival(step, arrival_us)
        key, value = _entry(step)
        yield Record(partition=0, offset=offset, arrival_us=arrival_us, key=key, value=value)
        offset += 1


def _arrival(step: JsonObject, before_us: int) -> int:
    """As `simulate` has it: ``received``, else ``time``, else that of the line before."""
    for name in ("received", "time"):
        text = step.get(name)
        if isinstance(text, str) and text[:1].isdigit():
            return parse_instant(text)
    return before_us


def _entry(step: JsonObject) -> tuple[bytes | None, bytes]:
    if "apply" in step:
        tasks = step["apply"]
        text = tasks if isinstance(tasks, str) else json.dumps(tasks)
        config = ConfigApplied(text=text, hash=text_hash(text), replaces=None, fold=1)
        return None, wire.encode(config)
    session = step["session"]
    assert isinstance(session, str)
    data = step.get("data")
    if isinstance(data, dict):
        command = data.get("command")
        if isinstance(command, str) and command.startswith("$"):
            step = {**step, "data": {**data, "command": _command(session, command)}}
    return session.encode(), json.dumps(step).encode()


def _command(session: str, placeholder: str) -> CommandId:
    """``$t#0`` stands for the command id of that instance, ``$t#0@2`` for that of generation 2."""
    name, _, generation = placeholder[1:].partition("@")
    parts = split_instance_id(name)
    assert parts is not None
    return command_id(
        APP, SessionId(session), generation=int(generation or 0), task=parts[0], number=parts[1]
    )


@dataclass(slots=True)
class Partition:
    """A partition under an engine that remembers what checkpoints say, and nothing else."""

    rules: Rules = field(default_factory=lambda: Rules(app=APP))
    stored: dict[SessionId, bytes] = field(default_factory=dict)
    decided: list[Decision] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    settled: list[CommandId] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    retired: dict[RetiredKey, bytes] = field(default_factory=dict)

    def process(
        self, records: Sequence[Record], *, most: int | None = None, scattered: bool = False
    ) -> Checkpoint:
        """Fold one batch, or a part of it that makes ``most`` bytes, or one of scattered events."""
        checkpoint = Processor(app=self.rules.app).process(
            self.rules, records, self.stored.get, most=most, scattered=scattered
        )
        self.stored.update({session: stored.state for session, stored in checkpoint.states.items()})
        keep_retired(self.retired, checkpoint.retired)
        self.decided += [decided.decision for decided in checkpoint.decided]
        self.values += [decided.value for decided in checkpoint.decided]
        self.settled += checkpoint.settled
        self.dead_letters += checkpoint.dead_letters
        if checkpoint.rules is not None:
            self.rules = checkpoint.rules
        return checkpoint

    def state(self, session: str) -> SessionState:
        """The stored state of a session."""
        return states.decode(self.stored[SessionId(session)])

    def whole(self, session: str) -> SessionState:
        """The stored state of a session, and the entries of the instances that have left it."""
        return add_retired(SessionId(session), self.state(session), self.retired)

    def assert_holds(self, check: Check) -> None:
        """Compare what is stored with what must hold."""
        for session, instances in check.state.items():
            state = self.whole(session)
            found = statuses(state)
            assert set(found) == set(instances)
            for name, expected in instances.items():
                assert isinstance(expected, dict)
                instance = found[name]
                assert instance.status == expected["status"], name
                assert state.stored_kwargs(instance) == expected["kwargs"], name
                for key in ("result", "error", "metadata", "reason", "note"):
                    if key in expected:
                        assert getattr(instance, key) == expected[key], name
        for session, names in check.waits_for.items():
            assert list(waits_for(self.rules, self.state(session), SessionId(session))) == names

    def shown_timeline(self, session: str) -> list[list[str]]:
        """A session's timeline: what, and of which type or instance, and the note if there is one."""
        rows = timeline(self.rules, SessionId(session), self.whole(session))
        shown: list[list[str]] = []
        for row in rows:
            entry = [row.what, row.instance or row.type, row.note]
            shown.append([text for text in entry if isinstance(text, str)])
        return shown


def assert_ends_as_said(partition: Partition, scenario: Scenario) -> None:
    """Compare all that ``partition`` decided, and how its sessions ended, with what ``scenario`` expects."""
    pairs = list(zip_longest(partition.decided, scenario.commands))
    found = [None if d is None else shown(d, e if e is not None else {}) for d, e in pairs]
    assert found == [expected for _, expected in pairs]
    partition.assert_holds(scenario.end)
    assert len(partition.dead_letters) == scenario.rejected, partition.dead_letters
    for session, count in scenario.refused.items():
        assert partition.state(session).refused == count
    for session, rows in scenario.timeline.items():
        assert partition.shown_timeline(session) == rows


def assert_each_step_holds(scenario: Scenario) -> None:
    """Fold ``scenario`` record by record, and compare each state that it gives, and the end."""
    partition = Partition()
    for step in scenario.steps:
        if isinstance(step, Check):
            partition.assert_holds(step)
        else:
            partition.process([step])
    assert_ends_as_said(partition, scenario)


def assert_one_batch_holds(scenario: Scenario) -> None:
    """Fold ``scenario`` as one batch, and compare the end."""
    partition = Partition()
    partition.process(scenario.records)
    assert_ends_as_said(partition, scenario)


def assert_repeated_records_hold(scenario: Scenario) -> None:
    """Fold every record of ``scenario`` twice in a row, and compare the end."""
    partition = Partition()
    for record in scenario.records:
        partition.process([record])
        dead_letters = list(partition.dead_letters)
        partition.process([record])
        partition.dead_letters = dead_letters
    assert_ends_as_said(partition, scenario)


def shown(decision: Decision, expected: JsonObject) -> JsonObject:
    """``decision`` with the keys that a scenario gives for it; attempt and retries are 0 unless said."""
    fields: JsonObject = {"session": decision.session, "task": decision.task}
    if not isinstance(decision, Command):
        return {**fields, "revoke": decision.instance}
    fields |= {"instance": decision.instance, "run": decision.run, "kwargs": decision.kwargs}
    if "generation" in expected:
        generation = expected["generation"]
        assert isinstance(generation, int)
        right = _command(decision.session, f"${decision.instance}@{generation}")
        fields["generation"] = generation if decision.id == right else -1
    if "decided" in expected:
        fields["decided"] = format_instant(decision.decided_us)
    if decision.attempt or "attempt" in expected:
        fields["attempt"] = decision.attempt
    if decision.retries or "retries" in expected:
        fields["retries"] = decision.retries
    return fields
