"""Effect guards: a claim on a command id is running, or settled for good.

Celery runs a message again when a worker died, and runs a second message with the same id as if it were
another. A guard is asked before the task's body runs: it grants the claim, or says what became of the
command, or that somebody is at it right now.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from triggerstream.core.errors import TriggerstreamError
from triggerstream.core.ids import CommandId

if TYPE_CHECKING:
    from sqlalchemy import Connection

DEFAULT_LEASE_S = 30.0
"""Renewed each third of it:

two renewals may be late. Also how long a repeat waits for a machine that died.
"""
DEFAULT_KEEP_S = 45 * 86_400.0
"""The commands topic keeps 30 days; whatever is read from it again still meets its record."""
MAX_TAKEOVERS = 3
"""How often an expired lease is taken over.

A command that killed four workers in a row kills the fifth too.
"""


class GuardUnavailableError(TriggerstreamError):
    """The guard's store could not be asked, or did not confirm.

    Nothing is known to be recorded; safe to try again.
    """


class EffectRefusedError(TriggerstreamError):
    """The database did not take the task's effect: a constraint at the commit, a statement that failed.

    The cause is the database's error. Nothing is recorded, and the effect is undone.
    """


class Held(Protocol):
    """A claim that was granted. Exactly one of ``settle``, ``undo``, ``release`` and ``abandon`` ends it."""

    @property
    def token(self) -> str:
        """Unlike that of any other claim."""

    def connection(self) -> Connection:
        """The transaction that ``settle`` commits.

        Raises:
            UsageError: this guard has none.
        """

    def renew(self) -> bool:
        """Prolong the lease; False when it is somebody else's. Called from another thread.

        Raises:
            GuardUnavailableError: not known to be prolonged.
        """

    @property
    def fatal_when_lost(self) -> bool:
        """True where only the end of this process keeps two of one command from running at once."""

    def settle(self, value: bytes) -> bytes:
        """Record ``value`` together with the effect. Returns what is on record.

        That is another value where somebody else was first; the effect is then undone.

        Raises:
            EffectRefusedError: the effect cannot be committed; ``undo`` is still to be called.
            GuardUnavailableError: not known to be recorded. The effect is undone if it was not.
        """

    def undo(self, value: bytes) -> bytes:
        """Undo the effect and record ``value``. Returns what is on record.

        Raises:
            GuardUnavailableError: not known to be recorded.
        """

    def release(self) -> None:
        """Undo the effect and give the claim back: the next message runs."""

    def abandon(self) -> None:
        """Undo the effect and let the lease expire: this process is about to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """Run it."""

    held: Held


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """It ended before; ``value`` is the outcome's event."""

    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """Somebody runs it. The lease, unless renewed, ends after ``for_s``."""

    for_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhausted:
    """Its lease expired once more than it may be taken over."""


Claim: TypeAlias = Granted | Settled | Busy | Exhausted


@runtime_checkable
class Guard(Protocol):
    """Where claims are. Usable by many processes at once, and after a fork."""

    @property
    def lease_s(self) -> float:
        """How long a claim lives unless renewed."""

    def claim(self, command: CommandId, *, holder: str) -> Claim:
        """Ask to run ``command``. ``holder`` names this process.

        Raises:
            GuardUnavailableError: no answer.
        """

    def conclude(self, command: CommandId, value: bytes) -> bytes:
        """Record ``value`` from outside of the run, if nothing is on record. Returns what is.

        Raises:
            GuardUnavailableError: not known to be recorded.
        """

    def recorded(self, command: CommandId) -> bytes | None:
        """The outcome's event that is on record.

        Raises:
            GuardUnavailableError: no answer.
        """

    def lost(self, command: CommandId, *, holder: str) -> None:
        """Let the lease of ``command`` expire now: ``holder`` is dead.

        Raises:
            GuardUnavailableError: no answer; it expires by itself.
        """


_F = TypeVar("_F", bound=Callable[..., Any])
_ATTRIBUTE = "__triggerstream_guard__"


def guarded(guard: Guard | None) -> Callable[[_F], _F]:
    """Decorate a task's function: ``guard`` guards this one, whatever ``install`` says; None: nothing does.

    It stands below ``@app.task``.
    """

    def mark(function: _F) -> _F:
        setattr(function, _ATTRIBUTE, guard)
        return function

    return mark


def guard_for(run: Callable[..., object], default: Guard | None) -> Guard | None:
    """The guard of the task whose function is ``run``."""
    found: Guard | None = getattr(run, _ATTRIBUTE, default)
    return found
