"""The states of a partition's sessions: durable ones, and newer ones that are not durable yet."""

from __future__ import annotations

from triggerstream.adapters.memory import MemoryStateStore
from triggerstream.core.ids import SessionId
from triggerstream.engine.checkpoint import Stored
from triggerstream.engine.partitioned.session_states import PartitionStates
from triggerstream.wire.marks import CHECKPOINT_KEY


def states_of(*durable: str) -> PartitionStates:
    """The states ``{name} durable`` of sessions, and a mark."""
    store = MemoryStateStore()
    entries = {name.encode(): f"{name} durable".encode() for name in durable}
    store.write({CHECKPOINT_KEY: b"mark", **entries}, position=1)
    return PartitionStates(store)


def folded(states: PartitionStates, *names: str, value: bytes = b"new") -> dict[bytes, bytes]:
    """Add a newer state of each session; return the entries to write."""
    states.add({SessionId(name): Stored(state=value, due_us=None, config=0) for name in names})
    return {name.encode(): value for name in names}


def test_newest_state_is_loaded_durable_or_not() -> None:
    states = states_of("a", "b")
    folded(states, "b", "c")
    assert [states.load(SessionId(name)) for name in "abcd"] == [b"a durable", b"new", b"new", None]
    assert [states.stored(name) for name in (b"a", b"b", b"c")] == [b"a durable", b"b durable", None]
    assert states.not_durable() == [(b"b", b"new"), (b"c", b"new")]


def test_state_that_was_folded_again_meanwhile_is_still_not_durable() -> None:
    states = states_of("a")
    written = folded(states, "a", "b", value=b"first")
    folded(states, "b", value=b"second")
    states.write(written, {CHECKPOINT_KEY: b"mark 2"}, position=2)
    assert states.not_durable() == [(b"b", b"second")]
    assert [states.stored(key) for key in (b"a", b"b", CHECKPOINT_KEY)] == [b"first", b"first", b"mark 2"]
    assert states.load(SessionId("b")) == b"second"


def test_pages_have_the_newest_states_of_durable_sessions_in_order() -> None:
    states = states_of("e", "a", "c", "d", "b")
    folded(states, "b", "e", "z")
    pages = [[(key.decode(), value) for key, value in page] for page in states.pages(limit=2)]
    assert pages == [
        [("a", b"a durable"), ("b", b"new")],
        [("c", b"c durable"), ("d", b"d durable")],
        [("e", b"new")],
    ]
    assert [[key for key, _ in page] for page in states.pages(after=b"c", limit=9)] == [[b"d", b"e"]]


def test_sessions_are_found_by_prefix_beyond_one_and_up_to_a_limit() -> None:
    states = states_of("A", "A1", "A2", "B", "Z")

    def found(prefix: str, after: str | None = None, limit: int = 9) -> list[str]:
        rows = states.sessions(prefix=prefix, after=None if after is None else SessionId(after), limit=limit)
        assert all(value == f"{name} durable".encode() for name, value in rows)
        return [name for name, _ in rows]

    assert found("") == ["A", "A1", "A2", "B", "Z"]
    assert found("", limit=2) == ["A", "A1"]
    assert found("", after="A2") == ["B", "Z"]
    assert found("A") == found("A", after="0") == ["A", "A1", "A2"]
    assert found("A", limit=2) == ["A", "A1"]
    assert found("A", limit=1) == ["A"]
    assert found("A", after="A") == ["A1", "A2"]
    assert found("A", after="A1") == ["A2"]
    assert found("A", after="B") == found("C") == []
