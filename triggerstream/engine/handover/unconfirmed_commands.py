"""Finds out how far commands of a shared log were handed over, from the committed progress of the bridge."""

from __future__ import annotations

from dataclasses import dataclass, field

from triggerstream.core.answers import HandOver, HandOverState
from triggerstream.core.commands import Command, Decision, Revoke
from triggerstream.core.ids import CommandId
from triggerstream.core.projections import SilentCommand
from triggerstream.engine.handover.shared_log import TAKEN, HandOverProgress

MOST_READ = 10_000
"""The most commands that are read for one question: some MiB."""


@dataclass(slots=True, kw_only=True)
class UnconfirmedCommands:
    """The commands of a partition from the bridge's committed position on, as far as they were read.

    ``to_end`` is set by the caller: no later command exists.
    """

    reached: HandOverProgress
    to_end: bool = False
    begun_with: Command | None = None
    """The first command from the offset ``reached.begun`` on."""
    _offsets: dict[tuple[CommandId, int], int] = field(default_factory=dict)
    _count: int = 0
    _taken_below: int = 0
    _first: int | None = None
    _last: int | None = None

    @property
    def enough(self) -> bool:
        """True if later commands need not be read: the bridge cannot have taken them."""
        return self._count >= MOST_READ or (self._count >= TAKEN and self._taken_below >= self.reached.upto)

    def read(self, offset: int, decision: Decision | None) -> None:
        """Note the command at ``offset``; None: it cannot be decoded."""
        self._count += 1
        if self._count <= TAKEN or offset < self.reached.upto:
            self._taken_below = offset + 1
        if decision is None or isinstance(decision, Revoke):
            return
        self._offsets[decision.id, decision.attempt] = offset
        if decision.decided_at is not None:
            self._first = decision.decided_at if self._first is None else self._first
            self._last = decision.decided_at

    def hand_over(self, silent: SilentCommand) -> HandOver:
        """Progress of the hand-over of ``silent``.

        The commands of a partition are in the order of the events that decided them. So one that was decided
        before the first command that the bridge still has to do is done.
        """
        at = self._offsets.get((silent.command, silent.attempt))
        if at is None and self._is_before_begin(silent):
            return HandOver(state=HandOverState.UNKNOWN, why="the bridge was started behind it, with --from")
        if at is not None:
            if at < self.reached.upto and at not in self.reached.open:
                return HandOver(state=HandOverState.HANDED_OVER)
            taken = at < self._taken_below
            return HandOver(state=HandOverState.UNCONFIRMED if taken else HandOverState.DECIDED)
        if self.to_end:
            return HandOver(state=HandOverState.HANDED_OVER)
        if not silent.attempt:  # the record of a resend is later than its decision
            if self._first is not None and silent.decided_at < self._first:
                return HandOver(state=HandOverState.HANDED_OVER)
            if self._last is not None and silent.decided_at > self._last and self.enough:
                return HandOver(state=HandOverState.DECIDED)
        return HandOver(state=HandOverState.UNKNOWN, why="too many commands wait to be handed over")

    def _is_before_begin(self, silent: SilentCommand) -> bool:
        """True if the bridge may have begun behind the command, which was then skipped."""
        if not self.reached.begun:
            return False
        first = self.begun_with
        if first is None or first.decided_at is None:
            return True
        return silent.decided_at <= first.decided_at and silent.command != first.id
