"""Folds a partition's log once more, and compares the result with the stored data.

Pure. The commands, re-homed records and dead letters of this fold were carried out by the first one. They
must not be carried out again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from triggerstream.core.commands import Command
from triggerstream.core.errors import DecodeError, UsageError
from triggerstream.core.ids import CommandId, Json, SessionId, instance_id
from triggerstream.core.tasks import Rules
from triggerstream.engine.checkpoint import Decided, Stored, keep_retired
from triggerstream.engine.configuration_cache import unload_past
from triggerstream.engine.processor import Processor
from triggerstream.engine.rows import ConfigurationText
from triggerstream.engine.scan import Scan
from triggerstream.wire import state
from triggerstream.wire.bounds import STATE_DEPTH
from triggerstream.wire.events import origin_of
from triggerstream.wire.json import dumps, loads
from triggerstream.wire.records import Record
from triggerstream.wire.retired import RetiredKey, decode_key, encode_key

WHOLE = ""
"""The place of a difference that is the whole state."""


def copied_by(records: Sequence[Record]) -> Iterator[tuple[int, int]]:
    """The positions of the originals of which ``records`` contains copies."""
    for record in records:
        if record.headers and (origin := origin_of(record.headers)) is not None:
            yield origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Consistent snapshot of the stored data of a partition.

    ``offset`` is the offset of its checkpoint; None: no checkpoint belongs to this log, and ``why`` says why.
    ``group`` is the group offset, if there should be a checkpoint and is none. ``partitions`` is the number
    of partitions in the checkpoint. The log has offsets from ``log_begin`` to before ``log_end``. ``lost``:
    why some of the stored data cannot be read; None: all of it was read. ``lost_lasting``: no replica has it.

    ``states`` are by session key, ``retired`` (entries of retired instances) by their keys in a changelog.
    Data that an engine does not store is None: ``due`` (due times of timers) and ``commands`` (commands not
    settled, or that could not be handed over). ``scanned`` is the configuration for which all sessions were
    evaluated, ``fold`` the oldest version of the fold with which the states were folded.
    """

    offset: int | None
    log_begin: int
    log_end: int
    why: str = "there is no checkpoint"
    group: int | None = None
    partitions: int | None = None
    states: Mapping[bytes, bytes] = field(default_factory=dict)
    retired: Mapping[bytes, bytes] = field(default_factory=dict)
    configurations: Sequence[ConfigurationText] = ()
    scanned: int = -1
    due: Mapping[bytes, int] | None = None
    commands: frozenset[CommandId] | None = None
    fold: int | None = None
    lost: str | None = None
    lost_lasting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A difference between the stored data and the result of the log, both as JSON; None: nothing there.

    ``place`` is a JSON pointer into the state, with the id of an instance as its key. ``session`` is None if
    the difference concerns the partition.
    """

    session: str | None
    place: str
    kept: str | None
    log: str | None

    def __str__(self) -> str:
        """One line."""
        where = self.place if self.session is None else f"session {self.session}{self.place}"
        return f"{where}: kept is {self.kept or 'nothing'}, the log gives {self.log or 'nothing'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refolded:
    """The result of folding a log. ``open``: commands that were decided and are not settled, in order.

    ``rules`` has the configurations that some session still has to meet, ``history`` all configurations of
    the log.
    """

    states: Mapping[SessionId, Stored]
    retired: Mapping[RetiredKey, bytes]
    rules: Rules
    history: Rules
    open: Mapping[CommandId, Decided]


class Refold:
    """Folds a partition's log from its beginning. ``rules`` were in force before its first record.

    ``misplaced`` has the positions of records that belong to another partition, each with its key. ``copies``
    has the positions of the originals of which this log contains copies.
    """

    def __init__(self, processor: Processor, rules: Rules | None = None) -> None:
        self._processor = processor
        self._states: dict[SessionId, Stored] = {}
        self._retired: dict[RetiredKey, bytes] = {}
        self._open: dict[CommandId, Decided] = {}
        self.rules = Rules(app=processor.app) if rules is None else rules
        self.events = 0
        self.decided = 0
        self.misplaced: dict[tuple[int, int], bytes] = {}
        self.copies: set[tuple[int, int]] = set()

    def fold(self, records: Sequence[Record]) -> Sequence[Decided]:
        """Fold ``records``, which follow the previous ones. Returns their decisions.

        Raises:
            FoldVersionError: a configuration needs a newer release.
        """
        checkpoint = self._processor.process(self.rules, records, self._load)
        self._states.update(checkpoint.states)
        keep_retired(self._retired, checkpoint.retired)
        if checkpoint.rules is not None:
            self.rules = unload_past(checkpoint.rules, self._processor.configurations)
        for item in checkpoint.decided:
            if isinstance(item.decision, Command):
                self._open[item.decision.id] = item
                self.decided += 1
        for command in checkpoint.settled:
            self._open.pop(command, None)
        self.events += checkpoint.events
        for new in checkpoint.rehomed:
            origin = origin_of(new.headers)
            if origin is not None:
                self.misplaced[origin] = new.key or b""
        self.copies.update(copied_by(records))
        return checkpoint.decided

    def _load(self, session: SessionId) -> bytes | None:
        stored = self._states.get(session)
        return None if stored is None else stored.state

    def begin_with(self, states: Mapping[bytes, bytes], retired: Mapping[bytes, bytes]) -> None:
        """Start from the stored ``states``, and the entries of ``retired`` instances."""
        for key, value in retired.items():
            try:
                self._retired[decode_key(key)] = value
            except DecodeError as exc:
                raise UsageError(str(exc)) from exc
        for key, value in states.items():
            try:
                known = state.decode(value)
            except DecodeError as exc:
                raise UsageError(f"the state of session {key.decode()!r} cannot be read ({exc})") from exc
            self._states[SessionId(key.decode())] = Stored(state=value, due_us=None, config=known.config)

    def result(self) -> Refolded:
        """The result so far; timers are due under the configuration in force."""
        rules = self.rules
        current = rules.current.offset
        states = dict(self._states)
        scan = Scan(rules, scanned=current)
        for session, stored in self._states.items():
            scan.look(session.encode(), stored.state)
        for session, due_us, config in scan.take_found():
            stored = states[session]
            states[session] = Stored(
                state=stored.state, due_us=due_us, config=current if config is None else stored.config
            )
        return Refolded(
            states=states,
            retired=dict(self._retired),
            rules=rules.forget(scan.oldest),
            history=rules,
            open=dict(self._open),
        )


def differences(refolded: Refolded, kept: Kept) -> Iterator[Difference]:
    """The differences between ``kept`` and the log: the partition's own first, then session by session."""
    yield from _configurations(refolded, kept)
    seen: set[SessionId] = set()
    for key, value in kept.states.items():
        try:
            session = SessionId(key.decode())
        except UnicodeDecodeError:
            name = key.decode(errors="backslashreplace")
            yield Difference(session=name, place=WHOLE, kept=_brief(value), log=None)
            continue
        stored = refolded.states.get(session)
        if stored is None:
            yield Difference(session=session, place=WHOLE, kept=_brief(value), log=None)
            continue
        seen.add(session)
        if value != stored.state:
            yield from _within(session, value, stored.state)
        if kept.due is not None and kept.scanned >= refolded.rules.current.offset:
            due_us = kept.due.get(key)
            if due_us != stored.due_us:
                yield Difference(session=session, place="/due", kept=_text(due_us), log=_text(stored.due_us))
    for session, stored in refolded.states.items():
        if session not in seen:
            yield Difference(session=session, place=WHOLE, kept=None, log=_brief(stored.state))
    yield from _retired(refolded, kept)
    if kept.commands is not None:
        for command, decided in refolded.open.items():
            if command not in kept.commands:
                decision = decided.decision
                yield Difference(
                    session=decision.session,
                    place=f"/outbox/{command}",
                    kept=None,
                    log=_text(decision.instance),
                )


def _retired(refolded: Refolded, kept: Kept) -> Iterator[Difference]:
    """The differences between entries of retired instances."""
    wanted = {encode_key(key): entry for key, entry in refolded.retired.items()}
    for name in dict.fromkeys((*kept.retired, *wanted)):
        found, entry = kept.retired.get(name), wanted.get(name)
        if found == entry:
            continue
        try:
            session, task, number = decode_key(name)
        except DecodeError as exc:
            yield Difference(session=None, place="/retired", kept=_unreadable(exc), log=None)
            continue
        place = f"/retired/{instance_id(task, number)}"
        if found is None or entry is None:
            kept_text, log = (None if one is None else dumps("an entry").decode() for one in (found, entry))
            yield Difference(session=session, place=place, kept=kept_text, log=log)
            continue
        for at, one, other in _diff(place, _fields(found), _fields(entry)):
            yield Difference(session=session, place=at, kept=one, log=other)


def _fields(entry: bytes) -> Json:
    """The fields of an entry; bytes that are no JSON as one text."""
    try:
        return loads(entry, depth=STATE_DEPTH)
    except DecodeError as exc:
        return f"unreadable: {exc}"


def _configurations(refolded: Refolded, kept: Kept) -> Iterator[Difference]:
    """The difference between histories: the kept one must reach back as far as some session needs it."""
    found = [f"{one.offset}:{one.hash}" for one in kept.configurations]
    wanted = _places(refolded.rules)
    if not (_ends_with(found, wanted) and _ends_with(_places(refolded.history), found)):
        yield Difference(session=None, place="/configurations", kept=_text([*found]), log=_text([*wanted]))


def _places(rules: Rules) -> list[str]:
    return [f"{one.offset}:{one.hash}" for one in rules.history if one.offset >= 0]


def _ends_with(items: list[str], end: list[str]) -> bool:
    return len(items) >= len(end) and items[len(items) - len(end) :] == end


def _within(session: SessionId, kept: bytes, log: bytes) -> Iterator[Difference]:
    """The differences between two states, both as this release writes them."""
    try:
        upcast = state.encode(state.decode(kept))
    except DecodeError as exc:
        yield Difference(session=session, place=WHOLE, kept=_unreadable(exc), log=_brief(log))
        return
    for place, one, other in _diff("", state.named_fields(upcast), state.named_fields(log)):
        yield Difference(session=session, place=place, kept=one, log=other)


def _diff(place: str, kept: Json, log: Json) -> Iterator[tuple[str, str | None, str | None]]:
    if isinstance(kept, dict) and isinstance(log, dict):
        for name in dict.fromkeys((*kept, *log)):
            at = f"{place}/{name}"
            if name not in kept:
                yield at, None, _text(log[name])
            elif name not in log:
                yield at, _text(kept[name]), None
            else:
                yield from _diff(at, kept[name], log[name])
    elif kept != log or type(kept) is not type(log):
        yield place, _text(kept), _text(log)


def _text(value: Json) -> str | None:
    return None if value is None else dumps(value).decode()


def _brief(value: bytes) -> str:
    """A short form of a whole state."""
    try:
        known = state.decode(value)
    except DecodeError as exc:
        return _unreadable(exc)
    return dumps({"offset": known.offset, "generation": known.generation}).decode()


def _unreadable(exc: DecodeError) -> str:
    return dumps(f"unreadable: {exc}").decode()
