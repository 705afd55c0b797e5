"""Lists of sessions: pages that fit together, filters by index, and an index that follows its store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from tests.core.story import SECOND, START_US, Story, task
from tests.support.waiting import eventually
from triggerstream.adapters.memory import MemoryIndex
from triggerstream.core.answers import SessionsPage
from triggerstream.core.errors import DecodeError, LogError
from triggerstream.core.ids import JsonObject, SessionId, TriggerName
from triggerstream.core.listing import Filter
from triggerstream.core.state import Status
from triggerstream.engine.queries import index
from triggerstream.engine.queries.index import NO_TIMERS, Indexer, States, share
from triggerstream.engine.queries.inspector import Query, listed, merged
from triggerstream.engine.queries.listing import Part, listing
from triggerstream.wire import state as states

TASKS: JsonObject = {"t": task("a", "b"), "u": task("b", "c")}
RULES = Story(TASKS).rules


def stored(name: str, *triggers: str, tasks: JsonObject = TASKS) -> bytes:
    story = Story(tasks, session=SessionId(name))
    for trigger in triggers:
        story.fire(trigger)
    assert story.state is not None
    return states.encode(story.state)


@dataclass
class MemoryStates:
    """Sessions by id; ``read`` counts the states that were read."""

    known: dict[SessionId, bytes] = field(default_factory=dict)
    read: int = 0

    def put(self, name: str, *triggers: str) -> SessionId:
        self.known[SessionId(name)] = stored(name, *triggers)
        return SessionId(name)

    async def page(
        self, *, prefix: str, after: SessionId | None, limit: int
    ) -> Sequence[tuple[SessionId, bytes]]:
        names = sorted(n for n in self.known if n.startswith(prefix) and (after is None or n > after))[:limit]
        self.read += len(names)
        return [(name, self.known[name]) for name in names]

    async def some(self, sessions: Sequence[SessionId]) -> Mapping[SessionId, bytes]:
        self.read += len(sessions)
        return {name: self.known[name] for name in sessions if name in self.known}


def names(page: SessionsPage) -> list[str]:
    return [row.session for row in page.sessions]


async def all_pages(parts: Sequence[Part], query: Query) -> list[str]:
    found: list[str] = []
    after: str | None = None
    while True:
        last = None if after is None else SessionId(after)
        page = await listing(
            parts, Query(prefix=query.prefix, after=last, limit=query.limit, filter=query.filter)
        )
        assert len(names(page)) <= query.limit
        found += names(page)
        if page.after is None:
            return found
        assert after is None or str(page.after) > after, "each page gets further"
        after = str(page.after)


def waits(trigger: str, status: Status | None = None) -> Filter:
    return Filter(waits_for=TriggerName(trigger), status=status)


def shelf(*, indexed: bool = True) -> tuple[MemoryStates, Part]:
    known = MemoryStates()
    indexer = Indexer(MemoryIndex(), lambda: RULES) if indexed else None
    return known, Part(states=known, rules=RULES, indexer=indexer)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("indexed", [True, False])
async def test_pages_of_several_parts_have_each_session_once_in_order(limit: int, *, indexed: bool) -> None:
    shelves = [shelf(indexed=indexed) for _ in range(3)]
    for number in range(40):
        shelves[number % 3][0].put(f"s{number:02}", *("ab" if number % 4 == 0 else "a"))
    parts = [part for _, part in shelves]
    everyone = [f"s{number:02}" for number in range(40)]
    assert await all_pages(parts, Query(limit=limit)) == everyone
    assert await all_pages(parts, Query(limit=limit, prefix="s1")) == everyone[10:20]
    waiting = await all_pages(parts, Query(limit=limit, filter=waits("b")))
    assert waiting == [name for number, name in enumerate(everyone) if number % 4]
    assert await all_pages(parts, Query(limit=limit, filter=waits("c"))) == everyone[::4]
    both = waits("c", Status.SCHEDULED)
    assert await all_pages(parts, Query(limit=limit, filter=both)) == everyone[::4]
    assert await all_pages(parts, Query(limit=limit, filter=waits("nothing"))) == []


async def test_a_filter_reads_only_what_passes() -> None:
    known, part = shelf()
    for number in range(500):
        known.put(f"s{number:03}", "a")
    known.put("s250", "b")
    await listing([part], Query(filter=waits("c")))  # the index is made on the way
    assert part.indexer is not None
    while await part.indexer.work(known):
        pass
    known.read = 0
    page = await listing([part], Query(filter=waits("c")))
    assert (names(page), page.complete) == (["s250"], True)
    assert known.read == 1


async def test_an_index_that_cannot_follow_is_one_line_however_often_it_is_tried(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = 0

    class Full(Indexer):
        async def work(self, source: States, *, slice_s: float = 0) -> bool:  # noqa: ARG002 - the method of Indexer
            nonlocal tried
            tried += 1
            raise LogError("database or disk is full")

    monkeypatch.setattr(index, "_IDLE_S", 0.0)
    followed = Full(MemoryIndex(), lambda: RULES)
    task = asyncio.create_task(index.keep(lambda: [(followed, MemoryStates())] * 4))
    await eventually(lambda: tried > 100)
    await index.ended(task)
    behind = [record for record in caplog.records if record.message == "index of sessions is behind"]
    assert len(behind) == 1


async def test_an_index_that_is_behind_says_so_and_never_shows_what_does_not_pass() -> None:
    known, part = shelf()
    known.put("s", "a")
    assert part.indexer is not None
    assert not await part.indexer.work(known)
    known.put("s", "a", "b")  # and nobody has noted it
    page = await listing([part], Query(filter=waits("b")))
    assert names(page) == []
    part.indexer.note([known.put("t", "a"), SessionId("s")])
    assert not part.indexer.complete
    page = await listing([part], Query(filter=waits("b")))
    assert (names(page), page.complete) == (["t"], True)


async def test_a_new_configuration_has_the_index_made_anew() -> None:
    known = MemoryStates()
    known.put("s", "a")
    rules = [RULES]
    indexer = Indexer(MemoryIndex(), lambda: rules[0])
    await indexer.work(known)
    rules[0] = Story({"t": task("a", "z")}).rules
    part = Part(states=known, rules=rules[0], indexer=indexer)
    assert names(await listing([part], Query(filter=waits("z")))) == ["s"]
    assert names(await listing([part], Query(filter=waits("b")))) == []


async def test_an_index_goes_on_where_it_was_closed_and_nowhere_else() -> None:
    known = MemoryStates()
    known.put("s", "a")
    stamps: dict[str, dict[SessionId, frozenset[str]]] = {}
    first = Indexer(MemoryIndex(stamps), lambda: RULES)
    first.resume("7")
    await first.work(known)
    first.close("8")
    again = Indexer(MemoryIndex(stamps), lambda: RULES)
    again.resume("8")
    known.read = 0
    assert not await again.work(known)
    assert (again.complete, known.read) == (True, 0)
    again.note([SessionId("s")])
    again.close("9")  # what was noted is not in it
    after = Indexer(MemoryIndex(stamps), lambda: RULES)
    after.resume("9")
    assert not await after.work(known)
    assert known.read == 1
    unused = Indexer(MemoryIndex(stamps), lambda: RULES)
    after.close("10")
    unused.resume("10")
    unused.close("10")  # it was never needed
    last = Indexer(MemoryIndex(stamps), lambda: RULES)
    last.resume("10")
    assert [*last.find(waits("b").tags(), prefix="", after=None, limit=10)] == ["s"]


async def test_indexes_rest_between_two_of_them_and_not_only_after_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hundreds of indexes are opened at once when a worker takes partitions over."""
    worked = list[int]()

    class Slow(Indexer):
        async def work(self, source: States, *, slice_s: float = 0) -> bool:  # noqa: ARG002 - the method of Indexer
            worked.append(len(worked))
            begun = time.thread_time()
            while time.thread_time() - begun < index.SLICE_S:
                pass
            return False

    rests = list[float]()
    rest = index._Pacer.rest  # noqa: SLF001 - what the test is about

    async def counted(self: index._Pacer, seconds: float) -> None:
        rests.append(seconds)
        await rest(self, seconds)

    monkeypatch.setattr(index._Pacer, "rest", counted)  # noqa: SLF001
    indexers = [(Slow(MemoryIndex(), lambda: RULES), MemoryStates()) for _ in range(100)]
    task = asyncio.create_task(index.keep(lambda: indexers))
    await eventually(lambda: len(worked) >= 10)
    await index.ended(task)
    assert len(rests) >= len(worked) - 1


def test_an_index_takes_half_of_what_is_left_of_the_time_within_bounds() -> None:
    assert [share(busy) for busy in (0, 0.3, 0.4, 0.8, 0.9, 1, 1.2)] == pytest.approx(
        [0.3, 0.3, 0.3, 0.1, 0.05, 0.05, 0.05]
    )


async def test_more_changes_than_are_noted_have_the_index_made_anew() -> None:
    known = MemoryStates()
    indexer = Indexer(MemoryIndex(), lambda: RULES, changed=3)
    await indexer.work(known)
    indexer.note([known.put(f"s{number}", "a") for number in range(5)])
    while await indexer.work(known):
        pass
    found = indexer.find(waits("b").tags(), prefix="", after=None, limit=10)
    assert [*found] == [f"s{number}" for number in range(5)]


class BrokenOnce(MemoryIndex):
    """Fails the first time that it is written."""

    broken = True

    def put(
        self, entries: Sequence[tuple[SessionId, frozenset[str]]], due: Mapping[SessionId, int] = NO_TIMERS
    ) -> None:
        if self.broken:
            self.broken = False
            raise LogError("the disk is full")
        super().put(entries, due)


async def test_an_index_that_failed_is_made_anew() -> None:
    known = MemoryStates()
    known.put("s", "a")
    indexer = Indexer(BrokenOnce(), lambda: RULES)
    with pytest.raises(LogError):
        await indexer.work(known)
    assert not await indexer.work(known)
    assert [*indexer.find(waits("b").tags(), prefix="", after=None, limit=10)] == ["s"]


async def test_a_session_with_a_damaged_line_does_not_hold_up_the_index() -> None:
    """The damage is found only when the instance is looked at."""
    tasks: JsonObject = {"t": {"after": [], "andEvery": "a", "delay": "1h", "run": "m.t"}}
    rules = Story(tasks).rules
    whole = stored("s", *(["a"] * 20), tasks=tasks)
    damaged = whole.replace(b'{"number":3,', b'{"number":x,')
    assert damaged != whole
    states.decode_lazily(damaged)
    known = MemoryStates({SessionId("damaged"): damaged, SessionId("s"): whole})
    indexer = Indexer(MemoryIndex(), lambda: rules, read=lambda _, value: states.decode_lazily(value))
    assert not await indexer.work(known)
    assert indexer.complete
    found = indexer.find_due((), prefix="", after=None, until_us=START_US + 7_200 * SECOND, limit=10)
    assert [place.session for place in found] == ["s"]


async def test_what_could_not_be_read_is_read_again() -> None:
    class Closing(MemoryStates):
        closed = False

        async def some(self, sessions: Sequence[SessionId]) -> Mapping[SessionId, bytes]:
            if self.closed:
                raise LogError("the partition is closing")
            return await super().some(sessions)

    known = Closing()
    stamps: dict[str, dict[SessionId, frozenset[str]]] = {}
    indexer = Indexer(MemoryIndex(stamps), lambda: RULES)
    await indexer.work(known)
    indexer.note([known.put("s", "a")])
    known.closed = True
    with pytest.raises(LogError):
        await indexer.work(known)
    assert not indexer.complete
    known.closed = False
    assert not await indexer.work(known)
    assert [*indexer.find(waits("b").tags(), prefix="", after=None, limit=10)] == ["s"]


async def test_an_index_that_is_made_anew_while_it_reads_begins_at_the_beginning() -> None:
    class Slow(MemoryStates):
        async def page(
            self, *, prefix: str, after: SessionId | None, limit: int
        ) -> Sequence[tuple[SessionId, bytes]]:
            found = await super().page(prefix=prefix, after=after, limit=limit)
            await asyncio.sleep(0)
            return found

    known = Slow()
    for number in range(40):
        known.put(f"s{number:02}", "a")
    indexer = Indexer(MemoryIndex(), lambda: RULES)
    indexer.resume("none")
    working = asyncio.create_task(indexer.work(known, slice_s=60))
    await asyncio.sleep(0)
    indexer.rebuild()
    await working
    assert len(indexer.find(waits("b").tags(), prefix="", after=None, limit=100)) == 40


def test_merged_pages_stop_where_one_of_them_may_lack_something() -> None:
    def page(after: str | None, *sessions: str) -> SessionsPage:
        rows = [listed(RULES, SessionId(name), stored(name, "a"), wanted=Filter()) for name in sessions]
        return SessionsPage(
            sessions=[row for row in rows if row is not None],
            after=None if after is None else SessionId(after),
            complete=True,
        )

    both = merged([page("d", "a", "d"), page(None, "b", "e")], limit=3)
    assert (names(both), both.after) == (["a", "b", "d"], "d")
    cut = merged([page(None, "a", "d"), page(None, "b", "e")], limit=2)
    assert (names(cut), cut.after) == (["a", "b"], "b")
    last = merged([page(None, "a"), page(None, "b")], limit=2)
    assert (names(last), last.after) == (["a", "b"], None)


TIMED: JsonObject = {
    "t": {"after": ["a", "b"], "deadline": "1h", "run": "app.t"},
    "u": {"after": ["c", "d"], "run": "app.u"},
}
TIMED_RULES = Story(TIMED).rules


def timed_shelf(number: int, *, indexed: bool) -> Part:
    """Sessions whose deadlines begin at other times, and one without a timer."""
    known = MemoryStates()
    for n in range(number, 20, 3):
        story = Story(TIMED, session=SessionId(f"s{n:02}"))
        story.fire("a", at=(n * 7) % 10)
        assert story.state is not None
        known.known[story.session] = states.encode(story.state)
    known.known[SessionId(f"none-{number}")] = stored(f"none-{number}", "c", tasks=TIMED)
    indexer = Indexer(MemoryIndex(), lambda: TIMED_RULES) if indexed else None
    return Part(states=known, rules=TIMED_RULES, indexer=indexer)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("indexed", [True, False])
async def test_a_list_by_due_time_has_each_session_once_in_order(limit: int, *, indexed: bool) -> None:
    parts = [timed_shelf(number, indexed=indexed) for number in range(3)]
    expected = sorted((f"s{n:02}" for n in range(20)), key=lambda name: (int(name[1:]) * 7 % 10, name))
    assert await all_pages(parts, Query(limit=limit, filter=Filter(due_by_us=2**60))) == expected
    some = Filter(due_by_us=START_US + 3_604 * SECOND)
    soon = [name for name in expected if int(name[1:]) * 7 % 10 <= 4]
    assert await all_pages(parts, Query(limit=limit, filter=some)) == soon

    found: list[str] = []
    after: SessionId | None = None
    while True:
        query = Query(limit=limit, after=after, filter=some)
        pages = [await listing([part], query) for part in parts]
        page = merged(pages, limit=limit, by_due=True)
        found += names(page)
        if (after := page.after) is None:
            break
    assert found == soon, "pages of several workers are merged"


async def test_a_cursor_of_another_list_is_refused() -> None:
    query = Query(after=SessionId("s01"), filter=Filter(due_by_us=2**60))
    with pytest.raises(DecodeError, match="after: of a list by due time"):
        await listing([timed_shelf(0, indexed=True)], query)
