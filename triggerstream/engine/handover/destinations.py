"""Destinations (queues and exchanges) that the executor's broker refuses, with their waiting commands."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Any, Final, Generic, Protocol, TypeVar

from triggerstream.core.commands import Decision
from triggerstream.core.errors import DestinationError
from triggerstream.core.ids import CommandId
from triggerstream.engine.ports import Clock

logger = logging.getLogger(__name__)

WAITING: Final = 500
"""Maximum number of commands that may wait for refused destinations without a time limit: half of the
commands taken."""
GIVE_UP_AFTER_S: Final = 300.0
"""After this time of refusals, a destination's oldest commands are given up while more than ``WAITING`` wait.
Long enough for a full queue to be worked off, or for an operator to create a queue."""
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_LINE_EVERY = 10
"""Failed attempts between two log lines of one destination: some 10 minutes at the longest pause."""
NAMED: Final = 20
"""Refused destinations that log lines and metrics name: routes can depend on arguments, and be any number."""


class Waiting(Protocol):
    """A command of an engine, as :class:`Destinations` handles it. Entries are ordered by their number."""

    probes: str | None
    """The refused destination that its next attempt is to test."""
    reason: str
    """Why the command is given up; empty: it is not."""

    @property
    def decision(self) -> Decision | None:
        """The command or revocation; None if the record is not valid."""

    @property
    def dropped(self) -> bool:
        """True if it needs no hand-over any more."""

    def __lt__(self, other: Any) -> bool:  # noqa: ANN401 - another entry of the same engine
        """True if it was decided earlier."""


_W = TypeVar("_W", bound=Waiting)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedDestination:
    """A destination that is refused, with the broker's reason and the number of commands that wait for it."""

    destination: str
    reason: str
    waiting: int


@dataclass(slots=True)
class _Refused(Generic[_W]):
    reason: str
    waiting: list[_W] = field(default_factory=list)
    """A heap: the oldest first."""
    waited_s: float = 0.0
    failures: int = 0
    logged: bool = False
    """True if the refusal was logged."""
    testing: bool = False
    """True while a pause or an attempt is under way."""
    trying: bool = False
    """True while a command is tried, which is not in ``waiting``."""


class Destinations(Generic[_W]):
    """Keeps a growing pause for each refused destination; its commands wait in their order.

    After each pause the oldest command alone is tried. Once it is accepted, the others follow.

    Args:
        destination_of: the destination of a decision; it is asked only while a destination is refused.
        start: runs a coroutine in the background.
        attempt: schedules a command, whose pause is over.
    """

    def __init__(
        self,
        *,
        destination_of: Callable[[Decision], str | None],
        clock: Clock,
        start: Callable[[Coroutine[None, None, None]], object],
        attempt: Callable[[_W], None],
    ) -> None:
        self._destination_of = destination_of
        self._clock = clock
        self._start = start
        self._attempt = attempt
        self._refused: dict[str, _Refused[_W]] = {}
        self._recovered: dict[str, tuple[float, int]] = {}
        """By destination: the time for which it was refused, and when it accepted a command again."""
        self._logged_more = False
        self.count = 0
        """The number of commands that wait."""

    def __bool__(self) -> bool:
        """True if any destination is refused."""
        return bool(self._refused)

    def report(self) -> tuple[RefusedDestination, ...]:
        """The refused destinations, those with the most waiting commands first."""
        found = [
            RefusedDestination(destination=name, reason=one.reason, waiting=len(one.waiting) + one.trying)
            for name, one in self._refused.items()
        ]
        return tuple(sorted(found, key=lambda one: (-one.waiting, one.destination)))

    def hold(self, entry: _W) -> bool:
        """Make ``entry`` wait if its destination is refused. False: it may be tried now."""
        if entry.decision is None or entry.probes is not None or entry.reason:
            return False
        name = self._destination_of(entry.decision)
        refused = None if name is None else self._refused.get(name)
        if refused is None:
            return False
        self._add(refused, entry)
        return True

    def refuse(self, entry: _W, exc: DestinationError) -> None:
        """Make ``entry`` wait, because the broker has refused its destination."""
        probed, entry.probes = entry.probes, None
        refused = self._refused.get(exc.destination)
        if refused is None:
            waited_s = self._waited_s(exc.destination)
            refused = self._refused[exc.destination] = _Refused(exc.reason, waited_s=waited_s)
        refused.reason = exc.reason
        if not entry.dropped:
            self._add(refused, entry)
        if probed == exc.destination:
            refused.testing = refused.trying = False
        elif probed is not None:
            self.test_again(probed)
        if not refused.testing:  # refusals of commands that were sent together count as one failure
            refused.failures += 1
            self._log_refusal(exc, refused)
            self._test_later(exc.destination, refused)

    def accepted(self, name: str) -> list[_W]:
        """The commands that waited for a destination that has accepted one, the oldest first."""
        refused = self._refused.pop(name, None)
        if refused is None:
            return []
        self.count -= len(refused.waiting)
        if not self._refused:
            self._logged_more = False
        self._recovered[name] = (refused.waited_s, self._clock.now_us())
        if len(self._recovered) > NAMED:
            del self._recovered[next(iter(self._recovered))]
        waiting = sorted(entry for entry in refused.waiting if not entry.dropped)
        if refused.logged:
            logger.warning(
                "destination accepted again, its commands follow",
                extra={"destination": name, "waiting": len(waiting)},
            )
        return waiting

    def test_again(self, name: str) -> None:
        """Note that an attempt has ended without an answer about its destination."""
        refused = self._refused.get(name)
        if refused is not None:
            refused.trying = False
            self._test_later(name, refused)

    def withdraw(self, command: CommandId) -> list[_W]:
        """Remove the waiting entries of a command that is cancelled, and return them."""
        found: list[_W] = []
        for refused in self._refused.values():
            found += [
                one for one in refused.waiting if one.decision is not None and one.decision.id == command
            ]
        for refused in self._refused.values() if found else ():
            self._keep(refused, [one for one in refused.waiting if one not in found])
        return found

    def forget_dropped(self) -> None:
        """Remove entries that need no hand-over any more."""
        for refused in self._refused.values():
            self._keep(refused, [one for one in refused.waiting if not one.dropped])

    def surplus(self) -> _W | None:
        """Remove and return a command that can no longer wait, because too many do; None if there is none."""
        if self.count <= WAITING:
            return None
        overdue = [
            (refused.waiting[0], name)
            for name, refused in self._refused.items()
            if refused.waiting and refused.waited_s >= GIVE_UP_AFTER_S
        ]
        if not overdue:
            return None
        entry, name = min(overdue)
        refused = self._refused[name]
        heappop(refused.waiting)
        self.count -= 1
        entry.reason = (
            f"{name} has been refused for more than {GIVE_UP_AFTER_S / 60:.0f} minutes, and more than "
            f"{WAITING} commands wait: {refused.reason}"
        )
        return entry

    def _add(self, refused: _Refused[_W], entry: _W) -> None:
        heappush(refused.waiting, entry)
        self.count += 1

    def _keep(self, refused: _Refused[_W], kept: list[_W]) -> None:
        self.count -= len(refused.waiting) - len(kept)
        refused.waiting = kept
        heapify(kept)

    def _waited_s(self, name: str) -> float:
        """The time for which the destination has been refused; a nearly full queue's refusals add up."""
        waited_s, recovered_us = self._recovered.pop(name, (0.0, 0))
        return waited_s if self._clock.now_us() - recovered_us < _LONGEST_PAUSE_S * 1_000_000 else 0.0

    def _test_later(self, name: str, refused: _Refused[_W]) -> None:
        refused.testing = True
        self._start(self._test(name, refused))

    async def _test(self, name: str, refused: _Refused[_W]) -> None:
        pause_s = _pause_s(refused.failures)
        await self._clock.sleep(pause_s)
        if self._refused.get(name) is not refused:
            return
        refused.waited_s += pause_s
        while refused.waiting:
            entry = heappop(refused.waiting)
            self.count -= 1
            if not entry.dropped:
                entry.probes, refused.trying = name, True
                self._attempt(entry)
                return
        del self._refused[name]

    def _log_refusal(self, exc: DestinationError, refused: _Refused[_W]) -> None:
        if len(self._refused) > NAMED:
            if not self._logged_more:
                self._logged_more = True
                logger.warning("more destinations refused", extra={"named": NAMED})
            return
        recently = (
            refused.waited_s > 0 and refused.failures == 1
        )  # else a nearly full queue would log every second
        if refused.failures % _LINE_EVERY == 1 and not recently:
            refused.logged = True
            logger.warning(
                "destination refused, its commands wait and the others go on",
                extra={
                    "destination": exc.destination,
                    "waiting": len(refused.waiting),
                    "pause_s": _pause_s(refused.failures),
                    "error": exc.reason,
                },
            )


def _pause_s(failures: int) -> float:
    return min(_FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16), _LONGEST_PAUSE_S)
