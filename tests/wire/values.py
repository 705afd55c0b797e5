"""Values as they may stand on the wire, for the laws of the codecs."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from triggerstream.core.commands import Cause, Command, Decision, Revoke
from triggerstream.core.effects import Reason, Why
from triggerstream.core.events import (
    ENGINE_PREFIX,
    Body,
    Cancel,
    Close,
    Erase,
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
from triggerstream.core.held import Holding, InSequence, Keyed, Members, One, Several
from triggerstream.core.ids import (
    CommandId,
    ConfigHash,
    Json,
    LeafName,
    SessionId,
    TaskName,
    TriggerName,
    instance_id,
)
from triggerstream.core.state import (
    RESOLVED,
    Arrival,
    Instance,
    NoEffect,
    Sent,
    SessionState,
    Status,
    TaskRecord,
)
from triggerstream.core.tasks import LONGEST_US
from triggerstream.wire.records import Headers

INT64 = st.integers(min_value=-(2**63), max_value=2**63 - 1)
COUNT = st.integers(min_value=0, max_value=2**63 - 1)
TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
NAME = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)

_SCALARS = st.none() | st.booleans() | INT64 | st.floats(allow_nan=False, allow_infinity=False) | TEXT


def json_values() -> st.SearchStrategy[Any]:
    """Any value of RFC 8259 with 64-bit integers and valid Unicode."""
    return st.recursive(
        _SCALARS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
        max_leaves=8,
    )


def json_objects() -> st.SearchStrategy[dict[str, Any]]:
    """Objects of such values."""
    return st.dictionaries(TEXT, json_values(), max_size=3)


def flat_objects() -> st.SearchStrategy[dict[str, Any]]:
    """Objects of plain values: where a value is large for other reasons, these keep its making quick."""
    return st.dictionaries(TEXT, _SCALARS, max_size=2)


def deep(levels: int) -> Json:
    """Arrays in one another."""
    value: Json = 1
    for _ in range(levels):
        value = [value]
    return value


# ---- session states -----------------------------------------------------------------------------


_FEW = (st.sampled_from("ab") | NAME).map(TriggerName)


def _arrivals() -> st.SearchStrategy[Arrival]:
    return st.builds(
        Arrival,
        data=flat_objects(),
        offset=st.integers(min_value=0, max_value=2) | COUNT,
        time_us=INT64,
        id=st.none() | TEXT,
        source=st.none() | TEXT,
    )


_INERT = st.tuples(st.sampled_from(NoEffect), st.sampled_from(Why), TEXT)


def _holdings() -> st.SearchStrategy[Holding]:
    """What a leaf may hold; the events need not be there."""
    return st.one_of(
        COUNT,
        st.builds(_holding, st.integers(0, 4), NAME.map(TriggerName), st.lists(COUNT, max_size=3), NAME),
    )


def _holding(kind: int, of: TriggerName, at: list[int], key: str) -> Holding:
    """What a leaf holds with the events ``at``."""
    match kind:
        case 0:
            return One(of=of, ref=at[0] if at else 0, time=-1 if at[1:] else None)
        case 1:
            return Several(of=of, at=at, times=[ref - 1 for ref in at] if len(at) == 1 else None)
        case 2:
            return Keyed(of=of, by={f"{key}{place}": ref for place, ref in enumerate(at)})
        case 3:
            by = {f"{key}{place}": ref for place, ref in enumerate(at)}
            return Members(of=of, by={**by, key: None}, left=1) if at[1:] else Members(of=of, by={**by})
        case _:
            met = None if not at else at[0] if at[1:] else at
            return InSequence(of=of, at=at, times=[ref - 7 for ref in at], met=met)


def _instances() -> st.SearchStrategy[Instance]:
    count = st.none() | COUNT
    text = st.none() | TEXT
    sent = st.builds(
        Sent,
        run=NAME,
        config=NAME.map(ConfigHash),
        params=flat_objects(),
        per_element=st.lists(NAME.map(LeafName), max_size=2).map(tuple),
        per_member=st.lists(NAME.map(LeafName), max_size=1).map(tuple),
        queue=text,
        expires_us=st.none() | st.integers(min_value=1, max_value=2**63 - 1),
    )
    return st.builds(
        Instance,
        number=st.just(0),
        status=st.sampled_from(list(Status)),
        created_us=COUNT,
        changed_us=COUNT,
        captured=st.builds(dict),
        noted=st.dictionaries(NAME.map(LeafName), _holdings(), max_size=2),
        made_by=st.none() | COUNT,
        kwargs=st.none() | flat_objects(),
        attempt=COUNT,
        retries=COUNT,
        clone_of=count,
        waits_from_us=COUNT,
        waits_us=count,
        decided_us=COUNT,
        decided_at=count,
        started_us=count,
        ended_us=count,
        sent=st.none() | sent,
        reason=st.none() | st.sampled_from(Reason),
        note=text,
        result=json_values(),
        error=text,
        metadata=st.none() | flat_objects(),
    )


@st.composite
def _records(draw: st.DrawFn) -> TaskRecord:
    record = TaskRecord()
    for instance in draw(st.lists(_instances(), max_size=2)):
        record.next += draw(st.integers(min_value=0, max_value=2))
        instance.number = record.next
        record.next += 1
        if draw(st.booleans()) and instance.status is not Status.DELAYED:
            instance.waits_from_us = None
        if draw(st.booleans()):
            instance.decided_us = None
        held = record.resolved if instance.status in RESOLVED else record.open
        held[instance.number] = instance
    return record


@st.composite
def states(draw: st.DrawFn) -> SessionState:
    """States as the fold leaves them, as far as their form goes."""
    known = draw(
        st.builds(
            SessionState,
            generation=COUNT,
            offset=st.integers(min_value=-1, max_value=2**63 - 1),
            clock_us=COUNT,
            config=st.integers(min_value=-1, max_value=2**63 - 1),
            closed=st.booleans(),
            unjudged=st.booleans(),
            refused=COUNT,
            seen=st.dictionaries(_FEW, _arrivals(), max_size=2),
            tasks=st.dictionaries(NAME.map(TaskName), _records(), max_size=2),
            digests=st.dictionaries(
                NAME.map(TriggerName), st.binary(min_size=8, max_size=8).map(lambda one: one * 3), max_size=2
            ),
            positions=st.lists(
                st.tuples(
                    COUNT,
                    TEXT,
                    INT64,
                    st.none() | TEXT | _INERT,
                ),
                max_size=2,
            ),
            open_count=st.just(0),
            due_us=COUNT,
        )
    )
    for record in known.tasks.values():
        for instance in record.instances():
            for name, arrival in draw(st.dictionaries(_FEW, _arrivals(), max_size=2)).items():
                # A trigger and an offset name one event, as in a log.
                held = _holding(draw(st.integers(0, 4)), name, [arrival.offset], "k")
                if draw(st.booleans()):
                    held = arrival.offset
                instance.captured = {**instance.captured, LeafName(name): held}
                latest = known.seen.get(name)
                if latest is None or latest.offset != arrival.offset:
                    known.kept.setdefault(name, {}).setdefault(arrival.offset, arrival)
                else:
                    known.latest_captured = known.latest_captured.union((name,))
        known.open_count += len(record.open)
    if known.is_empty():
        known.config = -1
    return known


# ---- events -------------------------------------------------------------------------------------

_TRIGGERS = NAME.filter(lambda name: not name.startswith(ENGINE_PREFIX)).map(TriggerName)
_INSTANCES = st.builds(instance_id, NAME.map(TaskName), COUNT)


def bodies() -> st.SearchStrategy[Body]:
    """Every kind of event of a session."""
    text = st.none() | TEXT
    command = NAME.map(CommandId)
    maybe = st.none() | flat_objects()
    outcome: dict[str, Any] = {"instance": _INSTANCES, "command": command, "metadata": maybe}
    count = st.none() | COUNT
    order: dict[str, Any] = {"instance": _INSTANCES, "generation": count, "reason": text, "by": text}
    waits = st.integers(min_value=0, max_value=LONGEST_US)
    return st.one_of(
        st.builds(Trigger, name=_TRIGGERS, data=json_objects()),
        st.builds(Started, **outcome),
        st.builds(Finished, **outcome, result=json_values()),
        st.builds(Failed, **outcome, error=TEXT, reason=st.none() | st.sampled_from(FailureReason)),
        st.builds(Skipped, **outcome),
        st.builds(Retried, **outcome, kwargs=maybe, after_us=waits),
        st.builds(Revoked, **outcome),
        st.builds(Skip, **order, cascade=st.booleans(), result=json_values()),
        st.builds(Replay, **order, kwargs=maybe, force=st.booleans()),
        st.builds(Cancel, **order),
        st.builds(Resend, **order, attempt=count),
        st.builds(Release, **order),
        st.builds(Close, generation=count, reason=text, by=text),
        st.builds(Erase, generation=count, reason=text, by=text),
        st.builds(Touch, reason=text, by=text),
        st.just(Timer()),
    )


def keys() -> st.SearchStrategy[bytes | None]:
    """Keys of records, most of them a session's."""
    return st.none() | st.binary(max_size=8) | st.sampled_from([b"42", b"", b"\0", b"x" * 1025])


def headers() -> st.SearchStrategy[Headers]:
    """Headers of records, with those that mean something often among them."""
    names = st.sampled_from(
        [
            *("ce_type", "ce_id", "ce_source", "ce_time", "ce_session", "ce_data", "ce_data_base64", "ce_"),
            *("ce_specversion", "ce_subject", "traceparent", "content-type", "triggerstream-origin"),
        ]
    )
    values = st.binary(max_size=8) | st.sampled_from(
        [b"1.0", b"a", b"42", b"1:2:3", b"triggerstream.timer", b"2026-03-01T12:00:00Z"]
    )
    return st.lists(st.tuples(names | TEXT, values), max_size=5).map(tuple)


# ---- commands -----------------------------------------------------------------------------------


@st.composite
def decisions(draw: st.DrawFn) -> Decision:
    """Commands and revocations as the fold makes them."""
    task = draw(NAME.map(TaskName))
    who: dict[str, Any] = {
        "id": draw(NAME.map(CommandId)),
        "session": draw(NAME.map(SessionId)),
        "task": task,
        "instance": instance_id(task, draw(COUNT)),
    }
    if draw(st.booleans()):
        return Revoke(**who)
    text = st.none() | TEXT
    return Command(
        **who,
        run=draw(NAME),
        kwargs=draw(json_objects()),
        config=draw(NAME.map(ConfigHash)),
        causes=draw(
            st.lists(st.builds(Cause, trigger=NAME.map(TriggerName), offset=COUNT, id=text), max_size=3)
        ),
        decided_us=draw(st.integers(min_value=0, max_value=253_402_300_799_999_999)),
        decided_at=draw(st.none() | st.integers(min_value=0, max_value=2**63 - 1)),
        attempt=draw(COUNT),
        retries=draw(COUNT),
        queue=draw(text),
        priority=draw(st.none() | st.integers(0, 9)),
        expires_us=draw(st.none() | st.integers(min_value=1, max_value=LONGEST_US)),
        traceparent=draw(text),
    )
