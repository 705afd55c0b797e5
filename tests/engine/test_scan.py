"""Which sessions a configuration may decide something in, without having each meet it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.compared import Folding, Reading
from tests.core.logs_of_time import numbered_timed_scenario
from tests.core.reference_of_conditions import Line
from tests.core.story import SECOND, START_US, Story
from tests.core.strategies import BUSY, CHANGING, ENDINGS, History, World, histories
from triggerstream.core.conditions import AllOf, Condition, Leaf
from triggerstream.core.fold import needs_touch, next_due
from triggerstream.core.ids import (
    AppId,
    ConfigHash,
    JsonObject,
    LeafName,
    SessionId,
    TaskName,
    TriggerName,
)
from triggerstream.core.state import SessionState, TaskRecord
from triggerstream.core.tasks import AppliedConfiguration, AppliesTo, Configuration, Rules, Task
from triggerstream.core.timers import with_exact_due
from triggerstream.core.where import compile_where
from triggerstream.engine.scan import Scan, changed_tasks, has_met, may_decide
from triggerstream.engine.stored_states import StateDecoder, UnreadableStateError
from triggerstream.wire import blocks
from triggerstream.wire import state as states
from triggerstream.wire.marks import CHECKPOINT_KEY

EVERYTHING = (*BUSY, *ENDINGS, "touch", "timer", "apply", "apply")


@pytest.fixture(autouse=True, scope="module", params=[blocks.MOST_INLINE, 0], ids=["few", "lines"])
def _stored_as_lines(request: pytest.FixtureRequest) -> Iterator[None]:
    """As states are stored, and with all open instances and events as lines, as many are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "MOST_INLINE", request.param)
        yield


@given(st.one_of(histories(kinds=CHANGING), histories(kinds=EVERYTHING)))
def test_a_session_that_a_configuration_decides_something_in_is_looked_at(history: History) -> None:
    world = World(history.rules)
    looks: list[tuple[int, dict[SessionId, SessionState]]] = []
    """After each configuration: its offset, and the sessions that were touched for it."""
    for entry in history.entries:
        world.take(entry)
        if not isinstance(entry, AppliedConfiguration):
            continue
        asking = {name: one for name, one in world.states.items() if needs_touch(world.rules, name, one)}
        for since, touched in looks:
            changed = changed_tasks(world.rules, since=since)
            for name, one in asking.items():
                assert may_decide(one, changed) or touched.get(name) is one
        looks.append((entry.offset, asking))


@given(histories(kinds=EVERYTHING))
def test_the_bytes_of_a_state_tell_which_configuration_it_has_met(history: History) -> None:
    world = World(history.rules)
    for entry in history.entries:
        world.take(entry)
    for name, one in world.states.items():
        value = states.encode(one)
        for version in world.rules.history:
            met = one.is_empty() or one.config >= version.offset
            assert has_met(name.encode(), value, version.offset) is met
        seen = states.read_header(value)
        assert seen is not None
        assert seen.config == (None if one.is_empty() else one.config)
        assert seen.due_us == one.due_us
        assert seen.is_unsettled or not one.unjudged
        assert seen.may_be_open or not one.open_count


@given(histories(kinds=EVERYTHING))
def test_a_scan_finds_what_decoding_every_session_finds(history: History) -> None:
    world = World(history.rules)
    for entry in history.entries:
        before = world.rules.current.offset
        world.take(entry)
        if not isinstance(entry, AppliedConfiguration):
            continue
        rules = world.rules
        changed = changed_tasks(rules, since=before)
        scan = Scan(rules, scanned=before)
        for name, one in world.states.items():
            scan.look(name.encode(), states.encode(one))
        found = {session: (due_us, config) for session, due_us, config in scan.take_found()}
        oldest = rules.current.offset
        touched = []
        for name, one in world.states.items():
            if one.is_empty():
                assert found[name] == (None, None)
                continue
            oldest = min(oldest, one.config)
            due_us = next_due(rules, one)
            assert found.get(name, (None, one.config)) == (due_us, one.config)
            if may_decide(one, changed) and needs_touch(rules, name, one):
                touched.append(name.encode())
        assert scan.oldest == oldest
        assert [record.key for record in scan.take_touches()] == touched
        assert not scan.take_found()
        assert not scan.take_touches()


def test_a_reserved_key_is_no_session() -> None:
    scan = Scan(Rules(app=AppId("a")), scanned=-1)
    scan.look(CHECKPOINT_KEY, b"no state")
    assert not scan.take_found()


@pytest.mark.parametrize("value", [b"{}", b'{"version":9,"generation":0,"offset":1}'])
def test_a_state_that_cannot_be_read_is_named_with_its_store(value: bytes) -> None:
    decoder = StateDecoder(name="a store")
    with pytest.raises(UnreadableStateError, match=r"^a store: the state of session '42' cannot be read"):
        Scan(Rules(app=AppId("a")), scanned=-1, decoder=decoder).look(b"42", value)
    with pytest.raises(UnreadableStateError, match=r"^a store: the state of session '42' cannot be read"):
        has_met(b"42", value, 3, decoder=decoder)


TASK: JsonObject = {"after": ["a", "b"], "run": "tasks.t", "retry": {"max": 1, "backoff": "5s"}}
BEFORE: JsonObject = {"t": TASK, "other": {**TASK, "after": ["c"]}}
"""Then ``t`` needs only ``a``; or nothing is changed that a decision depends on."""
EARLIER: JsonObject = BEFORE | {"t": TASK | {"after": ["a"]}}
ELSEWHERE: JsonObject = BEFORE | {"t": TASK | {"run": "tasks.elsewhere"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class NotingDecoder(StateDecoder):
    """A decoder that notes which sessions' states are decoded."""

    decoded: list[SessionId] = field(default_factory=list)

    def read(self, session: SessionId, value: bytes) -> SessionState:
        self.decoded.append(session)
        return StateDecoder.read(self, session, value)


def stored(tasks: JsonObject, *lines: str, then: JsonObject | None = None) -> tuple[Rules, bytes]:
    """The state of a session to which ``lines`` happened under ``tasks``; the rules then."""
    story = Story(tasks)
    story.offset = 10
    for line in lines:
        kind, _, name = line.partition(" ")
        match kind:
            case "fire":
                story.fire(name)
            case "fail":
                story.failed(name)
            case "finish":
                story.finished(name)
            case "erase":
                story.erase()
            case _:
                raise ValueError(line)
    assert story.state is not None
    value = states.encode(story.state)
    if then is not None:
        story.offset = 50
        story.apply(then)
    return story.rules, value


SESSIONS = {
    "waiting": ("fire a",),
    "idle": ("fire c", "finish other#0"),
    "timer": ("fire a", "fire b", "fail t#0"),
    "erased": ("fire a", "erase"),
    "waiting with a timer": ("fire c", "fail other#0", "fire a"),
}
NAMES = ("waiting", "idle", "timer", "erased")


def scan_of(
    then: JsonObject, *, names: Iterable[str] = NAMES, scanned: int = -1
) -> tuple[Scan, NotingDecoder]:
    """A scan of some of the sessions after ``then`` has replaced ``BEFORE``."""
    decoder = NotingDecoder()
    rules, _ = stored(BEFORE, "fire a", then=then)
    scan = Scan(rules, scanned=scanned, decoder=decoder)
    for name in names:
        scan.look(name.encode(), stored(BEFORE, *SESSIONS[name])[1])
    return scan, decoder


def test_a_scan_decodes_only_sessions_with_timers_and_open_ones_that_missed_a_change() -> None:
    scan, decoder = scan_of(EARLIER)
    assert decoder.decoded == ["waiting", "timer"]
    assert scan.take_found() == [
        ("waiting", None, -1),
        ("timer", START_US + 5 * SECOND, -1),
        ("erased", None, None),
    ]
    assert [record.key for record in scan.take_touches()] == [b"waiting"]
    scan, decoder = scan_of(ELSEWHERE)
    assert decoder.decoded == ["timer"], "where and how a task runs decides nothing"
    assert not scan.take_touches()


def test_a_session_that_has_met_the_configuration_is_not_decoded_and_keeps_none() -> None:
    rules, _ = stored(BEFORE, "fire a", then=EARLIER)
    decoder = NotingDecoder()
    scan = Scan(rules, scanned=-1, decoder=decoder)
    story = Story(BEFORE)
    story.rules, story.offset = rules, 60
    story.fire("c")
    assert story.state is not None
    assert story.state.open_count == 1
    scan.look(b"met", states.encode(story.state))
    assert (decoder.decoded, scan.take_found(), scan.oldest) == ([], [], 50)


@pytest.mark.parametrize("name", ["waiting", "idle", "timer"])
def test_each_session_that_is_behind_keeps_the_configuration_that_it_met(name: str) -> None:
    scan, _ = scan_of(EARLIER, names=[name])
    assert scan.oldest == -1


def test_an_empty_session_keeps_no_configuration() -> None:
    scan, _ = scan_of(EARLIER, names=["erased"])
    assert scan.oldest == 50


def test_a_scan_that_was_completed_for_the_configuration_touches_nothing() -> None:
    scan, _ = scan_of(EARLIER, names=["waiting"], scanned=49)
    assert [record.key for record in scan.take_touches()] == [b"waiting"]
    for name in ("waiting", "waiting with a timer"):
        scan, _ = scan_of(EARLIER, names=[name], scanned=50)
        assert not scan.take_touches()
    scan, _ = scan_of(EARLIER, names=["waiting with a timer"], scanned=49)
    assert [record.key for record in scan.take_touches()] == [b"waiting with a timer"]


LIMITED: JsonObject = {"after": [], "andEvery": "a", "run": "tasks.t", "maxConcurrency": 1}
FREE: JsonObject = {**LIMITED, "maxConcurrency": 2}


def test_a_file_that_only_gives_places_concerns_sessions_with_held_instances() -> None:
    rules, running = stored({"t": LIMITED}, "fire a", then={"t": FREE})
    _, holding = stored({"t": LIMITED}, "fire a", "fire a")
    decoder = NotingDecoder()
    scan = Scan(rules, scanned=-1, decoder=decoder)
    scan.look(b"running", running)
    scan.look(b"holding", holding)
    assert decoder.decoded == ["holding"]
    assert [record.key for record in scan.take_touches()] == [b"holding"]


def test_a_session_in_which_a_file_holds_an_instance_is_touched_so_that_a_later_file_finds_it() -> None:
    waiting: JsonObject = {**LIMITED, "after": ["b"]}
    paused: JsonObject = {**LIMITED, "paused": True}
    rules, value = stored({"t": waiting}, "fire a", then={"t": paused})
    scan = Scan(rules, scanned=-1)
    scan.look(b"s", value)
    assert [record.key for record in scan.take_touches()] == [b"s"]


def test_a_scan_after_each_file_finds_what_would_decide_or_hold_in_files_of_time_and_places() -> None:
    touched = 0
    reader = Reading()
    for n in range(200):
        scenario = numbered_timed_scenario(n)
        folding = Folding.of(scenario.file, reader)
        scanned = -1
        for line in scenario.lines:
            folding.read(line)
            if line.file is None:
                continue
            scan = Scan(folding.rules, scanned=scanned)
            scanned = line.offset
            for session, state in folding.states.items():
                scan.look(session.encode(), states.encode(with_exact_due(folding.rules, state)))
            found = {record.key or b"" for record in scan.take_touches()}
            asking = {
                session.encode()
                for session, state in folding.states.items()
                if needs_touch(folding.rules, session, state)
            }
            touched += len(found)
            assert found == asking, n
            for name in sorted(found):
                touch = Line(
                    offset=line.offset,
                    arrival_us=line.arrival_us,
                    session=name.decode(),
                    type="triggerstream.session.touch",
                    time_us=line.arrival_us,
                )
                folding.read(touch)
    assert touched


def test_tasks_that_come_or_go_have_changed() -> None:
    rules, _ = stored(BEFORE, "fire a", then={"t": TASK, "new": TASK})
    assert changed_tasks(rules, since=-1) == {"other", "new"}
    assert changed_tasks(rules, since=50) == set()


def test_a_configuration_may_decide_something_where_a_task_changed_or_time_or_judging_is_due() -> None:
    idle = SessionState(offset=1)
    assert not may_decide(idle, frozenset({TaskName("t")}))
    assert may_decide(SessionState(offset=1, unjudged=True), frozenset())
    assert may_decide(SessionState(offset=1, due_us=1), frozenset())
    assert may_decide(SessionState(offset=1, tasks={TaskName("t"): TaskRecord()}), frozenset({TaskName("t")}))


def test_whether_a_configuration_was_met_is_seen_without_decoding() -> None:
    decoder = NotingDecoder()
    value = stored(BEFORE, "fire a")[1]
    assert has_met(b"s", value, -1, decoder=decoder)
    assert not has_met(b"s", value, 0, decoder=decoder)
    assert decoder.decoded == []


@given(histories(kinds=EVERYTHING))
def test_a_state_whose_bytes_do_not_tell_is_decoded_and_found_the_same(history: History) -> None:
    world = World(history.rules)
    for entry in history.entries:
        world.take(entry)
    rules = world.rules
    for name, one in world.states.items():
        value = states.encode(with_exact_due(rules, one))
        head, *lines = value.split(b"\n", 1)
        other = b"\n".join((json.dumps(dict(reversed(json.loads(head).items()))).encode(), *lines))
        assert states.read_header(other) is None
        scans = Scan(rules, scanned=-1), Scan(rules, scanned=-1)
        for scan, form in zip(scans, (value, other), strict=True):
            scan.look(name.encode(), form)
        plain, decoded = scans
        assert plain.oldest == decoded.oldest
        due = {one.session: one.due_us for one in decoded.take_found()}
        assert all(due[found.session] == found.due_us for found in plain.take_found())
        assert plain.take_touches() == decoded.take_touches()
        for version in rules.history:
            assert has_met(name.encode(), other, version.offset) is has_met(
                name.encode(), value, version.offset
            )


# ---- tasks that begin in existing sessions --------------------------------------------------------


def for_existing(*after: object) -> Configuration:
    """A file with a task that applies to existing sessions."""
    root = AllOf(members=tuple(leaf for leaf in after if isinstance(leaf, Leaf)))
    task = Task(name=TaskName("new"), run="r", after=Condition(root=root), applies_to=AppliesTo.EXISTING)
    return Configuration(hash=ConfigHash("new"), text="{}", tasks=(task,))


ANY_Z = Leaf(name=LeafName("zä"), trigger=TriggerName("zä"))
"""A name that is no ASCII."""


def begun(fired: str, data: JsonObject, config: Configuration) -> list[bytes | None]:
    """The sessions that a scan touches of one that has seen an event and has no instance at all."""
    story = Story({})
    story.fire(fired, data)
    assert story.state is not None
    assert not story.state.tasks
    applied = AppliedConfiguration(config=config, offset=10, arrival_us=START_US)
    scan = Scan(Rules(app=story.rules.app, history=(*story.rules.history, applied)), scanned=-1)
    scan.look(b"s", states.encode(story.state))
    return [record.key for record in scan.take_touches()]


def test_a_session_without_an_instance_is_touched_where_a_new_task_applies_to_existing_ones() -> None:
    assert begun("zä", {}, for_existing(ANY_Z)) == [b"s"]
    waiting = Leaf(name=LeafName("other"), trigger=TriggerName("other"))
    assert begun("zä", {}, for_existing(ANY_Z, waiting)) == [b"s"], "its instance is made by the touch"


def test_a_session_is_left_alone_whose_event_does_not_match_a_new_task() -> None:
    assert begun("other", {}, for_existing(ANY_Z)) == []
    filtered = replace(ANY_Z, where=compile_where("data.n > 1 && session == 's'"))
    assert begun("zä", {"n": 1}, for_existing(filtered)) == []
    assert begun("zä", {"n": 2}, for_existing(filtered)) == [b"s"]
