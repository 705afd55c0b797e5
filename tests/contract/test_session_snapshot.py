"""The promises of every SessionSnapshot, and what is counted on it is what an engine then does."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from tests.contract.places import KAFKA, EmbeddedPlace, KafkaPlace, Place, SqlitePlace, event, place_of
from triggerstream.adapters.memory import ManualClock
from triggerstream.adapters.sqlite.snapshot import SqliteSnapshot
from triggerstream.core.changes import Consequence
from triggerstream.core.errors import LogError
from triggerstream.core.events import Failed, Touch
from triggerstream.core.ids import InstanceId, SessionId, TaskName
from triggerstream.core.projections import statuses
from triggerstream.core.state import Status
from triggerstream.engine.queries.changes import CountedChange, count_changes
from triggerstream.engine.queries.snapshots import SessionSnapshot, SnapshotPage, ignore_progress
from triggerstream.wire import commands, tasksfile
from triggerstream.wire.events import encode
from triggerstream.wire.records import NewRecord

TASKS = """{
    "t": {"after": ["a", "b"], "run": "tasks.t", "retry": {"max": 1, "backoff": "1h"}},
    "u": {"after": ["a", "never"], "run": "tasks.u"},
    "v": {"after": ["c", "never"], "run": "tasks.v"},
    "w": {"after": ["a", "never"], "run": "tasks.w"}
}"""
CHANGED = """{
    "t": {"after": ["a", "b"], "run": "tasks.t"},
    "u": {"after": ["a"], "run": "tasks.u"},
    "w": {"after": ["a", "never"], "unless": ["c"], "run": "tasks.w"},
    "x": {"after": [{"trigger": "z", "where": "data.n > 0"}], "appliesTo": "existing", "run": "tasks.x"},
    "y": {"after": ["z", "never"], "appliesTo": "existing", "run": "tasks.y"}
}"""
"""A retry of ``t`` is due, ``u`` is complete, ``v`` is gone, ``w`` is abandoned where ``c`` has arrived.
``y`` begins in sessions with a ``z``, ``x`` only where ``n`` is more than 0, and it is complete there."""
SESSIONS = [f"s{number}" for number in range(150)]
"""More than a page."""
IDLE = [f"idle{number}" for number in range(5)]
"""Sessions in which nothing waits."""


@pytest.fixture(params=["memory", "sqlite", "memory partition", KAFKA])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    place = await place_of(request.param, request, tmp_path, ManualClock())
    yield place
    await place.close()


async def lived(place: Place) -> None:
    """Every session has an instance of ``t`` that waits for ``b``, but one that waits for its second try."""
    await place.configure(TASKS)
    await place.log.append([event(name, "a") for name in SESSIONS])
    await place.log.append([event(name, "c") for name in SESSIONS[:10]])
    await place.log.append([event(name, "z", data={"n": number}) for number, name in enumerate(IDLE)])
    await place.fire("s7", "b")
    await place.fold()
    (value,) = await place.decided()
    failed = Failed(instance=InstanceId("t#0"), command=commands.decode(value).id, error="e")
    await place.log.append([NewRecord(key=b"s7", value=encode(failed))])
    await place.fold()


async def states_of(snapshot: SessionSnapshot) -> dict[bytes, bytes]:
    async with aclosing(snapshot.pages()) as pages:
        found = [entry async for page in pages for entry in page.entries]
    assert len(dict(found)) == len(found), "a session comes once"
    return dict(found)


async def counted(place: Place, text: str) -> CountedChange:
    shown: list[tuple[str, int]] = []

    def on_counted(partition: int, step: str, done: int, total: int | None) -> None:
        assert partition == 0
        assert total is None or 0 <= done <= total
        shown.append((step, done))

    config = tasksfile.read(text, name="tasks.json")
    change = await count_changes(
        [place.snapshot()], config, at_us=ManualClock().now_us(), on_counted=on_counted
    )
    assert not change.sessions or shown[-1] == ("counting", change.sessions)
    return change


async def test_it_has_every_session_as_the_engine_has_stored_it(place: Place) -> None:
    await lived(place)
    snapshot = place.snapshot()
    begin = await snapshot.open(ignore_progress)
    kept = await place.archive().kept()
    assert (snapshot.number, begin.offset, begin.log_end) == (0, kept.offset, kept.log_end)
    assert begin.sessions in {None, len(SESSIONS + IDLE)}
    assert begin.rules.current.config.text == TASKS
    assert await states_of(snapshot) == kept.states
    await snapshot.close()


async def test_of_an_app_without_sessions_nothing_is_counted(place: Place) -> None:
    if isinstance(place, EmbeddedPlace):
        await place.running()
    change = await counted(place, CHANGED)
    (partition,) = change.partitions
    assert (change.sessions, dict(change.tasks), partition.offset) == (0, {}, 0)


async def test_what_is_not_folded_yet_is_said(place: Place) -> None:
    await lived(place)
    before = await counted(place, CHANGED)
    await place.fire("new", "a", "c")
    await place.fire("s0", "b")
    change = await counted(place, CHANGED)
    (partition,) = change.partitions
    assert (partition.offset, partition.unfolded) == (before.partitions[0].offset, 3)
    assert (change.sessions, change.tasks) == (before.sessions, before.tasks)


async def test_the_counts_are_what_the_engine_does_once_the_file_is_applied(place: Place) -> None:
    await lived(place)
    change = await counted(place, CHANGED)
    assert change.sessions == len(SESSIONS + IDLE)
    assert {name: +one.counts for name, one in change.tasks.items()} == {
        "t": {Consequence.TOUCHED: 1, Consequence.DECIDED: 1, Consequence.DUE: 1},
        "u": {Consequence.TOUCHED: 150, Consequence.DECIDED: 150},
        "v": {Consequence.TOUCHED: 10, Consequence.CANCELLED: 10},
        "w": {Consequence.TOUCHED: 150, Consequence.ABANDONED: 10},
        "x": {Consequence.BEGUN: 4, Consequence.DECIDED: 4},
        "y": {Consequence.BEGUN: 5},
    }
    assert change.is_final
    assert change.tasks[TaskName("t")].examples[Consequence.DUE] == ["s7"]
    assert len(change.tasks[TaskName("u")].examples[Consequence.DECIDED]) == 3
    before = len(await place.decided())
    await place.configure(CHANGED)
    touch = encode(Touch(reason="configuration"))
    await place.log.append([NewRecord(key=name.encode(), value=touch) for name in SESSIONS + IDLE])
    await place.fold()
    decided = [commands.decode(value) for value in await place.decided()]
    assert len(decided) == before + change.total(Consequence.DECIDED)
    found: Counter[tuple[str, Status]] = Counter()
    kept = await place.archive().kept()
    for key, value in kept.states.items():
        state = place.snapshot().decoder.read(SessionId(key.decode()), value)
        found.update((name.partition("#")[0], one.status) for name, one in statuses(state).items())
    assert found["v", Status.CANCELLED] == change.total(Consequence.CANCELLED)
    assert found["w", Status.ABANDONED] == change.total(Consequence.ABANDONED)


async def test_a_file_that_comes_into_force_meanwhile_ends_the_counting(tmp_path: Path) -> None:
    """Between two pages of a database, its engine may go on; a changelog is read up to one checkpoint."""
    place = SqlitePlace(ManualClock(), tmp_path)
    await lived(place)
    config = tasksfile.read(CHANGED, name="tasks.json")
    snapshot = LateSnapshot(place, file=TASKS + " // 2")
    with pytest.raises(LogError, match="another tasks file came into force"):
        await count_changes([snapshot], config, at_us=0, on_counted=lambda *_: None)
    await place.close()


async def test_a_session_that_goes_on_meanwhile_is_counted_as_it_is_then(tmp_path: Path) -> None:
    place = SqlitePlace(ManualClock(), tmp_path)
    await lived(place)
    config = tasksfile.read(CHANGED, name="tasks.json")
    before = await counted(place, CHANGED)
    snapshot = LateSnapshot(place, file=None)
    change = await count_changes([snapshot], config, at_us=0, on_counted=lambda *_: None)
    (partition,) = change.partitions
    assert partition.last_offset > partition.offset == before.partitions[0].offset
    assert change.tasks[TaskName("u")] == before.tasks[TaskName("u")]
    await place.close()


class LateSnapshot(SqliteSnapshot):
    """A snapshot during which a session of the last page gets events, and meets another ``file``."""

    def __init__(self, place: SqlitePlace, *, file: str | None) -> None:
        super().__init__(place.directory, app=place.app)
        self._place = place
        self._late = file

    async def pages(self) -> AsyncGenerator[SnapshotPage]:
        place = self._place
        if self._late is not None:
            await place.configure(self._late)
        await place.fire(SESSIONS[-1], *["other"] * 5)
        await place.fold()
        async with aclosing(super().pages()) as found:
            async for page in found:
                yield page


@pytest.mark.kafka
async def test_a_transaction_marker_is_no_event(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    place = KafkaPlace(request.getfixturevalue("kafka"), tmp_path)
    await place.create()
    await lived(place)
    before = await counted(place, CHANGED)
    producer = place.connection.producer(transactional_id=f"{place.app}-other")
    async with place.connection.running(producer):
        await producer.begin_transaction()
        await producer.send_and_wait(place.topics.events, b'{"type": "a"}', key=b"s0", partition=0)
        await producer.abort_transaction()
    assert (await counted(place, CHANGED)).partitions == before.partitions
    await place.close()
