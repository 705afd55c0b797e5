"""Random configurations and logs, small enough to collide: few sessions, few names, few ids.

A log is drawn as a list of moves and then made concrete by folding it as it grows, so that outcomes and
orders hit instances that exist, with the command ids that they have. What comes out is a plain list of
entries: the laws fold it again in whatever way they like.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TypeAlias, TypeVar

from hypothesis import strategies as st
from msgspec import structs

from tests.core.entries import Entries
from triggerstream.core.commands import Command, Decision
from triggerstream.core.events import (
    TYPES,
    Body,
    Cancel,
    Close,
    Erase,
    Event,
    Failed,
    FailureReason,
    Finished,
    Release,
    Replay,
    Resend,
    Retried,
    Revoked,
    Skip,
    Skipped,
    Started,
    Timer,
    Touch,
    Trigger,
)
from triggerstream.core.fold import step
from triggerstream.core.ids import (
    AppId,
    CommandId,
    ConfigHash,
    InstanceId,
    Json,
    JsonObject,
    SessionId,
    TaskName,
    TriggerName,
    command_id,
    instance_id,
)
from triggerstream.core.results import Folded, LeftOut, Rejected
from triggerstream.core.state import DECIDED, WAITING, SessionState, Status
from triggerstream.core.tasks import (
    AppliedConfiguration,
    Bounds,
    Configuration,
    Retry,
    Rules,
    Task,
    plain_task,
)

APP = AppId("laws")
SECOND = 1_000_000
START_US = 1_767_225_600 * SECOND
TRIGGERS = tuple(TriggerName(name) for name in ("a", "b", "c"))
TASKS = tuple(TaskName(name) for name in ("t", "u", "v"))
NAMES = (*TRIGGERS, *(TriggerName(task) for task in TASKS))
SESSIONS = (SessionId("s1"), SessionId("s2"))

Entry: TypeAlias = Event | AppliedConfiguration


T = TypeVar("T")


class Dice:
    """Choices read off drawn bytes, one byte each.

    A strategy for every field would take Hypothesis 30 ms for a log; this takes 1 ms. Zeros choose the
    first of everything, so what is found still shrinks to the plainest case.
    """

    def __init__(self, drawn: bytes) -> None:
        self._rest = iter(drawn)

    def one(self, options: Sequence[T]) -> T:
        """One of ``options``."""
        return options[next(self._rest, 0) % len(options)]

    def some(self, options: Sequence[T], most: int) -> list[T]:
        """Up to ``most`` different ones, in any order."""
        count = self.one(range(most + 1))
        return list(dict.fromkeys(self.one(options) for _ in range(count)))


@st.composite
def bytes_of(draw: st.DrawFn, size: int, most: int, *, extra: int = 0) -> bytes:
    """Bytes for one to ``most`` things of ``size``, every number as likely.

    Where the length is left to Hypothesis, it decides of each byte whether there is a next one.
    """
    length = draw(st.integers(1, most)) * size + extra
    return draw(st.binary(min_size=length, max_size=length))


def _chunks(drawn: bytes, size: int) -> list[bytes]:
    return [drawn[at : at + size].ljust(size, b"\0") for at in range(0, len(drawn), size)]


# ---- configurations -----------------------------------------------------------------------------

_TASK_BYTES = 24
KWARGS: tuple[JsonObject, ...] = (
    {},
    {"k": 1},
    {"k": 2, "l": "x"},
    {"k": {"l": 1}},
    {"k": {"l": 2, "m": 3}},
    {"l": None},
)
kwargs: st.SearchStrategy[JsonObject] = st.sampled_from(KWARGS)
RESULTS: tuple[Json, ...] = (None, {"k": 3}, "x", 0, [1], {}, {"k": {"m": 4}}, False)
_RETRIES = (
    None,
    Retry(max=1),
    Retry(max=1, backoff_us=SECOND),
    Retry(max=2, backoff_us=SECOND, factor=2.0),
    Retry(max=2, backoff_us=5 * SECOND, factor=1.5, max_backoff_us=6 * SECOND),
    Retry(max=0, backoff_us=SECOND),
)
TIGHT = tuple(
    Bounds(
        trigger_names=names,
        unresolved_instances=unresolved,
        resolved_instances=resolved,
        positions=positions,
        digests=digests,
    )
    for names, unresolved, resolved, positions, digests in (
        (1, 1, 1, 1, 1),
        (2, 2, 1, 2, 1),
        (3, 1, 2, 4, 2),
        (6, 3, 1, 3, 2),
        (6, 4, 3, 50, 3),
    )
)
"""Bounds so low that the logs meet them."""
SMALL = tuple(
    Bounds(state_bytes=state, resolved_bytes=resolved, command_bytes=command)
    for state, resolved, command in (
        (700, 300, 300),
        (1_200, 1_000, 500),
        (2_000, 100, 350),
        (4_000, 700, 1_000),
    )
)
"""The same for the bounds in bytes."""


def configurations(
    *,
    unless: bool = True,
    every: bool = True,
    retry: bool = True,
    cascades: bool = True,
    bounds: Sequence[Bounds] = (Bounds(),),
) -> st.SearchStrategy[Configuration]:
    """Configurations of up to three tasks, which wait for a few triggers and for one another."""
    pool = NAMES if cascades else TRIGGERS

    def task(name: TaskName, drawn: bytes) -> Task:
        dice = Dice(drawn)
        after = dice.some(pool, dice.one((1, 2, 3)))
        and_every = dice.one((None, None, *pool)) if every else None
        if not after and and_every is None:
            after = [TRIGGERS[0]]
        return plain_task(
            name=name,
            run=dice.one((f"run.{name}", f"new.{name}")),
            after=tuple(after),
            unless=tuple(dice.one(([], [], dice.some(pool, 2)))) if unless else (),
            and_every=and_every,
            with_params={key: dice.one(KWARGS) for key in dice.some((*pool, "extra"), 2)},
            retry=dice.one(_RETRIES) if retry else None,
        )

    def build(drawn: bytes) -> Configuration:
        first, *_ = drawn
        parts = _chunks(drawn[1:], _TASK_BYTES)
        tasks = tuple(task(TASKS[(first + n) % len(TASKS)], part) for n, part in enumerate(parts))
        limits = bounds[parts[0][-1] % len(bounds)]
        text = repr((tasks, limits))
        return Configuration(
            hash=ConfigHash(sha256(text.encode()).hexdigest()), text=text, tasks=tasks, bounds=limits
        )

    return bytes_of(_TASK_BYTES, len(TASKS), extra=1).map(build)


# ---- moves --------------------------------------------------------------------------------------


ANY, UNKNOWN, OTHER_COMMAND, OTHER_GENERATION = 1, 2, 3, 4
"""How a move goes astray: any instance, one that is not there, or the command of another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What happens next, before it is known which instances there are.

    ``pick`` chooses among the session's instances that the move is meant for; ``astray`` makes it miss.
    """

    kind: str
    session: SessionId = SESSIONS[0]
    name: TriggerName = TRIGGERS[0]
    data: JsonObject = field(default_factory=dict)
    id: str | None = None
    pick: int = 0
    astray: int = 0
    flag: bool = False
    value: Json = None
    wait_us: int = 0
    passed_us: int = 0
    late_us: int = 0
    traceparent: str | None = None
    config: Configuration | None = None


OUTCOMES = ("started", "finished", "failed", "skipped", "retried", "revoked")
ORDERS = ("skip", "replay", "cancel", "resend", "release")
ENDINGS = ("close", "erase")
BUSY = ("fire",) * 16 + ("started",) * 4 + ("finished",) * 3 + ("failed",) * 5 + OUTCOMES + ORDERS
"""Kinds of moves, as often as they should come: mostly triggers, then outcomes."""
CHANGING = ("fire",) * 8 + ("failed",) * 4 + ("started", "retried", "finished", "replay") + ("apply",) * 5
"""The same, mostly triggers, failures and changes of configuration: what makes timers meet those changes."""

_MOVE_BYTES = 11
_PASSED = (0, SECOND, 0, 1, 2 * SECOND, 5 * SECOND, 30 * SECOND, -SECOND)


def _move(drawn: bytes, kinds: Sequence[str], sessions: Sequence[SessionId], *, back_in_time: bool) -> Move:
    dice = Dice(drawn)
    kind = dice.one(kinds)
    passed_us = dice.one(_PASSED)
    return Move(
        kind=kind,
        session=dice.one((*sessions, sessions[0])),
        passed_us=passed_us if back_in_time else abs(passed_us),
        traceparent=dice.one((None, "00-trace-1")),
        pick=dice.one(range(12)),
        astray=dice.one((0,) * 12 + (ANY, ANY, UNKNOWN, OTHER_COMMAND, OTHER_GENERATION)),
        name=dice.one(NAMES),
        data=dice.one(KWARGS),
        id=dice.one((None, None, "1", "2", "3")),
        late_us=dice.one((0, SECOND, 90 * SECOND)),
        flag=drawn[0] >= 128,
        value=RESULTS[drawn[7] % len(RESULTS)],
        wait_us=abs(_PASSED[drawn[8] % len(_PASSED)]),
    )


# ---- worlds: folding as the log grows -----------------------------------------------------------


@dataclass(slots=True)
class World:
    """Every session of a partition, folded.

    ``rejected`` holds the offsets of triggers that break a bound, ``left_out`` those that followed and did.
    """

    rules: Rules
    states: dict[SessionId, SessionState] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    rejected: list[int] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    entries: Entries = field(default_factory=Entries)

    def take(self, entry: Entry) -> None:
        """Fold one entry."""
        if isinstance(entry, AppliedConfiguration):
            self.rules = self.rules.apply(entry)
            return
        folded = step(self.rules, self.states.get(entry.session), entry)
        if isinstance(folded, Folded):
            self.keep(entry.session, folded)
            self.decisions.extend(folded.decisions)
            self.left_out.extend(folded.left_out)
        elif isinstance(folded, Rejected):
            self.rejected.append(entry.offset)

    def keep(self, session: SessionId, folded: Folded) -> None:
        """Keep the state of a session, and the entries of instances that have left it."""
        self.states[session] = folded.state
        self.entries.take(session, folded)

    def whole(self, session: SessionId) -> SessionState | None:
        """The state of a session with all its instances."""
        state = self.states.get(session)
        return None if state is None else self.entries.whole(session, state)

    def decided(self, session: SessionId) -> list[Decision]:
        """What was decided for one session, in order."""
        return [decision for decision in self.decisions if decision.session == session]

    def commands(self) -> list[Command]:
        """Every command, in order, without the revocations."""
        return [decision for decision in self.decisions if isinstance(decision, Command)]


def rules_of(config: Configuration) -> Rules:
    """Rules under which ``config`` has been in force from the start."""
    return Rules(app=APP, history=(AppliedConfiguration(config=config, offset=-1, arrival_us=0),))


def play(rules: Rules, entries: Iterable[Entry]) -> World:
    """Fold ``entries``, each session's at its events only."""
    world = World(rules)
    for entry in entries:
        world.take(entry)
    return world


def concrete(rules: Rules, drawn: Iterable[Move], *, first: int = 0) -> list[Entry]:
    """The log that ``drawn`` comes to, folded on the way so that outcomes find their instances."""
    world = World(rules)
    entries: list[Entry] = []
    now_us = START_US
    for offset, move in enumerate(drawn, start=first):
        now_us += move.passed_us
        entry: Entry
        if move.kind == "apply":
            if move.config is None:
                continue
            entry = AppliedConfiguration(config=move.config, offset=offset, arrival_us=now_us)
        else:
            body = _body(move, world.states.get(move.session), world.rules.current.config)
            entry = Event(
                session=move.session,
                offset=offset,
                arrival_us=now_us,
                time_us=now_us - move.late_us,
                type=body.name if isinstance(body, Trigger) else TYPES[type(body)],
                body=body,
                id=move.id,
                traceparent=move.traceparent,
            )
        entries.append(entry)
        world.take(entry)
    return entries


_MEANT = {
    "started": {Status.SCHEDULED},
    "retried": {Status.RUNNING},
    "revoked": {Status.SCHEDULED},
    "skip": {Status.FAILED},
    "replay": {Status.FAILED},
    "cancel": WAITING | DECIDED,
}
"""Statuses of the instances that most outcomes and orders are drawn for; decided ones if not listed."""


def _target(move: Move, state: SessionState | None) -> tuple[InstanceId, CommandId]:
    known = [] if state is None else [(n, i) for n, r in state.tasks.items() for i in r.instances()]
    meant = [(n, i) for n, i in known if i.status in _MEANT.get(move.kind, DECIDED)]
    generation = 0 if state is None else state.instances_generation
    task, number = TASKS[move.pick % len(TASKS)], move.pick % 2
    if known and move.astray != UNKNOWN:
        choice = meant if meant and move.astray != ANY else known
        task, instance = choice[move.pick % len(choice)]
        number = instance.number
    other = move.astray == OTHER_COMMAND
    command = command_id(
        APP,
        move.session,
        generation=generation + (move.astray == OTHER_GENERATION),
        task=task,
        number=number + other,
    )
    return instance_id(task, number), command


def _name(move: Move, config: Configuration) -> TriggerName:
    """Mostly a trigger that some task uses."""
    used = list(config.users)
    return used[move.pick % len(used)] if used and move.astray != ANY else move.name


def _body(move: Move, state: SessionState | None, config: Configuration) -> Body:
    instance, command = _target(move, state)
    value = move.value
    given = value if isinstance(value, dict) else None
    match move.kind:
        case "fire":
            return Trigger(name=_name(move, config), data=move.data)
        case "started":
            return Started(instance=instance, command=command, metadata={"worker": move.pick})
        case "finished":
            return Finished(instance=instance, command=command, result=value)
        case "failed":
            reasons = (None, *FailureReason)
            reason = reasons[move.pick % len(reasons)]
            error = "\x01" * 3_000 if move.flag and move.pick == 0 else "boom"
            return Failed(
                instance=instance,
                command=command,
                error=error,
                reason=reason,
                attempt=(None, 0, 1)[move.wait_us % 3],
                metadata={"failed": True},
            )
        case "skipped":
            return Skipped(instance=instance, command=command, metadata={"skipped": True})
        case "retried":
            return Retried(
                instance=instance,
                command=command,
                kwargs=given,
                after_us=move.wait_us,
                metadata={"retried": True},
            )
        case "revoked":
            return Revoked(instance=instance, command=command, attempt=(None, 0, 1)[move.wait_us % 3])
        case "skip":
            return Skip(instance=instance, cascade=move.flag, result=value)
        case "replay":
            return Replay(instance=instance, kwargs=given, force=move.flag)
        case "cancel":
            return Cancel(instance=instance, reason="no longer wanted")
        case "resend":
            return Resend(instance=instance)
        case "release":
            return Release(instance=instance)
        case "close":
            return Close()
        case "erase":
            return Erase()
        case "touch":
            return Touch()
        case "timer":
            return Timer()
        case _:
            raise AssertionError(move.kind)


@dataclass(frozen=True, slots=True)
class History:
    """A drawn log, and the rules in force before its first entry."""

    rules: Rules
    entries: list[Entry]

    def events(self) -> list[Event]:
        """The entries that belong to a session."""
        return [entry for entry in self.entries if isinstance(entry, Event)]


def histories(
    *,
    kinds: Sequence[str] = BUSY,
    configs: st.SearchStrategy[Configuration] | None = None,
    max_size: int = 30,
    back_in_time: bool = True,
    sessions: Sequence[SessionId] = SESSIONS,
) -> st.SearchStrategy[History]:
    """Logs of up to ``max_size`` entries; under up to four configurations where ``kinds`` holds ``apply``."""
    configs = configurations() if configs is None else configs

    def build(parts: tuple[list[Configuration], bytes]) -> History:
        known, drawn = parts
        rules = rules_of(known[0])
        moves = [
            _move(part, kinds, sessions, back_in_time=back_in_time) for part in _chunks(drawn, _MOVE_BYTES)
        ]
        with_configs = [
            replace(move, config=known[move.pick % len(known)]) if move.kind == "apply" else move
            for move in moves
        ]
        return History(rules, concrete(rules, with_configs))

    most = 4 if "apply" in kinds else 1
    return st.tuples(st.lists(configs, min_size=1, max_size=most), bytes_of(_MOVE_BYTES, max_size)).map(build)


def renumbered(entries: Iterable[Entry]) -> list[Entry]:
    """The same entries, with offsets 0, 1, 2, … in their new order."""
    return [
        structs.replace(entry, offset=offset) if isinstance(entry, Event) else replace(entry, offset=offset)
        for offset, entry in enumerate(entries)
    ]
