"""Folds the events of one session within the bounds in bytes, and measures its state as seldom as it can.

The rules are in section 10 of ``docs/semantics.md``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from triggerstream.core.events import Close, Event, Retried
from triggerstream.core.fold import next_due, step
from triggerstream.core.ids import TaskName
from triggerstream.core.results import Folded, Rejected, Unknown
from triggerstream.core.sizes import TEXT_BYTES, changed_bytes, resolved_sizes
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import Bounds, Configuration, Rules
from triggerstream.core.timers import is_deadline_due
from triggerstream.engine.checkpoint import Decided
from triggerstream.wire import commands, retired, state

_GROWTH = 6
"""Maximum ratio of an event's size in a state to its size on the wire: ``1e15`` becomes
``1000000000000000.0``."""
_RECORD_OVERHEAD = 2_048
"""Bytes that an event adds to a state beside its own content: an instance's fields, a position, a digest."""
_MOVED = 4
"""Bytes that an event takes more in ``kept`` than in ``seen``."""
_SIZES = state.EncodedSizes()


class SizedSession:
    """A session's state while its events are folded.

    ``length`` is its stored length in bytes. ``room`` is the number of bytes by which it may grow before it
    must be measured, ``resolved_room`` the same for its resolved instances. Both are 0 if it has to meet a
    configuration, which may seed instances and have other bounds. ``changed``: an event was folded.
    ``entries`` are those of retired instances that were made or, with None, deleted, by task and number.
    """

    __slots__ = ("changed", "entries", "length", "resolved_room", "room", "state")

    def __init__(self, rules: Rules, known: SessionState | None, length: int) -> None:
        bounds = rules.current.config.bounds
        self.state = known
        self.length = length
        size = length if known is None else state.size_at_most(known, length)
        self.room = bounds.state_bytes - size
        self.resolved_room = bounds.resolved_bytes - size
        self.changed = False
        self.entries: dict[tuple[TaskName, int], bytes | None] = {}
        if known is not None and known.config != rules.current.offset:
            self.close_rooms()

    def close_rooms(self) -> None:
        """Set both rooms to 0, so that the session is measured at its next event."""
        self.room = self.resolved_room = 0

    def fold(
        self, rules: Rules, event: Event, length: int, params_bytes: Callable[[Configuration], int]
    ) -> tuple[Folded | Rejected | Unknown, Sequence[Decided]]:
        """Fold ``event``, of ``length`` bytes, and encode its decisions. The state must not include it yet.

        ``params_bytes`` returns the bytes of the longest ``withParams`` of a configuration.
        """
        known, body = self.state, event.body
        # The kwargs of a retry are checked at once, not only when the retry is decided. So are timeouts: what
        # a thousand of them bring could have gigabytes.
        at_once = type(body) is Retried and body.kwargs is not None
        if known is not None and known.due_us is not None and not at_once:
            at_once = _may_expire(rules, known, event)
        folded = step(rules, known, event, sizes=_SIZES if at_once else None)
        if not isinstance(folded, Folded):
            return folded, ()
        config = rules.current.config
        bounds = config.bounds
        decided: Sequence[Decided] = ()
        brought: int | None = 0
        entries: Mapping[tuple[TaskName, int], bytes] | None = _NO_ENTRIES
        if folded.decisions:
            decided = _encoded(folded, most=sys.maxsize if at_once else bounds.decided_bytes)
            brought = _commands_bytes(decided, bounds)
            if brought is not None:
                brought += len(decided) * params_bytes(config)
        if folded.retired:
            entries = _encoded_entries(folded, most=sys.maxsize if at_once else bounds.resolved_bytes)
        if entries is None or brought is None or not self._fits(config, event, folded, length, brought):
            if not at_once:
                checked = step(rules, known, event, sizes=_SIZES)
                if not isinstance(checked, Folded):
                    self.close_rooms()
                    return checked, ()
                folded, decided, entries = checked, _encoded(checked), _encoded_entries(checked)
            self._measure(folded, bounds)
        self.state = folded.state
        self.changed = True
        if folded.dropped:
            self.entries.update(dict.fromkeys(folded.dropped))
        if entries:
            self.entries.update(entries)
        return folded, decided

    def _measure(self, folded: Folded, bounds: Bounds) -> bool:
        """Measure the room left after ``folded``; True if the state is within the bounds."""
        self.room = bounds.state_bytes - _SIZES.state(folded.state)
        resolved, once_alone = resolved_sizes(folded.state, _SIZES)
        self.resolved_room = bounds.resolved_bytes - once_alone
        return self.room >= 0 and resolved <= bounds.resolved_bytes

    def _fits(self, config: Configuration, event: Event, folded: Folded, length: int, brought: int) -> bool:
        """True if the state after a fold without byte checks is within the bounds in bytes.

        ``length`` is that of the event, ``brought`` that of its decisions and of the params in them.
        """
        known, state, bounds = self.state, folded.state, config.bounds
        if known is not None and state.timeouts != known.timeouts:
            return self._measure(folded, bounds)  # a timeout brings more than the event
        own = length * _GROWTH + _RECORD_OVERHEAD
        held = bounds.state_bytes - self.room
        if config.uses_language:
            # One event may change every leaf, so the parts that it changed are measured.
            changed = changed_bytes(known, state, folded.touched, _SIZES)
            growth = own * 2 + TEXT_BYTES + changed
        else:
            # Estimate: the event's content is stored as the session's latest event, in its outcome, and in
            # each instance that captured it; a new instance stores at most the former state; a decision
            # parts of its command, and its params.
            growth = own * (2 + folded.taken) + folded.created * held + brought
        if type(event.body) is Close and known is not None:
            growth += _MOVED * len(known.seen)
        self.room -= growth
        if folded.resolved:
            # A resolved instance was open before, or was created by the event.
            self.resolved_room -= held + growth + folded.resolved * own
        if self.room >= 0 and self.resolved_room >= 0:
            return True
        return self._measure(folded, bounds)


def _may_expire(rules: Rules, known: SessionState, event: Event) -> bool:
    """True if a deadline may pass before ``event``."""
    until_us = max(known.clock_us, event.arrival_us)
    if known.due_us is None or known.due_us > until_us:
        return False
    met, missed = rules.met(known.config), rules.missed(known.config)
    if not missed:
        # Only a timeout or the event itself starts a further deadline.
        return is_deadline_due(met.config, known, until_us)
    if not any(file.config.starts_timers for file in (met, *missed)):
        return False
    due_us = next_due(rules, known)  # what the state has is a lower bound, which depends on batches
    return due_us is not None and due_us <= until_us


def _encoded_entries(
    folded: Folded, *, most: int = sys.maxsize
) -> Mapping[tuple[TaskName, int], bytes] | None:
    """The entries of the instances that leave the state; None if they have more than ``most`` bytes."""
    entries: dict[tuple[TaskName, int], bytes] = {}
    for one in folded.retired:
        value = retired.encode(one)
        most -= len(value)
        if most < 0:
            return None
        entries[one.task, one.instance.number] = value
    return entries


_NO_ENTRIES: Mapping[tuple[TaskName, int], bytes] = {}


def _commands_bytes(decided: Sequence[Decided], bounds: Bounds) -> int | None:
    """The bytes of all commands; None if they, or those of one, are beyond a bound."""
    total = 0
    for item in decided:
        size = len(item.value)
        if size > bounds.command_bytes:
            return None
        total += size
    return None if len(decided) > 1 and total > bounds.decided_bytes else total


def _encoded(folded: Folded, *, most: int = sys.maxsize) -> Sequence[Decided]:
    """The decisions as bytes; not all of them if several have more than ``most`` bytes.

    After a silence, time can decide a thousand commands of 1 MiB, of which only a part is within the bounds.
    """
    decided: list[Decided] = []
    for decision in folded.decisions:
        value = commands.encode(decision)
        decided.append(Decided(decision=decision, value=value))
        most -= len(value)
        if most < 0 and len(decided) > 1:
            break
    return decided
