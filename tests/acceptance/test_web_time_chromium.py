"""Pages about time in a real Chromium: what is due, rounds, what expired, what is overdue."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer

from tests.acceptance.web.browser import PHONE, Visitor, Watched, chromium, executable
from tests.support.engines import running_engine
from tests.support.waiting import eventually
from triggerstream import bootstrap
from triggerstream.adapters.memory import MemoryIndex
from triggerstream.core.events import Trigger
from triggerstream.core.ids import AppId, SessionId, TriggerName
from triggerstream.engine.queries.embedded import EmbeddedInspector
from triggerstream.engine.queries.index import Indexer
from triggerstream.settings import SqliteAddress
from triggerstream.web.access import Access
from triggerstream.web.site import site

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(executable() is None, reason="waits for a Chromium: `apt-get install chromium`"),
]

TASKS = """{
  // Paid within a week of the order, else it is cancelled.
  "t_ship": {"after": ["orderPlaced", "paid"], "deadline": "7d", "expires": "10m", "run": "shop.Ship"},
  // A sample is reserved for a moment only.
  "t_sample": {"after": ["sampleAsked", "addressGiven"], "deadline": "1s", "run": "shop.Sample"},
  "t_release": {"after": ["t_sample.timeout"], "run": "shop.Release"},
  "t_remind": {
    "after": ["contractSent"], "unless": ["signed"],
    "repeat": {"every": "1d", "max": 3}, "run": "shop.Remind",
  },
  "t_call": {"after": ["callAsked"], "delay": "8s", "run": "shop.Call"},
  "t_index": {"after": ["edited"], "debounce": {"quiet": "5m", "atMost": "1h"}, "run": "shop.Index"}
}"""


def trigger(name: str) -> Trigger:
    return Trigger(name=TriggerName(name), data={})


def told(directory: Path) -> None:
    """A shop's log, folded by an engine that then ends: nobody fires the timer that is due after that."""
    with running_engine(directory, TASKS) as engine:
        engine.append("sample-1", trigger("sampleAsked"))
        for n in range(3):
            engine.append(f"order-{n}", trigger("orderPlaced"))
        engine.append("contract-1", trigger("contractSent"))
        engine.append("page-1", trigger("edited"))
        names = {one.instance for one in engine.commands(2)}
        assert names == {"t_remind#0", "t_release#0"}, names
        engine.append("call-1", trigger("callAsked"))


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    directory = tmp_path / "state"
    told(directory)
    address = SqliteAddress(path=directory / "triggerstream.db")
    reader, log = bootstrap.reader(address), bootstrap.log(address)
    row = await reader.session(SessionId("call-1"))
    assert row is not None
    due_us = row.due_us
    assert due_us is not None
    rules = await EmbeddedInspector(reader, log, app=AppId("triggerstream")).rules()
    indexer = Indexer(MemoryIndex(), lambda: rules)
    inspector = EmbeddedInspector(reader, log, app=AppId("triggerstream"), indexer=indexer)
    await eventually(lambda: time.time_ns() // 1_000 > due_us + 1_000_000)
    async with TestServer(site(inspector, inspector, Access())) as server:
        yield str(server.make_url("/")).rstrip("/")
    await log.close()
    await reader.close()


async def test_people_see_what_is_due_what_expired_and_what_is_overdue(url: str) -> None:
    async with chromium() as visitor:
        seen = await visitor.page(origins=frozenset({url}))
        await sessions(seen, url)
        await due_lists(seen, url)
        await configuration(seen, url)
        assert seen.faults == []
        phone = await visitor.page(viewport=PHONE, origins=frozenset({url}))
        for path in ("sessions/contract-1", "sessions/sample-1", "sessions?due=any", "configuration"):
            await read(phone, f"{url}/{path}")
        assert phone.faults == []
        await pictures(visitor, url)


async def read(seen: Watched, address: str) -> str:
    await seen.open(address)
    wide = await seen.page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
    assert not wide, f"{address} is wider than the screen"
    return " ".join((await seen.text()).split())


async def sessions(seen: Watched, url: str) -> None:
    said = await read(seen, f"{url}/sessions/order-0")
    assert "waits for paid; expires in 6 d 23 h (20" in said
    said = await read(seen, f"{url}/sessions/contract-1")
    assert "1 of 4 · next in 23 h 59 min" in said
    assert "waits for round 2 of 4; due in 23 h 59 min (20" in said
    said = await read(seen, f"{url}/sessions/page-1")
    assert "waits until no event has come for 5 min, at most 1 h (`debounce`); due in 4 min" in said
    said = await read(seen, f"{url}/sessions/sample-1")
    for words in (
        "t_sample#0: not satisfied within 1 s: deadline",
        "t_sample.timeout by a timer (deadline)",
        "t_release#0 runs shop.Release, because of t_sample.timeout (a timer)",
        "t_sample.timeout a timer, 20",
    ):
        assert words in said, said
    assert "event -" not in said
    assert await seen.page.locator("li.expired, li.fired").count() == 2
    assert "is satisfied, and waits 8 s (`delay`); overdue by" in await read(seen, f"{url}/sessions/call-1")


async def due_lists(seen: Watched, url: str) -> None:
    """The filter is a field with a name; the lists are sorted by due time, and go on page by page."""
    page = seen.page
    await seen.open(f"{url}/sessions")
    await page.get_by_label("Timer due").select_option(label="overdue")
    await page.get_by_role("button", name="Search").click()
    assert await page.locator("tbody th").all_inner_texts() == ["call-1"]
    assert "overdue by " in await page.locator("td.overdue").inner_text()
    assert await page.get_by_label("Timer due").input_value() == "overdue"
    await page.get_by_label("Timer due").select_option(label="within 1 d")
    await page.get_by_role("button", name="Search").click()
    assert await page.locator("tbody th").all_inner_texts() == ["call-1", "page-1", "contract-1"]
    found: list[str] = []
    await seen.open(f"{url}/sessions?due=any&limit=2")
    while True:
        found += await page.locator("tbody th").all_inner_texts()
        following = page.get_by_role("link", name="Next page")
        if not await following.count():
            break
        await following.click()
    assert found == ["call-1", "page-1", "contract-1", "order-0", "order-1", "order-2"]
    assert "No session matches." in await read(seen, f"{url}/sessions?due=overdue&task=t_ship")
    await seen.open(f"{url}/sessions?due=soon", status=400)
    seen.faults.clear()  # the browser's own line about the status


async def configuration(seen: Watched, url: str) -> None:
    said = await read(seen, f"{url}/configuration")
    assert "deadline 7 d; expires 10 min" in said
    assert "every 1 d, 3 more times" in said
    assert "debounce 5 min, at most 1 h" in said
    assert await seen.page.locator("svg text", has_text="deadline 7 d · expires 10 min").count() == 1


async def pictures(visitor: Visitor, url: str) -> None:
    for path, name in (
        ("/sessions?due=any", "due"),
        ("/sessions", "time-sessions"),
        ("/sessions/contract-1", "rounds"),
        ("/sessions/sample-1", "expired"),
        ("/sessions/order-0", "deadline"),
        ("/configuration", "time-configuration"),
    ):
        await visitor.shoot(f"{url}{path}", name, origins=frozenset({url}))
