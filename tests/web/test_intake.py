"""The HTTP intake, over real connections, into a log in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from io import BytesIO
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from tests.support.intake import intake
from triggerstream.adapters.memory import MemoryDatabase, MemoryLog
from triggerstream.core.errors import ClockError, LogError
from triggerstream.web.intake import LIST_EVENTS
from triggerstream.wire.records import NewRecord


@pytest.fixture
def database() -> MemoryDatabase:
    return MemoryDatabase()


@pytest.fixture
async def http(database: MemoryDatabase) -> AsyncIterator[TestClient[Any, Any]]:
    async with TestClient(TestServer(intake(MemoryLog(database), database))) as client:
        yield client


def stored(database: MemoryDatabase) -> list[tuple[str, dict[str, Any]]]:
    return [((r.key or b"").decode(), json.loads(r.value or b"")) for r in database.records]


async def test_one_event_is_durable_when_it_is_answered(
    http: TestClient[Any, Any], database: MemoryDatabase
) -> None:
    event = {"session": "s", "type": "module1", "data": {"x": 1}, "id": "1"}
    async with http.post("/v1/events", json=event) as answer:
        assert (answer.status, await answer.json()) == (202, {"accepted": 1})
    assert stored(database) == [("s", event)]


async def test_a_session_and_a_trigger_may_have_braces(
    http: TestClient[Any, Any], database: MemoryDatabase
) -> None:
    async with http.post("/v1/sessions/%7Bs%7D/triggers/%7Bt%7D") as answer:
        assert answer.status == 202
    assert stored(database) == [("{s}", {"type": "{t}", "data": {}})]


async def test_a_list_keeps_its_order(http: TestClient[Any, Any], database: MemoryDatabase) -> None:
    events = [{"session": f"s{n % 2}", "type": "t", "data": {"n": n}} for n in range(5)]
    async with http.post("/v1/events", json=events) as answer:
        assert (answer.status, await answer.json()) == (202, {"accepted": 5})
    assert stored(database) == [(str(event["session"]), event) for event in events]


async def test_a_structured_cloud_event_belongs_to_its_subject(
    http: TestClient[Any, Any], database: MemoryDatabase
) -> None:
    event = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "paid", "subject": "order-7"}
    headers = {"Content-Type": "application/cloudevents+json"}
    async with http.post("/v1/events", data=json.dumps(event), headers=headers) as answer:
        assert answer.status == 202
    assert stored(database) == [("order-7", event)]


async def test_a_structured_cloud_event_is_that_whatever_headers_stand_beside_it(
    http: TestClient[Any, Any], database: MemoryDatabase
) -> None:
    event = {"type": "paid", "session": "order-7"}
    headers = {
        "Content-Type": "application/cloudevents+json; charset=UTF-8",
        "ce-type": "other",
        "ce-id": "9",
    }
    async with http.post("/v1/events", data=json.dumps(event), headers=headers) as answer:
        assert answer.status == 202
    headers["Content-Type"] = "application/cloudevents-batch+json"
    async with http.post("/v1/events", data=json.dumps([event, event]), headers=headers) as answer:
        assert await answer.json() == {"accepted": 2}
    assert stored(database) == [("order-7", event)] * 3


async def test_a_binary_cloud_event_has_its_attributes_in_headers(
    http: TestClient[Any, Any], database: MemoryDatabase
) -> None:
    headers = {
        "Content-Type": "application/json",
        "CE-SpecVersion": "1.0",
        "ce-type": "paid%20%C3%A9",
        "ce-id": '"a\\"1"',
        "ce-source": "/shop",
        "ce-time": "2026-03-01T12:00:00Z",
        "ce-subject": "order-7",
        "traceparent": "00-trace",
    }
    async with http.post("/v1/events", data=b'{"score": 3}', headers=headers) as answer:
        assert (answer.status, await answer.json()) == (202, {"accepted": 1})
    async with http.post("/v1/events", headers={"ce-type": "paid", "ce-session": "s"}) as answer:
        assert answer.status == 202
    assert stored(database) == [
        (
            "order-7",
            {
                "specversion": "1.0",
                "type": "paid é",
                "id": 'a"1',
                "source": "/shop",
                "time": "2026-03-01T12:00:00Z",
                "subject": "order-7",
                "traceparent": "00-trace",
                "data": {"score": 3},
            },
        ),
        ("s", {"type": "paid", "session": "s"}),
    ]


@pytest.mark.parametrize(
    ("headers", "body", "refusal"),
    [
        ({"ce-type": "a"}, b"{}", (422, "/session: must be a non-empty string, is missing")),
        ({"ce-type": "a", "ce-subject": "s"}, b"[1]", (422, "/data: must be an object, is an array")),
        ({"ce-type": "a", "ce-subject": "s"}, b"{", (400, "not JSON")),
        (
            {"ce-type": "a", "ce-subject": "%FF"},
            b"{}",
            (422, "header ce-subject: must be percent-encoded"),
        ),
        ({"ce-type": "triggerstream.timer", "ce-subject": "s"}, b"", (422, "the engine's own")),
        (
            {"ce-type": "a", "ce-subject": "s", "ce-specversion": "0.3"},
            b"",
            (422, "/specversion: must be"),
        ),
        (
            {"Content-Type": "application/cloudevents+avro"},
            b"{}",
            (415, "application/cloudevents+json, is"),
        ),
    ],
)
async def test_a_binary_cloud_event_that_is_none_is_refused_with_its_fault(
    http: TestClient[Any, Any],
    database: MemoryDatabase,
    headers: dict[str, str],
    body: bytes,
    refusal: tuple[int, str],
) -> None:
    async with http.post("/v1/events", data=body, headers=headers) as answer:
        assert answer.status == refusal[0]
        assert refusal[1] in str(await answer.json())
    assert stored(database) == []


async def test_a_whole_cloud_event_is_not_taken_for_the_data_of_a_trigger(
    http: TestClient[Any, Any], database: MemoryDatabase
) -> None:
    headers = {"Content-Type": "application/cloudevents+json"}
    async with http.post("/v1/sessions/s/triggers/t", data=b'{"type": "a"}', headers=headers) as answer:
        assert answer.status == 415
        assert "send a whole event to /v1/events" in await answer.text()
    assert stored(database) == []


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        (
            {"ce-type": "tx"},
            "header ce-type: must equal the trigger of the path, `t`, or be left out, is `tx`",
        ),
        (
            {"ce-session": "x"},
            "header ce-session: must equal the session of the path, `s`, or be left out, is `x`",
        ),
    ],
)
async def test_a_header_that_contradicts_the_path_is_refused(
    http: TestClient[Any, Any], database: MemoryDatabase, headers: dict[str, str], says: str
) -> None:
    async with http.post("/v1/sessions/s/triggers/t", headers=headers) as answer:
        assert (answer.status, await answer.json()) == (422, {"error": says})
    assert stored(database) == []
    same = {"ce-type": "t", "ce-session": "s", "ce-subject": "its own", "ce-specversion": "1.0"}
    async with http.post("/v1/sessions/s/triggers/t", headers=same) as answer:
        assert answer.status == 202


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (
            {"session": "s", "data": {}, "data_base64": "e30="},
            "/data_base64: must be left out where there is",
        ),
    ],
)
async def test_attributes_that_contradict_each_other_are_refused(
    http: TestClient[Any, Any], database: MemoryDatabase, event: dict[str, Any], says: str
) -> None:
    async with http.post("/v1/events", json={"type": "t"} | event) as answer:
        assert answer.status == 422
        (error,) = (await answer.json())["errors"]
    assert says in error["reason"]
    assert stored(database) == []
    async with http.post("/v1/events", json={"type": "t", "session": "s", "subject": "s"}) as answer:
        assert answer.status == 202


async def test_bad_ones_are_told_by_index_and_none_is_accepted(
    http: TestClient[Any, Any], database: MemoryDatabase
) -> None:
    events = [
        {"session": "s", "type": "fine"},
        {"type": "fine"},
        {"session": "s"},
        {"session": "s", "type": "t", "data": [1]},
        {"session": "s", "type": "triggerstream.task.finished", "data": {}},
        {"session": "s", "type": "t", "time": "now"},
        {"session": "", "type": "t"},
        {"session": "x" * 1025, "type": "t"},
        {"session": "s", "type": "t", "data": {"x": "y" * 262_144}},
        7,
    ]
    async with http.post("/v1/events", json=events) as answer:
        assert answer.status == 422
        answered = await answer.json()
    assert answered["error"] == "9 of 10 events refused, none accepted"
    assert [error["index"] for error in answered["errors"]] == list(range(1, 10))
    assert answered["errors"][2]["reason"] == "/data: must be an object, is an array"
    assert "the engine's own" in answered["errors"][3]["reason"]
    assert stored(database) == []


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b"[]", 400, "an empty list"),
        (
            b'{"session": "s", "type": "t", "data": {"n": 123456789012345678901234567890}}',
            400,
            "beyond ±2^63",
        ),
        (b"[" * 100 + b"]" * 100, 400, "nested deeper"),
        (b"[" + b",".join([b'{"session":"s","type":"t"}'] * (LIST_EVENTS + 1)) + b"]", 413, "at most 1,000"),
        (b" " * (16 * 1024 * 1024 + 1), 413, "more than"),
    ],
)
async def test_a_body_that_is_no_list_of_events_is_refused(
    http: TestClient[Any, Any], database: MemoryDatabase, body: bytes, status: int, says: str
) -> None:
    async with http.post("/v1/events", data=BytesIO(body)) as answer:
        assert answer.status == status
        assert says in (await answer.json())["error"]
    assert stored(database) == []


async def test_a_trigger_can_be_posted_by_its_name(
    http: TestClient[Any, Any], database: MemoryDatabase
) -> None:
    path = "/v1/sessions/order%2F7%20%C3%A9/triggers/paid%25"
    async with http.post(path, json={"x": 1}, params={"id": "1", "time": "2026-03-01T12:00:00Z"}) as answer:
        assert (answer.status, await answer.json()) == (202, {"accepted": 1})
    async with http.post("/v1/sessions/s/triggers/t", headers={"ce-id": "2", "ce-source": "/shop"}) as answer:
        assert answer.status == 202
    assert stored(database) == [
        (
            "order/7 é",
            {"type": "paid%", "data": {"x": 1}, "id": "1", "time": "2026-03-01T12:00:00Z"},
        ),
        ("s", {"type": "t", "data": {}, "id": "2", "source": "/shop"}),
    ]


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/v1/sessions/s/triggers/t", b"[1]", 422, "a JSON object, or nothing"),
        ("/v1/sessions/s/triggers/t", b"{", 400, "not JSON"),
        ("/v1/sessions/s/triggers/triggerstream.timer", b"", 422, "does not begin with"),
        ("/v1/sessions/s/triggers/t?time=now", b"", 422, "RFC 3339"),
        ("/v1/sessions/s/triggers/t?tiem=now", b"", 400, "`tiem`"),
    ],
)
async def test_a_trigger_that_is_none_is_refused(
    http: TestClient[Any, Any], database: MemoryDatabase, *, path: str, body: bytes, status: int, says: str
) -> None:
    async with http.post(path, data=body) as answer:
        assert answer.status == status
        assert says in (await answer.json())["error"]
    assert stored(database) == []


async def test_a_log_that_fails_is_answered_as_such() -> None:
    class Full(MemoryLog):
        async def append(self, records: Sequence[NewRecord]) -> None:
            raise LogError(f"disk full for {len(records)}")

    async with (
        TestClient(TestServer(intake(Full(), MemoryDatabase()))) as http,
        http.post("/v1/events", json={"session": "s", "type": "t"}) as answer,
    ):
        assert answer.status == 503
        assert (await answer.json())["error"] == "not known to be durable, send it again: disk full for 1"


async def test_a_log_that_takes_nothing_because_of_the_clock_says_why() -> None:
    class Ahead(MemoryLog):
        async def append(self, records: Sequence[NewRecord]) -> None:
            raise ClockError(f"the clock is ahead: {len(records)}")

    async with (
        TestClient(TestServer(intake(Ahead(), MemoryDatabase()))) as http,
        http.post("/v1/events", json={"session": "s", "type": "t"}) as answer,
    ):
        assert (answer.status, await answer.json()) == (503, {"error": "the clock is ahead: 1"})


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
        {"Host": "evil.example:8777"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "10.0.0.1:8777"},
    ],
)
async def test_a_page_of_another_origin_cannot_fire(
    http: TestClient[Any, Any], database: MemoryDatabase, headers: dict[str, str]
) -> None:
    async with http.post("/v1/sessions/s/triggers/t", headers=headers) as answer:
        assert answer.status == 403
    assert stored(database) == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "localhost:1"},
        {"Host": "127.0.0.2:1"},
        {"Host": "[::1]"},
        {"Origin": "http://127.0.0.1:8777"},
    ],
)
async def test_a_page_of_this_machine_can(http: TestClient[Any, Any], headers: dict[str, str]) -> None:
    async with http.post("/v1/sessions/s/triggers/t", headers=headers) as answer:
        assert answer.status == 202


async def test_health_and_unknown_paths(http: TestClient[Any, Any]) -> None:
    async with http.get("/healthz") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "ok"})
    async with http.get("/v1/nope") as answer:
        assert (answer.status, await answer.json()) == (404, {"error": "GET /v1/nope: Not Found"})
    async with http.get("/v1/events") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")


async def test_a_byte_order_mark_before_a_body_is_skipped(
    http: TestClient[Any, Any], database: MemoryDatabase
) -> None:
    mark = b"\xef\xbb\xbf"
    async with http.post("/v1/events", data=mark + b'{"session": "s", "type": "a"}') as answer:
        assert answer.status == 202
    async with http.post("/v1/sessions/s/triggers/b", data=mark + b'{"x": 1}') as answer:
        assert answer.status == 202
    assert [fields["type"] for _, fields in stored(database)] == ["a", "b"]
