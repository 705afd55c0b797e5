"""The pages of two workers on a real Kafka, in a real Chromium."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.acceptance.chain.members import Member
from tests.acceptance.web.browser import PHONE, Visitor, Watched, chromium, executable
from tests.acceptance.web.shop import CLOSED_VARIABLE
from tests.adapters.faust.test_web import Web, shared
from tests.adapters.faust.workers import Stage, stage
from tests.support.valkey import valkey_server
from tests.support.waiting import eventually, wait_until
from triggerstream import variables
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.core.ids import AppId
from triggerstream.wire.json import dumps
from triggerstream.wire.records import NewRecord

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.celery,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(executable() is None, reason="waits for a Chromium: `apt-get install chromium`"),
]

TASKS = """{
  // What a shop does once an order is there and confirmed.
  "t_charge": {
    "after": ["ordered", "confirmed"],
    "run": "shop.charge",
    "unless": ["withdrawn"],
  },
  "t_ship": {
    "after": ["t_charge", {"any": ["address", {"trigger": "pickUp", "where": "data.paid"}]}],
    "run": "shop.ship",
  },
  // A reminder for each further request.
  "t_remind": {"after": ["ordered"], "andEvery": "reminderRequested", "run": "shop.ship"},
  // The board, or two different people of level 2.
  "t_approve": {
    "after": [
      {"any": [
        "boardApproved",
        {"all": ["asked", {"trigger": "approved", "where": "data.level >= 2", "key": "data.by", "count": 2}]},
      ]},
    ],
    "unless": [{"any": ["rejected", "expired"]}],
    "run": "shop.ship",
  },
}
"""
FAILED = [f"order-{n}" for n in range(8)]
APPROVALS = [f"approval-{n}" for n in range(4)]
WAITING = [f"order-{n}" for n in range(100, 160)]
HOSTILE = [
    "<script>alert('id')</script>",
    "\"><img src=x onerror=alert('id')>",
    "javascript:alert('id')",
    "\u202egpj.exe",
    "../../etc/passwd?x=1#y",
    ".",
    "..",
    "a b%2Fc&d=e",
]
EVIL = {
    "by": "<script>alert('data')</script>",
    "html": "</pre><iframe src=//example.invalid></iframe><svg onload=alert('data')>",
    "rtl": "\u202e\u2066abc\u2069",
    "url": "javascript:alert('data')",
    "template": "{{ 7 * 7 }}{% raw %}",
    "nul": "\u0000\u001b[31m",
    "long": "x" * 100_000,
}


@dataclass
class Shop:
    """The whole chain: two workers, a bridge, a Celery worker."""

    app: Stage
    closed: Path
    webs: tuple[Web, Web]
    own: list[int]
    """The partitions of the first worker."""

    def partition(self, session: str) -> int:
        """The partition of a session."""
        status, found = self.webs[0].get(f"sessions/{quote(session, safe='')}")
        assert status == 200, found
        return int(found["partition"])

    def status(self, session: str, instance: str) -> str | None:
        """The status of an instance."""
        status, found = self.webs[1].get(f"sessions/{quote(session, safe='')}")
        tasks = found["tasks"] if status == 200 else []
        return next((i["status"] for t in tasks for i in t["instances"] if i["instance"] == instance), None)

    def has_failed(self, session: str) -> bool:
        """True if the charge of the session has failed."""
        return self.status(session, "t_charge#0") == "failed"


@pytest.fixture
def app(kafka: str, kafka_app: AppId, tmp_path: Path) -> Iterator[Stage]:
    with stage(Connection(bootstrap=kafka), kafka_app, tmp_path / "workers") as made:
        yield made


@pytest.fixture
def members(app: Stage, tmp_path: Path) -> Iterator[Callable[[], list[Member]]]:
    """Start a bridge and a Celery worker."""
    started: list[Member] = []
    with valkey_server() as broker:

        def start() -> list[Member]:
            environment = {
                "CELERY_BROKER_URL": broker,
                variables.LOG: f"kafka://{app.connection.bootstrap}/{app.app}",
                CLOSED_VARIABLE: str(tmp_path / "closed"),
            }
            module = "tests.acceptance.web.shop"
            bridge = ["-m", "triggerstream", "bridge", "--kafka", app.connection.bootstrap, "--app", app.app]
            bridge += ["--celery", f"{module}:app", "--allow", "shop.charge", "--allow", "shop.ship"]
            celery = ["-m", "celery", "-A", module, "worker", "-c", "1", "-l", "INFO", "--without-gossip"]
            for name, command, ready in (
                ("bridge", [*bridge, "--from", "earliest"], " ready: partitions "),
                ("celery", [*celery, "--without-mingle"], " ready."),
            ):
                member = Member(
                    name=name,
                    command=[sys.executable, *command],
                    output=tmp_path / f"{name}.log",
                    ready=ready,
                    environment=environment,
                )
                started.append(member)
                member.start()
            for member in started:
                wait_until(member.is_ready, what=member.tail)
            return started

        yield start
        for member in started:
            member.close()


async def the_shop(app: Stage, members: Callable[[], list[Member]], tmp_path: Path) -> Shop:
    """The chain at work: some charges have failed, most orders wait, some sessions are hostile."""
    closed = tmp_path / "closed"
    closed.touch()
    await app.prepare(TASKS)
    workers = [app.start(name, arguments=app.shown()) for name in ("w1", "w2")]
    webs = Web(workers[0]), Web(workers[1])
    members()
    for worker in workers:
        await worker.ready()
    own = await shared(app, webs[0])
    await shared(app, webs[1])

    def event(session: str, name: str, data: object = None) -> NewRecord:
        return NewRecord(key=session.encode(), value=dumps({"type": name, "data": data or {}}))

    orders = [event(session, "ordered", {"amount": 12}) for session in FAILED + WAITING]
    confirmed = [event(session, "confirmed", {"by": "mail", "at": "the door"}) for session in FAILED]
    evil = [event(session, "ordered", EVIL) for session in HOSTILE]
    evil += [event(session, "confirmed", EVIL) for session in HOSTILE]
    evil += [
        event(HOSTILE[0], "<b>unused</b>"),
        NewRecord(key=b"order-0", value=b"<script>alert(1)</script>"),
    ]
    approved = [{"level": 2, "by": "ann"}, {"level": 1, "by": "bob"}]
    approvals = [event(session, "asked") for session in APPROVALS]
    approvals += [event(session, "approved", data) for session in APPROVALS for data in approved]
    await app.append([*orders, *confirmed, *evil, *approvals])
    await app.settled()
    shop = Shop(app=app, closed=closed, webs=webs, own=own)
    for session in FAILED + HOSTILE[:1]:
        await eventually(partial(shop.has_failed, session))
    await eventually(lambda: webs[0].get("sessions", status="failed")[1]["complete"])
    return shop


async def test_people_find_their_way_through_the_pages_of_two_workers(
    app: Stage, members: Callable[[], list[Member]], tmp_path: Path
) -> None:
    shop = await the_shop(app, members, tmp_path)
    first, second = (web.url for web in shop.webs)
    async with AsyncExitStack() as stack:
        visitor = await stack.enter_async_context(chromium())
        seen = await visitor.page(origins=frozenset({first}))
        await every_page(seen, first, shop)
        await search(seen, first)
        await conditions(seen, first, shop)
        await replay(seen, first, shop)
        await hostile(seen, first)
        assert seen.faults == []
        phone = await visitor.page(viewport=PHONE, origins=frozenset({second}))
        await every_page(phone, second, shop)
        await conditions(phone, second, shop)
        assert phone.faults == []
        await pictures(visitor, first, shop)


async def every_page(seen: Watched, url: str, shop: Shop) -> None:
    """Each page of the navigation has what it is for, and is not wider than the screen."""
    page = seen.page
    await seen.open(f"{url}/")
    for label, words in (
        ("Overview", "Partitions"),
        ("Sessions", FAILED[0]),
        ("Failures", "the bank is closed"),
        ("Dead letters", "not JSON"),
        ("Configuration", "t_charge"),
    ):
        await page.get_by_role("navigation").get_by_role("link", name=label).click()
        assert words in await seen.text(), label
        assert await page.get_by_role("heading", level=1).count() == 1
        wide = await page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
        assert not wide, f"{label} is wider than the screen"
    assert await page.locator("svg").count() >= 1
    await seen.open(f"{url}/")
    partitions = page.locator("section", has=page.get_by_role("heading", name="Partitions", exact=True))
    assert await partitions.locator("tbody tr").count() == shop.app.partitions
    owners = page.locator("section", has=page.get_by_role("heading", name="Owners", exact=True))
    assert await owners.locator("tbody tr").count() == len(shop.webs)


async def search(seen: Watched, url: str) -> None:
    """Sessions are found by what begins their id, by what they wait for, and page by page."""
    page = seen.page
    await seen.open(f"{url}/sessions")
    await page.get_by_label("Id begins with").fill("order-10")
    await page.get_by_role("button", name="Search").click()
    links = page.locator("tbody th a")
    assert await links.all_inner_texts() == [f"order-{n}" for n in range(100, 110)]
    await page.get_by_label("Id begins with").fill("")
    await page.get_by_label("Waits for trigger").fill("confirmed")
    await page.get_by_role("button", name="Search").click()
    found = await links.all_inner_texts()
    while await (more := page.get_by_role("link", name=re.compile("next|more", re.IGNORECASE))).count():
        await more.first.click()
        found += await links.all_inner_texts()
    assert found == WAITING


async def conditions(seen: Watched, url: str, shop: Shop) -> None:
    """Nested conditions are a tree, in a session of each worker, as they are now and as they were."""
    page = seen.page
    own = {shop.partition(session) in shop.own: session for session in APPROVALS}
    for session in own.values():
        await seen.open(f"{url}/sessions/{session}")
        (tree,) = await page.locator("article > ul.tree").all_inner_texts()
        said = " ".join(tree.split())
        for words in (
            "any of ○ boardApproved not arrived ○ all of: 1 of 2 ✓ asked event",
            "○ approved 1 of 2 where data.level >= 2",
            "its `where` is false",
            "unless: not fulfilled ○ any of ○ rejected not arrived ○ expired not arrived",
        ):
            assert words in said, said
        wide = await page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
        assert not wide, f"{session} is wider than the screen"
        event = await page.locator("details.taken li > small").first.bounding_box()
        assert event is not None
        assert event["width"] > event["height"], "an event's line is broken into a column"
        await page.locator("ol.timeline a").first.click()
        assert "As it was after event" in await seen.text()
        (tree,) = await page.locator("article > ul.tree").all_inner_texts()
        assert "approved 0 of 2" in " ".join(tree.split())
        assert await page.get_by_text("Give an order").count() == 0


async def replay(seen: Watched, url: str, shop: Shop) -> None:
    """A failed instance of a session that the other worker has is replayed, and finishes."""
    page = seen.page
    session = next(name for name in FAILED if shop.partition(name) not in shop.own)
    await seen.open(f"{url}/sessions?prefix={session}")
    await page.get_by_role("link", name=session, exact=True).click()
    assert "the bank is closed" in await seen.text()
    shop.closed.unlink()
    failed = page.get_by_role("article").filter(has=page.locator("h4", has_text="t_charge#0"))
    await failed.get_by_text("Give an order").click()
    await failed.get_by_label("Reason").fill("the bank has opened")
    await failed.get_by_role("button", name="Replay").click()
    assert "replay t_charge#0: done" in await seen.text(), await seen.text()
    await eventually(lambda: shop.status(session, "t_charge#1") == "finished")
    await page.reload()
    clone = page.get_by_role("article").filter(has=page.locator("h4", has_text="t_charge#1"))
    assert "finished" in await clone.inner_text()
    assert "charged" in await clone.inner_text()
    assert "the bank has opened" in await seen.text()


async def hostile(seen: Watched, url: str) -> None:
    """Ids and payloads are shown as text."""
    page = seen.page
    for session in HOSTILE:
        await seen.open(f"{url}/sessions?prefix={quote(session, safe='')}")
        await page.locator("tbody th a").first.click()
        shown = await page.get_by_role("heading", level=1).inner_text()
        assert session.replace("\u202e", "\\u202e") in shown
        text = await seen.text()
        assert "<script>alert('data')</script>" in text
        assert "{{ 7 * 7 }}" in text
        assert not {"\u202e", "\u2066", "\u0000"} & set(text)
        assert (
            await page.locator("main script, main img, main iframe, main svg, main b > script").count() == 0
        )
    failed = page.get_by_role("article").filter(has_text="t_remind#0")
    await failed.get_by_text("Give an order").click()
    await failed.get_by_label("Reason").fill("<i>no</i> {{ 7 * 7 }} \u202eon")
    await failed.get_by_role("button", name="Cancel").click()
    assert "<i>no</i> {{ 7 * 7 }} \\u202eon" in await seen.text()
    await seen.open(f"{url}/sessions?prefix=%3Cscript%3Ealert(1)%3C/script%3E")
    assert await page.get_by_label("Id begins with").input_value() == "<script>alert(1)</script>"


async def pictures(visitor: Visitor, url: str, shop: Shop) -> None:
    """Pictures of each page, where they are wanted."""
    origins = frozenset({url})
    session = next(name for name in FAILED if shop.status(name, "t_charge#1") == "finished")
    for path, name in (
        ("/", "overview"),
        ("/sessions?prefix=order", "sessions"),
        (f"/sessions/{session}", "session"),
        (f"/sessions/{FAILED[-1]}", "failed"),
        (f"/sessions/{APPROVALS[0]}", "conditions"),
        ("/failures", "failures"),
        ("/deadletters", "deadletters"),
        ("/configuration", "configuration"),
    ):
        await visitor.shoot(f"{url}{path}", name, origins=origins)
