"""A session's state as bytes. ``schemas/session-state.schema.json`` is the published form.

The version is in every state. An older version is upcast when it is read; a newer one is refused.
"""

from __future__ import annotations

from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Callable
from typing import Any

from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import DIGEST_BYTES, Json, JsonObject, TaskName, TriggerName
from triggerstream.core.state import (
    RESOLVED,
    Arrival,
    Instance,
    Position,
    Sent,
    SessionState,
    Status,
    TaskRecord,
)
from triggerstream.wire.bounds import STATE_DEPTH
from triggerstream.wire.json import (
    as_object,
    dumps,
    flag,
    integer,
    loads,
    optional_integer,
    optional_object,
    optional_text,
    text_of,
)

VERSION = 1


def encode(state: SessionState) -> bytes:
    """``state`` as it is stored. What says nothing is left out: an erased session is three numbers."""
    fields: dict[str, object] = {
        "version": VERSION,
        "generation": state.generation,
        "offset": state.offset,
    }
    if state.clock_us:
        fields["clock"] = state.clock_us
    if not state.is_empty():
        fields["config"] = state.config
    if state.closed:
        fields["closed"] = True
    if state.unjudged:
        fields["unjudged"] = True
    if state.refused:
        fields["refused"] = state.refused
    if state.seen:
        fields["seen"] = {name: _arrival_fields(arrival) for name, arrival in state.seen.items()}
    if state.tasks:
        held = _Held(state.seen)
        fields["tasks"] = {name: _record_fields(record, held) for name, record in state.tasks.items()}
        if held.earlier:
            fields["held"] = held.fields()
    if state.digests:
        fields["digests"] = {name: b64encode(value).decode() for name, value in state.digests.items()}
    if state.positions:
        fields["positions"] = state.positions
    return dumps(fields)


def decode(value: bytes) -> SessionState:
    """The state that ``value`` holds.

    Raises:
        DecodeError: it is no state, or of a version that this release does not know.
    """
    fields = as_object(loads(value, depth=STATE_DEPTH), "")
    version = integer(fields, "version", minimum=1)
    if version > VERSION:
        message = f"/version: {version} is newer than this release, which reads up to {VERSION}"
        raise DecodeError(message)
    seen = _arrivals(_object(fields, "seen"))
    state = SessionState(
        generation=integer(fields, "generation"),
        offset=integer(fields, "offset", minimum=-1),
        clock_us=optional_integer(fields, "clock") or 0,
        closed=flag(fields, "closed"),
        unjudged=flag(fields, "unjudged"),
        refused=optional_integer(fields, "refused") or 0,
        seen=seen,
        digests=_digests(_object(fields, "digests")),
        positions=_positions(fields.get("positions")),
    )
    arrivals = _Arrivals(seen, _object(fields, "held"))
    for name, item in _object(fields, "tasks").items():
        record = _record(as_object(item, "/tasks"), arrivals)
        state.tasks[TaskName(name)] = record
        state.open_count += len(record.open)
        for instance in record.open.values():
            if instance.status is Status.DELAYED:
                state.timer_count += 1
    if state.is_empty():
        optional_integer(fields, "config", minimum=-1)
    else:
        state.config = integer(fields, "config", minimum=-1)
    return state


# ---- writing ------------------------------------------------------------------------------------


def _arrival_fields(arrival: Arrival) -> dict[str, object]:
    fields: dict[str, object] = {
        "data": arrival.data,
        "offset": arrival.offset,
        "time": arrival.time_us,
    }
    if arrival.id is not None:
        fields["id"] = arrival.id
    if arrival.source is not None:
        fields["source"] = arrival.source
    return fields


class _Held:
    """The arrivals that instances hold: ``earlier`` ones, by trigger and offset, are no trigger's latest.

    Each stands once in a state, however many instances hold it.
    """

    __slots__ = ("earlier", "seen")

    def __init__(self, seen: dict[TriggerName, Arrival]) -> None:
        self.seen = seen
        self.earlier: dict[TriggerName, dict[int, Arrival]] = {}

    def offsets(self, captured: dict[TriggerName, Arrival]) -> dict[TriggerName, int]:
        offsets = {}
        seen = self.seen
        for name, arrival in captured.items():
            offsets[name] = offset = arrival.offset
            latest = seen.get(name)
            if latest is not arrival and (latest is None or latest.offset != offset):
                self.earlier.setdefault(name, {})[offset] = arrival
        return offsets

    def fields(self) -> dict[str, object]:
        return {
            name: [_arrival_fields(arrivals[offset]) for offset in sorted(arrivals)]
            for name, arrivals in self.earlier.items()
        }


def _record_fields(record: TaskRecord, held: _Held) -> dict[str, object]:
    fields: dict[str, object] = {"next": record.next}
    if record.open:
        fields["open"] = [_instance_fields(instance, held) for instance in record.open.values()]
    if record.resolved:
        fields["resolved"] = [_instance_fields(instance, held) for instance in record.resolved.values()]
    return fields


def _instance_fields(instance: Instance, held: _Held) -> dict[str, object]:
    fields: dict[str, object] = {
        "number": instance.number,
        "status": instance.status,
        "created": instance.created_us,
        "changed": instance.changed_us,
    }
    if instance.captured:
        fields["captured"] = held.offsets(instance.captured)
    if instance.noted:
        fields["noted"] = instance.noted
    if instance.attempt:
        fields["attempt"] = instance.attempt
    if instance.retries:
        fields["retries"] = instance.retries
    if instance.decided_us is not None:
        fields["decided"] = instance.decided_us
    if instance.decided_at is not None:
        fields["decidedAt"] = instance.decided_at
    if instance.started_us is not None:
        fields["started"] = instance.started_us
    if instance.ended_us is not None:
        fields["ended"] = instance.ended_us
    if instance.sent is not None:
        fields["sent"] = _sent_fields(instance.sent)
    for key, value in (
        ("kwargs", instance.kwargs),
        ("cloneOf", instance.clone_of),
        ("waitsFrom", instance.waits_from_us),
        ("waits", instance.waits_us),
        ("reason", instance.reason),
        ("result", instance.result),
        ("error", instance.error),
        ("metadata", instance.metadata),
    ):
        if value is not None:
            fields[key] = value  # noqa: PERF403 - adds to what is there
    return fields


def _sent_fields(sent: Sent) -> dict[str, object]:
    fields: dict[str, object] = {"run": sent.run, "config": sent.config}
    if sent.params:
        fields["params"] = sent.params
    if sent.queue is not None:
        fields["queue"] = sent.queue
    if sent.expires_us is not None:
        fields["expires"] = sent.expires_us
    return fields


# ---- reading ------------------------------------------------------------------------------------
#
# A state is read for every session that a batch touches, so each of these looks at plain types first. Only
# what fails that is read again by the functions that can say what is wrong with it.


def _object(fields: JsonObject, key: str, path: str = "") -> JsonObject:
    return optional_object(fields, key, path) or {}


def _arrivals(items: Any) -> dict[TriggerName, Arrival]:  # noqa: ANN401 - an object, or None
    return {name: _arrival(item) for name, item in items.items()} if items else {}


def _arrival(value: Json) -> Arrival:
    fields: dict[str, Any] = value if type(value) is dict else as_object(value, "/arrival")
    get: Callable[[str], Any] = fields.get
    new = Arrival.__new__(Arrival)  # by attribute, as in _instance
    new.data = data = get("data")
    new.offset = offset = get("offset")
    new.time_us = time_us = get("time")
    new.id = event_id = get("id")
    new.source = source = get("source")
    if type(data) is not dict or type(offset) is not int or offset < 0 or type(time_us) is not int:
        as_object(data, "/arrival/data")
        integer(fields, "offset", "/arrival")
        integer(fields, "time", "/arrival", minimum=-(2**63))
    if event_id is not None or source is not None:
        optional_text(fields, "id", "/arrival")
        optional_text(fields, "source", "/arrival")
    return new


class _Arrivals:
    """What ``captured`` refers to: each trigger's latest event, and earlier ones that an instance holds."""

    __slots__ = ("earlier", "seen")

    def __init__(self, seen: dict[TriggerName, Arrival], held: JsonObject) -> None:
        self.seen = seen
        self.earlier: dict[tuple[str, Json], Arrival] = {}
        for name, items in held.items():
            if not isinstance(items, list):
                raise DecodeError("/held: must map triggers to arrays of arrivals")
            for item in items:
                arrival = _arrival(item)
                self.earlier[name, arrival.offset] = arrival

    def find(self, captured: Any) -> dict[TriggerName, Arrival]:  # noqa: ANN401 - an object, or None
        found: dict[TriggerName, Arrival] = {}
        for name, offset in captured.items() if captured else ():
            arrival = self.seen.get(name)
            if arrival is None or arrival.offset != offset or type(offset) is not int:
                integer(captured, name, "/instance/captured")
                arrival = self.earlier.get((name, offset))
            if arrival is None:
                where = f"neither `seen` nor `held` has `{name[:80]}` at offset {offset}"
                raise DecodeError(f"/instance/captured: {where}")
            found[name] = arrival
        return found


def _record(fields: JsonObject, arrivals: _Arrivals) -> TaskRecord:
    record = TaskRecord(next=integer(fields, "next", "/tasks"))
    _hold(record, record.open, fields.get("open"), arrivals, resolved=False)
    _hold(record, record.resolved, fields.get("resolved"), arrivals, resolved=True)
    return record


def _hold(
    record: TaskRecord, held: dict[int, Instance], items: Json, arrivals: _Arrivals, *, resolved: bool
) -> None:
    if items is None:
        return
    for item in _array(items, "/tasks/resolved" if resolved else "/tasks/open"):
        instance = _instance(item, arrivals)
        number = instance.number
        if number >= record.next or number in record.open or number in record.resolved:
            message = f"/instance/number: {number} is not below `next`, or stands twice"
            raise DecodeError(message)
        if (instance.status in RESOLVED) is not resolved:
            message = (
                f"/tasks/{'resolved' if resolved else 'open'}: an instance there cannot be {instance.status}"
            )
            raise DecodeError(message)
        held[number] = instance


_STATUSES: dict[Json, Status] = {status.value: status for status in Status}


def _instance(value: Json, arrivals: _Arrivals) -> Instance:
    fields: dict[str, Any] = as_object(value, "/instance")
    get: Callable[[str], Any] = fields.get
    # By attribute, as Instance.copy does: 21 keyword arguments would cost as much as all that is tested here.
    new = Instance.__new__(Instance)
    new.number = number = get("number")
    new.created_us = created = get("created")
    new.changed_us = changed = get("changed")
    new.attempt = attempt = fields.get("attempt", 0)
    new.retries = retries = fields.get("retries", 0)
    new.clone_of = clone_of = get("cloneOf")
    new.waits_from_us = waits_from = get("waitsFrom")
    new.waits_us = waits = get("waits")
    new.decided_us = decided = get("decided")
    new.decided_at = decided_at = get("decidedAt")
    new.started_us = started = get("started")
    new.ended_us = ended = get("ended")
    new.kwargs = kwargs = get("kwargs")
    new.metadata = metadata = get("metadata")
    new.reason = reason = get("reason")
    new.error = error = get("error")
    new.result = get("result")
    captured, noted, sent = get("captured"), get("noted"), get("sent")
    for count in (number, created, changed, attempt, retries):
        if type(count) is not int or count < 0:
            _check_counts(fields, new)
            break
    for optional in (clone_of, waits_from, waits, decided, decided_at, started, ended):
        if optional is not None and (type(optional) is not int or optional < 0):
            _check_counts(fields, new)
            break
    for held in (captured, noted, sent, kwargs, metadata):
        if held is not None and type(held) is not dict:
            for key in ("captured", "noted", "sent", "kwargs", "metadata"):
                optional_object(fields, key, "/instance")
    if reason is not None or error is not None:
        optional_text(fields, "reason", "/instance")
        optional_text(fields, "error", "/instance")
    new.status = status = _status(fields)
    if waits_from is None and status is Status.DELAYED:
        raise DecodeError("/instance/waitsFrom: a delayed instance says since when it waits")
    new.captured = arrivals.find(captured)
    new.noted = _noted(noted)
    new.sent = None if sent is None else _sent(sent)
    return new


def _check_counts(fields: JsonObject, new: Instance) -> None:
    """Refuse what is no count or instant, by name; null for an optional one equals leaving it out."""
    for key in ("number", "created", "changed"):
        integer(fields, key, "/instance")
    for key in ("cloneOf", "waitsFrom", "waits", "decided", "decidedAt", "started", "ended"):
        optional_integer(fields, key, "/instance")
    new.attempt = optional_integer(fields, "attempt", "/instance") or 0
    new.retries = optional_integer(fields, "retries", "/instance") or 0


def _status(fields: JsonObject) -> Status:
    status = _STATUSES.get(text_of(fields, "status", "/instance"))
    if status is None:
        raise DecodeError("/instance/status: must be a known status")
    return status


def _noted(items: Any) -> dict[TriggerName, int]:  # noqa: ANN401 - an object, or None
    if not items:
        return {}
    noted: dict[TriggerName, int] = items
    for offset in noted.values():
        if type(offset) is not int or offset < 0:
            raise DecodeError("/instance/noted: must map triggers to offsets")
    return noted


def _sent(fields: dict[str, Any]) -> Sent:
    get: Callable[[str], Any] = fields.get
    run, config, params, queue, expires = (
        get("run"),
        get("config"),
        get("params"),
        get("queue"),
        get("expires"),
    )
    if type(run) is not str or not run or type(config) is not str or not config:
        text_of(fields, "run", "/sent")
        text_of(fields, "config", "/sent")
    if params is None or type(params) is not dict:
        params = _object(fields, "params", "/sent")
    if queue is not None or expires is not None:
        optional_text(fields, "queue", "/sent")
        optional_integer(fields, "expires", "/sent", minimum=1)
    return Sent(run=run, config=config, params=params, queue=queue, expires_us=expires)


def _array(value: Json, path: str) -> list[Json]:
    if value is None:
        return []
    if not isinstance(value, list):
        message = f"{path}: must be an array"
        raise DecodeError(message)
    return value


def _digests(items: JsonObject) -> dict[TriggerName, bytes]:
    digests: dict[TriggerName, bytes] = {}
    for name, item in items.items():
        try:
            digest = a2b_base64(item if isinstance(item, str) else "!", strict_mode=True)
        except ValueError as exc:
            raise DecodeError("/digests: must be base64") from exc
        if len(digest) % DIGEST_BYTES:
            raise DecodeError("/digests: must be whole digests of 8 bytes")
        digests[TriggerName(name)] = digest
    return digests


def _positions(value: Json) -> list[Position]:
    positions: list[Position] = []
    for item in _array(value, "/positions"):
        if type(item) is list and len(item) == _POSITION_PARTS:
            offset, kind, time_us, note = item
            if (
                type(offset) is int
                and offset >= 0
                and type(kind) is str
                and type(time_us) is int
                and (note is None or type(note) is str)
            ):
                positions.append((offset, kind, time_us, note))
                continue
        raise DecodeError("/positions: must hold [offset, type, time, note]")
    return positions


_POSITION_PARTS = 4
