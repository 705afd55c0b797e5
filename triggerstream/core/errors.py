"""The errors of triggerstream.

::

    TriggerstreamError
    ├── DecodeError      bytes that are not what they should be; never retried
    ├── ConfigError      a tasks file that cannot be used; carries every finding
    ├── UsageError       a request cannot be carried out as it was made
    ├── LogError         the log did not accept or return something; safe to try again
    │   └── ClockError        it takes nothing while this machine's clock is wrong
    └── DispatchError    the executor's queue did not accept a command; safe to try again
        ├── DestinationError      its broker refuses this queue or exchange, and may accept others
        └── UndispatchableError   it never will: the command becomes a dead letter
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from triggerstream.core import advice


class TriggerstreamError(Exception):
    """Base class of all errors that triggerstream raises on purpose."""


class DecodeError(TriggerstreamError):
    """Bytes that break the published contract; the message says where and what would be right."""


class UsageError(TriggerstreamError):
    """A request that cannot be carried out as it was made."""


class LogError(TriggerstreamError):
    """The log could not be reached or did not acknowledge in time. Safe to call again."""


class ClockError(LogError):
    """The log takes nothing, because this machine's clock was set far forward while an engine ran."""


class DispatchError(TriggerstreamError):
    """The executor's queue did not confirm a command. Safe to call again."""


class DestinationError(DispatchError):
    """The executor's broker refuses the queue or exchange of a command; commands for others may be accepted.

    ``destination`` names it for people and metrics, ``reason`` is the broker's answer.
    """

    def __init__(self, *, destination: str, reason: str) -> None:
        super().__init__(f"{destination}: {reason}")
        self.destination = destination
        self.reason = reason


class UndispatchableError(DispatchError):
    """The executor can never take this command, however often it is sent."""


def describe_error(exc: BaseException) -> str:
    """The message of an error of triggerstream; of any other, ``Type: message``."""
    text = str(exc)
    if text and isinstance(exc, TriggerstreamError):
        return text
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong (``error``) or doubtful (``warning``) in a file.

    ``line`` and ``column`` count from 1; ``path`` is a JSON pointer such as ``/t_report/after``.
    """

    severity: str
    code: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        """``12:14 /t_report/after: must name at least one trigger``."""
        where = f"{self.line}:{self.column}"
        return f"{where} {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


class ConfigError(TriggerstreamError):
    """A tasks file with at least one error. ``findings`` holds all of them, in the order of the file."""

    def __init__(self, name: str, findings: Sequence[Finding]) -> None:
        self.name = name
        self.findings = tuple(findings)
        errors = [f for f in self.findings if f.severity == "error"]
        more = f" (and {len(errors) - 1} more: {advice.check_file(name)})" if len(errors) > 1 else ""
        super().__init__(f"{name}:{errors[0]}{more}" if errors else name)
