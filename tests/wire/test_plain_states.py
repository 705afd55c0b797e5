"""The shorter way to write and to read a state: the same as the way that takes all states, or none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.core.story import Story
from tests.core.strategies import BUSY, ENDINGS, History, World, histories
from tests.wire.values import states
from triggerstream.core.errors import DecodeError
from triggerstream.core.held import Remembered
from triggerstream.core.ids import LeafName, TaskName
from triggerstream.core.state import Instance, SessionState, Status, TaskRecord
from triggerstream.core.tasks import AppliedConfiguration
from triggerstream.wire import blocks, state
from triggerstream.wire.plain_states import build_plain_head, read_plain, read_plain_of_many
from triggerstream.wire.state_reader import StateReader
from triggerstream.wire.stored_state import Lines, PositionLines, SeenColumns


def read_both_ways(value: bytes) -> SessionState | None:
    """The state that the shorter way has read, as the other one does; None if it is left to that."""
    if b"}\n" in value:
        return read_lines_both_ways(value)
    plain = read_plain(state._decode_stored(value))  # noqa: SLF001 - each way needs a head of its own
    if plain is not None:
        other = StateReader(state._decode_stored(value), Lines(value, len(value))).read()  # noqa: SLF001
        assert repr(plain) == repr(other)
    return plain


def read_lines_both_ways(value: bytes) -> SessionState | None:
    """The same for a state that has lines."""
    end = value.index(b"}\n") + 1
    plain = read_plain_of_many(state._decode_stored(value[:end]), Lines(value, end + 1))  # noqa: SLF001 - as before
    if plain is not None:
        other = StateReader(state._decode_stored(value[:end]), Lines(value, end + 1)).read()  # noqa: SLF001
        assert state.encode(plain) == state.encode(other)
        assert type(plain.latest_captured) is type(other.latest_captured)
        assert repr(state._with_names(plain)) == repr(state._with_names(other))  # noqa: SLF001 - as before
    return plain


def written_both_ways(known: SessionState) -> bytes | None:
    """The bytes that the shorter way writes, as the other one does; None if it is left to that."""
    head = build_plain_head(known)
    if head is None:
        return None
    value = blocks.encode_value(head)
    assert state.encode_packed(state.pack(known)) == value
    return value


# ---- laws ---------------------------------------------------------------------------------------


@pytest.mark.laws
@given(histories(kinds=(*BUSY, *ENDINGS, "touch", "timer", "apply")), st.integers(0, 40))
def test_states_are_written_and_read_alike_by_both_ways(history: History, most: int) -> None:
    world = World(history.rules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "MOST_INLINE", most)
        for entry in history.entries:
            world.take(entry)
            if not isinstance(entry, AppliedConfiguration):
                for known in world.states.values():
                    value = written_both_ways(known)
                    value = state.encode(known) if value is None else value
                    again = read_both_ways(value)
                    assert again is None or state.encode(again) == value


@pytest.mark.laws
@given(states())
def test_any_state_is_written_and_read_alike_by_both_ways(known: SessionState) -> None:
    value = written_both_ways(known)
    read_both_ways(state.encode(known) if value is None else value)


# ---- what is plain, and what is not -------------------------------------------------------------


def finished(task: dict[str, Any], *, times: int = 1) -> Story:
    """A session whose instances are each finished before the next one is made."""
    story = Story({"t": {"after": [], "andEvery": "a", "run": "r"} | task})
    for number in range(times):
        story.fire("a", {"n": number}, id=str(number))
        story.finished(f"t#{number}", {"ok": True})
    return story


def known_of(story: Story) -> SessionState:
    """As it is read from a store."""
    assert story.state is not None
    return story.state.collected()


def test_a_session_with_one_finished_instance_takes_the_shorter_way() -> None:
    value = written_both_ways(known_of(finished({})))
    assert value is not None
    assert read_both_ways(value) is not None


@pytest.mark.parametrize("task", [{}, {"delay": "1h"}, {"unless": ["no"]}])
def test_open_instances_take_the_shorter_way(task: dict[str, Any]) -> None:
    story = Story({"t": {"after": ["a"], "run": "r"} | task})
    story.fire("a")
    value = written_both_ways(known_of(story))
    assert value is not None
    assert read_both_ways(value) is not None


def test_an_empty_session_takes_the_shorter_way() -> None:
    value = written_both_ways(SessionState(generation=3, offset=7))
    assert value is not None
    assert read_both_ways(value) is not None


@pytest.mark.parametrize("times", [2, 20])
def test_a_session_with_earlier_events_takes_the_other_way(times: int) -> None:
    known = known_of(finished({}, times=times))
    assert written_both_ways(known) is None
    assert read_both_ways(state.encode(known)) is None


PLAIN: dict[str, Any] = json.loads(state.encode(known_of(finished({}))))
RECORD: dict[str, Any] = PLAIN["tasks"]["t"]
INSTANCE: dict[str, Any] = RECORD["resolved"][0]


def with_record(**changes: object) -> dict[str, Any]:
    """The state with one finished instance, with other fields of its task."""
    return PLAIN | {"tasks": {"t": RECORD | changes}}


def with_instance(**changes: object) -> dict[str, Any]:
    """The state with one finished instance, with other fields of it."""
    return with_record(resolved=[INSTANCE | changes])


@pytest.mark.parametrize(
    "fields",
    [
        {name: value for name, value in PLAIN.items() if name != "config"},
        PLAIN | {"digests": {"a": "AAAA"}},
        with_record(next=0),
        with_record(resolved=[INSTANCE, INSTANCE]),
        with_record(open=[INSTANCE]),
        with_record(retired=[[0, 0]]),
        with_record(next=2, open=[INSTANCE | {"number": 1, "status": "delayed"}]),
        with_instance(status="running"),
        with_instance(captured={"a": 5_000}),
        with_instance(captured={"b": 0}),
        with_instance(capturedAt=[[0, 0]]),
    ],
)
def test_a_state_that_breaks_a_rule_is_left_to_the_way_that_words_the_error(fields: dict[str, Any]) -> None:
    value = json.dumps(fields).encode()
    assert read_both_ways(value) is None
    with pytest.raises(DecodeError):
        state.decode(value)


@pytest.mark.parametrize(
    "fields",
    [PLAIN | {"timeouts": -5}, PLAIN | {"holds": 1}, with_record(next=2, retired=[[1, 1]])],
)
def test_a_rarer_state_is_left_to_the_other_way(fields: dict[str, Any]) -> None:
    value = json.dumps(fields).encode()
    assert read_both_ways(value) is None
    assert state.decode(value) == state.decode(state.encode(state.decode(value)))


ANOTHER = INSTANCE["sent"] | {"queue": "another"}


@pytest.mark.parametrize(
    "fields",
    [
        PLAIN | {"closed": True},
        PLAIN | {"unjudged": True},
        PLAIN | {"refused": 3},
        with_record(removed=True),
        with_record(undecided=True),
        with_record(next=4),
        with_record(
            next=3,
            sent=INSTANCE["sent"],
            resolved=[
                *({**INSTANCE, "number": number, "sent": None} for number in (0, 2)),
                {**INSTANCE, "number": 1, "sent": ANOTHER},
            ],
        ),
    ],
)
def test_each_field_of_a_plain_state_is_read_and_written(fields: dict[str, Any]) -> None:
    known = read_both_ways(json.dumps(fields).encode())
    assert known is not None
    value = written_both_ways(known)
    assert value is not None
    assert json.loads(value) == without_null(fields)


def without_null(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, dict):
        return {name: without_null(one) for name, one in value.items() if one is not None}
    return [*map(without_null, value)] if isinstance(value, list) else value


def test_an_own_content_of_a_command_stays_beside_a_shared_one() -> None:
    fields = with_record(next=2, sent=ANOTHER, resolved=[INSTANCE, INSTANCE | {"number": 1, "sent": None}])
    known = read_both_ways(json.dumps(fields).encode())
    assert known is not None
    resolved = known.tasks[TaskName("t")].resolved
    assert [one.sent and one.sent.queue for one in resolved.values()] == [None, "another"]


@pytest.mark.parametrize(
    "lines",
    [
        {"seen_lines": SeenColumns(count=1, triggers=1, offsets=1, digests=1, bytes=1)},
        {"position_lines": PositionLines(count=1, bytes=1)},
        {"kept_lines": {"a": 1}},
    ],
)
def test_a_state_with_lines_of_any_kind_is_left_to_the_other_way(lines: dict[str, Any]) -> None:
    head = state._decode_stored(json.dumps(PLAIN).encode())  # noqa: SLF001 - lines are not read here
    assert read_plain(head) is not None
    assert read_plain(replace(head, **lines)) is None


def test_events_that_only_leaves_remember_are_left_to_the_other_way() -> None:
    known = known_of(finished({}))
    known.remembered = {TaskName("t"): Remembered(after={LeafName("a"): 0})}
    assert written_both_ways(known) is None
    assert read_both_ways(state.encode(known)) is None


def test_tasks_of_a_session_without_events_keep_their_configuration() -> None:
    known = SessionState(generation=1, offset=7, config=5, tasks={TaskName("t"): TaskRecord(next=1)})
    value = written_both_ways(known)
    assert value is not None
    assert json.loads(value)["config"] == 5


def with_events(*names: str) -> SessionState:
    """A session with these events and no instance."""
    story = Story({"t": {"after": ["never"], "run": "r"}})
    for name in names:
        story.fire(name)
    return replace(known_of(story), tasks={})


def with_open(count: int) -> SessionState:
    """A session with so many open instances that hold no event."""
    instances = (
        Instance(number=n, status=Status.UNSTARTED, created_us=1, changed_us=1) for n in range(count)
    )
    record = TaskRecord(next=count, open={one.number: one for one in instances})
    return SessionState(config=0, tasks={TaskName("t"): record}, open_count=count)


MANY: dict[str, Callable[[int], SessionState]] = {
    "latest events": lambda count: with_events(*(f"a{n}" for n in range(count))),
    "timeline": lambda count: with_events(*["a"] * count),
    "open instances": with_open,
}


@pytest.mark.parametrize("part", MANY)
def test_at_the_bound_a_state_takes_the_shorter_way_and_beyond_it_the_other(part: str) -> None:
    assert written_both_ways(MANY[part](blocks.MOST_INLINE)) is not None
    assert written_both_ways(MANY[part](blocks.MOST_INLINE + 1)) is None


@pytest.mark.parametrize("part", ["seen", "digests", "positions"])
def test_a_state_with_one_part_as_lines_takes_the_other_way(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = state.pack(with_events(*(f"a{n}" for n in range(99))))
    monkeypatch.setattr(blocks, "MOST_INLINE", 99)  # so that their number says nothing
    known = with_events("a")
    assert type(getattr(packed, part)) is not type(getattr(known, part))
    assert build_plain_head(known) is not None
    assert build_plain_head(replace(known, **{part: getattr(packed, part)})) is None


def test_many_open_instances_as_lines_take_the_other_way() -> None:
    assert build_plain_head(state.pack(with_open(99))) is None


def test_a_delayed_instance_of_an_earlier_release_has_a_due_time() -> None:
    story = Story({"t": {"after": ["a"], "delay": "1h", "run": "r"}})
    story.fire("a")
    fields = json.loads(state.encode(known_of(story)))
    del fields["due"]
    read = read_both_ways(json.dumps(fields).encode())
    assert read is not None
    assert read.due_us == 0


# ---- many triggers ------------------------------------------------------------------------------


def of_many(*, fired: int = 25) -> bytes:
    """A state with the events of a task that waits for 30 triggers."""
    story = Story({"t": {"after": [f"m{n}" for n in range(30)], "run": "r"}})
    for n in range(fired):
        story.fire(f"m{n}", {"n": n}, id=f"id{n}")
    return state.encode(known_of(story))


def changed(value: bytes, **fields: object) -> bytes:
    """A state with other fields in its head."""
    head, lines = value.split(b"\n", 1)
    return json.dumps(json.loads(head) | fields, separators=(",", ":")).encode() + b"\n" + lines


@pytest.mark.parametrize("fired", [17, 25, 29])
def test_a_session_of_many_triggers_takes_the_shorter_way(fired: int) -> None:
    assert read_both_ways(of_many(fired=fired)) is not None


def test_a_session_of_many_triggers_without_instances_takes_the_shorter_way() -> None:
    story = Story({"t": {"after": ["never"], "run": "r"}})
    for n in range(20):
        story.fire(f"m{n}", id=f"id{n}")
    assert read_both_ways(state.encode(known_of(story))) is not None


def test_a_session_of_many_triggers_with_a_resolved_instance_takes_the_other_way() -> None:
    assert read_both_ways(of_many(fired=30)) is not None
    story = Story({"t": {"after": [f"m{n}" for n in range(30)], "run": "r"}})
    for n in range(30):
        story.fire(f"m{n}")
    story.finished("t#0")
    assert read_both_ways(state.encode(known_of(story))) is None


OPEN: dict[str, Any] = json.loads(of_many().split(b"\n", 1)[0])["tasks"]["t"]["open"][0]


@pytest.mark.parametrize(
    "fields",
    [
        {"digests": {"m1": "AAAA"}},
        {"tasks": {"t": {"next": 0, "open": [OPEN]}}},
        {"tasks": {"t": {"next": 1, "open": [OPEN, OPEN]}}},
        {"tasks": {"t": {"next": 1, "open": [OPEN | {"status": "finished"}]}}},
        {"tasks": {"t": {"next": 1, "open": [OPEN | {"status": "delayed"}]}}},
        {"tasks": {"t": {"next": 1, "open": [OPEN | {"capturedAt": [[0, 25]]}]}}},
        {"tasks": {"t": {"next": 1, "open": [OPEN | {"captured": {"never": 1}}]}}},
        {"positions": [[0, "m0", 0, None]]},
        {"seen": {"m40": {"data": {}, "offset": 3, "time": 0}}},
    ],
)
def test_a_state_of_many_that_breaks_a_rule_is_left_to_the_way_that_words_the_error(
    fields: dict[str, Any],
) -> None:
    value = changed(of_many(), **fields)
    assert read_both_ways(value) is None
    with pytest.raises(DecodeError):
        state.decode(value)


@pytest.mark.parametrize(
    "fields",
    [
        {"generation": 3},
        {"config": 5},
        {"due": 7},
        {"closed": True},
        {"unjudged": True},
        {"refused": 3},
        {"digests": {"x": "AAAAAAAAAAAAAAAAAAAAAA=="}},
        {"tasks": {"t": {"next": 1, "open": [OPEN], "removed": True}}},
        {"tasks": {"t": {"next": 1, "open": [OPEN], "undecided": True}}},
        {"tasks": {"t": {"next": 1, "open": [OPEN]}, "u": {"next": 2}}},
    ],
)
def test_each_field_of_a_state_of_many_is_read(fields: dict[str, Any]) -> None:
    head, lines = changed(of_many(), **fields).split(b"\n", 1)
    in_order = blocks.encode_value(state._decode_stored(head))  # noqa: SLF001 - as it would be written
    assert read_both_ways(in_order + b"\n" + lines) is not None


def test_a_short_timeline_of_a_state_of_many_is_read() -> None:
    story = Story({"t": {"after": ["never"], "run": "r"}, "$bounds": {"positions": 3}})
    for n in range(20):
        story.fire(f"m{n}", id=f"id{n}")
    known = read_both_ways(state.encode(known_of(story)))
    assert known is not None
    assert len(known.positions) == 3
    assert known.positions == known_of(story).positions


@pytest.mark.parametrize(
    "fields",
    [
        {"config": None},
        {"timeouts": -5},
        {"holds": 1},
        {"remembered": {"t": {"after": {"m0": 1}}}},
        {"kept": {"m0": [{"data": {}, "offset": 0, "time": 0}]}},
        {"keptLines": {"m0": 1}},
    ],
)
def test_a_rarer_state_of_many_is_left_to_the_other_way(fields: dict[str, Any]) -> None:
    value = changed(of_many(), **fields)
    if fields == {"config": None}:
        value = value.replace(b'"config":null,', b"")
    end = value.index(b"}\n") + 1
    head = state._decode_stored(value[:end])  # noqa: SLF001 - each way needs a head of its own
    assert read_plain_of_many(head, Lines(value, end + 1)) is None


def test_lines_that_a_state_of_many_does_not_have_are_refused() -> None:
    for value in (of_many() + b"\n", of_many()[:-2] + b"\n"):
        with pytest.raises(DecodeError):
            state.decode(value)
