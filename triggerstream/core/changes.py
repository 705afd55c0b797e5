"""Consequences that a proposed tasks file would have for a session at once, found by the fold itself.

A session meets the file as it would meet it if the file were applied (docs/semantics.md, section 9), and is
then touched as the engine would touch it. The difference between the two states is the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, fields
from enum import StrEnum
from operator import attrgetter

from triggerstream.core.commands import Command
from triggerstream.core.events import Event, Touch
from triggerstream.core.fold import next_due, step
from triggerstream.core.ids import SessionId, TaskName, TriggerName
from triggerstream.core.results import Folded
from triggerstream.core.sizes import Sizes, resolved_bytes
from triggerstream.core.state import WAITING, Instance, SessionState, Status
from triggerstream.core.tasks import AppliedConfiguration, Configuration, Rules, Task

_CARRIED = frozenset({"run", "with_params", "queue", "priority", "expires_us", "extras"})
"""Parts of a task that its decision contains but does not depend on."""
_PLACES = frozenset({"max_concurrency", "paused"})
"""The parts on which it depends how long an instance is held, and nothing else."""


def _parts_without(names: AbstractSet[str]) -> attrgetter[tuple[object, ...]]:
    return attrgetter(*(part.name for part in fields(Task) if part.init and part.name not in names))


decisive_parts = _parts_without(_CARRIED)
"""The parts of a task on which its decisions depend."""
judging_parts = _parts_without(_CARRIED | _PLACES)
"""Those of them on which more depends than how long an instance is held."""
_present_parts = _parts_without(_CARRIED | {"applies_to"})
"""The parts on which the decision of an instance that is there depends, and the time of it."""
_timed_parts = _parts_without(_CARRIED | _PLACES | {"applies_to"})
"""The parts on which a delayed instance depends, until it is due."""
_judged_parts = _parts_without(_CARRIED | _PLACES | {"applies_to", "retry"})
"""The parts on which an unstarted instance depends, until it is satisfied."""
_held_parts = _parts_without(_CARRIED | {"applies_to", "retry"})
"""The parts on which a held instance depends."""


class Consequence(StrEnum):
    """A consequence of a proposed file for an instance, at once.

    ``TOUCHED``: it waits, and is cancelled, judged under another condition, or offered other events.
    ``DECIDED``: its command is decided. ``DUE``: it is decided because its timer is due under the file.
    ``EXPIRED``: its deadline has passed under the file. ``ABANDONED``, ``CANCELLED``: it ends. ``FAILED``:
    its command or state would be beyond a bound.
    ``BEGUN``: the file itself makes it.
    """

    TOUCHED = "touched"
    DECIDED = "decided"
    DUE = "due"
    EXPIRED = "expired"
    ABANDONED = "abandoned"
    CANCELLED = "cancelled"
    FAILED = "failed"
    BEGUN = "begun"


FINAL = frozenset(
    {
        Consequence.DECIDED,
        Consequence.EXPIRED,
        Consequence.ABANDONED,
        Consequence.CANCELLED,
        Consequence.FAILED,
    },
)
"""Consequences that no later file takes back."""

_OF_STATUS = {
    Status.ABANDONED: Consequence.ABANDONED,
    Status.EXPIRED: Consequence.EXPIRED,
    Status.CANCELLED: Consequence.CANCELLED,
    Status.FAILED: Consequence.FAILED,
    Status.SCHEDULED: Consequence.DECIDED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedFile:
    """A tasks file that could be applied to a partition at the instant ``at_us``.

    ``rules`` are those of the partition, without the file. ``offset`` is beyond all events that its sessions
    include.
    """

    rules: Rules
    config: Configuration
    offset: int
    at_us: int
    proposed: Rules = field(init=False)
    judged_otherwise: frozenset[TaskName] = field(init=False)
    """Tasks with another condition: it judges those of their instances that have not run."""
    timed_otherwise: frozenset[TaskName] = field(init=False)
    """The tasks whose delayed instances are decided under another condition, or at another time."""
    placed_otherwise: frozenset[TaskName] = field(init=False)
    """The tasks whose held instances are decided under another condition, or have other places."""

    def __post_init__(self) -> None:
        before = self.rules.current.config
        # One offset is left for the touch of a session that has not met all configurations in force.
        applied = AppliedConfiguration(config=self.config, offset=self.offset + 1, arrival_us=self.at_us)
        object.__setattr__(self, "proposed", self.rules.apply(applied))
        object.__setattr__(self, "judged_otherwise", _differing(before, self.config, _judged_parts))
        object.__setattr__(self, "timed_otherwise", _differing(before, self.config, _timed_parts))
        object.__setattr__(self, "placed_otherwise", _differing(before, self.config, _held_parts))

    @property
    def triggers_for_existing(self) -> frozenset[TriggerName]:
        """The triggers of the tasks that apply to existing sessions.

        A file makes an instance in an existing session only if the session has an event of one of them. The
        file is the proposed one, or an earlier one that some session has not met.
        """
        files = [version.config for version in self.proposed.history]
        return frozenset(name for file in files for task in file.for_existing for name in task.needs)


def may_have_consequences(before: Configuration, after: Configuration) -> bool:
    """False if the files alone show that ``after`` in place of ``before`` has no consequence in any session.

    A task that is added begins with later events, unless it applies to existing sessions. Parts that a
    decision only contains, such as the queue, are read when it is made.
    """
    return (
        bool(after.for_existing)
        or before.bounds != after.bounds
        or bool(_differing(before, after, _present_parts))
    )


def _differing(
    before: Configuration, after: Configuration, parts: attrgetter[tuple[object, ...]]
) -> frozenset[TaskName]:
    """The tasks of ``before`` that ``after`` does not have, or has with other ``parts``."""
    return frozenset(
        name
        for name, task in before.by_name.items()
        if (other := after.by_name.get(name)) is None or parts(other) != parts(task)
    )


def consequences(
    file: ProposedFile, session: SessionId, state: SessionState, sizes: Sizes
) -> Iterator[tuple[TaskName, int, Consequence]]:
    """The consequences of ``file`` for the instances of a session, at once: task, number, consequence.

    Before that, the session has done what the file in force has it do by then: it has met the configurations
    that it missed, its due timers have fired, and its waiting instances were judged. An instance may have
    several consequences.
    """
    before = _settled(file, session, state, sizes)
    after = _touched(file.proposed, before, session, offset=file.offset + 2, at_us=file.at_us, sizes=sizes)
    existing = {task.name for task in file.config.for_existing}
    for name, record in after.tasks.items():
        known = before.tasks.get(name)
        first = 0 if known is None else known.next
        if known is not None:
            for number, instance in known.open.items():
                if instance.status in WAITING:
                    for one in _consequences_for(file, name, instance, record.find(number)):
                        yield name, number, one
        for number in range(first, record.next):
            made = record.find(number)
            if number == 0 and name in existing and (made is None or (made.made_by or 0) >= 0):
                yield name, number, Consequence.BEGUN
            # An instance that is resolved at once may be forgotten at once.
            ended = Consequence.ABANDONED if made is None else _OF_STATUS.get(made.status)
            if ended is not None:
                yield name, number, ended


def _consequences_for(
    file: ProposedFile, name: TaskName, before: Instance, after: Instance | None
) -> Iterator[Consequence]:
    if after is None:  # resolved, and forgotten because the task has kept too many
        after_status = Status.ABANDONED if name in file.config.by_name else Status.CANCELLED
        offered = True
    else:
        after_status = after.status
        offered = after.captured != before.captured or after.noted != before.noted
    if offered or after_status is not before.status or name in _changed_for(file, before.status):
        yield Consequence.TOUCHED
    if after_status is before.status:
        return
    found = _OF_STATUS.get(after_status)
    if found is not None:
        yield found
    if found is Consequence.DECIDED and before.status is Status.DELAYED:
        yield Consequence.DUE


def _changed_for(file: ProposedFile, status: Status) -> frozenset[TaskName]:
    """The tasks whose waiting instances in ``status`` depend on what the file changes."""
    if status is Status.UNSTARTED:
        return file.judged_otherwise
    return file.timed_otherwise if status is Status.DELAYED else file.placed_otherwise


def _settled(file: ProposedFile, session: SessionId, state: SessionState, sizes: Sizes) -> SessionState:
    """The state after the session has done what the file in force has it do by then."""
    rules = file.rules
    if state.config >= rules.current.offset and not state.unjudged:
        due_us = next_due(rules, state)
        if due_us is None or due_us > file.at_us:
            return state
    return _touched(rules, state, session, offset=file.offset, at_us=file.at_us, sizes=sizes)


def _touched(
    rules: Rules, state: SessionState, session: SessionId, *, offset: int, at_us: int, sizes: Sizes
) -> SessionState:
    """The state after a touch, folded within the bounds in bytes as an engine folds (R11.5)."""
    event = Event(session=session, offset=offset, arrival_us=at_us, time_us=at_us, type="", body=Touch())
    folded = step(rules, state, event)
    if isinstance(folded, Folded) and not _keeps_bounds(rules.current.config, folded, sizes):
        folded = step(rules, state, event, sizes=sizes)
    return folded.state if isinstance(folded, Folded) else state


def _keeps_bounds(config: Configuration, folded: Folded, sizes: Sizes) -> bool:
    bounds = config.bounds
    commands = [sizes.command(one) for one in folded.decisions if isinstance(one, Command)]
    return (
        max(commands, default=0) <= bounds.command_bytes
        and (len(commands) < 2 or sum(commands) <= bounds.decided_bytes)  # noqa: PLR2004 - R11.5: several
        and sizes.state(folded.state) <= bounds.state_bytes
        and resolved_bytes(folded.state, sizes) <= bounds.resolved_bytes
    )
