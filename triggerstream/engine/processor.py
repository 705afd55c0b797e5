"""From records to a checkpoint: decode, fold, encode. Pure: the engine around it makes the result durable."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from msgspec import structs

from triggerstream.core.errors import ConfigError, DecodeError, TriggerstreamError
from triggerstream.core.events import (
    ConfigApplied,
    Event,
    Failed,
    Finished,
    Replay,
    Retried,
    Skip,
    Touch,
    Trigger,
)
from triggerstream.core.fold import Folded, Rejected, next_due, step
from triggerstream.core.ids import AppId, CommandId, ConfigHash, SessionId
from triggerstream.core.placement import partition_of
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import FOLD_VERSION, Applied, Configuration, Rules
from triggerstream.engine.checkpoint import Checkpoint, DeadLetter, Decided, Stored
from triggerstream.wire import commands, events, state, tasksfile
from triggerstream.wire.json import dumps
from triggerstream.wire.records import NewRecord, Record
from triggerstream.wire.signature import ControlKeys

_GROWTH = 6
"""How much longer an event can be in a state than on the wire: ``1e15`` becomes ``1000000000000000.0``."""
_REMEMBERED = 4_096
_REMEMBERED_BYTES = 4_096
"""Of all partitions together at most 16 MiB of encoded states, some 100 MiB as objects."""
_RECORD_OVERHEAD = 2_048
"""Bytes that an event adds to a state beside its own content: an instance's fields, a position, a digest."""


class FoldVersionError(TriggerstreamError):
    """A configuration asks for a fold that this release does not have: a newer release must run first."""


class Processor:
    """Folds batches of one partition.

    Between two batches it only remembers which state a session's bytes stood for as it encoded them, so that
    one whose next event follows soon is not decoded again. With ``control``, the engine's own events
    count only with a signature.
    """

    def __init__(
        self, *, app: AppId, partition: int = 0, partitions: int = 1, control: ControlKeys | None = None
    ) -> None:
        self.app = app
        self.control = control
        self.partition = partition
        self.partitions = partitions
        self._params_bytes: dict[ConfigHash, int] = {}
        self._encoded: OrderedDict[SessionId, tuple[bytes, SessionState]] = OrderedDict()
        self._room = max(1, _REMEMBERED // partitions)

    def params_bytes(self, config: Configuration) -> int:
        """The bytes of the longest ``withParams`` of ``config``."""
        known = self._params_bytes.get(config.hash)
        if known is None:
            known = max((len(dumps(task.with_params)) for task in config.tasks), default=0)
            self._params_bytes = {config.hash: known}
        return known

    def encode(self, session: SessionId, known: SessionState) -> bytes:
        """The bytes of a session's state."""
        stored = state.encode(known)
        if len(stored) <= _REMEMBERED_BYTES:
            remembered = self._encoded
            remembered[session] = stored, known
            if len(remembered) > self._room:
                remembered.popitem(last=False)
        return stored

    def recall(self, session: SessionId, stored: bytes) -> SessionState:
        """The state that ``stored`` stands for. Nobody writes to a state, so it may be the one of before."""
        remembered = self._encoded.pop(session, None)
        if remembered is None or remembered[0] != stored:
            return state.decode(stored)
        return remembered[1]

    def process(
        self,
        rules: Rules,
        records: Sequence[Record],
        load: Callable[[SessionId], bytes | None],
    ) -> Checkpoint:
        """Fold ``records``, which follow one another in the partition, into a checkpoint.

        ``load`` returns a session's stored state; of a session that is at home here it is asked once.

        Raises:
            FoldVersionError: see there. Nothing of the batch may be made durable then.
            DecodeError: a stored state cannot be read. The same holds.
        """
        batch = _Batch(self, rules, load)
        for record in records:
            batch.take(record)
        return batch.checkpoint(records[-1].offset + 1)


class _Session:
    """A session's state during a batch; ``room`` is what it may grow by, at worst, before it is measured.

    None is left where a configuration is to be met: it may seed, and have another bound.
    """

    __slots__ = ("changed", "room", "state")

    def __init__(self, state: SessionState | None, room: int) -> None:
        self.state = state
        self.room = room
        self.changed = False


class _Batch:
    def __init__(self, processor: Processor, rules: Rules, load: Callable[[SessionId], bytes | None]) -> None:
        self.processor = processor
        self.rules = rules
        self.load = load
        self.sessions: dict[SessionId, _Session] = {}
        self.decided: list[Decided] = []
        self.settled: list[CommandId] = []
        self.dead_letters: list[DeadLetter] = []
        self.rehomed: list[NewRecord] = []
        self.folded = 0
        self.configured = False

    def take(self, record: Record) -> None:
        try:
            event = events.decode(record)
            if self.processor.control is not None:
                self.processor.control.check(self.processor.app, record, event)
            if isinstance(event, ConfigApplied):
                self._configure(record, event)
                return
        except (DecodeError, ConfigError) as exc:
            self.dead_letters.append(DeadLetter(record=record, reason=str(exc)))
            return
        session = self.sessions.get(event.session)
        if session is None:
            stored = self.load(event.session)
            # What has a state here was found to belong here when it got it.
            if stored is None and self._belongs_elsewhere(record, event):
                return
            session = self._open(event.session, stored)
        self._fold(record, session, event)

    def checkpoint(self, offset: int) -> Checkpoint:
        rules = self.rules
        states: dict[SessionId, Stored] = {}
        for session_id, session in self.sessions.items():
            known = session.state
            if session.changed and known is not None:
                states[session_id] = Stored(
                    state=self.processor.encode(session_id, known),
                    due_us=next_due(rules, known) if known.timer_count else None,
                    config=_met(rules, known),
                )
        return Checkpoint(
            partition=self.processor.partition,
            offset=offset,
            decided=tuple(self.decided),
            states=states,
            settled=tuple(self.settled),
            dead_letters=tuple(self.dead_letters),
            rehomed=tuple(self.rehomed),
            rules=rules if self.configured else None,
            events=self.folded,
        )

    def _configure(self, record: Record, event: ConfigApplied) -> None:
        if event.fold > FOLD_VERSION:
            raise FoldVersionError(
                f"the configuration at offset {record.offset} needs fold {event.fold}: "
                f"this release has {FOLD_VERSION}, run a newer one"
            )
        if record.offset <= self.rules.current.offset:
            return
        config = tasksfile.read(event.text, name="configuration")
        applied = Applied(config=config, offset=record.offset, arrival_us=record.arrival_us)
        self.rules = self.rules.apply(applied)
        self.configured = True
        for session in self.sessions.values():
            session.room = 0

    def _belongs_elsewhere(self, record: Record, event: Event) -> bool:
        processor = self.processor
        if processor.partitions == 1:
            return False
        key = event.session.encode()
        if partition_of(key, processor.partitions) == processor.partition:
            return False
        self.rehomed.append(
            NewRecord(key=key, value=record.value or b"", headers=events.rehomed_headers(record))
        )
        return True

    def _open(self, session_id: SessionId, stored: bytes | None) -> _Session:
        limit = self.rules.current.config.bounds.state_bytes
        if stored is None:
            session = _Session(None, limit)
        else:
            known = self.processor.recall(session_id, stored)
            met = known.config == self.rules.current.offset
            session = _Session(known, limit - len(stored) if met else 0)
        self.sessions[session_id] = session
        return session

    def _fold(self, record: Record, session: _Session, event: Event) -> None:
        known = session.state
        if known is not None and event.offset <= known.offset:
            return
        folded = step(self.rules, known, event)
        bounds = self.rules.current.config.bounds
        decided = _encoded(folded)
        if decided and max(len(item.value) for item in decided) > bounds.command_bytes:
            folded = step(self.rules, known, event, unsendable=self._unsendable(known, event, decided))
            decided = _encoded(folded)
        if not isinstance(folded, Folded):
            self.dead_letters.append(DeadLetter(record=record, reason=folded.reason))
            return
        # The event's content stands once as the session's latest, once in its outcome, once in each instance
        # that took it; a new instance holds at most what the state held; a decision keeps its task's params.
        length = events.event_bytes(record) if record.headers else len(record.value or b"")
        growth = (length * _GROWTH + _RECORD_OVERHEAD) * (2 + folded.taken)
        if folded.created:
            growth += folded.created * (bounds.state_bytes - session.room)
        if decided:
            longest = max(len(item.value) for item in decided)
            if longest > bounds.command_bytes:
                limit = f"at most {bounds.command_bytes:,} ($bounds.commandBytes)"
                reason = f"a command would have {longest:,} bytes: {limit}"
                self.dead_letters.append(DeadLetter(record=record, reason=reason))
                return
            growth += len(decided) * self.processor.params_bytes(self.rules.current.config)
        session.room -= growth
        if session.room < 0:
            size = len(state.encode(folded.state))
            session.room = bounds.state_bytes - size
            if session.room < 0 and _adds_data(event):
                limit = f"at most {bounds.state_bytes:,} ($bounds.stateBytes)"
                reason = f"the state would have {size:,} bytes: {limit}"
                self.dead_letters.append(DeadLetter(record=record, reason=reason))
                return
        session.state = folded.state
        session.changed = True
        self.folded += 1
        self.decided += decided
        if folded.settled:
            self.settled += folded.settled

    def _unsendable(
        self, known: SessionState | None, event: Event, decided: list[Decided]
    ) -> frozenset[CommandId]:
        """The commands that are too long, by no fault of the event: their instances fail.

        A trigger is to blame for what it completes. What time or a configuration decides as it arrives is
        not its doing, and an outcome or an order must not get lost for what follows from it.
        """
        if isinstance(event.body, Trigger):
            decided = _encoded(step(self.rules, known, structs.replace(event, body=Touch())))
        limit = self.rules.current.config.bounds.command_bytes
        return frozenset(item.decision.id for item in decided if len(item.value) > limit)


def _encoded(folded: Folded | Rejected) -> list[Decided]:
    if not isinstance(folded, Folded) or not folded.decisions:
        return []
    return [Decided(decision=d, value=commands.encode(d)) for d in folded.decisions]


def _met(rules: Rules, known: SessionState) -> int:
    """The configuration that the session counts as having met: not one since which it has to be judged."""
    if known.is_empty():
        return rules.current.offset
    return known.config - 1 if known.unjudged else known.config


def _adds_data(event: Event) -> bool:
    """True where the event carries a user's data; what only moves a session along meets no bound."""
    match event.body:
        case Trigger() | Finished() | Failed() | Retried():
            return True
        case Skip() | Replay() as order:
            return (order.result if isinstance(order, Skip) else order.kwargs) is not None
        case _:
            return False
