"""The promises of every Inspector, about what a real fold has made durable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from tests.contract.places import KAFKA, KafkaPlace, PartitionedPlace, Place, event, place_of
from triggerstream.adapters.memory import ManualClock
from triggerstream.core.answers import ExplainedSession
from triggerstream.core.errors import DecodeError, UsageError
from triggerstream.core.events import Cancel, Replay
from triggerstream.core.ids import InstanceId, JsonObject, SessionId, TaskName, TriggerName
from triggerstream.core.listing import Filter
from triggerstream.core.placement import partition_of
from triggerstream.core.state import Status
from triggerstream.engine.operations.following import LogPosition
from triggerstream.engine.operations.orders import AddressedOrder, address
from triggerstream.engine.queries.inspector import (
    ElsewhereError,
    Inspector,
    Query,
    give_order,
    target_shown,
)
from triggerstream.engine.queries.past import AtOffset, AtTime
from triggerstream.web.peers import GroupInspector, PeerGroup, Peers
from triggerstream.wire.answers import to_json
from triggerstream.wire.marks import Identity
from triggerstream.wire.records import NewRecord

TASKS = """{
    "t": {"after": ["a", "b"], "run": "tasks.t"},
    "u": {"after": ["b"], "unless": ["c"], "run": "tasks.u"}
}"""
ODD = ["a", "b", "b%", "b1", "b2", "b\U0001f600", "bé", "c"]


@dataclass(frozen=True)
class Subject:
    place: Place
    inspector: Inspector

    async def fire(self, session: str, *names: str) -> None:
        """Fire triggers of a session, and have them folded."""
        await self.place.fire(session, *names)
        await self.place.fold()

    async def ids(self, **query: Any) -> list[str]:  # noqa: ANN401 - the fields of a query
        """The sessions of a list, once it lacks none."""
        async with asyncio.timeout(60):
            while True:
                found = await self.inspector.sessions(Query(**query))
                if found.complete:
                    return [row.session for row in found.sessions]
                await asyncio.sleep(0.005)  # the index is not there yet


@pytest.fixture(params=["memory", "sqlite", "memory partition", "all workers", KAFKA])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    together = request.param == "all workers"
    kind = "memory partition" if together else request.param
    place = await place_of(kind, request, tmp_path, ManualClock())
    await place.configure(TASKS)
    await place.fold()
    inspector = await place.inspector()
    peers = Peers(lambda: PeerGroup(others={}), None)
    yield Subject(place, GroupInspector(inspector, peers) if together else inspector)
    await peers.close()
    await place.close()


def rows(found: JsonObject, name: str) -> list[JsonObject]:
    return cast("list[JsonObject]", found[name])


def statuses(found: ExplainedSession) -> dict[str, str]:
    """The status of each instance of a session."""
    return {one.instance: one.status.value for task in found.tasks for one in task.instances}


async def test_the_overview_has_the_app_and_each_partition(subject: Subject) -> None:
    await subject.fire("s", "a")
    found = to_json(await subject.inspector.overview())
    assert found["app"] == subject.place.app
    (worker,) = rows(found, "workers")
    assert worker["own"] is True
    (row,) = rows(found, "partitions")
    assert (row["partition"], row["own"], row["phase"], row["recovered"]) == (0, True, "ready", 100)
    assert (row["lag"], row["events"], row["deadLetters"]) == (0, 2, 0)
    assert await subject.inspector.progress(0) == 2


async def test_a_session_is_explained_and_an_unknown_one_is_none(subject: Subject) -> None:
    await subject.fire("süß 42", "a")
    found = await subject.inspector.session(SessionId("süß 42"))
    assert found is not None
    assert (found.session, found.partition, found.offset) == ("süß 42", 0, 1)
    assert [row.offset for row in found.timeline] == [1]
    await subject.fire("süß 42", "b")
    later = await subject.inspector.session(SessionId("süß 42"))
    assert later is not None
    assert statuses(later) == {"t#0": "scheduled", "u#0": "scheduled"}
    assert await subject.inspector.session(SessionId("süß")) is None
    with pytest.raises(UsageError, match="a session id is valid Unicode"):
        await subject.inspector.session(SessionId("\udcff"))


async def test_a_session_is_explained_as_it_was_at_each_event(subject: Subject) -> None:
    session = SessionId("s")
    shown: dict[int, JsonObject] = {}

    async def note() -> None:
        found = await subject.inspector.session(session)
        assert found is not None
        shown[await subject.inspector.progress(0) - 1] = to_json(found)

    await subject.fire("other", "a")
    await subject.fire("s", "a")
    await note()
    await subject.place.configure('{"t": {"after": ["a", "b", "x"], "run": "tasks.t"}}')
    await subject.place.fold()
    await note()
    for name in ("b", "other", "x", "a"):
        await subject.fire("s", name)
        await note()
    for offset, before in shown.items():
        found = await subject.inspector.session(session, at=AtOffset(offset=offset))
        assert found is not None
        then = to_json(found)
        assert then.pop("foldedTo") == offset
        for facts in (then, before):
            for instance in instances(facts):
                for beside in ("handOver", "says", "advice"):
                    instance.pop(beside, None)
        assert then == before
    assert await subject.inspector.session(session, at=AtOffset(offset=1)) is None
    (task,) = cast("list[Any]", to_json(await one(subject, at=AtOffset(offset=2), task="u"))["tasks"])
    assert task["says"] == "no instance yet: none of its triggers has arrived since the task was added"


async def test_a_session_is_explained_as_it_was_at_an_instant(subject: Subject) -> None:
    await subject.fire("s", "a")
    first = await one(subject)
    await subject.fire("s", "b")
    clock_us = first.clock_us
    assert clock_us is not None
    then = await one(subject, at=AtTime(time_us=clock_us))
    now = await one(subject, at=AtTime(time_us=clock_us + 10**9))
    assert (then.clock_us, now.offset) == (clock_us, (await one(subject)).offset)
    assert await subject.inspector.session(SessionId("s"), at=AtTime(time_us=clock_us - 10**9)) is None


async def one(
    subject: Subject, *, at: AtOffset | AtTime | None = None, task: str | None = None
) -> ExplainedSession:
    named = None if task is None else TaskName(task)
    found = await subject.inspector.session(SessionId("s"), at=at, task=named)
    assert found is not None
    return found


def instances(found: JsonObject) -> list[JsonObject]:
    return [instance for task in rows(found, "tasks") for instance in rows(task, "instances")]


async def test_sessions_are_listed_in_pages_by_id(subject: Subject) -> None:
    for name in ODD:
        await subject.place.log.append([event(name, "a")])
    await subject.place.fold()
    seen: list[str] = []
    after: SessionId | None = None
    while True:
        page = await subject.inspector.sessions(Query(prefix="b", after=after, limit=2))
        assert page.complete is True
        seen += [row.session for row in page.sessions]
        if page.after is None:
            break
        after = page.after
    assert seen == sorted(name for name in ODD if name.startswith("b"))
    assert await subject.ids(limit=100) == sorted(ODD)
    assert await subject.ids(after=SessionId("b2")) == ["bé", "b\U0001f600", "c"]
    assert await subject.ids(prefix="b", after=SessionId("c")) == []


async def test_a_filter_lists_the_sessions_that_pass(subject: Subject) -> None:
    await subject.fire("both", "a", "b")
    await subject.fire("one", "b")
    await subject.fire("none", "a", "c")

    async def found(**wanted: Any) -> list[str]:  # noqa: ANN401 - the fields of a filter
        return await subject.ids(filter=Filter(**wanted))

    assert await found(status=Status.SCHEDULED) == ["both", "one"]
    assert await found(task=TaskName("t")) == ["both", "none", "one"]
    assert await found(task=TaskName("t"), status=Status.SCHEDULED) == ["both"]
    assert await found(task=TaskName("t"), status=Status.FINISHED) == []
    assert await found(waits_for=TriggerName("a")) == ["one"]
    assert await found(waits_for=TriggerName("b")) == ["none"]
    await subject.fire("none", "b")
    assert await found(waits_for=TriggerName("b")) == []
    assert await found(task=TaskName("t"), status=Status.SCHEDULED) == ["both", "none"]


async def test_the_configuration_in_force_is_shown(subject: Subject) -> None:
    found = await subject.inspector.configuration()
    assert found is not None
    assert found.text == TASKS
    assert [(row.task, row.run) for row in found.tasks] == [("t", "tasks.t"), ("u", "tasks.u")]
    await subject.place.configure(TASKS + " // 2")
    await subject.place.fold()
    later = await subject.inspector.configuration()
    assert later is not None
    assert later.hash != found.hash


@pytest.mark.parametrize("kind", ["memory", "sqlite", "memory partition"])
async def test_an_engine_without_a_configuration_shows_none(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    place = await place_of(kind, request, tmp_path, ManualClock())
    inspector = await place.inspector()
    assert await inspector.configuration() is None
    assert (await inspector.sessions(Query())).sessions == []
    await place.close()


async def test_dead_letters_are_paged_and_found_by_position(subject: Subject) -> None:
    await subject.place.log.append([NewRecord(key=b"s", value=b"no JSON %d" % n) for n in range(3)])
    await subject.place.fold()
    inspector = await subject.place.inspector()
    page = to_json(await inspector.dead_letters(after=0, limit=2))
    found = rows(page, "deadLetters")
    assert [(row["offset"], row["key"], row["value"]) for row in found] == [
        (1, "s", "no JSON 0"),
        (2, "s", "no JSON 1"),
    ]
    after = cast("int", page["after"])
    rest = to_json(await inspector.dead_letters(after=after, limit=2))
    assert [row["offset"] for row in rows(rest, "deadLetters")] == [3]
    assert rest["after"] is None
    reason = await inspector.dead_letter(LogPosition(0, 2))
    assert reason == found[1]["reason"]
    assert await inspector.dead_letter(LogPosition(0, 0)) is None


async def test_an_order_is_in_the_log_at_its_position_and_applies_once_it_is_folded(subject: Subject) -> None:
    await subject.fire("s", "a", "b")
    inspector, instance = subject.inspector, InstanceId("t#0")
    target = target_shown(await inspector.session(SessionId("s")), instance)
    order = address(SessionId("s"), Cancel(instance=instance, reason="enough", by="me"), target)
    position = await inspector.append(order)
    assert position == LogPosition(0, 3)
    assert await inspector.progress(0) == 3
    found = await inspector.session(SessionId("s"))
    assert found is not None
    assert statuses(found)["t#0"] == "scheduled"
    await subject.place.fold()
    found = await inspector.session(SessionId("s"))
    assert found is not None
    assert statuses(found)["t#0"] == "cancelled"
    answer = await give_order(inspector, order, wait_s=0)
    assert (answer.position, answer.folded) == (LogPosition(0, 4), False)


async def test_an_order_that_does_not_apply_says_so_when_it_is_folded(subject: Subject) -> None:
    await subject.fire("s", "a")
    order = address(
        SessionId("s"),
        Replay(instance=InstanceId("t#0"), reason="again", by="me"),
        target_shown(await subject.inspector.session(SessionId("s")), InstanceId("t#0")),
    )
    position = await subject.inspector.append(order)
    await subject.place.fold()
    found = await subject.inspector.session(SessionId("s"))
    assert found is not None
    assert [(row.offset, row.what) for row in found.timeline][-1] == (
        position.offset,
        "refused",
    )


async def test_what_can_be_no_order_is_refused_before_it_is_in_the_log(subject: Subject) -> None:
    order = Cancel(instance=InstanceId("t#0"), reason="r", by="me")
    with pytest.raises(DecodeError):
        await subject.inspector.append(AddressedOrder(session=SessionId("s" * 2_000), order=order))
    await subject.fire("s", "a")
    assert await subject.inspector.progress(0) == 2


async def test_a_session_of_another_process_is_refused_with_its_partition(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    place = await place_of("memory partition", request, tmp_path, ManualClock())
    assert isinstance(place, PartitionedPlace)
    place.identity = Identity(cluster="c", topic="t", partitions=2)
    inspector = await place.inspector()
    elsewhere = next(name for name in ODD if partition_of(name.encode(), 2) == 1)
    with pytest.raises(ElsewhereError) as refused:
        await inspector.session(SessionId(elsewhere))
    assert refused.value.partition == 1
    with pytest.raises(ElsewhereError):
        await inspector.progress(1)
    await place.close()


@pytest.mark.kafka
async def test_a_session_is_not_shown_as_it_was_where_events_are_deleted(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    place = await place_of("kafka", request, tmp_path, ManualClock())
    assert isinstance(place, KafkaPlace)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(place.close)
        await place.configure(TASKS)
        await place.fold()
        inspector = await place.inspector()
        await place.fire("s", "a", "b")
        await place.fold()
        at = AtOffset(offset=3)
        assert await inspector.session(SessionId("s"), at=at) is not None
        admin = AIOKafkaAdminClient(**place.connection.options())
        await admin.start()
        stack.push_async_callback(admin.close)
        log = TopicPartition(place.topics.events, 0)
        for before, begins in ((1, 1), (-1, r"\d+")):
            await admin.delete_records({log: RecordsToDelete(before_offset=before)})
            with pytest.raises(UsageError, match=f"the log of partition 0 begins at event {begins}: earlier"):
                await inspector.session(SessionId("s"), at=at)
        assert await inspector.session(SessionId("s")) is not None
