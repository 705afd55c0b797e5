"""`fire`: one trigger, durable when it returns."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from tests.cli.conftest import Cli
from tests.support.engines import RunningEngine
from triggerstream import bootstrap
from triggerstream.core.ids import AppId
from triggerstream.engine.queries.embedded import EmbeddedInspector
from triggerstream.settings import SqliteAddress
from triggerstream.web.access import Access
from triggerstream.web.site import site


def last_event(cli: Cli) -> dict[str, Any]:
    async def work() -> bytes:
        reader = bootstrap.reader(SqliteAddress(path=cli.directory / "triggerstream.db"))
        try:
            records = await reader.records(after=0)
        finally:
            await reader.close()
        return records[-1].value or b""

    event: dict[str, Any] = json.loads(asyncio.run(work()))
    return event


@pytest.mark.parametrize(
    ("pairs", "data"),
    [
        ([], {}),
        (["score=3"], {"score": 3}),
        (["ok=true", "no=null", "tags=[1, 2]"], {"ok": True, "no": None, "tags": [1, 2]}),
        (["name=Ada", "path=a=b", "empty="], {"name": "Ada", "path": "a=b", "empty": ""}),
        (['zip="04109"', "plain=04109"], {"zip": "04109", "plain": "04109"}),
        (["--data", '{"a": 1, "b": 2}', "b=3"], {"a": 1, "b": 3}),
        (["--data", "null"], {}),
        (["--data", "null", "b=3"], {"b": 3}),
        (['a={"x": [{"y": 1}, {"y": 2}]}'], {"a": {"x": [{"y": 1}, {"y": 2}]}}),
    ],
)
def test_values_are_json_where_they_read_as_json(
    cli: Cli, engine: RunningEngine, pairs: list[str], data: dict[str, Any]
) -> None:
    assert engine.directory == cli.directory
    ran = cli("fire", "survey-42", "module1", *pairs)
    assert ran.status == 0
    assert last_event(cli)["data"] == data


def test_says_what_was_fired_and_under_which_id(cli: Cli, engine: RunningEngine) -> None:
    assert engine.directory == cli.directory
    ran = cli("fire", "survey-42", "module1", "--json")
    event = last_event(cli)
    assert ran.row() == {"session": "survey-42", "type": "module1", "id": event["id"]}
    assert cli("fire", "s", "t", "--id", "mine").out == "fired t for s (id mine)\n"


def test_id_time_and_source_go_with_the_event(cli: Cli, engine: RunningEngine) -> None:
    assert engine.directory == cli.directory
    cli("fire", "s", "t", "--id", "1", "--time", "2026-03-01T13:00:00+01:00", "--source", "shop")
    event = last_event(cli)
    assert (event["id"], event["time"], event["source"]) == ("1", "2026-03-01T12:00:00Z", "shop")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["", "t"], "/session: an empty session id: write the session's, such as `survey-42`"),
        (["s", "triggerstream.timer"], "does not begin with `triggerstream.`"),
        (["s", "t", "novalue"], "write KEY=VALUE"),
        (["s", "t", "--data", "[1]"], "must be a JSON object"),
        (["s", "t", "--data", "{"], "not JSON"),
        (["s", "t", "--time", "yesterday"], "RFC 3339"),
        (["s", "t", "--time", "17"], "--time: must be an RFC 3339 instant"),
        (["s", "t", "x=1", "x=2"], "'x' is given twice: give it once"),
        (["s", "t", "--data", '{"a":1,"a":2}'], "--data: the key 'a' stands twice in one object"),
        (["s", "t", "--data", '{"a":[{"b":1,"\\u0062":2}]}'], "--data: the key 'b' stands twice"),
        (["s", "t", 'x={"a":1,"a":2}'], "x: the key 'a' stands twice in one object"),
        (["s", "t", "x=" + "1" * 40], "integer 111111111111111111111111… at byte 0"),
        (["s", "t", "--id", ""], "/id: must be a non-empty string"),
        (["s", "t", "x=123456789012345678901234567890"], "beyond ±2^63"),
        (["s", "t", "x=" + "y" * 300_000], "at most 262,144"),
    ],
)
def test_what_the_engine_would_refuse_is_refused_here(
    cli: Cli, engine: RunningEngine, arguments: list[str], says: str
) -> None:
    assert engine.directory == cli.directory
    ran = cli("fire", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert says in ran.err
    assert ran.err.count("\n") == 1


def test_an_intake_that_is_not_there_is_one_line(cli: Cli) -> None:
    ran = cli("fire", "s", "t", "--to", "http://127.0.0.1:9", "--timeout", "0.1")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("http://127.0.0.1:9/v1/events: not reachable")
    assert ran.err.count("\n") == 1


def test_a_trigger_that_no_task_uses_is_a_warning_with_the_nearest_name(
    cli: Cli, engine: RunningEngine
) -> None:
    assert engine.directory == cli.directory
    ran = cli("fire", "s", "modul1", "--id", "1")
    assert (ran.status, ran.out) == (0, "fired modul1 for s (id 1)\n")
    assert ran.err == "no task in force uses `modul1`; the nearest name is `module1`\n"
    assert cli("fire", "s", "module1").err == ""
    assert cli("fire", "s", "zzz", "--json").err == "no task in force uses `zzz`\n"


async def test_the_warning_is_given_over_http_too(engine: RunningEngine, tmp_path: Path) -> None:
    address = SqliteAddress(path=engine.directory / "triggerstream.db")
    reader, log = bootstrap.reader(address), bootstrap.log(address)
    inspector = EmbeddedInspector(reader, log, app=AppId("triggerstream"))
    async with TestServer(site(inspector, inspector, Access(), log=log)) as server:
        url = str(server.make_url("")).rstrip("/")
        ran = await asyncio.to_thread(Cli(tmp_path), "fire", "s", "unsubscribd", "--to", url)
    await log.close()
    await reader.close()
    assert ran.status == 0
    assert ran.err == "no task in force uses `unsubscribd`; the nearest name is `unsubscribed`\n"
