"""Many open instances and events of a state are lines after its head."""

from __future__ import annotations

import json
import operator
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.core.story import Story
from triggerstream.core import lazy
from triggerstream.core.blocks import OpenInstances
from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import JsonObject, LeafName, TaskName, TriggerName
from triggerstream.core.lazy import Piece, locate, split_lines
from triggerstream.core.state import SessionState
from triggerstream.wire import blocks, changed_lines, int_columns, state
from triggerstream.wire.int_columns import IntColumn

Head = dict[str, Any]
Change = Callable[[Head, list[bytes]], object]


def story_of_many() -> Story:
    """A session with twenty triggers, instances in two statuses, and earlier events."""
    story = Story({"t": {"after": ["b"], "andEvery": "a", "unless": ["no"], "run": "r"}})
    for n in range(20):
        story.fire("a", {"n": n})
    story.fire("b")
    for n in range(20):
        story.fire("a", {"n": n})
        story.fire(f"other{n}", {"n": n})
    return story


def known_of(story: Story) -> SessionState:
    """Its state, without what is derived."""
    assert story.state is not None
    known = story.state.collected()
    for record in known.tasks.values():
        record.takers = None
    return known


def test_instances_and_events_are_lines_once_they_are_many() -> None:
    known = known_of(story_of_many())
    head, *lines = state.encode(known).splitlines()
    fields = json.loads(head)
    assert "seen" not in fields
    assert "open" not in fields["tasks"]["t"]
    columns = fields["tasks"]["t"]["openLines"]
    shapes = [(one["status"], list(one["captured"]), len(one["numbers"])) for one in columns]
    assert shapes == [("scheduled", ["a", "b"], 20), ("scheduled", ["b", "a"], 20)]
    assert fields["seenLines"]["count"] == 22
    assert json.loads(lines[0]) == [*known.seen]
    assert json.loads(lines[1]) == [arrival.offset for arrival in known.seen.values()]
    assert "positions" not in fields
    assert fields["positionLines"]["count"] == 50
    assert len(lines) == 3 + 22 + 39 + 40 + 50
    assert state.decode(state.encode(known)) == known


def test_the_line_of_an_instance_that_an_outcome_changes_is_searched_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    story = Story({"t": {"after": [], "andEvery": "a", "run": "r"}})
    for _ in range(40):
        story.fire("a")
    assert story.state is not None
    story.state = state.decode_lazily(state.encode(story.state))
    searched: list[bytes] = []

    def note(pieces: Sequence[Piece], begin: bytes, near: float) -> tuple[int, int, int] | None:
        searched.append(begin)
        return locate(pieces, begin, near)

    monkeypatch.setattr(lazy, "locate", note)
    story.finished("t#7")
    state.encode(story.state)
    assert searched == [b'{"number":7,']


@pytest.mark.parametrize("is_ambiguous", [False, True])
def test_no_lines_are_split_to_retire_an_instance(
    monkeypatch: pytest.MonkeyPatch, *, is_ambiguous: bool
) -> None:
    """Unless the data of another event looks like the event that is searched."""
    split: list[int] = []

    def note(pieces: Sequence[bytes | memoryview], count: int) -> list[bytes]:
        split.append(count)
        return split_lines(pieces, count)

    monkeypatch.setattr(lazy, "split_lines", note)
    monkeypatch.setattr(changed_lines, "split_lines", note)
    plain, lazily = (Story({"t": {"after": [], "andEvery": "a", "run": "r"}}) for _ in range(2))
    for story in (plain, lazily):
        for n in range(40):
            decoy: JsonObject = {"data": {}, "offset": n + 1, "time": 0} if is_ambiguous else {}
            story.fire("a", {"n": n, "decoy": decoy})
    for n in range(20):
        assert lazily.state is not None
        lazily.state = state.decode_lazily(state.encode(lazily.state))
        for story in (plain, lazily):
            story.finished(f"t#{30 - n}")
    assert bool(split) is is_ambiguous
    assert plain.state is not None
    assert lazily.state is not None
    assert state.encode(lazily.state) == state.encode(plain.state)
    assert state.decode(state.encode(plain.state)) == state.decode(state.encode(lazily.state))


@pytest.mark.parametrize("kind", ["started", "finished"])
def test_the_lines_of_a_state_are_copied_once_an_event_into_the_new_state(kind: str) -> None:
    story = Story({"t": {"after": [], "andEvery": "a", "run": "r"}})
    for n in range(300):
        story.fire("a", {"long": "x" * 500, "n": n})
    assert story.state is not None
    value = state.encode(story.state)
    tracemalloc.start()
    try:
        story.state = state.decode_lazily(value)
        getattr(story, kind)("t#150")
        packed = state.pack(story.state)
        unwritten = tracemalloc.get_traced_memory()[1]
        state.encode_packed(packed)
        written = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert unwritten < len(value) / 2  # with a copy of each block, it is more than the whole
    assert written < 1.5 * len(value)


def test_few_are_in_the_head() -> None:
    story = Story({"t": {"after": ["b"], "andEvery": "a", "run": "r"}})
    for n in range(blocks.MOST_INLINE):
        story.fire("a", {"n": n})
    known = known_of(story)
    assert b"\n" not in state.encode(known)
    story.fire("a")
    # The latest event is in the head, the sixteen before it too. The timeline is lines now.
    assert state.encode(known_of(story)).count(b"\n") == 1 + 17 + 17


def test_a_state_with_lines_becomes_one_line_once_few_are_left() -> None:
    story = Story({"t": {"after": [], "andEvery": "a", "run": "r"}, "$bounds": {"resolvedInstances": 1}})
    for _ in range(blocks.MOST_INLINE + 1):
        story.fire("a")
    story.state = state.decode_lazily(state.encode(known_of(story)))
    story.finished("t#3")
    known = known_of(story)
    assert b"openLines" not in state.encode(known)
    assert list(known.tasks[TaskName("t")].open) == [n for n in range(blocks.MOST_INLINE + 1) if n != 3]
    assert state.decode(state.encode(known)) == known


def test_an_event_that_replaces_another_keeps_its_place() -> None:
    story = story_of_many()
    story.state = state.decode_lazily(state.encode(known_of(story)))
    story.fire("other3", {"n": -1})
    story.fire("new")
    known = known_of(story)
    read = state.decode(state.encode(known))
    assert list(read.seen) == list(known.seen) == [*story_of_many().state.seen, "new"]  # type: ignore[union-attr]
    assert read.seen[TriggerName("other3")].data == {"n": -1}


def test_fields_have_instances_and_events_in_place() -> None:
    value = state.encode(known_of(story_of_many()))
    fields: Any = state.named_fields(value)
    assert fields["tasks"]["t#25"]["captured"].keys() == {"a", "b"}
    assert fields["seen"]["other7"]["data"] == {"n": 7}
    assert len(fields["kept"]["a"]) == 39
    assert "openLines" not in json.dumps(fields)


@pytest.mark.parametrize(
    "change",
    [
        lambda head, _: head["tasks"]["t"].update(next=39),
        lambda head, _: columns_of(head)["numbers"].reverse(),
        lambda head, _: columns_of(head)["numbers"].__setitem__(1, 0),
        lambda head, _: columns_of(head)["numbers"].pop(),
        lambda head, _: columns_of(head)["numbers"].append(19.5),
        lambda head, _: columns_of(head)["captured"]["a"].pop(),
        lambda head, _: columns_of(head)["captured"]["a"].__setitem__(3, 5_000),
        lambda head, _: columns_of(head)["captured"].update(never=[1] * 20),
        lambda head, _: columns_of(head)["noted"].update(no=[1]),
        lambda head, _: columns_of(head).update(status="finished"),
        lambda head, _: columns_of(head).update(status="running"),
        lambda head, _: columns_of(head).update(status="odd"),
        lambda head, _: columns_of(head).update(bytes=columns_of(head)["bytes"] - 1),
        lambda head, _: columns_of(head).update(bytes=-1),
        lambda head, _: columns_of(head).pop("bytes"),
        lambda head, _: columns_of(head).update(sent={"run": ""}),
        lambda head, _: head["tasks"]["t"].update(openLines=[columns_of(head)] * 3),
        lambda head, _: head["tasks"]["t"].update(openLines=[{**columns_of(head), "numbers": []}]),
        lambda _, lines: lines.__setitem__(0, lines[0].replace(b'"a"', b'"b"')),
        lambda _, lines: lines.__setitem__(0, lines[0].replace(b'["a"', b"[1111"[:4])),
        lambda _, lines: lines.__setitem__(0, b"{" * len(lines[0])),
        lambda _, lines: lines.__setitem__(1, lines[1].replace(b",", b" ", 1)),
        lambda _, lines: lines.__setitem__(1, b"[4" + lines[1][2:]),
        lambda _, lines: lines.__setitem__(1, b"[9" + lines[1][2:]),
        lambda head, _: head["seenLines"].update(count=21),
        lambda head, _: head["seenLines"].update(count=0),
        lambda head, _: head["seenLines"].update(triggers=head["seenLines"]["triggers"] + 1),
        lambda head, _: head["seenLines"].pop("digests"),
        lambda head, _: head["seenLines"].update(bytes=0),
        lambda head, _: head.update(seen={"c": {"data": {}, "offset": 1, "time": 1}}),
        lambda head, _: head.update(kept={"a": [{"data": {}, "offset": 1, "time": 1}]}),
        lambda head, _: head["keptLines"].update(a=head["keptLines"]["a"] + 1),
        lambda head, _: head["keptLines"].update(c=10),
        lambda head, _: head.pop("positionLines"),
        lambda head, _: head["positionLines"].update(count=49),
        lambda head, _: head["positionLines"].update(count=51),
        lambda head, _: head["positionLines"].update(bytes=head["positionLines"]["bytes"] - 1),
        lambda head, _: head.update(positions=[[1, "a", 1, None]]),
        lambda _, lines: lines.__setitem__(-2, b"[" * len(lines[-2])),
        lambda head, _: head.pop("keptLines"),
        lambda _, lines: lines.pop(),
        lambda _, lines: lines.pop(0),
        lambda _, lines: lines.append(lines[-1]),
        lambda _, lines: lines.append(b"x"),
        lambda _, lines: lines.__setitem__(0, b"x" * len(lines[0])),
        lambda _, lines: lines.__setitem__(33, b" " * len(lines[33])),
        lambda _, lines: lines.__setitem__(-1, b"\n" * len(lines[-1])),
        lambda _, lines: lines.reverse(),
        lambda _, lines: lines.insert(3, lines.pop(4)),
    ],
)
def test_lines_and_columns_that_do_not_agree_are_refused(change: Change) -> None:
    head, *lines = state.encode(known_of(story_of_many())).splitlines()
    fields: Head = json.loads(head)
    columns_of(fields).setdefault("noted", {})
    assert state.decode(joined(fields, lines)) == known_of(story_of_many())
    change(fields, lines)
    with pytest.raises(DecodeError):
        state.decode(joined(fields, lines))


def columns_of(head: Head) -> Head:
    """The columns of the first block of instances."""
    return head["tasks"]["t"]["openLines"][0]  # type: ignore[no-any-return]


def joined(head: Head, lines: list[bytes]) -> bytes:
    """The bytes of a state."""
    return b"\n".join([json.dumps(head).encode(), *lines, b""])


@pytest.mark.parametrize("kind", ["fire", "started", "finished"])
def test_an_event_decodes_no_column_of_open_instances(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    plain, lazily = (Story({"t": {"after": [], "andEvery": "a", "run": "r"}}) for _ in range(2))
    for story in (plain, lazily):
        for _ in range(400):
            story.fire("a")
        for n in range(12):
            story.finished(f"t#{5 * n}")
            story.started(f"t#{5 * n + 1}")
    named = "a" if kind == "fire" else "t#77"
    getattr(plain, kind)(named)
    assert lazily.state is not None
    stored = state.encode(lazily.state)
    monkeypatch.setattr(int_columns, "_decoded", None)
    lazily.state = state.decode_lazily(stored)
    getattr(lazily, kind)(named)
    found = state.encode(lazily.state)
    monkeypatch.undo()
    assert plain.state is not None
    assert found == state.encode(plain.state)


def stored_with_open(count: int, *, long_head: bool = False) -> tuple[Head, list[bytes]]:
    """The head and lines of a session with open instances of two statuses."""
    story = Story({"t": {"after": ["b"], "andEvery": "a", "run": "r"}, "u": {"after": ["c"], "run": "r"}})
    for _ in range(20):
        story.fire("a")
    story.fire("b")
    for _ in range(count - 20):
        story.fire("a")
    if long_head:
        story.fire("c", {"long": "x" * 4_000})
    for n in range(9):
        story.started(f"t#{n}")
        story.started(f"t#{count - n - 1}")
    assert story.state is not None
    head, *lines = state.encode(story.state).splitlines()
    return json.loads(head), lines


WRONG_COLUMNS: dict[str, Callable[[list[Head]], object]] = {
    "descending": lambda found: found[0]["numbers"].reverse(),
    "a number twice in a block": lambda found: operator.setitem(
        found[0]["numbers"], 1, found[0]["numbers"][0]
    ),
    "a number in two blocks": lambda found: operator.setitem(found[0]["numbers"], 0, found[1]["numbers"][0]),
    "an offset less": lambda found: found[0]["captured"]["a"].pop(),
    "an offset more": lambda found: found[0]["captured"]["a"].append(1),
    "a negative number": lambda found: operator.setitem(found[0]["numbers"], 0, -1),
    "an offset that is no number": lambda found: operator.setitem(found[0]["captured"]["a"], 0, "1"),
    "too great an offset": lambda found: operator.setitem(found[0]["captured"]["a"], 0, 2**63),
    "a number that is not below next": lambda found: operator.setitem(found[0]["numbers"], -1, 10**6),
}


@pytest.mark.parametrize("change", WRONG_COLUMNS.values(), ids=WRONG_COLUMNS.keys())
@pytest.mark.parametrize("long_head", [False, True])
def test_wrong_columns_of_few_open_instances_are_refused_when_the_state_is_read(
    change: Callable[[list[Head]], object],
    long_head: bool,  # noqa: FBT001
) -> None:
    fields, lines = stored_with_open(40, long_head=long_head)
    assert state.decode_lazily(joined(fields, lines)).open_count >= 40
    change(fields["tasks"]["t"]["openLines"])
    with pytest.raises(DecodeError):
        state.decode_lazily(joined(fields, lines))


@pytest.mark.parametrize("change", WRONG_COLUMNS.values(), ids=WRONG_COLUMNS.keys())
def test_wrong_columns_of_many_open_instances_are_refused_when_all_are_looked_at(
    change: Callable[[list[Head]], object],
) -> None:
    fields, lines = stored_with_open(400)
    assert state.decode(joined(fields, lines)).open_count == 400
    change(fields["tasks"]["t"]["openLines"])
    with pytest.raises(DecodeError):
        state.decode(joined(fields, lines))


@pytest.mark.parametrize("count", [40, 400])
def test_a_retired_number_that_is_in_a_line_is_refused(count: int) -> None:
    fields, lines = stored_with_open(count)
    fields["tasks"]["t"]["retired"] = [[3, 4]]
    with pytest.raises(DecodeError, match="instance 3 is among the `retired`"):
        (state.decode_lazily if count == 40 else state.decode)(joined(fields, lines))


def test_columns_are_decoded_with_the_head_unless_they_are_long() -> None:
    for count, kind in ((40, list), (255, list), (400, IntColumn)):
        fields, lines = stored_with_open(count)
        read = state.decode_lazily(joined(fields, lines)).tasks[TaskName("t")].open
        assert isinstance(read, OpenInstances)
        most = max(read.blocks, key=lambda block: block.length)
        assert isinstance(most.numbers, kind)
        assert isinstance(most.captured[LeafName("a")], kind)


def test_the_columns_of_a_session_in_memory_are_json_once_they_are_long() -> None:
    story = Story({"t": {"after": [], "andEvery": "a", "run": "r"}})
    for count in range(1, int_columns.LONG + 20):
        story.fire("a")
        assert story.state is not None
        story.state = state.pack(story.state)
        if count > blocks.MOST_INLINE:
            read = story.state.tasks[TaskName("t")].open
            assert isinstance(read, OpenInstances)
            is_long = count >= int_columns.LONG
            assert isinstance(read.blocks[0].numbers, IntColumn if is_long else list)


def test_a_lazy_state_whose_numbers_are_not_ascending_is_refused_when_all_are_looked_at() -> None:
    fields, lines = stored_with_open(400)
    max(fields["tasks"]["t"]["openLines"], key=lambda one: len(one["numbers"]))["numbers"].sort(
        key=lambda number: (number != 50, number)
    )
    read = state.decode_lazily(joined(fields, lines))
    with pytest.raises(DecodeError, match="by number, each once"):
        list(read.tasks[TaskName("t")].open.values())
