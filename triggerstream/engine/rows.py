"""Rows: values that stores and readers return, or are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from triggerstream.core.answers import HandOver, HandOverState
from triggerstream.core.ids import CommandId, ConfigHash, Instant, SessionId
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import Version
from triggerstream.engine.stored_states import SOMEWHERE, StateDecoder
from triggerstream.wire.records import Headers, NewRecord


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


NO_ROW: Final = HandOver(state=HandOverState.UNKNOWN, why="the outbox has no row of it")
"""The hand-over of a command that should have a row in the outbox and has none."""


def hand_over_of_row(*, sent_us: int | None, published_us: int | None) -> HandOver:
    """Progress of the hand-over of a row of the outbox."""
    if sent_us is not None:
        return HandOver(state=HandOverState.HANDED_OVER, at_us=Instant(sent_us))
    if published_us is not None:
        return HandOver(state=HandOverState.UNCONFIRMED, at_us=Instant(published_us))
    return HandOver(state=HandOverState.DECIDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class SentRow:
    """The executor confirmed row ``number`` at ``sent_us``."""

    number: int
    sent_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRow:
    """A hand-over of row ``number`` failed at ``published_us``: the executor may have the command or not."""

    number: int
    published_us: int


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

    ``blocked``: records before that end that nobody can read until a transaction of another program ends.

    ``outbox`` is the number of decisions that are not settled; None: the engine has no outbox.
    """

    offset: int
    end: int
    outbox: int | None
    dead_letters: int | None
    blocked: int = 0

    @property
    def lag(self) -> int:
        """The number of records that are not folded yet."""
        return self.end - self.offset
