"""Laws of replay: a log folded again agrees with what was kept of it, and whatever is damaged is named."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.equivalence.test_kafka_engine import random_answers, random_triggers, tasks_file
from triggerstream.core.commands import Command
from triggerstream.core.ids import AppId, CommandId, SessionId
from triggerstream.core.tasks import Rules
from triggerstream.engine.checkpoint import Decided, Stored
from triggerstream.engine.configure import configuration_record
from triggerstream.engine.processor import Processor
from triggerstream.engine.replay.refold import Kept, Refold, Refolded, differences
from triggerstream.engine.rows import ConfigurationText
from triggerstream.wire import state, tasksfile
from triggerstream.wire.records import NewRecord, Record

APP = AppId("laws")
SECOND = 1_000_000


@dataclass
class Lived:
    """A partition as its owner has it, batch by batch, with answers to what it decides."""

    chance: random.Random
    processor: Processor = field(default_factory=lambda: Processor(app=APP))
    rules: Rules = field(default_factory=lambda: Rules(app=APP))
    log: list[Record] = field(default_factory=list)
    states: dict[SessionId, Stored] = field(default_factory=dict)
    open: dict[CommandId, Decided] = field(default_factory=dict)
    folded: int = 0

    def append(self, records: Iterator[NewRecord]) -> None:
        for record in records:
            arrival_us = (self.log[-1].arrival_us if self.log else SECOND) + self.chance.randrange(2 * SECOND)
            self.log.append(
                Record(
                    partition=0,
                    offset=len(self.log),
                    arrival_us=arrival_us,
                    key=record.key,
                    value=record.value,
                )
            )

    def configure(self) -> None:
        config = tasksfile.read(tasks_file(self.chance), name="t")
        current = self.rules.current
        record = configuration_record(config, replaces=current.config.hash or None, number=current.number)
        if record is not None:
            self.append(iter([record]))

    def fold(self) -> None:
        """Fold what is in the log, in batches of any size, and append answers to what is decided."""
        while self.folded < len(self.log):
            batch = self.log[self.folded : self.folded + self.chance.randint(1, 40)]
            checkpoint = self.processor.process(self.rules, batch, self._load)
            self.folded = checkpoint.offset
            self.states.update(checkpoint.states)
            self.rules = checkpoint.rules or self.rules
            decided = []
            for item in checkpoint.decided:
                if isinstance(item.decision, Command):
                    self.open[item.decision.id] = item
                    decided.append(item.decision)
            for command in checkpoint.settled:
                self.open.pop(command, None)
            if len(self.log) < 300:
                self.append(random_answers(self.chance, decided))

    def _load(self, session: SessionId) -> bytes | None:
        return self.states[session].state if session in self.states else None

    def kept(self) -> Kept:
        """What the owner keeps; it has forgotten what no session needs, or not."""
        met = [state.decode(stored.state) for stored in self.states.values()]
        current = self.rules.current.offset
        oldest = min((known.config for known in met if not known.is_empty()), default=current)
        rules = self.rules.forget(min(oldest, current)) if self.chance.random() < 0.5 else self.rules
        return Kept(
            offset=self.folded,
            log_begin=0,
            log_end=len(self.log),
            states={session.encode(): stored.state for session, stored in self.states.items()},
            configurations=[ConfigurationText.of(one) for one in rules.history if one.offset >= 0],
            commands=frozenset(self.open),
        )


def lived(seed: int) -> Lived:
    """A life of up to some 300 events under up to three configurations."""
    life = Lived(random.Random(seed))
    for _ in range(life.chance.randint(1, 3)):
        life.configure()
        life.append(random_triggers(life.chance, life.chance.randint(1, 60)))
        life.fold()
    return life


def refolded(life: Lived) -> Refolded:
    """Its log, folded again in batches of another size."""
    refold = Refold(Processor(app=APP))
    size = life.chance.randint(1, 100)
    for at in range(0, life.folded, size):
        refold.fold(life.log[at : min(at + size, life.folded)])
    return refold.result()


seeds = st.integers(0, 2**32)
fewer = settings(max_examples=max(settings().max_examples // 4, 10))
"""Each example folds up to 300 events, and folds them again."""


@pytest.mark.laws
@fewer
@given(seeds)
def test_a_log_folded_again_agrees_with_what_was_kept(seed: int) -> None:
    life = lived(seed)
    assert list(differences(refolded(life), life.kept())) == []


@pytest.mark.laws
@fewer
@given(seeds)
def test_a_damaged_state_is_named_and_no_other(seed: int) -> None:
    life = lived(seed)
    kept = life.kept()
    key = life.chance.choice(sorted(kept.states))
    known = state.decode(kept.states[key])
    known.clock_us += 1
    damaged = {**kept.states, key: state.encode(known)}
    found = list(differences(refolded(life), replace(kept, states=damaged)))
    assert [(one.session, one.place) for one in found] == [(key.decode(), "/clock")]
    del damaged[key]
    found = list(differences(refolded(life), replace(kept, states=damaged)))
    assert [(one.session, one.place, one.kept) for one in found] == [(key.decode(), "", None)]


@pytest.mark.laws
@fewer
@given(seeds)
def test_commands_that_are_not_settled_are_those_of_the_outbox(seed: int) -> None:
    life = lived(seed)
    found = refolded(life).open
    assert {command: item.value for command, item in found.items()} == {
        command: item.value for command, item in life.open.items()
    }
