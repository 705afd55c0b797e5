"""The pages and the JSON of an engine, over real connections, on a real database."""

from __future__ import annotations

import asyncio
import html
import json
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from tests.support.engines import RunningEngine, running_engine
from triggerstream import bootstrap
from triggerstream.adapters.memory import MemoryDatabase, MemoryLog, MemoryReader
from triggerstream.core import projections
from triggerstream.core.events import Close, Erase, Failed, FailureReason, Finished, Trigger
from triggerstream.core.ids import AppId, InstanceId, JsonObject, TriggerName
from triggerstream.engine.queries.embedded import EmbeddedInspector
from triggerstream.settings import SqliteAddress
from triggerstream.supervision.answers import HEADERS
from triggerstream.web.access import Access
from triggerstream.web.site import site
from triggerstream.wire.records import NewRecord

TASKS = """{
  "t_process": {"after": ["module1", "module4"], "run": "app.process"},
  "t_mail": {"after": ["t_process"], "unless": ["unsubscribed"], "run": "app.mail"},
  "t_log": {"after": [], "andEvery": "answered", "run": "app.log"}
}"""
PAGES = ["/", "/sessions", "/failures", "/deadletters", "/configuration"]

Http: TypeAlias = "TestClient[Any, Any]"


def trigger(name: str, **data: Any) -> Trigger:  # noqa: ANN401 - what an application sends
    return Trigger(name=TriggerName(name), data=data)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[RunningEngine]:
    with running_engine(tmp_path / "state", TASKS) as engine:
        yield engine


@pytest.fixture
async def http(engine: RunningEngine) -> AsyncIterator[Http]:
    address = SqliteAddress(path=engine.directory / "triggerstream.db")
    reader, log = bootstrap.reader(address), bootstrap.log(address)
    inspector = EmbeddedInspector(reader, log, app=AppId("triggerstream"))
    async with TestClient(TestServer(site(inspector, inspector, Access(), log=log))) as client:
        yield client
    await log.close()
    await reader.close()


async def page(http: Http, path: str, *, status: int = 200) -> str:
    async with http.get(path) as answer:
        assert answer.status == status, await answer.text()
        check_headers(answer)
        return await answer.text()


async def asked(http: Http, path: str) -> Any:  # noqa: ANN401 - JSON, looked into by the tests
    async with http.get(f"/v1{path}") as answer:
        assert answer.status == 200, await answer.text()
        check_headers(answer)
        return await answer.json()


def check_headers(answer: ClientResponse) -> None:
    for name, value in HEADERS.items():
        assert answer.headers[name] == value


class Looked(HTMLParser):
    """What a browser would make of a page: its elements, and what of them could run or load something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.wrong: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name.startswith("on") or name == "style":
                self.wrong.append(f"{tag} {name}")
            if name in {"href", "src", "action"}:
                self.links.append(value or "")
        if tag in {"script", "style", "iframe", "object", "img", "base"}:
            self.wrong.append(tag)


async def test_a_page_says_how_far_a_command_was_handed_over_and_what_to_look_for(
    http: Http, engine: RunningEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.append("s", trigger("module1"), trigger("module4"))
    (sent,) = engine.commands(1)
    path = "/sessions/s"

    async def plain() -> str:
        return html.unescape(re.sub(r"<[^>]+>", "", await page(http, path)))

    async with asyncio.timeout(20):
        while "was handed over to Celery; no worker has reported yet (handed over at 20" not in await plain():
            pass  # the engine notes it within a second
    assert "for more than 5 minutes" not in await plain()
    monkeypatch.setattr(projections, "SILENT_US", 0)
    assert "calls triggerstream.celery.install" in await plain()
    found = await asked(http, path)
    (instance,) = found["tasks"][0]["instances"]
    assert (instance["command"], instance["handOver"]["state"]) == (sent.id, "handed over")
    assert "doctor --broker" in instance["advice"]


async def test_a_session_is_told_in_words_and_as_a_tree(http: Http, engine: RunningEngine) -> None:
    engine.append("survey/42", trigger("module1", score=3))
    text = await page(http, "/sessions/survey%2F42")
    plain = re.sub(r"<[^>]+>", "", text)
    assert "It waits for module4" in plain
    assert "module1 event 1" in plain
    assert "{&#34;score&#34;:3}" in plain
    assert "not arrived" in plain
    engine.append("survey/42", trigger("module4"))
    plain = re.sub(r"<[^>]+>", "", await page(http, "/sessions/survey%2F42"))
    assert "t_process#0 runs app.process, because of module1 (event 1), module4 (event 2)" in plain
    found = await asked(http, "/sessions/survey%2F42")
    assert [row["what"] for row in found["timeline"]] == ["arrived", "arrived", "decided"]
    assert found["partition"] == 0


async def test_a_session_with_held_instances_says_first_what_they_are_held_for(
    http: Http, engine: RunningEngine
) -> None:
    engine.apply(json.dumps({"t": {"after": [], "andEvery": "a", "run": "m.t", "maxConcurrency": 1}}))
    engine.append("s", *([trigger("a")] * 6))
    plain = re.sub(r"<[^>]+>", "", await page(http, "/sessions/s"))
    top, _, _ = plain.partition("Conditions")
    assert "It waits for no trigger" not in top
    assert "t#1 is held: at most 1 at a time, t#0 runs; t#2 is held behind t#1; " in top
    assert "t#3 is held behind t#1 and t#2; and 2 more are held." in top
    engine.apply(json.dumps({"t": {"after": ["a", "b"], "run": "m.t", "paused": True}}))
    engine.append("p", trigger("a"))
    assert "It waits for b." in re.sub(r"<[^>]+>", "", await page(http, "/sessions/p"))
    engine.append("p", trigger("b"))
    plain = re.sub(r"<[^>]+>", "", await page(http, "/sessions/p"))
    assert "t#0 is held: the task is paused." in plain.partition("Conditions")[0]


async def test_a_round_that_a_bound_forbids_is_no_failure(http: Http, engine: RunningEngine) -> None:
    task = {"after": ["a"], "repeat": {"every": "1d", "max": 1}, "run": "m.t"}
    engine.apply(json.dumps({"$bounds": {"unresolvedInstances": 1}, "t": task}))
    engine.append("s", trigger("a"))
    text = await page(http, "/sessions/s")
    assert "<dt>Prevented</dt>" in text
    assert "not repeated: a session holds at most 1" in text
    assert "<dt>Error</dt>" not in text


async def test_a_session_shows_triggers_that_no_task_uses(http: Http, engine: RunningEngine) -> None:
    engine.append("s", trigger("modul1"), trigger("module4"))
    plain = re.sub(r"<[^>]+>", "", await page(http, "/sessions/s"))
    assert "modul1 has arrived, and no task uses it; the nearest name is module1." in plain
    assert "module4 has arrived" not in plain
    engine.append("t", trigger("module4"))
    assert "has arrived" not in await page(http, "/sessions/t")


async def test_a_failure_is_named_first_and_said_once(http: Http, engine: RunningEngine) -> None:
    engine.append("s", trigger("module1"), trigger("module4"))
    (command,) = engine.commands(1)
    engine.append("s", Failed(instance=InstanceId("t_process#0"), command=command.id, error="OSError: away"))
    text = await page(http, "/sessions/s")
    plain = re.sub(r"<[^>]+>", "", text)
    assert "1 instance failed: t_process#0." in plain
    assert 'href="#t_process%25230"' in text
    assert 'id="t_process%230"' in text
    assert plain.count("OSError: away") == 1
    assert re.findall(r'<li class="(\w+ failed)">', text) == ["reported failed"]
    long = "OSError: away\n  at line 3"
    engine.append("r", trigger("module1"), trigger("module4"))
    command = engine.commands(2)[-1]
    failed = Failed(
        instance=command.instance, command=command.id, error=long, reason=FailureReason.WORKER_LOST
    )
    engine.append("r", failed)
    plain = re.sub(r"<[^>]+>", "", await page(http, "/sessions/r"))
    assert plain.count("OSError: away") == 1
    assert "Reasonworker lost" in plain


async def test_a_retry_is_shown_as_one_and_the_last_event_is_no_timer(
    http: Http, engine: RunningEngine
) -> None:
    engine.apply('{"t": {"after": ["x"], "run": "app.t", "retry": {"max": 1, "backoff": "1d"}}}')
    engine.append("s", trigger("x"))
    (command,) = engine.commands(1)
    engine.append("s", Failed(instance=InstanceId("t#0"), command=command.id, error="OSError: away"))
    plain = re.sub(r"<[^>]+>", "", text := await page(http, "/sessions/s"))
    assert "failed; tried again as t#1 (retry 1 of 1)" in plain
    assert "Retry oft#0" in plain
    assert "eplay" not in plain.replace("Replay</button>", "")
    assert 'title="a later instance runs in its place (status replayed)">retried<' in text
    assert 'title="satisfied, and waits until it is due">delayed<' in text
    found = await asked(http, "/sessions/s")
    assert found["lastEvent"] == found["timeline"][-1]["time"]


async def test_pages_of_sessions_are_in_the_words_of_an_administrator(
    http: Http, engine: RunningEngine
) -> None:
    engine.append("waits", trigger("module1"))
    engine.append("s", trigger("module1"), trigger("unsubscribed"), trigger("module4"))
    (command,) = engine.commands(1)
    engine.append("s", Failed(instance=InstanceId("t_process#0"), command=command.id, error="no"))
    engine.append("s", Failed(instance=InstanceId("t_process#1"), command=command.id, error="no"))
    for path in ("/sessions", "/sessions?task=t_process&status=failed", "/sessions/s", "/sessions/waits"):
        content = re.sub(r"<[^>]+>", " ", (await page(http, path)).partition("<main")[2]).lower()
        assert _words_of_the_engine(content) == [], path


def _words_of_the_engine(text: str) -> list[str]:
    return [word for word in ("fold", "offset", "partition", "dead letter") if word in text]


@pytest.mark.parametrize("session", [".", "..", "a?b#c", "%2F", "é\u202e", "<b>", "x" * 1000, "a\nb", "'\"&"])
async def test_a_session_of_any_name_has_a_page_that_the_list_links_to(
    http: Http, engine: RunningEngine, session: str
) -> None:
    engine.append(session, trigger("module1"))
    (link,) = [link for link in Looked(await page(http, "/sessions")).links if link.startswith("/sessions/")]
    found = await page(http, link)
    assert "module4" in found
    looked = Looked(found)
    assert looked.wrong == []
    (json_link,) = [one for one in looked.links if one.startswith("/v1/")]
    assert (await asked(http, json_link.removeprefix("/v1")))["session"] == session


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "{{ 7 * 7 }}",
    "\u202egpj.exe",
    "</pre></bdi><style>*{display:none}</style>",
]


def test_every_page_without_a_session_is_tried_with_hostile_text() -> None:
    inspector = EmbeddedInspector(
        MemoryReader(MemoryDatabase()), MemoryLog(MemoryDatabase()), app=AppId("triggerstream")
    )
    paths = [resource.canonical for resource in site(inspector, inspector, Access()).router.resources()]
    with_json = [
        path for path in paths if "{" not in path and f"/v1{path.rstrip('/') or '/overview'}" in paths
    ]
    assert sorted(with_json) == sorted(PAGES)


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_what_applications_send_is_only_text(http: Http, engine: RunningEngine, hostile: str) -> None:
    engine.append(hostile, trigger("module1", text=hostile, more={hostile: [hostile]}), trigger("module4"))
    engine.append(hostile, trigger(hostile))
    (command,) = engine.commands(1)
    failed = Failed(instance=InstanceId("t_process#0"), command=command.id, error=hostile)
    engine.append(hostile, failed)
    engine.append_raw([NewRecord(key=hostile.encode(), value=hostile.encode(), headers=((hostile, b"x"),))])
    quoted = quote(hostile, safe="")
    queries = [f"/sessions?prefix={quoted}&task={quoted}&waitsFor={quoted}&after={quoted}"]
    for path in [*PAGES, *queries, f"/sessions/{quoted}", f"/sessions/{quoted}?message={quoted}"]:
        text = await page(http, path)
        looked = Looked(text)
        assert looked.wrong == [], path
        assert "\u202e" not in text.split("<form")[0], path
        for link in looked.links:
            assert link.startswith("#") or (link.startswith("/") and not link.startswith("//")), link
    assert hostile.replace("\u202e", "\\u202e") in await failures_as_text(http)


async def failures_as_text(http: Http) -> str:
    text = await page(http, "/failures")
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&#34;", '"'), ("&#39;", "'"), ("&amp;", "&")):
        text = text.replace(entity, character)
    return text


async def test_a_notice_is_shown_only_if_this_process_gave_it(http: Http, engine: RunningEngine) -> None:
    engine.append("s", trigger("module1"))
    assert "all is well" not in await page(http, "/sessions/s?message=all+is+well")
    assert "all is well" not in await page(http, "/sessions/s?message=all+is+well&mac=00")


async def test_a_session_that_was_erased_has_no_last_event(http: Http, engine: RunningEngine) -> None:
    engine.append("42", trigger("module1"), Erase())
    listed, shown = await page(http, "/sessions"), await page(http, "/sessions/42")
    assert "erased" in listed
    assert "last event: erased" in shown
    assert "1970" not in listed + shown
    assert "Erased, generation 1." in shown
    assert "othing has arrived" not in shown


async def test_a_session_is_shown_as_it_was_and_one_task_alone(http: Http, engine: RunningEngine) -> None:
    engine.append("s", trigger("module1"), trigger("module4"))
    now = await asked(http, "/sessions/s")
    first, *_ = now["timeline"]
    then = await asked(http, f"/sessions/s?at={first['offset']}")
    assert (then["foldedTo"], then["waitsFor"]) == (first["offset"], ["module4"])
    shown = await page(http, f"/sessions/s?at={first['offset']}")
    assert f"As it was after event {first['offset']}." in shown
    assert "It waited for" in shown
    assert "Give an order" not in shown
    assert f'href="/sessions/s?at={first["offset"]}"' in await page(http, "/sessions/s")
    (task,) = (await asked(http, "/sessions/s?task=t_mail"))["tasks"]
    assert task["says"] == "no instance yet: none of its triggers has arrived since the task was added"
    answer = await http.get("/v1/sessions/s?at=yesterday")
    assert (answer.status, (await answer.json())["error"]) == (
        400,
        "at: write the number of an event, or an instant such as 2026-03-01T12:00:00Z",
    )
    assert (await http.get("/sessions/s?at=2001-01-01T00:00:00Z")).status == 404


async def test_a_huge_value_is_cut_on_the_page_and_whole_in_the_json(
    http: Http, engine: RunningEngine
) -> None:
    engine.append("s", trigger("module1", text="x" * 200_000))
    text = await page(http, "/sessions/s")
    assert len(text) < 20_000
    assert "200,011 characters; the JSON has them all" in text
    found = await asked(http, "/sessions/s")
    assert found["tasks"][0]["instances"][0]["after"]["all"][0]["by"][0]["data"] == {"text": "x" * 200_000}


async def test_sessions_are_searched_and_paged(http: Http, engine: RunningEngine) -> None:
    for number in range(7):
        engine.append(f"s{number}", trigger("module1" if number % 2 else "module4"))
    engine.append("other", trigger("answered"))
    first = await asked(http, "/sessions?prefix=s&limit=3")
    assert [row["session"] for row in first["sessions"]] == ["s0", "s1", "s2"]
    second = await asked(http, f"/sessions?prefix=s&limit=3&after={first['after']}")
    assert [row["session"] for row in second["sessions"]] == ["s3", "s4", "s5"]
    waiting = await asked(http, "/sessions?waitsFor=module4&status=unstarted")
    assert [row["session"] for row in waiting["sessions"]] == ["s1", "s3", "s5"]
    logged = await asked(http, "/sessions?task=t_log")
    assert [(row["session"], row["running"]) for row in logged["sessions"]] == [("other", 1)]
    text = await page(http, "/sessions?prefix=s&limit=3")
    (link,) = [link for link in Looked(text).links if "after=" in link]
    assert "/sessions/s3" in await page(http, link)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("status=lost", "status: is one of"),
        ("limit=-1", "limit: is a whole number"),
        ("limit=1000", "to 200"),
    ],
)
async def test_a_wrong_question_is_refused_in_one_line(http: Http, query: str, says: str) -> None:
    assert says in await page(http, f"/sessions?{query}", status=400)
    async with http.get(f"/v1/sessions?{query}") as answer:
        assert (answer.status, set(await answer.json())) == (400, {"error"})


async def test_a_missing_page_or_session_is_named(http: Http) -> None:
    text = await page(http, "/sessions/nobody", status=404)
    assert "<h1>Not found</h1>" in text
    assert "no session `nobody`: no trigger has been fired for this id" in text
    assert 'href="/sessions"' in text
    async with http.get("/v1/sessions/nobody") as answer:
        assert answer.status == 404
    await page(http, "/nowhere", status=404)
    for path in ("/router", "/table", "/graph", "/stats"):
        await page(http, path, status=404)


async def test_the_configuration_is_drawn(http: Http) -> None:
    text = await page(http, "/configuration")
    looked = Looked(text)
    assert looked.tags.count("rect") == 7  # module1, module4, unsubscribed, answered, and the tasks
    assert looked.tags.count("marker") == 3
    assert "t_mail is abandoned by unsubscribed" in text
    assert [task["task"] for task in (await asked(http, "/configuration"))["tasks"]] == [
        "t_process",
        "t_mail",
        "t_log",
    ]


async def test_the_configuration_says_which_tasks_are_paused_or_limited(
    http: Http, engine: RunningEngine
) -> None:
    assert "Places" not in await page(http, "/configuration")
    tasks = {
        "t": {"after": ["a"], "run": "app.t", "paused": True},
        "u": {"after": ["a"], "run": "app.u", "maxConcurrency": 2},
    }
    engine.apply(json.dumps(tasks))
    text = await page(http, "/configuration")
    assert '<td class="" data-label="Places">paused</td>' in text
    assert '<td class="" data-label="Places">at most 2 at a time</td>' in text
    assert ">paused</text>" in text
    assert ">at most 2 at a time</text>" in text


async def test_a_wide_drawing_says_that_it_scrolls(http: Http, engine: RunningEngine) -> None:
    assert "scrolls sideways" not in await page(http, "/configuration")
    chain = {f"t{n}": {"after": [f"t{n - 1}"], "run": "app.t"} for n in range(1, 9)}
    engine.apply(json.dumps(chain))
    assert "scrolls sideways" in await page(http, "/configuration")


async def test_failures_and_dead_letters_are_listed(http: Http, engine: RunningEngine) -> None:
    engine.append("bad", trigger("module1"), trigger("module4"))
    engine.append("good", trigger("module1"), trigger("module4"))
    bad, good = (command.id for command in engine.commands(2))
    process = InstanceId("t_process#0")
    engine.append("bad", Failed(instance=process, command=bad, error="boom"))
    engine.append("good", Finished(instance=process, command=good))
    engine.append_raw([NewRecord(key=b"k", value=b"no event")])
    found = await asked(http, "/failures")
    assert [row["session"] for row in found["sessions"]] == ["bad"]
    assert found["sessions"][0]["failures"][0]["error"] == "boom"
    letters = (await asked(http, "/deadletters"))["deadLetters"]
    assert [(letter["key"], letter["value"]) for letter in letters] == [("k", "no event")]
    assert "no event" in await page(http, "/deadletters")
    (partition,) = (await asked(http, "/overview"))["partitions"]
    assert (partition["deadLetters"], partition["lag"], partition["phase"]) == (1, 0, "ready")


async def failed(engine: RunningEngine, *, nth: int = 1) -> None:
    engine.append("s", trigger("module1", score=3), trigger("module4"))
    command = engine.commands(nth)[-1]
    engine.append("s", Failed(instance=InstanceId("t_process#0"), command=command.id, error="boom"))


def form_of(text: str) -> str:
    found = re.search(r'name="form" value="([0-9a-f]{64})"', text)
    assert found is not None
    return found[1]


async def test_an_order_from_the_page_is_carried_out_and_its_reason_is_in_the_log(
    http: Http, engine: RunningEngine
) -> None:
    await failed(engine)
    fields = {"form": form_of(await page(http, "/sessions/s")), "order": "replay", "instance": "t_process#0"}
    async with http.post(
        "/sessions/s/orders", data={**fields, "reason": "tried by hand"}, allow_redirects=False
    ) as answer:
        assert answer.status == 303
        to = answer.headers["Location"]
    text = await page(http, to)
    assert "replay t_process#0: done" in text
    assert "t_process#1" in text
    assert [command.instance for command in engine.commands(2)] == ["t_process#0", "t_process#1"]
    reader = bootstrap.reader(SqliteAddress(path=engine.directory / "triggerstream.db"))
    records = await reader.records(after=3)
    await reader.close()
    orders = [json.loads(record.value or b"") for record in records]
    (given,) = [order["data"] for order in orders if order["type"] == "triggerstream.instance.replay"]
    assert (given["instance"], given["reason"], given["by"]) == ("t_process#0", "tried by hand", "web")


async def test_an_order_is_for_the_generation_that_the_page_showed(http: Http, engine: RunningEngine) -> None:
    """Somebody closed the session meanwhile, and its triggers came again: the id is another instance's."""
    await failed(engine)
    text = await page(http, "/sessions/s")
    assert 'name="generation" value="0"' in text
    assert 'name="attempt" value="0"' in text
    engine.append("s", Close())
    await failed(engine, nth=2)
    fields = {"form": form_of(text), "order": "replay", "instance": "t_process#0", "reason": "r"}
    async with http.post("/sessions/s/orders", data={**fields, "generation": "0", "attempt": "0"}) as answer:
        assert "not done: the session is in generation 1, the order was given for 0" in await answer.text()
    order: JsonObject = {"order": "replay", "instance": "t_process#0", "reason": "r", "generation": 0}
    async with http.post("/v1/sessions/s/orders", json=order) as answer:
        refused = (await answer.json())["refused"]
    assert refused == "the session is in generation 1, the order was given for 0"
    async with http.post("/v1/sessions/s/orders", json={**order, "generation": 1}) as answer:
        assert (await answer.json())["refused"] is None


async def test_an_order_that_does_not_apply_says_why(http: Http, engine: RunningEngine) -> None:
    engine.append("s", trigger("module1"))
    order: JsonObject = {"order": "replay", "instance": "t_process#0", "reason": "why not"}
    async with http.post("/v1/sessions/s/orders", json=order) as answer:
        assert answer.status == 200
        found = await answer.json()
    assert found["folded"] is True
    assert "unstarted" in found["refused"]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"reason": " "}, 422),
        ({"reason": "x" * 2000}, 422),
        ({"order": "explode"}, 422),
        ({"instance": "t_process"}, 422),
        ({"form": "0" * 64}, 403),
        ({"form": ""}, 403),
    ],
)
async def test_a_form_that_is_not_right_orders_nothing(
    http: Http, engine: RunningEngine, fields: dict[str, str], status: int
) -> None:
    await failed(engine)
    right = {
        "form": form_of(await page(http, "/sessions/s")),
        "order": "replay",
        "instance": "t_process#0",
        "reason": "r",
    }
    async with http.post("/sessions/s/orders", data={**right, **fields}) as answer:
        assert answer.status == status
    assert len(engine.commands(1)) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "evil.example"},
    ],
)
async def test_what_another_page_sends_orders_nothing(
    http: Http, engine: RunningEngine, headers: dict[str, str]
) -> None:
    await failed(engine)
    form = form_of(await page(http, "/sessions/s"))
    fields = {"order": "replay", "instance": "t_process#0", "reason": "r"}
    async with http.post("/sessions/s/orders", data={**fields, "form": form}, headers=headers) as answer:
        assert answer.status == 403
    async with http.post("/v1/sessions/s/orders", json=fields, headers=headers) as answer:
        assert answer.status in {403, 415}
    text = json.dumps(fields)
    plain = {**headers, "Content-Type": "text/plain"}
    async with http.post("/v1/sessions/s/orders", data=text, headers=plain) as answer:
        assert answer.status in {403, 415}
    assert len(await (await http.get("/v1/sessions/s")).json()) > 0
    assert len(engine.commands(1)) == 1


async def test_triggers_are_taken_beside_the_pages(http: Http, engine: RunningEngine) -> None:
    async with http.post("/v1/events", json={"session": "s", "type": "module1"}) as answer:
        assert answer.status == 202
    async with http.post("/v1/events", json={"type": "module1"}) as answer:
        assert (answer.status, (await answer.json())["errors"][0]["index"]) == (422, 0)
    async with http.post("/v1/sessions/s/triggers/module4", json={"n": 1}) as answer:
        assert answer.status == 202
    assert [command.instance for command in engine.commands(1)] == ["t_process#0"]


async def test_a_session_that_was_fired_for_can_be_looked_at(http: Http, engine: RunningEngine) -> None:
    async with http.post("/v1/sessions/s%2F1/triggers/module1") as answer:
        assert answer.status == 202
    async with http.post("/v1/sessions/s%2F1/triggers/module4") as answer:
        assert answer.status == 202
    engine.commands(1)
    async with http.get("/v1/sessions/s%2F1") as answer:
        assert (answer.status, (await answer.json())["session"]) == (200, "s/1")
    async with http.get("/v1/sessions/other") as answer:
        assert answer.status == 404


@pytest.mark.parametrize(("path", "allowed"), [("/v1/events", "POST"), ("/logout", "POST")])
async def test_a_wrong_method_is_told_the_right_one(http: Http, path: str, allowed: str) -> None:
    async with http.get(path) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, allowed)
