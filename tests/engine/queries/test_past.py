"""Sessions as they were: which records count, and logs that have lost their beginning."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from triggerstream.adapters.memory import MemoryDatabase, MemoryReader
from triggerstream.core.errors import UsageError
from triggerstream.core.events import Body, Cancel, Close, ConfigApplied, Trigger
from triggerstream.core.ids import AppId, InstanceId, SessionId, TriggerName
from triggerstream.core.projections import statuses
from triggerstream.engine.queries.past import (
    AtOffset,
    AtTime,
    Moment,
    explain_past,
    format_moment,
    parse_moment,
    past_session,
)
from triggerstream.engine.rows import DeadLetterRow
from triggerstream.wire.engine_events import text_hash
from triggerstream.wire.events import encode
from triggerstream.wire.records import Record

SESSION = SessionId("s")
APP = AppId("app")


def record(offset: int, body: Body | str, *, at_us: int = 0, session: str = "s") -> Record:
    """An event of a session, or a tasks file."""
    if isinstance(body, str):
        config = ConfigApplied(text=body, hash=text_hash(body), replaces=None, fold=1)
        key, value = None, encode(config)
    else:
        key, value = session.encode(), encode(body)
    return Record(partition=0, offset=offset, arrival_us=at_us, key=key, value=value)


def fired(name: str) -> Trigger:
    return Trigger(name=TriggerName(name), data={})


async def shown(
    records: Sequence[Record], moment: Moment, letters: Sequence[int] = ()
) -> tuple[int, dict[str, str]]:
    """The last record folded, and the status of each instance."""
    rows = [
        DeadLetterRow(
            number=number,
            at_us=0,
            offset=offset,
            key=b"s",
            value=b"",
            headers=(),
            reason="no signature",
            last=None,
            left_out=None,
        )
        for number, offset in enumerate(letters, 1)
    ]
    reader = MemoryReader(MemoryDatabase(records=list(records), dead_letters=rows))
    past = await past_session(reader, SESSION, moment, app=APP)
    state = past.state
    found = {} if state is None else {str(n): one.status.value for n, one in statuses(state).items()}
    return past.offset, found


FILE = '{"t": {"after": ["a", "b"], "run": "app.t"}}'
OTHER_FILE = '{"t": {"after": ["a"], "run": "app.t"}, "u": {"after": ["x"], "run": "app.u"}}'


async def test_only_the_session_and_its_tasks_files_are_folded() -> None:
    log = [
        record(0, FILE),
        record(1, fired("a")),
        record(2, fired("b"), session="other"),
        record(3, OTHER_FILE),
        Record(partition=0, offset=4, arrival_us=0, key=b"s", value=b"no event"),
        record(5, fired("x")),
        record(6, Close()),
    ]
    assert await shown(log, AtOffset(offset=0)) == (0, {})
    assert await shown(log, AtOffset(offset=2)) == (1, {"t#0": "unstarted"})
    assert await shown(log, AtOffset(offset=4)) == (3, {"t#0": "unstarted"})
    assert await shown(log, AtOffset(offset=5)) == (5, {"t#0": "scheduled", "u#0": "scheduled"})
    assert await shown(log, AtOffset(offset=99)) == (6, {"t#0": "scheduled", "u#0": "scheduled"})


async def test_orders_and_files_that_became_dead_letters_do_not_count() -> None:
    cancel = Cancel(instance=InstanceId("t#0"))
    log = [record(0, FILE), record(1, fired("a")), record(2, cancel), record(3, OTHER_FILE)]
    assert await shown(log, AtOffset(offset=3), letters=[2, 3]) == (1, {"t#0": "unstarted"})
    assert await shown(log, AtOffset(offset=3)) == (3, {"t#0": "cancelled"})


async def test_an_instant_is_after_the_last_event_that_had_arrived() -> None:
    log = [
        record(0, FILE, at_us=10),
        record(1, fired("a"), at_us=20),
        record(2, fired("x"), at_us=500),  # a clock that was wrong
        record(3, fired("b"), at_us=30),
        record(4, fired("a"), at_us=40),
    ]
    assert await shown(log, AtTime(time_us=19)) == (0, {})
    assert await shown(log, AtTime(time_us=29)) == (1, {"t#0": "unstarted"})
    assert await shown(log, AtTime(time_us=30)) == (3, {"t#0": "scheduled"})
    assert await shown(log, AtTime(time_us=600)) == (4, {"t#0": "scheduled"})


async def test_a_log_without_its_beginning_is_refused() -> None:
    log = [record(7, fired("a"))]
    with pytest.raises(UsageError, match="partition 0 begins at event 7: earlier events are deleted"):
        await shown(log, AtOffset(offset=9))


async def test_an_unknown_session_is_none() -> None:
    reader = MemoryReader(MemoryDatabase(records=[record(0, FILE)]))
    assert await explain_past(reader, SESSION, AtOffset(offset=0), app=APP) is None


@pytest.mark.parametrize("text", ["41", "2026-03-01T12:00:00Z", "2026-03-01T12:00:00.25Z"])
def test_a_moment_is_read_as_it_is_written(text: str) -> None:
    moment = parse_moment(text)
    assert moment is not None
    assert format_moment(moment) == text


@pytest.mark.parametrize("text", ["", "-1", "1.5", "yesterday", "2026-03-01", "./42", "9" * 19, "²"])
def test_no_moment(text: str) -> None:
    assert parse_moment(text) is None
