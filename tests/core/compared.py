"""Folds random scenarios with ``step``, and compares them with the reference evaluator."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

from tests.core.entries import Entries
from tests.core.logs_of_conditions import APP, Scenario
from tests.core.reference_of_conditions import (
    Asked,
    File,
    Line,
    Reference,
)
from triggerstream.core.commands import Command, Decision
from triggerstream.core.events import ENGINE_PREFIX, Body, ConfigApplied, Event, Trigger
from triggerstream.core.fold import migrate, step
from triggerstream.core.ids import AppId, JsonObject, SessionId, TaskName, TriggerName
from triggerstream.core.projections import statuses
from triggerstream.core.results import Folded
from triggerstream.core.state import WAITING, SessionState
from triggerstream.core.tasks import (
    AppliedConfiguration,
    Configuration,
    Rules,
)
from triggerstream.wire import state as wire
from triggerstream.wire import tasksfile
from triggerstream.wire.engine_events import read_body

Seen: TypeAlias = "tuple[list[Asked], dict[str, str], dict[str, JsonObject], dict[str, JsonObject]]"
"""The outcome of a session: decisions in order, statuses, stored kwargs of decided instances and clones, and
those of others that wait."""
Reader: TypeAlias = Callable[[File], Configuration]


class Reading:
    """Reads tasks files, each once."""

    def __init__(self) -> None:
        self._known: dict[str, Configuration] = {}

    def __call__(self, file: File) -> Configuration:
        text = json.dumps(file)
        if text not in self._known:
            self._known[text] = tasksfile.read(text, name="tasks.json")
        return self._known[text]


@dataclass(slots=True)
class Folding:
    """Folds a log with ``step``. ``at_once``: every session meets a file when it arrives."""

    rules: Rules
    reader: Reader
    at_once: bool = False
    random: Random | None = None
    """Chooses after which events the states are stored and read again: batches of an engine."""
    states: dict[SessionId, SessionState] = field(default_factory=dict)
    decisions: dict[SessionId, list[Decision]] = field(default_factory=dict)
    entries: Entries = field(default_factory=Entries)

    @classmethod
    def of(
        cls, file: File, reader: Reader, *, at_once: bool = False, random: Random | None = None
    ) -> Folding:
        """A folding under ``file`` from the start."""
        applied = AppliedConfiguration(config=reader(file), offset=-1, arrival_us=0)
        rules = Rules(app=AppId(APP), history=(applied,))
        return cls(rules=rules, reader=reader, at_once=at_once, random=random)

    def read(self, line: Line) -> None:
        """Go on to the next line."""
        if line.file is not None:
            applied = AppliedConfiguration(
                config=self.reader(line.file), offset=line.offset, arrival_us=line.arrival_us
            )
            self.rules = self.rules.apply(applied)
            if self.at_once:
                self.migrate()
            return
        event = event_of(line)
        folded = step(self.rules, self.states.get(event.session), event)
        if isinstance(folded, Folded):
            self._keep(event.session, folded)
        if self.random is not None and self.random.random() < 0.3:
            self.store()

    def store(self) -> None:
        """Store every state and read it again, as between two batches."""
        for session, state in self.states.items():
            stored = wire.decode(wire.encode(state))
            if stored.is_empty():
                stored.config = state.config  # an empty state has met every configuration
            self.states[session] = stored

    def migrate(self) -> None:
        """Let every session meet the files that it missed."""
        for session, state in list(self.states.items()):
            self._keep(session, migrate(self.rules, state, session))

    def _keep(self, session: SessionId, folded: Folded) -> None:
        self.states[session] = folded.state
        self.entries.take(session, folded)
        self.decisions.setdefault(session, []).extend(folded.decisions)

    def seen(self, session: str) -> Seen:
        """The outcome of a session."""
        state = self.states.get(SessionId(session))
        asked = [asked_by(decision) for decision in self.decisions.get(SessionId(session), [])]
        if state is None:
            return asked, {}, {}, {}
        state = self.entries.whole(SessionId(session), state)
        instances = statuses(state)
        return (
            asked,
            {str(name): one.status.value for name, one in instances.items()},
            {
                str(name): state.stored_kwargs(one)
                for name, one in instances.items()
                if one.decided_us is not None or one.clone_of is not None
            },
            {
                str(name): self._held(str(name), state.stored_kwargs(one))
                for name, one in instances.items()
                if one.status in WAITING and one.clone_of is None
            },
        )

    def _held(self, instance: str, stored: JsonObject) -> JsonObject:
        """The events that leaves of the file in force hold. A leaf that is gone is left out."""
        task = self.rules.current.config.by_name.get(TaskName(instance.rpartition("#")[0]))
        names = set() if task is None else set(map(str, task.after.names))
        return {name: value for name, value in stored.items() if name in names and value}


def seen_by_reference(reference: Reference, session: str) -> Seen:
    """The outcome of a session by the reference."""
    asked = list(reference.asked(session))
    holding = {
        instance: {name: value for name, value in held.items() if value}
        for instance, held in reference.holding(session).items()
    }
    return asked, reference.statuses(session), reference.stored(session), holding


def event_of(line: Line) -> Event:
    """A line as the fold takes it."""
    body: Body | ConfigApplied = Trigger(name=TriggerName(line.type), data=line.data)
    if line.type.startswith(ENGINE_PREFIX):
        body = read_body(line.type, line.data)
    assert not isinstance(body, ConfigApplied)
    return Event(
        session=SessionId(line.session),
        offset=line.offset,
        arrival_us=line.arrival_us,
        time_us=line.time_us,
        type=line.type,
        body=body,
        id=line.id,
    )


def asked_by(decision: Decision) -> Asked:
    """A decision as the reference puts it."""
    if not isinstance(decision, Command):
        return Asked(id=decision.id, session=decision.session, instance=decision.instance)
    return Asked(
        id=decision.id,
        session=decision.session,
        instance=decision.instance,
        run=decision.run,
        kwargs=decision.kwargs,
        attempt=decision.attempt,
        retries=decision.retries,
        decided_us=decision.decided_us,
    )


def sessions_of(lines: Iterable[Line]) -> list[str]:
    """The sessions of a log."""
    return sorted({line.session for line in lines if line.file is None})


Expected: TypeAlias = "list[dict[str, Seen]]"
"""Outcomes by session after each line: of its session after an event, of all sessions after a file."""


def expected_of(scenario: Scenario) -> Expected:
    """Run the reference on a scenario."""
    reference = Reference(APP, scenario.file)
    said: Expected = []
    for line in scenario.lines:
        reference.read(line)
        names = [line.session] if line.file is None else sessions_of(scenario.lines)
        said.append({name: seen_by_reference(reference, name) for name in names})
    said.append({name: seen_by_reference(reference, name) for name in sessions_of(scenario.lines)})
    return said


def difference(scenario: Scenario, folding: Folding, expected: Expected | None = None) -> str | None:
    """The first place at which the fold and the reference differ; None if they agree to the end.

    At each event of a session the fold has met every file, so they agree on all that was decided so far.
    ``expected``: what the reference says, if it was asked before.
    """
    said = expected_of(scenario) if expected is None else expected
    for line, sessions in zip(scenario.lines, said, strict=False):
        folding.read(line)
        if line.file is not None and not folding.at_once:
            continue
        for name, seen in sessions.items():
            if (found := folding.seen(name)) != seen:
                return f"after {line}\nexpected {seen}\nfound    {found}"
    folding.migrate()
    for name, seen in said[-1].items():
        if (found := folding.seen(name)) != seen:
            return f"at the end of {name}\nexpected {seen}\nfound    {found}"
    return None
