"""The result of a backtest: how the commands of two tasks files differ, by task, with examples."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct, field

from triggerstream.core.commands import Command
from triggerstream.core.ids import CommandId, SessionId, TaskName

EXAMPLES = 5
"""Examples that are kept of each kind of difference of a task; all differences are counted."""
_REASONS = 3
"""Reasons that are kept for records that cannot be read; all such records are counted."""


class Kind(StrEnum):
    """Kind of difference: one file alone decides the command, or its content or time differs."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    LATER = "later"
    EARLIER = "earlier"


class Example(Struct, frozen=True, kw_only=True):
    """A command that differs, as each file decides it.

    ``offset`` is that of the event in whose fold it was decided: under the old file, if that decides it.
    ``differs`` has the fields of a changed one.
    """

    offset: int
    old: Command | None
    new: Command | None
    differs: tuple[str, ...] = ()

    @property
    def command(self) -> Command:
        """The command of the new file if that decides one, else of the old one."""
        command = self.new or self.old
        assert command is not None  # noqa: S101 - one of the files decides it
        return command

    @property
    def order(self) -> tuple[int, SessionId, CommandId, int]:
        """Sort key: the first examples are kept, so that they do not depend on the split into parts."""
        command = self.command
        return command.decided_us, command.session, command.id, command.attempt


class TaskCounts(Struct, kw_only=True):
    """Numbers of commands of a task. ``assumed`` counts those of the new file that finish at once.

    A command that a resend repeats counts again.
    """

    old: int = 0
    new: int = 0
    assumed: int = 0
    kinds: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(Kind, 0))
    examples: dict[Kind, list[Example]] = field(default_factory=dict)

    def note(self, kind: Kind, example: Example) -> None:
        """Count a command that differs."""
        self.kinds[kind] += 1
        self._keep(kind, (example,))

    def add(self, other: TaskCounts) -> None:
        """Add the counts of other sessions."""
        self.old += other.old
        self.new += other.new
        self.assumed += other.assumed
        for kind, number in other.kinds.items():
            self.kinds[kind] += number
        for kind, examples in other.examples.items():
            self._keep(kind, examples)

    def _keep(self, kind: Kind, examples: Iterable[Example]) -> None:
        kept = self.examples.setdefault(kind, [])
        kept += examples
        if len(kept) > EXAMPLES:
            kept.sort(key=lambda one: one.order)
            del kept[EXAMPLES:]


class BacktestCounts(Struct, kw_only=True):
    """The result for some sessions; results of different sessions can be added.

    ``events`` counts the events that were folded, ``differing`` the sessions in which a command differs.
    ``unreadable`` counts records that an engine would make dead letters, ``reasons`` says why of the first
    ones. ``rejected_old`` and ``rejected_new`` count triggers that would break a bound of a file.
    ``configurations`` counts the tasks files in the history, and ``misplaced`` records whose sessions belong
    to other partitions; both are ignored. ``cut`` counts partitions whose log has lost its beginning.
    ``strays`` counts outcomes of commands that the old file does not decide, ``moved`` those that were folded
    after a later command, ``dropped`` those whose command the new file does not decide with these kwargs.
    ``pending`` counts the sessions that the files may differ in and that have a timer left at the end.
    """

    events: int = 0
    sessions: int = 0
    differing: int = 0
    unreadable: int = 0
    reasons: list[str] = field(default_factory=list)
    rejected_old: int = 0
    rejected_new: int = 0
    configurations: int = 0
    misplaced: int = 0
    cut: int = 0
    strays: int = 0
    moved: int = 0
    dropped: int = 0
    pending: int = 0
    tasks: dict[TaskName, TaskCounts] = field(default_factory=dict)

    def of(self, task: TaskName) -> TaskCounts:
        """The counts of a task."""
        known = self.tasks.get(task)
        if known is None:
            known = self.tasks[task] = TaskCounts()
        return known

    def note_unreadable(self, reason: str) -> None:
        """Count a record that is no event; ``reason`` says which one, and why."""
        self.unreadable += 1
        if len(self.reasons) < _REASONS:
            self.reasons.append(reason)

    def total(self, kind: Kind) -> int:
        """The number of commands of all tasks that differ in this way."""
        return sum(task.kinds[kind] for task in self.tasks.values())

    @property
    def differs(self) -> bool:
        """True if any command differs."""
        return any(self.total(kind) for kind in Kind)

    def add(self, other: BacktestCounts) -> None:
        """Add the result for other sessions."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.reasons = (self.reasons + other.reasons)[:_REASONS]
        for task, counts in other.tasks.items():
            self.of(task).add(counts)


_NUMBERS = tuple(
    name for name in BacktestCounts.__struct_fields__ if isinstance(getattr(BacktestCounts(), name), int)
)
