"""Ports: the interfaces an engine depends on.

Each port has an in-memory adapter (:mod:`triggerstream.adapters.memory`) and one suite of tests for all
adapters. An adapter's method has a docstring only for what its port does not say.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from triggerstream.core.commands import Decision
from triggerstream.core.ids import CommandId, ConfigHash, SessionId
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import Rules, Version
from triggerstream.engine.checkpoint import Checkpoint
from triggerstream.engine.stored_states import SOMEWHERE, StateDecoder
from triggerstream.wire.records import Headers, NewRecord, Record


class Clock(Protocol):
    """The wall clock. It determines when timer events are appended. Decisions never depend on it."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch, UTC. May step back."""

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationText:
    """A stored configuration, with its offset and its number in the partition."""

    offset: int
    arrival_us: int
    hash: ConfigHash
    text: str
    number: int = 0

    @classmethod
    def of(cls, version: Version) -> ConfigurationText:
        """The text of a configuration in a partition's history."""
        return cls(
            offset=version.offset,
            arrival_us=version.arrival_us,
            hash=version.hash,
            text=version.config.text,
            number=version.number,
        )

    @property
    def size(self) -> int:
        """Size of the text in bytes."""
        return len(self.text.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """A decision in the outbox: to be handed over, or handed over and not settled.

    Rows are in the order of decision by ``number``, which does not change while an engine runs. ``value`` is
    the encoded decision. ``sent_us`` may be missing shortly after a hand-over.
    """

    number: int
    command: CommandId
    session: SessionId
    value: bytes
    sent_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SentRow:
    """The executor confirmed row ``number`` at ``sent_us``."""

    number: int
    sent_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRow:
    """The executor can never accept row ``number``.

    ``failed`` is the outcome that reports it, if there is one.
    """

    number: int
    reason: str
    failed: NewRecord | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """The point at which an engine continues.

    ``offset`` is the next offset to read, ``configurations`` the history of the rules, oldest first.
    ``outbox`` is the number of the last row, 0 if there is none. ``due`` has the due times of sessions'
    timers. ``scanned`` is the offset of the configuration for which all sessions were scanned.
    """

    offset: int = 0
    configurations: tuple[ConfigurationText, ...] = ()
    outbox: int = 0
    due: Mapping[SessionId, int] = field(default_factory=dict)
    scanned: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmigrated:
    """A session that has not met a configuration. ``place`` orders them, for paging."""

    place: tuple[int, int]
    session: SessionId
    state: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RescheduledRow:
    """A session's next due time under the current rules, and the oldest configuration that it still needs."""

    session: SessionId
    due_us: int | None
    config: int


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

        The steps, in order: ``sent`` is noted, and sent revocations and settled rows are deleted. Each
        decision gets the next number and replaces a row of the same command (a revocation: only an unsent
        one). A settled row is deleted once it was sent. Re-homed records are appended to the log.
        """

    async def sent(self, sent: Sequence[SentRow]) -> None:
        """Note rows that were handed over, between checkpoints."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """A session as it is stored. ``due_us``: when its next timer is due."""

    id: SessionId
    state: bytes
    due_us: int | None
    decoder: StateDecoder = SOMEWHERE

    def known(self) -> SessionState:
        """The decoded state of the session.

        Raises:
            UnreadableStateError: the state cannot be read.
        """
        return self.decoder.read(self.id, self.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterRow:
    """A record that was not folded, or a command that could not be handed over, and why.

    Dead letters are ordered by ``number``. ``offset`` is the record's offset in the log; None for a command,
    whose bytes are in ``value``. ``last``: the dead letter is for a lost range of the log, ``offset`` to
    ``last``. ``left_out``: the record itself was folded, and the dead letter is a trigger that follows from
    it, as a separate event; ``left_out`` numbers such triggers of one record from 0.
    """

    number: int
    at_us: int
    offset: int | None
    key: bytes | None
    value: bytes | None
    headers: Headers
    reason: str
    partition: int = 0
    last: int | None = None
    left_out: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Progress of an engine. ``offset``: the next one that it will read; ``end``: the end of the log.

    ``outbox`` is the number of decisions that are not settled; None: the engine has no outbox.
    """

    offset: int
    end: int
    outbox: int | None
    dead_letters: int | None

    @property
    def lag(self) -> int:
        """The number of records that are not folded yet."""
        return self.end - self.offset


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

    async def sessions(
        self, *, prefix: str = "", after: SessionId | None = None, limit: int = 50
    ) -> Sequence[SessionRow]:
        """Sessions whose id begins with ``prefix``, by id, beyond ``after``, which may be any id."""

    async def dead_letters(self, *, after: int = 0, limit: int = 50) -> Sequence[DeadLetterRow]:
        """Dead letters with a number greater than ``after``, oldest first."""

    async def dead_letter(self, offset: int, *, partition: int = 0) -> DeadLetterRow | None:
        """The dead letter of the record at ``offset`` itself, not of a trigger that was left out."""

    async def configurations(self, *, partition: int = 0) -> Sequence[ConfigurationText]:
        """The configurations that some session may still have to meet, oldest first; the last is in force."""

    async def outbox(
        self, *, after: int = 0, limit: int = 50, sent_before_us: int | None = None
    ) -> Sequence[OutboxRow]:
        """Decisions that are not settled; with ``sent_before_us``, only those handed over before it.

        Raises:
            UsageError: the engine keeps no outbox; the message says where to look.
        """

    async def record(self, offset: int, *, partition: int = 0) -> Record | None:
        """One record of the log."""

    async def records(self, *, after: int = -1, limit: int = 50, partition: int = 0) -> Sequence[Record]:
        """Records beyond offset ``after``, in order."""

    async def progress(self, *, partition: int = 0) -> Progress:
        """The progress of the engine."""

    async def close(self) -> None:
        """Close the store."""
