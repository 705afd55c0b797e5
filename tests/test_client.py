"""`Client` and `SyncClient`, against a real database and a real HTTP intake."""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

import triggerstream
from tests.support.engines import running_engine
from tests.support.intake import intake
from tests.support.ports import free_port
from triggerstream import Client, SyncClient, bootstrap
from triggerstream.adapters.memory import MemoryDatabase, MemoryLog
from triggerstream.core.errors import LogError, UsageError
from triggerstream.wire.records import NewRecord, Record

TASKS = '{"t": {"after": ["a"], "run": "r"}}'


@pytest.fixture
def address(tmp_path: Path) -> str:
    with running_engine(tmp_path, TASKS):
        return f"sqlite:///{tmp_path}/triggerstream.db"


async def records(address: str) -> list[Record]:
    reader = bootstrap.reader(address)
    try:
        return [record for record in await reader.records(limit=1_000) if record.key is not None]
    finally:
        await reader.close()


async def events(address: str) -> list[dict[str, Any]]:
    return [json.loads(record.value or b"") for record in await records(address)]


async def test_fire_appends_a_trigger_and_returns_its_id(address: str) -> None:
    async with Client(address, source="shop") as client:
        event_id = await client.fire("s", "a", {"x": 1})
    assert await events(address) == [{"type": "a", "data": {"x": 1}, "id": event_id, "source": "shop"}]


async def test_each_fire_has_an_id_of_its_own_unless_one_is_given(address: str) -> None:
    async with Client(address) as client:
        ids = [await client.fire("s", "a"), await client.fire("s", "a"), await client.fire("s", "a", id="7")]
    assert len(set(ids)) == 3
    assert [event["id"] for event in await events(address)] == ids
    assert ids[2] == "7"


@pytest.mark.parametrize(
    "time",
    [
        "2026-03-01T13:00:00.5+01:00",
        datetime(2026, 3, 1, 12, 0, 0, 500_000, tzinfo=UTC),
        datetime(2026, 3, 1, 13, 0, 0, 500_000, tzinfo=timezone(timedelta(hours=1))),
    ],
)
async def test_time_is_text_or_a_datetime_with_a_zone(address: str, time: datetime | str) -> None:
    async with Client(address) as client:
        await client.fire("s", "a", time=time)
    assert (await events(address))[0]["time"] == "2026-03-01T12:00:00.5Z"


@pytest.mark.parametrize(
    ("fire", "says"),
    [
        (
            lambda c: c.fire("", "a"),
            "^/session: an empty session id: write the session's, such as `survey-42`$",
        ),
        (lambda c: c.fire("s" * 1025, "a"), "1,025 bytes"),
        (lambda c: c.fire("s\ud800", "a"), "valid Unicode"),
        (lambda c: c.fire("s", ""), "is no trigger"),
        (lambda c: c.fire("s", "triggerstream.timer"), "is no trigger"),
        (lambda c: c.fire(42, "a"), "^/session: must be a string, is 42 .int.: use str"),
        (lambda c: c.fire(None, "a"), "^/session: must be a string, is missing$"),
        (lambda c: c.fire(b"z", "a"), "^/session: must be a string, is b'z' .bytes.: use its decode..$"),
        (lambda c: c.fire(10**50, "a"), "is 1000000000000000000000000000000000000000… .int."),
        (lambda c: c.fire("s", 42), "^/trigger: must be a string, is 42"),
        (lambda c: c.fire("s", None), "^/trigger: must be a string, is missing$"),
        (lambda c: c.fire("s", "a", id=42), "^/id: must be a string, is 42"),
        (lambda c: c.fire("s", "a", ["x"]), "^/data: must be an object, such as a dict, is list"),
        (lambda c: c.fire("s", "a", {"x": float("nan")}), "/data/x: nan"),
        (lambda c: c.fire("s", "a", {"x": [object()]}), "/data/x/0: object is no JSON"),
        (lambda c: c.fire("s", "a", {"x": 2**63}), r"±2\^63"),
        (lambda c: c.fire("s", "a", {"x": "y" * 262_144}), "at most 262,144"),
        (lambda c: c.fire("s", "a", time="now"), "RFC 3339"),
        (
            lambda c: c.fire("s", "a", time=1772366400),
            "^/time: must be an RFC 3339 instant such as .*, is 1772366400 .int.; datetime.fromtimestamp",
        ),
        (
            lambda c: c.fire("s", "a", time=date(2026, 3, 1)),
            "^/time: .*, is datetime.date.2026, 3, 1. .date.",
        ),
        (lambda c: c.fire("s", "a", time=datetime(2026, 3, 1)), "time zone"),  # noqa: DTZ001
        (lambda c: c.fire("s", "a", id=""), "/id"),
    ],
)
async def test_what_would_be_a_dead_letter_is_refused_and_not_appended(
    address: str, fire: Callable[[Client], Any], says: str
) -> None:
    async with Client(address) as client:
        with pytest.raises(UsageError, match=says):
            await fire(client)
    assert await events(address) == []


async def test_a_client_that_cannot_connect_does_not_flood_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (
        "aiokafka",
        *(one for one in logging.root.manager.loggerDict if one.startswith("aiokafka.")),
    ):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    async with Client(f"kafka://127.0.0.1:{free_port()}/app", timeout_s=2.0) as client:
        fires = [client.fire("s", "a") for _ in range(20)]
        found = await asyncio.gather(*fires, return_exceptions=True)
    assert {type(one) for one in found} == {LogError}
    written = [record for record in caplog.records if record.levelno >= logging.INFO]
    assert len(written) <= 5, [record.getMessage() for record in written]


@pytest.mark.parametrize(
    "address",
    ["", "triggerstream.db", "kafka://localhost/app", "sqlite://x.db", "sqlite:///:memory:", "http://:0"],
)
def test_an_address_that_is_none_is_refused_at_once(address: str) -> None:
    for make in (Client, SyncClient):
        with pytest.raises(UsageError):
            make(address)


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with (
        SyncClient(f"sqlite:///{tmp_path}/typo.db") as client,
        pytest.raises(UsageError, match="not there"),
    ):
        client.fire("s", "a")
    assert list(tmp_path.iterdir()) == []


class Flaky(MemoryLog):
    """Appends, and then does not say so: as when an answer is lost."""

    failures = 2

    async def append(self, records: Sequence[NewRecord]) -> None:
        await super().append(records)
        if self.failures:
            self.failures -= 1
            raise LogError("the answer was lost")


async def test_retries_over_http_keep_the_id() -> None:
    database = MemoryDatabase()
    async with (
        TestServer(intake(Flaky(database), database)) as server,
        Client(str(server.make_url(""))) as client,
    ):
        event_id = await client.fire("s\n/é", "a", {"x": 1})
    stored = [(record.key, json.loads(record.value or b"")) for record in database.records]
    event = {"session": "s\n/é", "type": "a", "data": {"x": 1}, "id": event_id}
    assert stored == [("s\n/é".encode(), event)] * 3


async def test_an_intake_that_stays_away_is_a_log_error() -> None:
    async with Client("http://127.0.0.1:9", timeout_s=0.2) as client:
        with pytest.raises(LogError, match="not reachable"):
            await client.fire("s", "a")


async def test_what_answers_but_is_no_intake_is_told() -> None:
    async with TestServer(web.Application()) as server, Client(str(server.make_url("/sub"))) as client:
        with pytest.raises(UsageError, match="answers 404"):
            await client.fire("s", "a")


async def test_many_tasks_share_a_client(address: str) -> None:
    async with Client(address) as client:
        ids = await asyncio.gather(*(client.fire(f"s{n}", "a") for n in range(200)))
    assert {event["id"] for event in await events(address)} == set(ids)


def test_threads_share_a_sync_client(address: str) -> None:
    with SyncClient(address) as client, ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda n: client.fire(f"s{n}", "a", {"n": n}), range(100)))
    assert {event["id"] for event in asyncio.run(events(address))} == set(ids)


def test_a_sync_client_works_in_a_process_that_was_forked(address: str) -> None:
    with SyncClient(address) as client:
        client.fire("parent", "a")
        child = multiprocessing.get_context("fork").Process(target=client.fire, args=("child", "a"))
        child.start()
        child.join(20)
        client.fire("parent", "a")
    assert child.exitcode == 0
    sessions = [record.key for record in asyncio.run(records(address))]
    assert sorted(sessions, key=str) == [b"child", b"parent", b"parent"]


def test_a_closed_sync_client_says_so(address: str) -> None:
    client = SyncClient(address)
    client.close()
    client.close()
    with pytest.raises(UsageError, match="closed"):
        client.fire("s", "a")


def test_what_is_wrong_with_a_sync_fire_is_raised_there(address: str) -> None:
    with SyncClient(address) as client, pytest.raises(UsageError, match="is no trigger"):
        client.fire("s", "triggerstream.x")


def test_the_package_itself_imports_no_client() -> None:
    with suppress(AttributeError):
        triggerstream.nothing_of_the_kind  # noqa: B018
    assert triggerstream.__all__ == ["Client", "SyncClient"]
