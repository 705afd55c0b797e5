"""Folds the same sessions under two tasks files, and compares the commands that they decide.

Pure: nothing is sent or stored. Each file is in force from the beginning of the history. ``step`` decides
everything; this module only chooses which outcomes the new file's fold gets, and when:

- The commands of the history are those that the old file decides of it. An outcome belongs to such a command
  if that was decided before the outcome.
- A command of the new file with the id and the kwargs of one of the history ends as that one: its recorded
  outcomes are folded where they stand, or right after the command if that is decided later.
- Any other command of the new file finishes at once, with an empty result.
- An outcome that is not folded still lets time pass.
- Timers that are due between two events fire at their due time, as in an engine, so that what finishes at
  once does so before later events. They do so under both files: bounds of an event hold for what it decides.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, get_args

from msgspec import structs

from triggerstream.core.commands import Command
from triggerstream.core.events import TYPES, Event, Finished, Outcome, Timer
from triggerstream.core.fold import next_due
from triggerstream.core.ids import (
    AppId,
    CommandId,
    SessionId,
    command_id,
    split_instance_id,
)
from triggerstream.core.results import Rejected
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import AppliedConfiguration, Configuration, Rules
from triggerstream.engine.checkpoint import Decided
from triggerstream.engine.replay.backtest_counts import BacktestCounts, Example, Kind
from triggerstream.engine.replay.file_differences import differing_triggers, is_same_json
from triggerstream.engine.sized_session import SizedSession
from triggerstream.wire.json import dumps

OWN_COMMAND: Final = CommandId("the instance's own")
"""Placeholder in outcomes without a command, in logs written by hand: the command of their instance."""

_OUTCOMES = frozenset(get_args(Outcome))
_TIMER = Timer()
_TIMER_TYPE = TYPES[Timer]
_FINISHED_TYPE = TYPES[Finished]
_INSERTED_BYTES = 256
"""More than the length of an outcome with an empty result, or of a timer event, without long names."""
_NOT_COMPARED = frozenset(
    {
        *("id", "session", "task", "instance", "attempt"),  # what a command is found by
        *("config", "causes", "cause_count", "decided_at", "traceparent", "retries"),  # how it came about
        "decided_us",  # compared apart
    }
)
_COMPARED = tuple(name for name in Command.__struct_fields__ if name not in _NOT_COMPARED)
"""Fields that reach the executor: the task, its arguments, and its routing."""

SizedEvent: TypeAlias = tuple[Event, int]
"""An event and its length in bytes."""
_Decided: TypeAlias = dict[tuple[CommandId, int], tuple[Command, int]]
"""Commands by id and attempt, each with the offset of the event in whose fold it was decided."""


class _FileInForce:
    """A tasks file that is in force from the beginning."""

    def __init__(self, config: Configuration, *, app: AppId) -> None:
        first = AppliedConfiguration(config=config, offset=-1, arrival_us=0)
        self.rules = Rules(app=app, history=(first,))
        longest = max((len(dumps(task.with_params)) for task in config.tasks), default=0)
        self.params_bytes: Callable[[Configuration], int] = lambda _: longest

    def has_timer(self, state: SessionState | None) -> bool:
        """True if a timer of a session has not fired yet."""
        return state is not None and next_due(self.rules, state) is not None

    def begin(self, generation: int) -> SizedSession:
        """A session of which no event is known yet."""
        known = SessionState(generation=generation) if generation else None
        return SizedSession(self.rules, known, 0)


class Backtest:
    """Compares two tasks files session by session. ``counts`` is the result so far.

    ``until_us``: time passes until then after the last event of a session. None: no timer fires after it.
    ``fold_twice``: fold each session under both files, even if the files cannot differ for its triggers.
    """

    def __init__(
        self,
        old: Configuration,
        new: Configuration,
        *,
        app: AppId,
        until_us: int | None = None,
        fold_twice: bool = False,
    ) -> None:
        self._differing = None if fold_twice else differing_triggers(old, new)
        self._old = _FileInForce(old, app=app)
        self._new = _FileInForce(new, app=app)
        self._until_us = until_us
        self.counts = BacktestCounts()

    def compare(self, session: SessionId, events: Sequence[SizedEvent], *, generation: int = 0) -> None:
        """Fold ``events``, all of ``session`` in log order, under both files, and count what differs.

        ``generation`` is that of the session before the first event.
        """
        counts = self.counts
        counts.sessions += 1
        counts.events += len(events)
        last = _until(session, events, self._until_us)
        old = _OldFold(self._old, generation, counts)
        events = old.fold(events)
        if last is not None:
            old.take(last, _INSERTED_BYTES)
        counts.rejected_old += old.rejected
        differing = self._differing
        if differing is not None and not any(event.type in differing for event, _ in events):
            counts.rejected_new += old.rejected
            for command, _ in old.decided.values():
                task = counts.of(command.task)
                task.old += 1
                task.new += 1
            return
        new = _NewFold(self._new, generation, counts, old)
        new.fold(events)
        if last is not None:
            new.take(last, _INSERTED_BYTES)
        counts.rejected_new += new.rejected
        new.count_dropped()
        if self._old.has_timer(old.state) or self._new.has_timer(new.state):
            counts.pending += 1
        for command in new.assumed.values():
            counts.of(command.task).assumed += 1
        if self._count(old.decided, new.decided):
            counts.differing += 1

    def _count(self, old: _Decided, new: _Decided) -> bool:
        """Count the commands of a session; True if one differs."""
        counts, found = self.counts, False
        for key, (command, offset) in new.items():
            task = counts.of(command.task)
            task.new += 1
            before = old.get(key)
            if before is None:
                task.note(Kind.ADDED, Example(offset=offset, old=None, new=command))
                found = True
                continue
            differs = _differing(before[0], command)
            if differs or before[0].decided_us != command.decided_us:
                later = before[0].decided_us < command.decided_us
                kind = Kind.CHANGED if differs else Kind.LATER if later else Kind.EARLIER
                example = Example(offset=before[1], old=before[0], new=command, differs=differs)
                task.note(kind, example)
                found = True
        for key, (command, offset) in old.items():
            task = counts.of(command.task)
            task.old += 1
            if key not in new:
                task.note(Kind.REMOVED, Example(offset=offset, old=command, new=None))
                found = True
        return found


class _FileFold:
    """Folds a session's events under one file. Timers that are due between two events fire in their place.

    Inserted events take offsets of their own, and the offsets of later events are shifted. ``rejected``
    counts the triggers that break a bound.
    """

    def __init__(self, file: _FileInForce, generation: int) -> None:
        self._file = file
        self._session = file.begin(generation)
        self._shift = 0
        self._at = -1
        """Offset of the history's event that is folded, with what is inserted before and after it."""
        self.rejected = 0
        self.decided: _Decided = {}

    @property
    def state(self) -> SessionState | None:
        """The session after what was folded so far."""
        return self._session.state

    def take(self, event: Event, length: int) -> None:
        """Fire the timers that are due before ``event``, then fold it."""
        state = self._session.state
        self._at = event.offset
        if state is not None and state.due_us is not None:
            self._fire_before(event)
        if self._shift:
            event = structs.replace(event, offset=event.offset + self._shift)
        decided = self._fold(event, length)
        if decided:
            self._take_decided(decided, event)

    def _fire_before(self, event: Event) -> None:
        """Fire the timers that are due before ``event``, one due time after another."""
        last = -1
        while True:
            state = self._session.state
            due_us = None if state is None else next_due(self._file.rules, state)
            if due_us is None or due_us >= event.arrival_us or due_us <= last:
                return
            last = due_us
            timer = _timer(event.session, offset=event.offset + self._shift, at_us=due_us)
            self._shift += 1
            decided = self._fold(timer, _INSERTED_BYTES)
            if decided:
                self._take_decided(decided, timer)

    def _fold(self, event: Event, length: int) -> Sequence[Decided]:
        file = self._file
        folded, decided = self._session.fold(file.rules, event, length, file.params_bytes)
        if type(folded) is Rejected:
            self.rejected += 1
        return decided

    def _take_decided(self, decided: Sequence[Decided], event: Event) -> None:  # noqa: ARG002
        """Record the commands that ``event`` decided."""
        for item in decided:
            command = item.decision
            if type(command) is Command:
                self.decided[command.id, command.attempt] = command, self._at


class _OldFold(_FileFold):
    """Folds a session's events under the old file. ``belonging``: the offsets of outcomes of its commands."""

    def __init__(self, file: _FileInForce, generation: int, counts: BacktestCounts) -> None:
        super().__init__(file, generation)
        self._counts = counts
        self.belonging: set[int] = set()

    def fold(self, events: Sequence[SizedEvent]) -> Sequence[SizedEvent]:
        """Fold ``events``. Returns them, with the ids of commands that their outcomes left out."""
        completed: list[SizedEvent] | None = None
        for place, (event, length) in enumerate(events):
            body = event.body
            if type(body) in _OUTCOMES:
                if body.command == OWN_COMMAND:  # type: ignore[union-attr]  # of an outcome
                    event = self._with_command(event)  # noqa: PLW2901 - the event with its command
                    completed = [*events] if completed is None else completed
                    completed[place] = event, length
                if (event.body.command, 0) in self.decided:  # type: ignore[union-attr]
                    self.belonging.add(event.offset)
                else:
                    self._counts.strays += 1
            self.take(event, length)
        return events if completed is None else completed

    def _with_command(self, event: Event) -> Event:
        outcome, state = event.body, self._session.state
        assert isinstance(outcome, Outcome)  # noqa: S101 - only outcomes have a command
        parts = split_instance_id(outcome.instance)
        if parts is None:
            return event
        command = command_id(
            self._file.rules.app,
            event.session,
            generation=0 if state is None else state.instances_generation,
            task=parts[0],
            number=parts[1],
        )
        return structs.replace(event, body=structs.replace(outcome, command=command))


class _NewFold(_FileFold):
    """Folds a session's events under the new file, with the outcomes that the module's docstring describes.

    ``assumed`` has the commands that finish at once.
    """

    def __init__(self, file: _FileInForce, generation: int, counts: BacktestCounts, old: _OldFold) -> None:
        super().__init__(file, generation)
        self._counts = counts
        self._old = old
        self._ending: set[CommandId] = set()
        """Commands that were decided and end as in the history."""
        self._early: dict[CommandId, list[Event]] = {}
        """Outcomes that stand before their command."""
        self.assumed: dict[CommandId, Command] = {}

    def fold(self, events: Sequence[SizedEvent]) -> None:
        """Fold all events of the history."""
        belonging = self._old.belonging
        for event, length in events:
            body = event.body
            if type(body) in _OUTCOMES:
                command = body.command  # type: ignore[union-attr]  # of an outcome
                belongs = event.offset in belonging
                if belongs and command not in self._ending:
                    self._early.setdefault(command, []).append(event)
                # An outcome of no command at all is refused, as under the old file.
                if belongs != (command in self._ending) or command in self.assumed:
                    at_us = event.arrival_us
                    event = _timer(event.session, offset=event.offset, at_us=at_us)  # noqa: PLW2901 - time passes
            self.take(event, length)

    def count_dropped(self) -> None:
        """Count the outcomes whose command was not decided with these kwargs, after all events."""
        self._counts.dropped += sum(map(len, self._early.values()))

    def _take_decided(self, decided: Sequence[Decided], event: Event) -> None:
        """Record the commands that ``event`` decided; fold outcomes that follow at once, breadth first."""
        queue = deque(self._following(decided, event))
        offset = event.offset
        while queue:
            self._shift += 1
            offset += 1
            outcome = structs.replace(
                queue.popleft(), offset=offset, arrival_us=event.arrival_us, time_us=event.arrival_us
            )
            queue += self._following(self._fold(outcome, _INSERTED_BYTES), event)

    def _following(self, decided: Sequence[Decided], event: Event) -> list[Event]:
        """The outcomes to fold right after the decision of their commands."""
        following: list[Event] = []
        for item in decided:
            command = item.decision
            if type(command) is not Command:
                continue
            self.decided[command.id, command.attempt] = command, self._at
            if command.id in self._ending or command.id in self.assumed:
                continue
            recorded = self._old.decided.get((command.id, 0))
            if recorded is not None and is_same_json(recorded[0].kwargs, command.kwargs):
                self._ending.add(command.id)
                early = self._early.pop(command.id, ())
                self._counts.moved += len(early)
                following += early
            else:
                self.assumed[command.id] = command
                following.append(_finished(command, event))
        return following


def _until(session: SessionId, events: Sequence[SizedEvent], until_us: int | None) -> Event | None:
    """The timer event at the end of a session's history; None if no time passes after its last event."""
    if until_us is None or not events:
        return None
    return _timer(session, offset=events[-1][0].offset + 1, at_us=until_us)


def _timer(session: SessionId, *, offset: int, at_us: int) -> Event:
    """A timer event that arrives at ``at_us``."""
    return Event(
        session=session, offset=offset, arrival_us=at_us, time_us=at_us, type=_TIMER_TYPE, body=_TIMER
    )


def _finished(command: Command, event: Event) -> Event:
    """The outcome of a command that finishes at once after ``event``."""
    return Event(
        session=command.session,
        offset=event.offset,
        arrival_us=event.arrival_us,
        time_us=event.arrival_us,
        type=_FINISHED_TYPE,
        body=Finished(instance=command.instance, command=command.id, result={}),
    )


def _differing(old: Command, new: Command) -> tuple[str, ...]:
    """The fields in which two commands of an instance differ for an executor."""
    found = []
    for name in _COMPARED:
        one, other = getattr(old, name), getattr(new, name)
        same = is_same_json(one, other) if name == "kwargs" else one == other
        if not same:
            found.append(name)
    return tuple(found)
