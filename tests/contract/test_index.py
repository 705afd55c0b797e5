"""What every index of sessions does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from triggerstream.adapters.memory import MemoryIndex
from triggerstream.adapters.sqlite.index import SqliteIndex
from triggerstream.core.ids import SessionId
from triggerstream.core.listing import DuePlace
from triggerstream.engine.queries.index import Index

Open = Callable[[], Index]


@pytest.fixture(params=["memory", "sqlite"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same index each time."""
    made: list[Index] = []
    stamps: dict[str, dict[SessionId, frozenset[str]]] = {}

    def make() -> Index:
        index: Index = (
            MemoryIndex(stamps) if request.param == "memory" else SqliteIndex(tmp_path / "deep" / "index.db")
        )
        made.append(index)
        return index

    yield make
    for index in made:
        index.close(None)


def put(index: Index, **tags: str) -> None:
    index.put([(SessionId(name), frozenset(text.split())) for name, text in tags.items()])


def found(
    index: Index, *wanted: str, prefix: str = "", after: str | None = None, limit: int = 10
) -> list[str]:
    last = None if after is None else SessionId(after)
    return [*index.find(wanted, prefix=prefix, after=last, limit=limit)]


def test_sessions_are_found_by_a_tag_in_the_order_of_their_ids(opened: Open) -> None:
    index = opened()
    put(index, c="x", a="x y", b="y", d="x")
    assert found(index, "x") == ["a", "c", "d"]
    assert found(index, "y") == ["a", "b"]
    assert found(index, "z") == []


def test_each_of_several_tags_is_asked_for(opened: Open) -> None:
    index = opened()
    put(index, a="x y z", b="x y", c="x z")
    assert found(index, "x", "y") == ["a", "b"]
    assert found(index, "x", "y", "z") == ["a"]


def test_pages_go_on_after_an_id_and_keep_to_a_prefix(opened: Open) -> None:
    index = opened()
    names = [f"{letter}{n}" for letter in "abc" for n in range(9)]
    put(index, **dict.fromkeys(reversed(names), "x"))
    assert found(index, "x", limit=4) == names[:4]
    assert found(index, "x", after=names[3], limit=4) == names[4:8]
    assert found(index, "x", prefix="b", limit=4) == names[9:13]
    assert found(index, "x", prefix="b", after="b6") == ["b7", "b8"]
    assert found(index, "x", prefix="b", after="a3", limit=1) == ["b0"]
    assert found(index, "x", prefix="b", after="c") == []


def test_sessions_with_a_timer_are_found_by_its_due_time(opened: Open) -> None:
    index = opened()
    index.resume("0")
    due = {"a": 30, "b": 10, "c": 20, "d": 20}
    index.put(
        [(SessionId(name), frozenset({"x", name})) for name in "abcde"],
        {SessionId(name): due_us for name, due_us in due.items()},
    )

    def found_due(*wanted: str, until: int = 100, after: DuePlace | None = None, limit: int = 9) -> list[str]:
        places = index.find_due(wanted, prefix="", after=after, until_us=until, limit=limit)
        assert all(due[place.session] == place.due_us for place in places)
        return [place.session for place in places]

    assert found_due("x") == ["b", "c", "d", "a"]
    assert found_due() == ["b", "c", "d", "a"]
    assert found_due("x", until=20) == ["b", "c", "d"]
    assert found_due("x", "d") == ["d"]
    assert found_due("y") == []
    assert found_due("x", limit=2) == ["b", "c"]
    assert found_due("x", after=DuePlace(20, SessionId("c"))) == ["d", "a"]
    assert index.find_due(["x"], prefix="c", after=None, until_us=99, limit=9) == [(20, "c")]
    assert found(index, "x") == ["a", "b", "c", "d", "e"]
    put(index, b="x b")
    due["c"] = 40
    index.put([(SessionId("c"), frozenset({"x", "c"}))], {SessionId("c"): 40})
    assert found_due("x") == ["d", "a", "c"]
    index.close("1")
    index = opened()
    assert index.resume("1")
    assert found_due("x") == ["d", "a", "c"]


def test_odd_ids_keep_their_order(opened: Open) -> None:
    index = opened()
    names = ["", "\x00", "\n", "a'--", "é", "ﬀ", "𝒳"]
    index.put([(SessionId(name), frozenset({"x"})) for name in names])
    assert found(index, "x") == names
    assert found(index, "x", after="é") == ["ﬀ", "𝒳"]


def test_new_tags_replace_old_ones(opened: Open) -> None:
    index = opened()
    put(index, a="x y", b="x")
    put(index, a="y z")
    assert found(index, "x") == ["b"]
    assert found(index, "z") == ["a"]
    put(index, a="")
    assert found(index, "y") == []


def test_it_is_resumed_only_with_the_stamp_that_it_was_closed_with(opened: Open) -> None:
    index = opened()
    assert not index.resume("1")
    put(index, a="x")
    index.close("1")
    again = opened()
    assert again.resume("1")
    assert found(again, "x") == ["a"]
    put(again, b="x")
    again.close("2")
    other = opened()
    assert not other.resume("1")
    assert found(other, "x") == []


def test_one_that_was_not_closed_is_not_resumed(opened: Open) -> None:
    index = opened()
    index.resume("1")
    put(index, a="x")
    index.close("1")
    assert opened().resume("1")
    assert not opened().resume("1"), "the one that was resumed was never closed"


def test_an_index_that_was_closed_before_it_was_needed_can_still_be_resumed(opened: Open) -> None:
    index = opened()
    index.resume("1")
    put(index, a="x")
    index.close("1")
    opened().close(None)
    again = opened()
    assert again.resume("1")
    assert found(again, "x") == ["a"]


def test_one_that_was_cleared_takes_tags_again(opened: Open) -> None:
    index = opened()
    put(index, a="x")
    index.clear()
    assert found(index, "x") == []
    put(index, b="x")
    assert found(index, "x") == ["b"]


def test_a_file_that_is_no_index_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    path.write_bytes(b"no database at all" * 1000)
    index = SqliteIndex(path)
    assert not index.resume("1")
    put(index, a="x")
    assert found(index, "x") == ["a"]
    index.close(None)
