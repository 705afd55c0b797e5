"""Turns records into a checkpoint: decode, fold, encode. Pure: the engine makes the result durable.

The rules are in section 11 of ``docs/semantics.md``.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from triggerstream.core.errors import ConfigError, DecodeError, TriggerstreamError
from triggerstream.core.events import ConfigApplied, Event, Trigger
from triggerstream.core.fold import next_due
from triggerstream.core.ids import AppId, CommandId, ConfigHash, SessionId
from triggerstream.core.placement import partition_of
from triggerstream.core.results import Folded, LeftOut, Unknown
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import LANGUAGE_VERSION, AppliedConfiguration, Configuration, Rules
from triggerstream.core.timers import with_exact_due
from triggerstream.engine.checkpoint import Checkpoint, DeadLetter, Decided, Stored, dead_letter_of
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.engine.configure import check_succession
from triggerstream.engine.sized_session import SizedSession
from triggerstream.engine.stored_states import SOMEWHERE, StateDecoder
from triggerstream.wire import events, state
from triggerstream.wire.json import dumps
from triggerstream.wire.records import NewRecord, Record
from triggerstream.wire.retired import RetiredKey
from triggerstream.wire.signature import ControlKeys

PART_BYTES = 16 * 1024 * 1024
"""Approximate bytes of a checkpoint: engines fold a batch in parts of this size; one record's part may be
larger. While this number of bytes waits to be durable, no further record is folded: a batch of small events
can decide gigabytes."""
PART_EVENTS = 128
"""Scattered events that are folded in one part. The decoded states of their sessions, some kB each, stay in
the CPU's cache until they are encoded: with parts, 1,000 such events take 0.9 of the processor time."""
_SCATTERED = 2 / 3
"""Sessions per event above which events count as scattered. With fewer sessions, it saves more time to encode
a state once for several events."""
_REMEMBERED = 4_096
"""Decoded states that all partitions together cache. A small one takes some 3 kB as objects."""
_LARGE_BATCH = 64
"""Sessions of a batch above which a state is cached only when it is encoded for the second time. In such a
batch, most cached states would be displaced before they are used, and would displace others, here and in the
CPU's cache. With this rule, a worker with a backlog takes 0.9 of the processor time."""
_ENCODED_ONCE: Final = (b"", None)
"""Cache entry, without a state, of a session that was encoded once in a large batch. If it is encoded again
while the entry is there, its state is cached."""
REMEMBERED_BYTES = 16 * 1024 * 1024
"""Length of these states as bytes. As objects they take some 100 MiB. A busy session stays decoded, however
large its state is: decoding 1 MB takes 6 ms, once for each batch."""
LEFT_OUT_BYTES = 4 * 1024 * 1024
"""Bytes of the triggers that one record leaves out, as far as dead letters keep them. A thousand expired
instances may have captured the same 4 MB, and each one's trigger would repeat them."""
_LEAST_REMEMBERED_BYTES = 4_096
"""The share of a partition, however many there are."""


class FoldVersionError(TriggerstreamError):
    """A configuration needs a version of the fold that this release does not have. Run a newer release."""


class Processor:
    """Folds batches of one partition.

    Between batches it only caches decoded states by their bytes, so that the state of an active session is
    not decoded again. With ``control``, the engine's own events count only with a signature.
    """

    def __init__(
        self,
        *,
        app: AppId,
        partition: int = 0,
        partitions: int = 1,
        control: ControlKeys | None = None,
        configurations: ConfigurationCache | None = None,
        decoder: StateDecoder = SOMEWHERE,
    ) -> None:
        self.app = app
        self.configurations = configurations or ConfigurationCache()
        self.control = control
        self.decoder = decoder
        self.partition = partition
        self.partitions = partitions
        self._params_bytes: dict[ConfigHash, int] = {}
        self._encoded: OrderedDict[SessionId, tuple[bytes, SessionState | None]] = OrderedDict()
        self._encoded_bytes = 0
        self._most_states = max(1, _REMEMBERED // partitions)
        self._most_bytes = max(_LEAST_REMEMBERED_BYTES, REMEMBERED_BYTES // partitions)

    def params_bytes(self, config: Configuration) -> int:
        """The bytes of the longest ``withParams`` of ``config``."""
        known = self._params_bytes.get(config.hash)
        if known is None:
            known = max((len(dumps(task.with_params)) for task in config.tasks), default=0)
            self._params_bytes = {config.hash: known}
        return known

    def encode(self, session: SessionId, known: SessionState, *, large_batch: bool = False) -> bytes:
        """Encode a session's state, and cache it; in a ``large_batch``, only from the second time on."""
        known, stored = state.pack_and_encode(known)
        remembered = self._encoded
        former = remembered.pop(session, None)
        if former is not None:
            self._encoded_bytes -= len(former[0])
        length = len(stored)
        if length <= self._most_bytes:
            if large_batch and former is None:
                remembered[session] = _ENCODED_ONCE
            else:
                remembered[session] = stored, known
                self._encoded_bytes += length
            while len(remembered) > self._most_states or self._encoded_bytes > self._most_bytes:
                _, oldest = remembered.popitem(last=False)
                self._encoded_bytes -= len(oldest[0])
        return stored

    def recall(self, session: SessionId, stored: bytes) -> SessionState:
        """The decoded ``stored``. If it is in the cache, it is taken out.

        States are never modified, so they can be shared.
        """
        remembered = self._encoded.get(session)
        if remembered is None or remembered[0] != stored or remembered[1] is None:
            return self.decoder.read_lazily(session, stored)
        # Its successor is cached when it is encoded. Until then, its memory can be used for other objects.
        self._encoded[session] = _ENCODED_ONCE
        self._encoded_bytes -= len(stored)
        return remembered[1]

    def peek(self, session: SessionId, stored: bytes) -> SessionState:
        """As ``recall``, but the cache keeps it, and an unreadable state is not an error of this partition.

        Raises:
            DecodeError: ``stored`` is not a state, or is from a newer release.
        """
        known = self._remembered(session, stored)
        return state.decode_lazily(stored) if known is None else known

    def _remembered(self, session: SessionId, stored: bytes) -> SessionState | None:
        """The state with the bytes ``stored``, if it is in the cache."""
        remembered = self._encoded.get(session)
        return None if remembered is None or remembered[0] != stored else remembered[1]

    def process(
        self,
        rules: Rules,
        records: Sequence[Record],
        load: Callable[[SessionId], bytes | None],
        *,
        most: int | None = None,
        scattered: bool = False,
    ) -> Checkpoint:
        """Fold ``records``, which are consecutive in the partition, into a checkpoint.

        With ``most``, it stops when decisions and changes have about this number of bytes; if the events are
        ``scattered`` (:func:`are_scattered`), after ``PART_EVENTS`` of them. The rest is for the next call.
        ``load`` returns a session's stored state; it is called once for each session of this partition.

        Raises:
            FoldVersionError: see the class. No part of the batch may then be made durable.
            UnreadableStateError: a stored state cannot be read. No part of the batch may then be made
                durable.
        """
        batch = _Batch(self, rules, load)
        limit = sys.maxsize if most is None else most
        for record in islice(records, PART_EVENTS) if scattered else records:
            batch.take(record)
            if batch.made + batch.held >= limit:
                break
        return batch.checkpoint(record.offset + 1)


def are_scattered(records: Sequence[Record]) -> bool:
    """True if ``records`` are more than a part of ``PART_EVENTS``, and most are of different sessions."""
    return len(records) > PART_EVENTS and len({record.key for record in records}) > len(records) * _SCATTERED


class _Batch:
    def __init__(self, processor: Processor, rules: Rules, load: Callable[[SessionId], bytes | None]) -> None:
        self.processor = processor
        self.control = processor.control
        self.rules = rules
        self.users = rules.current.config.users
        """The triggers that the configuration in force uses."""
        self.load = load
        self.sessions: dict[SessionId, SizedSession] = {}
        self.decided: list[Decided] = []
        self.settled: list[CommandId] = []
        self.dead_letters: list[DeadLetter] = []
        self.rehomed: list[NewRecord] = []
        self.folded = 0
        self.prevented = 0
        self.unused = 0
        self.forgotten_ids = 0
        self.unknown = 0
        self.configured = False
        self.records = 0
        self.made = 0
        """The bytes of decisions, dead letters, configurations and records to be rehomed."""
        self.held = 0
        """Estimate of the bytes of the states, which are encoded at the end."""

    def take(self, record: Record) -> None:
        self.records += 1
        try:
            event = events.decode(record)
            if self.control is not None:
                event = self.control.authenticate(self.processor.app, record, event)
            if type(event) is ConfigApplied:  # `isinstance` takes five times as long where it is false
                self._configure(record, event)
                return
        except (DecodeError, ConfigError) as exc:
            self._add_dead_letter(record, str(exc))
            return
        session = self.sessions.get(event.session)
        if session is None:
            stored = self.load(event.session)
            # A session with a state here was checked when it got its first state.
            if stored is None and self._rehome_if_misplaced(record, event):
                return
            session = self._open(event.session, stored)
        self._fold(record, session, event)

    def _add_dead_letter(self, record: Record, reason: str) -> None:
        self.made += len(record.value or b"")
        self.dead_letters.append(dead_letter_of(record, reason))

    def checkpoint(self, offset: int) -> Checkpoint:
        rules = self.rules
        states: dict[SessionId, Stored] = {}
        retired: dict[RetiredKey, bytes | None] = {}
        size = self.made
        for session_id, session in self.sessions.items():
            known = session.state
            if session.changed and known is not None:
                try:
                    states[session_id] = stored = self._stored(session_id, known)
                except DecodeError as exc:  # a part of the state that was not looked at before
                    raise self.processor.decoder.unreadable(session_id, exc) from exc
                size += len(stored.state)
                for (task, number), entry in session.entries.items():
                    retired[RetiredKey(session_id, task, number)] = entry
        return Checkpoint(
            partition=self.processor.partition,
            offset=offset,
            decided=tuple(self.decided),
            states=states,
            retired=retired,
            settled=tuple(self.settled),
            dead_letters=tuple(self.dead_letters),
            rehomed=tuple(self.rehomed),
            rules=rules if self.configured else None,
            events=self.folded,
            prevented=self.prevented,
            unused=self.unused,
            forgotten_ids=self.forgotten_ids,
            unknown=self.unknown,
            records=self.records,
            size=size,
        )

    def _stored(self, session: SessionId, known: SessionState) -> Stored:
        rules = self.rules
        if known.due_us is not None:
            known = with_exact_due(rules, known)
        has_met_all = known.config >= rules.current.offset
        return Stored(
            state=self.processor.encode(session, known, large_batch=len(self.sessions) > _LARGE_BATCH),
            due_us=known.due_us if has_met_all else next_due(rules, known),
            config=_met(rules, known),
        )

    def _configure(self, record: Record, event: ConfigApplied) -> None:
        if event.fold > LANGUAGE_VERSION:
            raise FoldVersionError(
                f"the configuration at offset {record.offset} needs fold {event.fold}: "
                f"this release has {LANGUAGE_VERSION}, run a newer one"
            )
        if record.offset <= self.rules.current.offset:
            return
        current = self.rules.current
        number = check_succession(event, replaces=current.config.hash or None, number=current.number)
        config = self.processor.configurations.read(event.text)
        applied = AppliedConfiguration(
            config=config, offset=record.offset, arrival_us=record.arrival_us, number=number
        )
        self.rules = self.rules.apply(applied)
        self.users = config.users
        self.configured = True
        self.made += len(event.text)
        for session in self.sessions.values():
            session.close_rooms()

    def _rehome_if_misplaced(self, record: Record, event: Event) -> bool:
        processor = self.processor
        if processor.partitions == 1:
            return False
        key = event.session.encode()
        if partition_of(key, processor.partitions) == processor.partition:
            return False
        self.made += len(record.value or b"")
        self.rehomed.append(
            NewRecord(key=key, value=record.value or b"", headers=events.rehomed_headers(record))
        )
        return True

    def _open(self, session_id: SessionId, stored: bytes | None) -> SizedSession:
        known, length = None, 0
        if stored is not None:
            known, length = self.processor.recall(session_id, stored), len(stored)
        self.held += length
        session = SizedSession(self.rules, known, length)
        self.sessions[session_id] = session
        return session

    def _fold(self, record: Record, session: SizedSession, event: Event) -> None:
        known = session.state
        if known is not None and event.offset <= known.offset:
            return
        length = events.event_bytes(record) if record.headers else len(record.value or b"")
        try:
            folded, decided = session.fold(self.rules, event, length, self.processor.params_bytes)
        except DecodeError as exc:  # a part of the state that was not looked at before
            raise self.processor.decoder.unreadable(event.session, exc) from exc
        if not isinstance(folded, Folded):
            if isinstance(folded, Unknown):
                self.unknown += 1
                self.settled += folded.settled
            else:
                self._add_dead_letter(record, folded.reason)
            return
        self.held += length * (2 + folded.taken) + folded.created * session.length
        self.folded += 1
        body = event.body
        if type(body) is Trigger and body.name not in self.users:
            self.unused += 1
        if decided:
            self.decided += decided
            for item in decided:
                self.made += len(item.value)
        if folded.retired:
            entries = session.entries
            self.made += sum(len(entries[one.task, one.instance.number] or b"") for one in folded.retired)
        if folded.settled:
            self.settled += folded.settled
        if folded.prevented:
            self.prevented += folded.prevented
        if folded.forgotten_ids:
            self.forgotten_ids += folded.forgotten_ids
        if folded.left_out:
            room = LEFT_OUT_BYTES
            for number, left_out in enumerate(folded.left_out):
                letter = _left_out(record, event, left_out, number, room=room)
                size = len(letter.record.value or b"")
                room -= size
                self.made += size
                self.dead_letters.append(letter)


def _met(rules: Rules, known: SessionState) -> int:
    """The configuration that the session has met, and under which its instances were judged."""
    if known.is_empty():
        return rules.current.offset
    return known.config - 1 if known.unjudged else known.config


def _left_out(record: Record, event: Event, left_out: LeftOut, number: int, *, room: int) -> DeadLetter:
    """The dead letter of a trigger that the fold of ``record`` left out, as an event that can be appended.

    It keeps nothing of an event with more than ``room`` bytes.
    """
    reason = f"the trigger `{left_out.trigger}` was left out: {left_out.reason}"
    value = b""
    if left_out.data is None:
        reason += "; its data is not kept: one record leaves out too much of it ($bounds.decidedBytes)"
    else:
        trigger = Trigger(name=left_out.trigger, data=left_out.data)
        value = events.encode_trigger(trigger, id=left_out.id, time_us=left_out.time_us)
        if len(value) > room:
            reason += f"; its {len(value):,} bytes are not kept: at most {LEFT_OUT_BYTES:,} of one record"
            value = b""
    stored = Record(
        partition=record.partition,
        offset=record.offset,
        arrival_us=record.arrival_us,
        key=event.session.encode(),
        value=value,
    )
    return DeadLetter(record=stored, reason=reason, left_out=number)
