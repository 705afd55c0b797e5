"""Ports: the interfaces an engine depends on.

Each port has an in-memory adapter (:mod:`triggerstream.adapters.memory`) and one suite of tests for all
adapters. An adapter's method has a docstring only for what its port does not say.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from triggerstream.core.answers import HandOver
from triggerstream.core.commands import Decision
from triggerstream.core.ids import CommandId, SessionId
from triggerstream.core.projections import SilentCommand
from triggerstream.core.tasks import Rules
from triggerstream.engine.checkpoint import Checkpoint
from triggerstream.engine.clock_step import ClockReading
from triggerstream.engine.rows import (
    ConfigurationText,
    DeadLetterRow,
    OutboxRow,
    Progress,
    PublishedRow,
    RefusedRow,
    RescheduledRow,
    Resumed,
    SentRow,
    SessionRow,
    Unmigrated,
)
from triggerstream.wire.records import NewRecord, Record
from triggerstream.wire.retired import RetiredKey


class Clock(Protocol):
    """The wall clock. It determines when timer events are appended. Decisions never depend on it."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch, UTC. May step back."""

    def reading(self) -> ClockReading:
        """The wall clock, and the time since the machine's start."""

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``."""


class ClockWatch(Protocol):
    """Keeps the clock that a log trusts. Blocking."""

    def look(self) -> str | None:
        """Trust the wall clock if it was not set forward too far; else say why the log takes nothing.

        Raises:
            LogError: the log cannot be used.
        """

    def describe_refusal(self) -> str | None:
        """Why the log takes nothing by the wall clock as it is now; None if it does. Changes nothing.

        Raises:
            LogError: the log cannot be used.
        """

    def accept(self) -> None:
        """Trust the wall clock as it is.

        Raises:
            LogError: the log cannot be used.
        """


class Log(Protocol):
    """The log to which events are appended; any number of processes may append at once."""

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Append ``records``, those of a session in order. They are durable when this returns.

        A log with partitions refuses a record without a key: configurations are applied in another way there.

        Raises:
            LogError: it is unknown whether all are durable; of each session, the first ones may be. Safe to
                call again for events with an id.
            UsageError: the log does not exist, or refuses a record without a key.
            DecodeError: a record is not a valid event, if the log checks that.
        """

    async def close(self) -> None:
        """Close the log's connections and files."""


class OutcomeLog(Protocol):
    """The log to which a Celery worker reports outcomes. Blocking, and usable after a fork."""

    def report(self, session: SessionId, value: bytes) -> None:
        """Append one outcome event. It is durable when this returns.

        Raises:
            LogError: it is unknown whether it is durable. Safe to call again: a second outcome changes
                nothing.
        """


class Dispatcher(Protocol):
    """Hands commands to an executor."""

    async def dispatch(self, decision: Decision) -> None:
        """Hand over one command, or ask for one to be revoked. The executor has confirmed it on return.

        Raises:
            DispatchError: the executor's queue did not confirm it. Safe to call again.
            DestinationError: the same, and it is the queue or exchange of this decision that is refused.
            UndispatchableError: it can never be accepted; the message is the reason.
        """

    def destination(self, decision: Decision) -> str | None:
        """The queue or exchange of a decision, in the words of a DestinationError; None: not known.

        Engines call this only while a destination is refused.
        """

    async def close(self) -> None:
        """Close the connections."""


class Store(Protocol):
    """The embedded engine's own tables, and its reading side of the log.

    Any method raises LogError if the store fails. The engine then ends. After a restart it continues from the
    last checkpoint.
    """

    async def open(self) -> Resumed:
        """Lock the store for this engine, until ``close`` or the end of the process.

        Raises:
            UsageError: another engine has it, or it is not this app's.
        """

    async def read(self, offset: int, *, limit: int) -> Sequence[Record]:
        """Up to ``limit`` records from ``offset`` on, in order; fewer if they are large."""

    async def end(self) -> int:
        """The offset that the next record will take."""

    async def wait(self, offset: int) -> None:
        """Return once the log has a record at ``offset`` or beyond, or ``wake`` was called."""

    def wake(self) -> None:
        """Make the current call of ``wait`` return, or else the next one."""

    async def load(self, expected: Collection[SessionId]) -> Callable[[SessionId], bytes | None]:
        """A function that returns a session's stored state.

        The states of ``expected`` sessions are read at once.
        """

    async def commit(self, checkpoint: Checkpoint, *, sent: Sequence[SentRow] = ()) -> int:
        """Make ``checkpoint`` durable, all or nothing. Returns the number of its first row.

        Entries of retired instances are written or deleted, as it says.
        The steps, in order: ``sent`` is noted, and sent revocations and settled rows are deleted. Each
        decision gets the next number and replaces a row of the same command (a revocation: only an unsent
        one). A settled row is deleted once it was sent. Re-homed records are appended to the log.
        """

    async def sent(self, sent: Sequence[SentRow]) -> None:
        """Note rows that were handed over, between checkpoints."""

    async def published(self, published: Sequence[PublishedRow]) -> None:
        """Note rows whose hand-over was tried, and which the executor has not confirmed."""

    async def refuse(self, refused: RefusedRow) -> None:
        """Move a row to the dead letters and append the outcome with the reason, all or nothing."""

    async def outbox(self, *, after: int, limit: int) -> Sequence[OutboxRow]:
        """Rows with a number greater than ``after``, in order."""

    async def unmigrated(
        self, config: int, *, after: tuple[int, int] | None, limit: int
    ) -> Sequence[Unmigrated]:
        """Sessions that have not met the configuration at offset ``config``, by place, beyond ``after``."""

    async def reschedule(self, sessions: Sequence[RescheduledRow], *, scanned: int | None = None) -> None:
        """Set the due times of timers. With ``scanned``, note that all sessions were scanned for it."""

    async def forget(self, rules: Rules) -> Rules:
        """``rules`` without configurations that no session needs any more.

        They are deleted from the store too.
        """

    async def close(self) -> None:
        """Close and unlock the store, so that another engine may open it."""


class Reader(Protocol):
    """Read-only view of stored data, while the engine runs or not. The next page begins after a key.

    Offsets are those of a ``partition`` of the log; a log without partitions has only number 0. In Kafka, a
    checkpoint is visible some milliseconds after it was made durable. Any method raises LogError if the store
    cannot be read, and UsageError for an invalid session id.
    """

    async def partition(self, session: SessionId) -> int:
        """The partition of the log that holds ``session``."""

    async def partitions(self) -> int:
        """The log's number of partitions."""

    async def session(self, session: SessionId) -> SessionRow | None:
        """One session."""

    async def some(self, sessions: Collection[SessionId]) -> Mapping[SessionId, SessionRow]:
        """Rows of the known sessions among ``sessions``. Each partition is read once."""

    async def retired(self, keys: Collection[RetiredKey]) -> Mapping[RetiredKey, bytes]:
        """The entries of retired instances, those of ``keys`` that there are."""

    async def sessions(
        self, *, prefix: str = "", after: SessionId | None = None, limit: int = 50
    ) -> Sequence[SessionRow]:
        """Sessions whose id begins with ``prefix``, by id, beyond ``after``, which may be any id."""

    async def dead_letters(self, *, after: int = 0, limit: int = 50) -> Sequence[DeadLetterRow]:
        """Dead letters with a number greater than ``after``, oldest first."""

    async def dead_letters_at(
        self, offsets: Collection[int], *, partition: int = 0
    ) -> Mapping[int, DeadLetterRow]:
        """The dead letters of the records at ``offsets`` themselves, not of triggers that were left out.

        The partition is read once, from the first of the records on.
        """

    async def configurations(self, *, partition: int = 0) -> Sequence[ConfigurationText]:
        """The configurations that some session may still have to meet, oldest first; the last is in force."""

    async def outbox(
        self, *, after: int = 0, limit: int = 50, sent_before_us: int | None = None
    ) -> Sequence[OutboxRow]:
        """Decisions that are not settled; with ``sent_before_us``, only those handed over before it.

        Raises:
            UsageError: the engine keeps no outbox; the message says where to look.
        """

    async def hand_overs(
        self, commands: Sequence[SilentCommand], *, partition: int = 0
    ) -> Mapping[CommandId, HandOver]:
        """Progress of the hand-over of each of ``commands``.

        They are commands of sessions in ``partition`` whose state was read before. If it cannot be found
        out, it is "not known".
        """

    async def record(self, offset: int, *, partition: int = 0) -> Record | None:
        """One record of the log."""

    async def records(self, *, after: int = -1, limit: int = 50, partition: int = 0) -> Sequence[Record]:
        """Records beyond offset ``after``, in order."""

    async def progress(self, *, partition: int = 0) -> Progress:
        """The progress of the engine."""

    async def close(self) -> None:
        """Close the store."""
