"""Looks at all sessions of a partition, after a take-over and after each configuration."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence

import pytest

from tests.engine.partitioned.bench import Bench, BenchStore
from triggerstream.core.ids import SessionId
from triggerstream.engine import migration
from triggerstream.engine.partitioned import session_scans
from triggerstream.engine.partitioned.partition import Partition
from triggerstream.engine.stored_states import StateDecoder, UnreadableStateError
from triggerstream.engine.timers import service
from triggerstream.wire.json import dumps
from triggerstream.wire.records import NewRecord

BOTH = '{"t": {"after": ["a", "b"], "run": "tasks.t"}}'
ONE = '{"t": {"after": ["a"], "run": "tasks.t"}}'


class PagedStore(BenchStore):
    """A store that notes how many entries a page may have."""

    def __init__(self) -> None:
        super().__init__()
        self.limits: list[int] = []

    def page(self, *, after: bytes, limit: int) -> Sequence[tuple[bytes, bytes]]:
        self.limits.append(limit)
        return super().page(after=after, limit=limit)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, beside other tasks of the event loop."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - figures of a partition
            await asyncio.sleep(0)


async def test_sessions_in_which_a_configuration_decides_something_are_touched_and_counted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_scans, "_PAGE", 1)
    monkeypatch.setattr(session_scans, "_LEAST_PAGE", 1)
    bench.configure(BOTH)
    for session in ("r", "s"):
        bench.fire(session, "a")
    bench.fire("t", "spare")
    partition = bench.partition()
    await partition.open()
    await bench.fold(partition)
    bench.configure(ONE)
    await bench.fold(partition)
    await until(lambda: partition.counters.touches >= 2)
    touches = bench.durable.log[5:]
    assert [record.key for record in touches] == [b"r", b"s"]
    await bench.fold(partition)
    assert len(bench.durable.commands) == 2
    assert (partition.counters.touches, bench.failures) == (2, [])
    await partition.close()


async def test_pages_of_a_scan_are_shorter_the_longer_the_history_is(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_scans, "_PAGE", 60)
    bench.configure(BOTH)
    bench.fire("s", "a")
    store = PagedStore()
    partition = bench.partition(store=store)
    await partition.open()
    await until(lambda: 60 in store.limits)  # nothing was applied
    await bench.fold(partition)
    await until(lambda: 30 in store.limits)
    for text in (BOTH + " ", BOTH + "  ", BOTH + "   "):
        bench.configure(text)
    await bench.fold(partition)
    await until(lambda: 16 in store.limits)  # five in the history
    assert set(store.limits) <= {60, 30, 16}
    await partition.close()


async def test_state_that_a_scan_cannot_read_ends_the_process_and_is_named(bench: Bench) -> None:
    bench.configure(BOTH)
    bench.fire("s", "a")
    await bench.live()
    bench.store.write({b"s": b"{"}, position=len(bench.durable.changelog))
    partition = bench.partition()
    partition.processor.decoder = StateDecoder(name="partition 7", address="kafka://broker:9092/shop")
    await partition.open()
    await until(lambda: bool(bench.failures))
    (failure,) = bench.failures
    assert isinstance(failure, UnreadableStateError)
    assert str(failure).startswith("partition 7: the state of session 's' cannot be read")
    await partition.close()


def unread_header(value: bytes) -> bytes:
    """The same state as JSON whose members are in another order, so that its header is not at its place."""
    members = json.loads(value)
    return json.dumps(dict(reversed(members.items()))).encode()


async def test_sessions_that_keep_the_history_long_are_touched_once_page_by_page(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_scans, "_PAGE", 2)
    monkeypatch.setattr(migration, "MOST_VERSIONS", 3)
    bench.configure(BOTH)
    sessions = [b"p", b"q", b"r", b"s", b"t"]
    for session in sessions:
        bench.fire(session.decode(), "a")
    await bench.live()
    value = bench.store.entries[b"p"]
    bench.store.write({b"p": unread_header(value)}, position=bench.store.position() or 0)
    for count in range(1, 5):
        bench.configure(BOTH + " " * count)
    bench.fire("t", "spare")
    store = PagedStore()
    store.write(dict(bench.store.entries), position=bench.store.position() or 0)
    partition = bench.partition(store=store)
    await partition.open()
    await bench.fold(partition)
    await until(lambda: partition.counters.touches >= 4)
    await bench.fold(partition)
    await until(lambda: len(partition.rules.history) <= 3)
    touches = [record.key for record in bench.durable.log if b"touch" in (record.value or b"")]
    assert touches == sessions[:4]
    assert (partition.counters.touches, bench.failures) == (4, [])
    assert 2 in store.limits
    await partition.close()


async def test_a_pass_of_touches_goes_on_where_a_new_configuration_interrupted_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_scans, "_PAGE", 1)
    monkeypatch.setattr(session_scans, "_LEAST_PAGE", 1)
    monkeypatch.setattr(migration, "MOST_VERSIONS", 3)
    bench.configure(BOTH)
    for session in ("p", "q", "r", "s"):
        bench.fire(session, "a")
    await bench.live()
    for count in range(1, 5):
        bench.configure(BOTH + " " * count)
    partition = bench.partition()
    await partition.open()
    await bench.fold(partition)
    await until(lambda: partition.counters.touches >= 1)
    bench.configure(BOTH + " " * 5)
    configured = len(bench.durable.log)
    touched = partition.counters.touches
    await until(lambda: partition.counters.touches > touched)
    # The touches that follow on the configuration are not folded yet.
    partition.take()
    partition.fold(bench.durable.log[partition.next : configured])
    await until(lambda: partition.counters.touches >= 4)
    await bench.fold(partition)
    await until(lambda: len(partition.rules.history) <= 3)
    touches = [record.key for record in bench.durable.log if b"touch" in (record.value or b"")]
    assert touches == [b"p", b"q", b"r", b"s"]
    await partition.close()


DEADLINE = '{"t": {"after": ["a", "b"], "deadline": "5s", "run": "tasks.t"}}'
TIMEOUT = DEADLINE[:-1] + ', "u": {"after": ["t.timeout"], "run": "tasks.u"}}'


def timers(bench: Bench) -> list[bytes | None]:
    """The sessions for which timer events were appended."""
    return [record.key for record in bench.durable.log if b"triggerstream.timer" in (record.value or b"")]


async def pass_time(bench: Bench, partition: Partition) -> None:
    """Fold a timer event that arrives ten seconds after 1970; those of the partition arrive before."""
    value = dumps({"type": "triggerstream.timer"})
    bench.durable.append([NewRecord(key=b"s", value=value)], now_us=10_000_000)
    await bench.fold(partition)


async def test_a_deadline_is_found_by_the_next_owner_although_nothing_else_arrives(bench: Bench) -> None:
    bench.configure(TIMEOUT)
    bench.fire("s", "a")
    await bench.live()
    assert timers(bench) == []
    second = bench.partition(store=BenchStore())
    await second.open()
    await until(lambda: bool(timers(bench)))
    await pass_time(bench, second)
    assert [json.loads(command)["instance"] for command in bench.durable.commands] == ["u#0"]
    assert (second.timers(), bench.failures) == (0, [])
    await second.close()


@pytest.mark.parametrize("slice_s", [0.01, -1.0])
async def test_a_deadline_that_a_file_adds_is_found_in_idle_sessions(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, slice_s: float
) -> None:
    monkeypatch.setattr(session_scans, "SLICE_S", slice_s)
    bench.configure(BOTH)
    for session in ("p", "q", "r"):
        bench.fire(session, "a")
    bench.fire("s", "c")
    partition = bench.partition()
    await partition.open()
    await bench.fold(partition)
    bench.configure(DEADLINE)
    await bench.fold(partition)
    await until(lambda: len(timers(bench)) >= 3)
    assert set(timers(bench)) == {b"p", b"q", b"r"}
    assert bench.failures == []
    await partition.close()


async def test_a_deadline_that_a_file_added_is_found_by_an_owner_who_need_not_touch(bench: Bench) -> None:
    """The scan for that file was completed, and the session has not met it."""
    bench.configure(BOTH)
    bench.fire("s", "a")
    await bench.live()
    bench.configure(DEADLINE)
    first = bench.partition()
    await first.open()
    await bench.fold(first)
    await until(lambda: bool(timers(bench)))
    await first.close()
    known = len(timers(bench))
    second = bench.partition()
    await second.open()
    await until(lambda: len(timers(bench)) > known)
    await second.close()


async def test_a_task_for_existing_sessions_begins_and_its_deadline_fires(bench: Bench) -> None:
    bench.configure(BOTH)
    bench.fire("s", "x")
    partition = bench.partition()
    await partition.open()
    await bench.fold(partition)
    added = '{"after": ["x", "y"], "deadline": "5s", "appliesTo": "existing", "run": "r"}'
    bench.configure(f'{{"t": {{"after": ["a", "b"], "run": "tasks.t"}}, "new": {added}}}')
    await bench.fold(partition)
    await until(lambda: partition.counters.touches >= 1)
    await bench.fold(partition)
    await until(lambda: bool(timers(bench)))
    await pass_time(bench, partition)
    value = partition.state(SessionId("s"))
    assert value is not None
    assert b'"reason":"deadline"' in value
    await partition.close()


async def test_a_scan_in_slices_does_not_put_an_older_due_time_in_the_place_of_a_newer_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_scans, "SLICE_S", -1.0)
    bench.configure(DEADLINE.replace("5s", "36500d"))
    for session in ("p", "q", "r"):
        bench.fire(session, "a")
    await bench.live()
    partition = bench.partition()
    await partition.open()
    for _ in range(3):
        await asyncio.sleep(0)
    bench.fire("r", "b")  # no timer any more
    await bench.fold(partition)
    await until(lambda: partition.timers() == 2)
    for _ in range(20):
        await asyncio.sleep(0)
    assert (partition.timers(), bench.failures) == (2, [])
    await partition.close()


async def test_sessions_that_are_due_at_once_are_spread_over_checkpoints_and_folding_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "PAGE", 10)
    monkeypatch.setattr(session_scans, "SLICE_S", 60.0)  # the scan hands all due times on at once
    bench.configure(DEADLINE)
    for number in range(35):
        bench.fire(f"s{number:02}", "a")
    await bench.live()
    partition = bench.partition(store=BenchStore())
    await partition.open()
    seen = set()
    for page in range(1, 5):
        await until(lambda page=page: len(timers(bench)) >= min(10 * page, 35))  # type: ignore[misc]
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(timers(bench)) == min(10 * page, 35), "the next page waits until this one is durable"
        bench.fire(f"other {page}", "c")
        await bench.fold(partition)
        assert partition.state(SessionId(f"other {page}")) is not None
        seen = set(timers(bench))
    assert len(seen) == 35
    assert bench.failures == []
    await partition.close()
