"""The promises of every SessionSource: the outcome of orders, by the stored states and by an inspector."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.contract.places import Place, place_of
from triggerstream.adapters.memory import ManualClock
from triggerstream.core.events import Cancel, Close, Failed, Order, Replay
from triggerstream.core.ids import InstanceId, SessionId
from triggerstream.engine.operations.following import LogPosition
from triggerstream.engine.operations.orders import (
    AddressedOrder,
    ReaderSource,
    SessionAfter,
    SessionSource,
    order_record,
)
from triggerstream.engine.queries.inspector import InspectorSource
from triggerstream.wire import commands
from triggerstream.wire.events import encode
from triggerstream.wire.records import NewRecord

TASKS = '{"t": {"after": ["a"], "run": "tasks.t"}}'
S, T = SessionId("s"), InstanceId("t#0")


@dataclass(frozen=True)
class Subject:
    place: Place
    source: SessionSource

    async def given(self, order: Order | Close, session: SessionId = S) -> tuple[int, SessionAfter | None]:
        """The offset of ``order``, which is appended and folded, and the session after it."""
        to = AddressedOrder(session=session, order=order)
        offset = await self.source.progress(0)
        await self.place.log.append([order_record(to)])
        await self.place.fold()
        assert await self.source.progress(0) == offset + 1
        (after,) = await self.source.after([(to, LogPosition(0, offset))])
        assert not isinstance(after, str)
        return offset, after


VIA = [
    "reader, memory",
    "reader, sqlite",
    "inspector, memory",
    "inspector, sqlite",
    "inspector, memory partition",
]
KAFKA = [pytest.param(f"{via}, kafka", marks=pytest.mark.kafka) for via in ("reader", "inspector")]


@pytest.fixture(params=[*VIA, *KAFKA])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    via, kind = request.param.split(", ")
    place = await place_of(kind, request, tmp_path, ManualClock())
    await place.configure(TASKS)
    await place.fire("s", "a")
    await place.fold()
    inspector = await place.inspector()
    yield Subject(place, ReaderSource(place.reader()) if via == "reader" else InspectorSource(inspector))
    await place.close()


async def test_an_order_that_applied_is_listed_without_a_refusal(subject: Subject) -> None:
    (value,) = await subject.place.decided()
    failed = Failed(instance=T, command=commands.decode(value).id, error="e")
    await subject.place.log.append([NewRecord(key=b"s", value=encode(failed))])
    await subject.place.fold()
    offset, after = await subject.given(Replay(instance=T, reason="again", by="me"))
    assert after is not None
    assert (after.offset, after.listed, after.refusal, after.clone) == (offset, True, None, "t#1")
    offset, after = await subject.given(Cancel(instance=InstanceId("t#1"), reason="enough", by="me"))
    assert after == SessionAfter(offset=offset, generation=0, listed=True, status="cancelled")
    offset, after = await subject.given(Close(reason="done", by="me"))
    assert after is not None
    assert (after.offset, after.listed, after.refusal) == (offset, True, None)


async def test_an_order_that_was_refused_says_why(subject: Subject) -> None:
    offset, after = await subject.given(Replay(instance=T, reason="again", by="me"))
    assert after is not None
    assert (after.offset, after.listed, after.status, after.clone) == (offset, True, "scheduled", None)
    assert (after.refusal or "").startswith("t#0 is scheduled: only a failed one is replayed")


async def test_of_an_unknown_session_nothing_is_known(subject: Subject) -> None:
    to = AddressedOrder(session=SessionId("nobody"), order=Cancel(instance=T, reason="r", by="me"))
    known = AddressedOrder(session=S, order=Cancel(instance=T, reason="r", by="me"))
    after = await subject.source.after([(to, LogPosition(0, 0)), (known, LogPosition(0, 9))])
    assert (after[0], after[1] is None) == (None, False)


async def test_a_record_that_is_a_dead_letter_has_its_reason(subject: Subject) -> None:
    offset = await subject.source.progress(0)
    await subject.place.log.append([NewRecord(key=b"s", value=b"no JSON")])
    await subject.place.fold()
    source = subject.source
    if isinstance(source, InspectorSource):
        source = InspectorSource(await subject.place.inspector())
    found = await source.dead_letters([LogPosition(0, 0), LogPosition(0, offset)])
    assert list(found) == [LogPosition(0, offset)]
    assert "JSON" in found[LogPosition(0, offset)]
