"""Guards: they prevent a command from taking effect twice.

Celery delivers a message again after a worker died, and does not recognise a second message with the same id.
Before the body of a task runs, the worker therefore asks the guard for a claim on the command's id. The guard
grants the claim, returns the recorded outcome, or answers that another process is running the command.
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
"""A lease is renewed after each third of this time, so two renewals may fail. After a machine has died, a
redelivered message waits up to this long."""
DEFAULT_KEEP_S = 45 * 86_400.0
"""Longer than the 30 days of the commands topic, so that a command read from it again finds its record."""
MAX_TAKEOVERS = 3
"""Maximum number of times that an expired lease is taken over.

A command that killed four workers will kill the fifth too.
"""


class GuardUnavailableError(TriggerstreamError):
    """The guard's store did not answer or did not confirm. It is not known whether anything was recorded.

    Safe to try again.
    """


class EffectRefusedError(TriggerstreamError):
    """The database refused the task's effect: a statement failed, or a constraint at the commit.

    ``__cause__`` is the database's error. Nothing is recorded, and the effect is undone.
    """


class Held(Protocol):
    """A granted claim. Exactly one of ``settle``, ``undo``, ``release`` and ``abandon`` ends it."""

    @property
    def token(self) -> str:
        """A value unique to this claim."""

    def connection(self) -> Connection:
        """The transaction that ``settle`` commits.

        Raises:
            UsageError: this guard has none.
        """

    def renew(self) -> bool:
        """Extend the lease. False: another process has taken it over. Called from another thread.

        Raises:
            GuardUnavailableError: it is not known whether the lease was extended.
        """

    @property
    def fatal_when_lost(self) -> bool:
        """True if losing the lease must end this process, so that the command does not run twice at once."""

    def settle(self, value: bytes) -> bytes:
        """Record ``value`` together with the effect. Returns the recorded value.

        If another process recorded a value first, its value is returned, and the effect is undone.

        Raises:
            EffectRefusedError: the effect cannot be committed. The caller must still call ``undo``.
            GuardUnavailableError: it is not known whether ``value`` was recorded. If not, the effect is
                undone.
        """

    def undo(self, value: bytes) -> bytes:
        """Undo the effect and record ``value``. Returns the recorded value.

        Raises:
            GuardUnavailableError: it is not known whether ``value`` was recorded.
        """

    def release(self) -> None:
        """Undo the effect and give up the claim. The next message of the command is then granted one."""

    def abandon(self) -> None:
        """Undo the effect and leave the lease to expire, because this process is about to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """The caller may run the command."""

    held: Held


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The command has ended before. ``value`` is the event of its outcome."""

    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """Another process is running the command. Its lease, unless renewed, ends after ``for_s``."""

    for_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhausted:
    """The lease expired, and has been taken over ``MAX_TAKEOVERS`` times already."""


Claim: TypeAlias = Granted | Settled | Busy | Exhausted


@runtime_checkable
class Guard(Protocol):
    """The store of claims. Usable by many processes at once, and after a fork."""

    @property
    def lease_s(self) -> float:
        """Duration of a lease that is not renewed."""

    def claim(self, command: CommandId, *, holder: str) -> Claim:
        """Ask for the claim on ``command``. ``holder`` names this process.

        Raises:
            GuardUnavailableError: no answer.
        """

    def conclude(self, command: CommandId, value: bytes) -> bytes:
        """Record ``value`` without holding the claim, if nothing is recorded. Returns the recorded value.

        Raises:
            GuardUnavailableError: it is not known whether ``value`` was recorded.
        """

    def recorded(self, command: CommandId) -> bytes | None:
        """The recorded event of the outcome; None if there is none.

        Raises:
            GuardUnavailableError: no answer.
        """

    def lost(self, command: CommandId, *, holder: str) -> None:
        """End the lease of ``command`` at once, because its ``holder`` has died.

        Raises:
            GuardUnavailableError: no answer. The lease then ends at its own time.
        """


_F = TypeVar("_F", bound=Callable[..., Any])
_ATTRIBUTE = "__triggerstream_guard__"


def guarded(guard: Guard | None) -> Callable[[_F], _F]:
    """Decorator that gives a task its own guard in place of that of ``install``. None: no guard.

    Apply it below ``@app.task``.
    """

    def mark(function: _F) -> _F:
        setattr(function, _ATTRIBUTE, guard)
        return function

    return mark


def guard_for(run: Callable[..., object], default: Guard | None) -> Guard | None:
    """The guard of the task whose function is ``run``."""
    found: Guard | None = getattr(run, _ATTRIBUTE, default)
    return found
