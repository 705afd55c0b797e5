"""From records to checkpoints: what a batch decides, changes and refuses, however the log is cut."""

from __future__ import annotations

import json
from itertools import pairwise
from sys import getrefcount

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.core.scenarios import Partition
from tests.core.strategies import (
    APP,
    BUSY,
    CHANGING,
    ENDINGS,
    SMALL,
    TIGHT,
    History,
    configurations,
    histories,
)
from triggerstream.core.commands import Command
from triggerstream.core.events import (
    Body,
    Close,
    ConfigApplied,
    Erase,
    Event,
    Failed,
    Finished,
    Resend,
    Retried,
    Started,
    Timer,
    Touch,
    Trigger,
)
from triggerstream.core.fold import next_due, step
from triggerstream.core.ids import (
    AppId,
    CommandId,
    ConfigHash,
    InstanceId,
    JsonObject,
    SessionId,
    TaskName,
    TriggerName,
    command_id,
)
from triggerstream.core.placement import partition_of
from triggerstream.core.results import Folded, Unknown
from triggerstream.core.sizes import TEXT_BYTES, resolved_bytes
from triggerstream.core.state import RESOLVED, Arrival, SessionState
from triggerstream.core.tasks import NEVER_APPLIED, AppliedConfiguration, Bounds, Configuration, Rules
from triggerstream.core.timers import DueOf, due, with_exact_due
from triggerstream.engine.checkpoint import Checkpoint
from triggerstream.engine.processor import REMEMBERED_BYTES, FoldVersionError, Processor, are_scattered
from triggerstream.engine.stored_states import StateDecoder, UnreadableStateError
from triggerstream.wire import commands, tasksfile
from triggerstream.wire import state as states
from triggerstream.wire.bounds import EVENT_BYTES
from triggerstream.wire.engine_events import text_hash
from triggerstream.wire.events import ORIGIN_HEADER, decode, encode
from triggerstream.wire.json import dumps
from triggerstream.wire.records import Headers, NewRecord, Record
from triggerstream.wire.signature import ControlKey, ControlKeys

SECOND = 1_000_000
SIZES = states.EncodedSizes()
T0 = InstanceId("t#0")


def configured(
    tasks: JsonObject | str, *, fold: int = 1, replaces: JsonObject | None = None, number: int | None = None
) -> bytes:
    text = tasks if isinstance(tasks, str) else json.dumps(tasks)
    before = None if replaces is None else text_hash(json.dumps(replaces))
    return encode(ConfigApplied(text=text, hash=text_hash(text), replaces=before, fold=fold, number=number))


def task(*after: str, **keys: object) -> dict[str, object]:
    return {"after": list(after), "run": "my_app.tasks.run", **keys}


def tasks(**named: dict[str, object]) -> JsonObject:
    text: JsonObject = json.loads(json.dumps(named))
    return text


class Log:
    """Records, one after the other."""

    def __init__(self, first: JsonObject) -> None:
        self.records: list[Record] = []
        self.apply(first)

    def add(self, value: bytes | None, *, session: str | None = "s", at: float = 0) -> Record:
        record = Record(
            partition=0,
            offset=len(self.records),
            arrival_us=round(at * SECOND),
            key=None if session is None else session.encode(),
            value=value,
        )
        self.records.append(record)
        return record

    def apply(self, tasks: JsonObject | str, *, at: float = 0) -> Record:
        return self.add(configured(tasks), session=None, at=at)

    def tell(self, body: Body, *, session: str = "s", at: float = 0) -> Record:
        return self.add(encode(body), session=session, at=at)

    def fire(self, name: str, *, session: str = "s", at: float = 0, **data: str | int) -> Record:
        return self.tell(Trigger(name=TriggerName(name), data={**data}), session=session, at=at)

    def folded(self) -> Checkpoint:
        return Processor(app=APP).process(Rules(app=APP), self.records, lambda _: None)


def command(number: int = 0, *, task: str = "t", session: str = "s", generation: int = 0) -> CommandId:
    return command_id(APP, SessionId(session), generation=generation, task=TaskName(task), number=number)


def decided(checkpoint: Checkpoint) -> list[str]:
    return [item.decision.instance for item in checkpoint.decided]


# ---- laws ---------------------------------------------------------------------------------------


def records_of(history: History) -> list[Record]:
    """A drawn log as the broker would hold it, the first configuration at its head."""
    first = AppliedConfiguration(config=history.rules.current.config, offset=0, arrival_us=0)
    records: list[Record] = []
    for entry in (first, *history.entries):
        key = None
        if isinstance(entry, Event):
            key = entry.session.encode()
            value = encode(
                entry.body,
                id=entry.id,
                time_us=entry.time_us,
                traceparent=entry.traceparent,
            )
        else:
            value = configured(tasksfile.encode(entry.config))
        records.append(
            Record(partition=0, offset=len(records), arrival_us=entry.arrival_us, key=key, value=value)
        )
    return records


def batches(records: list[Record], data: st.DataObject) -> list[list[Record]]:
    cuts = data.draw(st.lists(st.integers(1, len(records)), max_size=4))
    edges = sorted({0, *cuts, len(records)})
    return [records[a:b] for a, b in pairwise(edges)]


EVERYTHING = (*BUSY, *ENDINGS, "touch", "timer", "apply", "apply")


@pytest.mark.laws
@given(
    st.one_of(
        histories(kinds=EVERYTHING),
        histories(kinds=CHANGING),
        histories(kinds=EVERYTHING, configs=configurations(bounds=TIGHT)),
        histories(kinds=(*EVERYTHING, *CHANGING), configs=configurations(bounds=SMALL)),
    ),
    st.data(),
)
def test_folding_in_any_split_equals_folding_at_once(history: History, data: st.DataObject) -> None:
    records = records_of(history)
    whole, split, single = (Partition(Rules(app=APP)) for _ in range(3))
    whole.process(records)
    for batch in batches(records, data):
        split.process(batch)
    for record in records:
        single.process([record])
    for other in (split, single):
        assert other.stored == whole.stored
        assert other.values == whole.values
        assert other.settled == whole.settled
        assert other.dead_letters == whole.dead_letters
        assert other.rules == whole.rules


@pytest.mark.laws
@given(
    history=st.one_of(
        histories(kinds=EVERYTHING),
        histories(kinds=(*EVERYTHING, *CHANGING), configs=configurations(bounds=SMALL)),
    ),
    most=st.integers(1, 3_000),
    scattered=st.booleans(),
)
def test_folding_in_parts_of_any_size_equals_folding_at_once(
    history: History, most: int, *, scattered: bool
) -> None:
    records = records_of(history)
    whole, parts = Partition(Rules(app=APP)), Partition(Rules(app=APP))
    whole.process(records)
    while records:
        records = records[parts.process(records, most=most, scattered=scattered).records :]
    assert parts.stored == whole.stored
    assert parts.values == whole.values
    assert parts.settled == whole.settled
    assert parts.dead_letters == whole.dead_letters
    assert parts.rules == whole.rules


def test_scattered_events_are_folded_in_parts() -> None:
    log = Log(tasks(t=task("a", "b")))
    for trigger in "ab":
        for number in range(100):
            log.fire(trigger, session=f"s{number}")
    whole, parts = Partition(Rules(app=APP)), Partition(Rules(app=APP))
    whole.process(log.records)
    records, sizes = log.records, []
    while records:
        checkpoint = parts.process(records, scattered=True)
        records = records[checkpoint.records :]
        sizes.append(checkpoint.records)
    assert sizes == [128, 73]
    assert parts.stored == whole.stored
    assert parts.values == whole.values


@pytest.mark.parametrize(
    ("sessions", "events", "scattered"),
    [(128, 128, False), (129, 129, True), (150, 300, False), (300, 400, True)],
)
def test_events_are_scattered_if_there_are_many_and_most_are_of_different_sessions(
    *, sessions: int, events: int, scattered: bool
) -> None:
    log = Log(tasks(t=task("a")))
    for number in range(events):
        log.fire("a", session=f"s{number % sessions}")
    assert are_scattered(log.records[1:]) == scattered


def test_a_checkpoint_ends_with_the_record_that_makes_it_long() -> None:
    many = {f"t{number}": task("a") for number in range(20)}
    log = Log(tasks(**many))
    for number in range(10):
        log.tell(Trigger(name=TriggerName("a"), data={"text": "x" * 1_000}), session=f"s{number}")
    processor = Processor(app=APP)
    rules, records, sizes = Rules(app=APP), log.records, []
    while records:
        checkpoint = processor.process(rules, records, lambda _: None, most=60_000)
        made = sum(len(item.value) for item in checkpoint.decided)
        held = sum(len(stored.state) for stored in checkpoint.states.values())
        assert 0 <= checkpoint.size - made - held <= (2_000 if checkpoint.rules else 0)
        rules, records = checkpoint.rules or rules, records[checkpoint.records :]
        sizes.append(checkpoint.size)
    assert len(sizes) > 3
    assert all(60_000 <= size < 150_000 for size in sizes[:-1])


@pytest.mark.laws
@given(histories(kinds=EVERYTHING), st.data())
def test_redelivering_any_suffix_changes_nothing_and_decides_nothing(
    history: History, data: st.DataObject
) -> None:
    records = records_of(history)
    partition = Partition(Rules(app=APP))
    for batch in batches(records, data):
        partition.process(batch)
    stored, values, rules = dict(partition.stored), list(partition.values), partition.rules
    partition.process(records[data.draw(st.integers(0, len(records) - 1)) :])
    assert (partition.stored, partition.values, partition.rules) == (stored, values, rules)


@pytest.mark.laws
@given(histories(kinds=EVERYTHING))
def test_one_processor_that_remembers_equals_many_that_do_not(history: History) -> None:
    records = records_of(history)
    one = Processor(app=APP)
    forgetful, remembering = Partition(Rules(app=APP)), Partition(Rules(app=APP))
    for record in records:
        forgetful.process([record])
        checkpoint = one.process(remembering.rules, [record], remembering.stored.get)
        remembering.stored |= {session: stored.state for session, stored in checkpoint.states.items()}
        remembering.values += [item.value for item in checkpoint.decided]
        remembering.rules = checkpoint.rules or remembering.rules
    assert remembering.stored == forgetful.stored
    assert remembering.values == forgetful.values


@pytest.mark.laws
@given(histories(kinds=(*EVERYTHING, *CHANGING), configs=configurations(bounds=SMALL), max_size=60))
def test_bounds_in_bytes_hold_in_the_two_passes_of_the_rules(history: History) -> None:
    """docs/semantics.md, R11.5: whatever the processor estimates, it folds as if it had measured."""
    assert_folded_in_two_passes(records_of(history))


def assert_folded_in_two_passes(records: list[Record]) -> Partition:
    """Fold records one by one, and compare each result with that of the rule; returns the partition."""
    partition = Partition(Rules(app=APP))
    for record in records:
        rules, before, decided_before = partition.rules, dict(partition.stored), len(partition.values)
        partition.process([record])
        event = decode(record)
        if isinstance(event, ConfigApplied):
            continue
        stored = before.get(event.session)
        known = None if stored is None else states.decode(stored)
        folded = step(rules, known, event)
        keeps = isinstance(folded, Folded) and keeps_bounds(rules.current.config.bounds, event, folded)
        if isinstance(folded, Folded) and (not keeps or may_expire(rules, known, event)):
            folded = step(rules, known, event, sizes=SIZES)
        if isinstance(folded, Folded):
            exact = with_exact_due(rules, folded.state)
            assert partition.stored[event.session] == states.encode(exact)
            assert partition.values[decided_before:] == [commands.encode(d) for d in folded.decisions]
        elif isinstance(folded, Unknown):
            assert (partition.stored, partition.values[decided_before:]) == (before, [])
        else:
            assert partition.stored == before
            assert partition.dead_letters[-1].reason == folded.reason
    return partition


def may_expire(rules: Rules, known: SessionState | None, event: Event) -> bool:
    """Whether a deadline is due, or a timer where the session missed a file: then there is no first pass."""
    due_us = None if known is None else next_due(rules, known)
    until_us = 0 if known is None else max(known.clock_us, event.arrival_us)
    if known is None or due_us is None or due_us > until_us:
        return False
    met, missed = rules.met(known.config).config, rules.missed(known.config)
    if missed:
        files = (met, *(file.config for file in missed))
        return any(task.deadline_us is not None for file in files for task in file.tasks)
    waiting = [
        (task, instance)
        for task in met.tasks
        if task.name in known.tasks and task.deadline_us is not None
        for instance in known.tasks[task.name].instances()
    ]
    found = [due(task, instance) for task, instance in waiting if instance.status not in RESOLVED]
    return any(one is not None and one.of is DueOf.DEADLINE and one.us <= until_us for one in found)


def keeps_bounds(bounds: Bounds, event: Event, folded: Folded) -> bool:
    """Whether the result of the first pass counts."""
    if isinstance(event.body, Retried) and event.body.kwargs is not None:
        return False
    sizes = [len(commands.encode(decision)) for decision in folded.decisions]
    return (
        all(size <= bounds.command_bytes for size in sizes)
        and (len(sizes) < 2 or sum(sizes) <= bounds.decided_bytes)
        and SIZES.state(folded.state) <= bounds.state_bytes
        and resolved_bytes(folded.state, SIZES) <= bounds.resolved_bytes
    )


def session_of(record: Record) -> SessionId:
    return SessionId((record.key or b"").decode())


def bounds_met(rules: Rules, stored: bytes | None) -> list[Bounds]:
    """The bounds of each file that a session is under while its next event is folded."""
    met = rules.current.offset if stored is None else states.decode(stored).config
    return [version.config.bounds for version in rules.history if version.offset >= met]


@pytest.mark.laws
@given(histories(kinds=(*BUSY, "apply"), configs=configurations(bounds=SMALL), max_size=50))
def test_no_data_is_folded_beyond_the_bounds_in_bytes(history: History) -> None:
    partition = Partition(Rules(app=APP))
    for record in records_of(history):
        before, letters = dict(partition.stored), len(partition.dead_letters)
        decided_before = len(partition.values)
        partition.process([record])
        bounds = partition.rules.current.config.bounds
        # What was due before a file arrived is decided under the one before it (R9.2).
        longest = max(
            one.command_bytes for one in bounds_met(partition.rules, before.get(session_of(record)))
        )
        assert all(len(value) <= longest for value in partition.values[decided_before:])
        new = partition.dead_letters[letters:]
        if record.key is None or any(letter.left_out is None for letter in new):
            assert partition.stored == before
            continue
        session = SessionId(record.key.decode())
        if session not in partition.stored:
            assert not new, "an event of the engine's own for a session that is not known"
            continue
        state, stored = partition.state(session), partition.stored[session]
        assert resolved_bytes(state, SIZES) <= bounds.resolved_bytes
        engines_own = json.loads(record.value or b"")["type"].startswith("triggerstream.")
        assert not (new and not engines_own)
        if not engines_own:
            assert SIZES.state(state) <= bounds.state_bytes
        elif session in before:
            # What it brings of its own has a bound; what follows from it is folded within the state's.
            grown = SIZES.state(state) - max(SIZES.state(states.decode(before[session])), bounds.state_bytes)
            assert grown <= 2 * TEXT_BYTES
        assert len(stored) <= SIZES.state(state) + resolved_bytes(state, SIZES) + 3 * len(state.tasks) + 600


# ---- what a checkpoint holds --------------------------------------------------------------------


def test_checkpoint_holds_commands_states_and_the_next_offset() -> None:
    log = Log(tasks(t=task("a", "b")))
    log.fire("a", session="one")
    log.fire("b", session="two")
    log.fire("b", session="one")
    checkpoint = log.folded()
    assert checkpoint.partition == 0
    assert checkpoint.offset == 4
    assert checkpoint.events == 3
    assert [(item.decision.session, item.decision.instance) for item in checkpoint.decided] == [
        ("one", "t#0")
    ]
    assert {name: states.decode(stored.state).offset for name, stored in checkpoint.states.items()} == {
        "one": 3,
        "two": 2,
    }
    assert checkpoint.rules is not None
    assert checkpoint.rules.current.offset == 0


def test_commands_come_in_the_order_of_the_log() -> None:
    log = Log(tasks(t=task(andEvery="a"), u=task("a")))
    for session in ("two", "one", "two"):
        log.fire("a", session=session)
    assert [(i.decision.session, i.decision.instance) for i in log.folded().decided] == [
        ("two", "t#0"),
        ("two", "u#0"),
        ("one", "t#0"),
        ("one", "u#0"),
        ("two", "t#1"),
    ]


def test_each_session_is_loaded_once_for_each_batch() -> None:
    log = Log(tasks(t=task("a")))
    for session in ("one", "two", "one", "one"):
        log.fire("a", session=session)
    loaded: list[str] = []
    Processor(app=APP).process(Rules(app=APP), log.records, loaded.append)
    assert loaded == ["one", "two"]


def test_session_that_nothing_changed_is_not_stored_again() -> None:
    log = Log(tasks(t=task("a")))
    log.fire("a")
    first = log.folded()
    assert first.rules is not None
    again = Processor(app=APP).process(first.rules, log.records, lambda _: first.states[SessionId("s")].state)
    assert again.states == {}
    assert again.decided == ()
    assert again.rules is None
    assert again.events == 0
    assert again.offset == first.offset


def test_state_is_stored_with_its_next_timer_and_the_configuration_that_it_met() -> None:
    log = Log(tasks(t=task("a", retry={"max": 1, "backoff": "10s"})))
    log.fire("a", at=1)
    log.tell(Failed(instance=T0, command=command(), error="boom"), at=5)
    stored = log.folded().states[SessionId("s")]
    assert stored.due_us == 15 * SECOND
    assert stored.config == 0
    log.tell(Timer(), at=15)
    stored = log.folded().states[SessionId("s")]
    assert stored.due_us is None


def test_timer_is_due_under_a_configuration_that_came_later_in_the_batch() -> None:
    log = Log(tasks(t=task("a", retry={"max": 1, "backoff": "1h"})))
    log.fire("a", at=1)
    log.tell(Failed(instance=T0, command=command(), error="boom"), at=5)
    log.apply(tasks(t=task("a", retry={"max": 1, "backoff": "10s"})), at=6)
    checkpoint = log.folded()
    stored = checkpoint.states[SessionId("s")]
    assert stored.due_us == 15 * SECOND
    assert stored.config == 0  # met with the next event; the one of before must be kept until then


def test_erased_session_keeps_no_configuration() -> None:
    log = Log(tasks(t=task("a")))
    log.fire("a")
    log.tell(Erase())
    log.apply(tasks(u=task("a")))
    stored = log.folded().states[SessionId("s")]
    assert stored.config == 3
    assert stored.state == b'{"version":3,"generation":1,"offset":2}'
    assert stored.due_us is None


def test_outcomes_settle_their_commands_also_where_they_change_nothing() -> None:
    log = Log(tasks(t=task("a")))
    log.fire("a")
    log.tell(Started(instance=T0, command=command()))
    log.tell(Finished(instance=T0, command=command()))
    log.tell(Finished(instance=T0, command=command(generation=3)))
    assert log.folded().settled == (command(), command(generation=3))


def test_value_of_a_decision_is_its_bytes_on_the_wire() -> None:
    log = Log(tasks(t=task("a")))
    log.fire("a", n=1)
    (item,) = log.folded().decided
    assert isinstance(item.decision, Command)
    assert json.loads(item.value)["kwargs"] == {"a": {"n": 1}}
    assert json.loads(item.value)["id"] == command()


# ---- what is refused ----------------------------------------------------------------------------


def test_bad_records_become_dead_letters_with_a_reason_and_the_rest_goes_on() -> None:
    log = Log(tasks(t=task("a", "b")))
    log.fire("a")
    bad = [
        log.add(b"{", session="s"),
        log.add(None, session="s"),
        log.add(b'{"type": "a", "data": 5}', session="s"),
        log.add(b'{"type": "a"}', session=None),
        log.add(b'{"type": "a", "session": "other"}', session="s"),
    ]
    log.fire("b")
    checkpoint = log.folded()
    assert decided(checkpoint) == ["t#0"]
    assert [letter.record for letter in checkpoint.dead_letters] == bad
    assert [letter.reason.partition(":")[0] for letter in checkpoint.dead_letters] == [
        "not JSON",
        "no value",
        "/data",
        "no key, and no `session`",
        "/session",
    ]
    assert checkpoint.offset == len(log.records)


def test_event_that_breaks_a_bound_is_a_dead_letter_and_leaves_the_session_as_it_was() -> None:
    log = Log({"$bounds": {"triggerNames": 1}, **tasks(t=task("a", "b"))})
    log.fire("x")
    log.fire("y")
    log.fire("x")
    checkpoint = log.folded()
    (letter,) = checkpoint.dead_letters
    assert letter.record.offset == 2
    assert letter.left_out is None
    assert letter.reason == (
        "a session holds at most 1 distinct triggers that no task uses ($bounds.triggerNames)"
    )
    state = states.decode(checkpoint.states[SessionId("s")].state)
    assert list(state.seen) == ["x"]
    assert state.offset == 3


def test_command_beyond_its_bound_is_not_decided_and_the_rest_goes_on() -> None:
    log = Log({"$bounds": {"commandBytes": 500}, **tasks(t=task("a", "b"), u=task("b"))})
    log.fire("a", text="x" * 400)
    log.fire("b")
    log.fire("a", session="other")
    log.fire("b", session="other")
    checkpoint = log.folded()
    (letter,) = checkpoint.dead_letters
    assert letter.record.offset == 2
    assert letter.reason.startswith("a command would have ")
    assert letter.reason.endswith(" bytes: at most 500 ($bounds.commandBytes)")
    assert [(i.decision.session, i.decision.instance) for i in checkpoint.decided] == [
        ("other", "t#0"),
        ("other", "u#0"),
    ]
    assert list(states.decode(checkpoint.states[SessionId("s")].state).seen) == ["a"]


def test_command_that_a_configuration_makes_too_long_fails_and_the_session_goes_on() -> None:
    bounds: JsonObject = {"$bounds": {"commandBytes": 600}}
    log = Log(bounds | tasks(t=task("a", "b"), u=task("c")))
    log.fire("a")
    log.apply(bounds | tasks(t=task("a", withParams={"more": "x" * 600}), u=task("c")))
    log.fire("c")
    checkpoint = log.folded()
    assert checkpoint.dead_letters == ()
    assert decided(checkpoint) == ["u#0"]
    state = states.decode(checkpoint.states[SessionId("s")].state)
    failed = state.tasks[TaskName("t")].open[0]
    assert failed.status == "failed"
    assert failed.error == "its command would be too long ($bounds.commandBytes)"
    assert failed.reason == "bound"
    assert checkpoint.prevented == 1
    assert state.positions[-1][3] == "t#0 failed: its command would be too long ($bounds.commandBytes)"


PAGES = tasks(
    t_page=task(andEvery="page"),
    t_x=task("close", andEvery="t_page"),
    t_y=task("close", andEvery="t_page"),
)


@pytest.mark.parametrize("at_once", [True, False])
def test_outcome_is_folded_and_the_trigger_that_a_bound_leaves_out_is_a_dead_letter(*, at_once: bool) -> None:
    log = Log({"$bounds": {"unresolvedInstances": 1}, **PAGES})
    log.fire("page", at=1)
    page = command(task="t_page")
    outcome = log.tell(
        Finished(instance=InstanceId("t_page#0"), command=page, result={"n": [1.5]}), at=1_767_225_600
    )
    partition = Partition(Rules(app=APP))
    for batch in [log.records] if at_once else [[record] for record in log.records]:
        partition.process(batch)
    assert partition.settled == [page]
    assert partition.state("s").tasks[TaskName("t_page")].resolved[0].status == "finished"
    assert partition.state("s").open_count == 0
    (letter,) = partition.dead_letters
    assert letter.left_out == 0
    assert letter.reason == (
        "the trigger `t_page` was left out: "
        "a session holds at most 1 unresolved instances ($bounds.unresolvedInstances)"
    )
    record = letter.record
    assert (record.partition, record.offset, record.arrival_us) == (0, outcome.offset, outcome.arrival_us)
    assert (record.key, record.headers) == (b"s", ())
    assert json.loads(record.value or b"") == {
        "type": "t_page",
        "data": {"n": [1.5]},
        "time": "2026-01-01T00:00:00Z",
        "id": page,
    }
    log.apply(PAGES)
    for _ in range(2):  # appended twice, it counts once
        log.add(record.value)
    partition.process(log.records[-3:])
    assert partition.dead_letters == [letter]
    assert {name: list(record.open) for name, record in partition.state("s").tasks.items()} == {
        "t_page": [],
        "t_x": [0],
        "t_y": [0],
    }


def test_session_goes_on_however_much_its_resolved_instances_hold() -> None:
    log = Log(tasks(t=task(andEvery="page")))
    partition = Partition(Rules(app=APP))
    partition.process(log.records)
    for number in range(90):
        page = log.fire("page", text="p" * 30_000)
        finished = Finished(instance=InstanceId(f"t#{number}"), command=command(number), result="r" * 30_000)
        partition.process([page, log.tell(finished)])
    assert partition.dead_letters == []
    assert len(partition.values) == 90
    state = partition.state("s")
    assert list(state.tasks[TaskName("t")].resolved) == list(range(82, 90))
    assert resolved_bytes(state, SIZES) <= 1024 * 1024
    assert len(partition.stored[SessionId("s")]) < 600_000


def test_session_goes_on_however_much_the_newest_resolved_instances_hold() -> None:
    log = Log(tasks(t=task(andEvery="page")))
    partition = Partition(Rules(app=APP))
    partition.process(log.records)
    for number in range(20):
        page = log.fire("page", text="p" * 150_000)
        finished = Finished(instance=InstanceId(f"t#{number}"), command=command(number), result="r" * 150_000)
        partition.process([page, log.tell(finished)])
    assert partition.dead_letters == []
    assert len(partition.values) == 20
    record = partition.state("s").tasks[TaskName("t")]
    assert list(record.resolved) == [17, 18, 19]
    assert record.retired == ()
    assert resolved_bytes(partition.state("s"), SIZES) <= 1024 * 1024


def test_left_out_trigger_is_never_longer_than_an_event_may_be() -> None:
    log = Log({"$bounds": {"unresolvedInstances": 1}, **PAGES})
    log.fire("page")
    value = encode(Finished(instance=InstanceId("t_page#0"), command=command(task="t_page"), result="R"))
    numbers = b"[" + b",".join([b"1e15"] * 52_000) + b"]"
    log.add(value.replace(b'"R"', b'{"x":' + numbers + b"}"))
    (letter,) = log.folded().dead_letters
    assert letter.left_out == 0
    assert len(letter.record.value or b"") <= EVENT_BYTES
    event = decode(letter.record)
    assert isinstance(event, Event)
    assert event.body == Trigger(name=TriggerName("t_page"), data={"x": [1e15] * 52_000})


@pytest.mark.parametrize("at_once", [True, False])
def test_timer_and_touch_are_folded_also_in_a_state_beyond_its_bound(*, at_once: bool) -> None:
    tasks_ = tasks(t=task("a", "b"), u=task("a"))
    log = Log(tasks_)
    log.fire("a", text="x" * 1_500)
    log.apply({"$bounds": {"stateBytes": 100, "commandBytes": 100}, **tasks_})
    log.tell(Started(instance=InstanceId("u#0"), command=command(task="u")))
    log.tell(Timer())
    log.tell(Touch())
    log.tell(Failed(instance=InstanceId("u#0"), command=command(task="u"), error="boom"))
    log.fire("b")
    partition = Partition(Rules(app=APP))
    for batch in [log.records] if at_once else [[record] for record in log.records]:
        partition.process(batch)
    assert [letter.record for letter in partition.dead_letters] == [log.records[-1]]
    assert partition.state("s").tasks[TaskName("u")].open[0].status == "failed"


def test_state_beyond_its_bound_takes_no_more_data_but_can_still_be_erased() -> None:
    log = Log({"$bounds": {"stateBytes": 2_000}, **tasks(t=task("a", "b"))})
    log.fire("a", text="x" * 1_200)
    log.fire("c", text="x" * 700)
    log.fire("b")
    log.tell(Touch())
    checkpoint = log.folded()
    (letter,) = checkpoint.dead_letters
    assert letter.record.offset == 2
    assert letter.reason.endswith(" bytes: at most 2,000 ($bounds.stateBytes)")
    assert decided(checkpoint) == ["t#0"]
    log.tell(Erase())
    log.fire("c", text="x" * 700)
    assert len(log.folded().dead_letters) == 1


@pytest.mark.parametrize("at_once", [True, False])
def test_bound_that_a_configuration_lowers_holds_from_there_on(*, at_once: bool) -> None:
    log = Log(tasks(t=task("a")))
    log.fire("b", text="x" * 1_500)
    log.apply({"$bounds": {"stateBytes": 1_000}, **tasks(t=task("a"))})
    beyond = log.fire("a")
    partition = Partition(Rules(app=APP))
    for batch in [log.records] if at_once else [[record] for record in log.records]:
        partition.process(batch)
    assert [letter.record for letter in partition.dead_letters] == [beyond]


@pytest.mark.parametrize("at_once", [True, False])
def test_what_a_configuration_seeds_counts_towards_the_bound(*, at_once: bool) -> None:
    bounds: JsonObject = {"$bounds": {"stateBytes": 20_000}}
    log = Log({**bounds, **tasks(t=task("never", andEvery="a"))})
    name = "b" * 500
    log.fire(name)
    for _ in range(30):
        log.fire("a")
    log.apply({**bounds, **tasks(t=task("never", name, andEvery="a"))})  # thirty times its name
    log.fire("c")
    partition = Partition(Rules(app=APP))
    for batch in [log.records] if at_once else [[record] for record in log.records]:
        partition.process(batch)
    state = partition.state("s")
    assert len(partition.stored[SessionId("s")]) < 20_000
    assert all(name not in one.captured for one in state.tasks[TaskName("t")].open.values())
    assert state.positions[-1][3] == (
        "the configuration at offset 32 seeds nothing: "
        "the session's state would be too long ($bounds.stateBytes)"
    )
    assert partition.dead_letters == []
    log.fire(name)  # it comes again, and is taken by all thirty: too much for this session
    partition.process(log.records[-1:])
    assert len(partition.dead_letters) == 1


def test_invalid_configuration_changes_nothing_and_says_what_is_wrong() -> None:
    log = Log(tasks(t=task("a", "b")))
    log.fire("a")
    log.apply(tasks(t=task("a", unles=["b"])))
    log.fire("b")
    checkpoint = log.folded()
    assert decided(checkpoint) == ["t#0"]
    (letter,) = checkpoint.dead_letters
    assert "/t/unles: " in letter.reason
    assert "did you mean `unless`?" in letter.reason
    assert checkpoint.rules is not None
    assert len(checkpoint.rules.history) == len(Rules(app=APP).history) + 1


def test_configuration_whose_hash_is_not_that_of_its_text_is_a_dead_letter() -> None:
    log = Log({})
    body = ConfigApplied(text="{}", hash=ConfigHash("0" * 64), replaces=None, fold=1)
    log.add(encode(body), session=None)
    assert "/data/hash" in log.folded().dead_letters[0].reason


def test_configuration_of_a_later_fold_stops_the_batch() -> None:
    log = Log({})
    log.fire("a")
    log.add(configured({}, fold=3), session=None)
    with pytest.raises(FoldVersionError, match="needs fold 3"):
        log.folded()


def test_stored_state_that_cannot_be_read_stops_the_batch() -> None:
    log = Log({})
    log.fire("a")
    said = (
        r"^partition 0: the state of session 's' cannot be read \(.*\); stop all workers and run `.* --at X`$"
    )
    with pytest.raises(UnreadableStateError, match=said):
        Processor(app=APP, decoder=StateDecoder(name="partition 0", address="X")).process(
            Rules(app=APP), log.records, lambda _: b"damaged"
        )


@pytest.mark.parametrize("outcome", [True, False])
def test_a_line_of_a_state_that_cannot_be_read_stops_the_batch(*, outcome: bool) -> None:
    log = Log({"t": {"after": [], "andEvery": "a", "run": "x.y"}})
    for _ in range(20):
        log.fire("a")
    rules = Rules(app=APP)
    checkpoint = log.folded()
    assert checkpoint.rules is not None
    rules = checkpoint.rules
    stored = checkpoint.states[SessionId("s")].state
    (last,) = (line for line in stored.split(b"\n") if line.startswith(b'{"number":19,'))
    damaged = stored.replace(last, b"x" * len(last))
    if outcome:
        log.tell(Started(instance=InstanceId("t#19"), command=command(19)))
    else:
        log.fire("a")
    batch = log.records[-1:]
    processor = Processor(app=APP, decoder=StateDecoder(name="partition 0", address="X"))
    if outcome:
        said = r"state of session 's' cannot be read \(a line of the state:"
        with pytest.raises(UnreadableStateError, match=said):
            processor.process(rules, batch, lambda _: damaged)
    else:
        # Nothing looks at it, and nothing is lost: it is stored as it was.
        again = processor.process(rules, batch, lambda _: damaged).states[SessionId("s")].state
        assert b"\n" + b"x" * len(last) + b"\n" in again


ONE, TWO, THREE = (tasks(t=task("a", "b"), **{name: task("x")}) for name in ("one", "two", "three"))


def test_an_old_configuration_that_is_appended_once_more_is_a_dead_letter() -> None:
    log = Log(ONE)
    log.records.clear()
    first = configured(ONE, number=1)
    for value in (first, configured(TWO, replaces=ONE, number=2), configured(THREE, replaces=TWO, number=3)):
        log.add(value, session=None)
    log.add(first, session=None)
    log.add(configured(TWO, replaces=ONE, number=2), session=None)
    log.add(configured(THREE, replaces=TWO, number=3), session=None)
    log.add(configured(ONE, replaces=TWO, number=4), session=None)
    folded = log.folded()
    assert folded.rules is not None
    assert [(one.number, one.config.hash) for one in folded.rules.history[1:]] == [
        (1, text_hash(json.dumps(ONE))),
        (2, text_hash(json.dumps(TWO))),
        (3, text_hash(json.dumps(THREE))),
    ]
    replaces = (
        f"/data/replaces: must be {text_hash(json.dumps(THREE))}, the configuration in force, "
        f"is {text_hash(json.dumps(TWO))}"
    )
    must_be = "/data/number: must be 4, one more than the configuration in force, is"
    assert [letter.reason for letter in folded.dead_letters] == [
        *(f"{must_be} {number}" for number in (1, 2, 3)),
        replaces,
    ]


def test_configurations_without_numbers_are_counted() -> None:
    """An application without a control key may have written them by hand."""
    log = Log(ONE)
    log.apply(TWO)
    log.add(configured(THREE, replaces=TWO, number=3), session=None)
    log.apply("{")
    log.apply(ONE)
    folded = log.folded()
    assert folded.rules is not None
    assert [one.number for one in folded.rules.history] == [0, 1, 2, 3, 4]
    assert len(folded.dead_letters) == 1


def test_the_first_configuration_that_a_log_still_has_says_its_number() -> None:
    """A log may have lost its beginning."""
    log = Log(ONE)
    log.records.clear()
    log.add(configured(TWO, replaces=ONE, number=7), session=None)
    log.add(configured(THREE, replaces=TWO, number=8), session=None)
    folded = log.folded()
    assert folded.rules is not None
    assert [one.number for one in folded.rules.history] == [0, 7, 8]
    assert folded.dead_letters == ()


def test_with_a_control_key_a_captured_event_has_no_effect_once_more() -> None:
    """A configuration with headers of another event, an old configuration, and orders, appended again."""
    keys = ControlKeys((ControlKey(since_us=0, secret=b"1" * 32),))
    log = Log(ONE)
    log.records.clear()

    def add(value: bytes, *, key: bytes | None, headers: Headers = ()) -> Record:
        made = keys.signed(APP, NewRecord(key=key, value=value), now_us=0)
        return put(replace(made, headers=(*made.headers, *headers)))

    def put(made: NewRecord | Record) -> Record:
        record = Record(
            partition=0,
            offset=len(log.records),
            arrival_us=0,
            key=made.key,
            value=made.value,
            headers=made.headers,
        )
        log.records.append(record)
        return record

    config = add(configured(ONE, number=1), key=None)
    add(configured(TWO, replaces=ONE, number=2), key=None)
    put(NewRecord(key=b"s", value=encode(Trigger(name=TriggerName("a"), data={}))))
    put(NewRecord(key=b"s", value=encode(Trigger(name=TriggerName("b"), data={}))))
    resend = add(encode(Resend(instance=T0, generation=0, attempt=0)), key=b"s")
    close = add(encode(Close(generation=0)), key=b"s")
    put(NewRecord(key=b"s", value=encode(Trigger(name=TriggerName("a"), data={}))))
    honest = len(log.records)
    named = (("ce_type", b"triggerstream.session.erase"), ("ce_session", b"s"))
    put(replace(config, headers=(*config.headers, *named)))
    for record in (config, resend, close):
        put(record)
    folded = Processor(app=APP, control=keys).process(Rules(app=APP), log.records, lambda _: None)
    known = states.decode(folded.states[SessionId("s")].state)
    assert (known.generation, known.closed, list(known.seen)) == (1, False, ["a"])
    assert [item.decision.instance for item in folded.decided] == ["t#0", "t#0"]
    assert folded.rules is not None
    assert folded.rules.current.config.hash == text_hash(json.dumps(TWO))
    refused = "the session is in generation 1, the order was given for 0"
    assert [known.refusal(offset) for offset in (honest + 2, honest + 3)] == [refused, refused]
    letters = [(letter.record.offset, letter.reason) for letter in folded.dead_letters]
    structured = (
        "header ce_type: with a control key, the engine's own events have no `ce_` headers: all of an "
        "event stands in its value, which is signed"
    )
    assert letters == [
        (honest, structured),
        (honest + 1, "/data/number: must be 3, one more than the configuration in force, is 1"),
    ]


def test_a_moved_event_of_the_engine_s_own_is_signed_anew_with_its_origin() -> None:
    keys = ControlKeys((ControlKey(since_us=0, secret=b"1" * 32),))
    home = partition_of(b"s", 3)
    away = (home + 1) % 3
    made = keys.signed(APP, NewRecord(key=b"s", value=encode(Erase(generation=0))), now_us=0)
    forged = NewRecord(key=b"s", value=encode(Erase(generation=0, reason="forged")))
    wrong = [
        Record(partition=away, offset=n, arrival_us=5, key=one.key, value=one.value, headers=one.headers)
        for n, one in enumerate((made, forged))
    ]
    processor = Processor(app=APP, partition=away, partitions=3, control=keys)
    folded = processor.process(Rules(app=APP), wrong, lambda _: None)
    assert [letter.record.offset for letter in folded.dead_letters] == [1]
    [moved] = (keys.signed(APP, one, now_us=0) for one in folded.rehomed)
    found = Record(
        partition=home, offset=0, arrival_us=9, key=moved.key, value=moved.value, headers=moved.headers
    )
    at_home = Processor(app=APP, partition=home, partitions=3, control=keys)
    known = states.encode(SessionState())
    folded = at_home.process(Rules(app=APP), [found], lambda _: known)
    assert folded.dead_letters == ()
    assert states.decode(folded.states[SessionId("s")].state).generation == 1


def test_events_before_any_configuration_are_kept_for_the_first() -> None:
    log = Log({})
    log.records.clear()
    log.fire("a", n=1)
    log.apply(tasks(t=task("a", "b")))
    log.fire("b")
    checkpoint = log.folded()
    assert decided(checkpoint) == ["t#0"]
    assert NEVER_APPLIED.offset == -1


def test_events_of_sessions_that_are_not_known_are_counted_and_settle_their_commands() -> None:
    log = Log(tasks(t=task("a")))
    log.fire("a", session="known")
    log.add(encode(Finished(instance=T0, command=CommandId("one"))), session="x")
    log.add(encode(Finished(instance=T0, command=CommandId("two"))), session="y")
    log.add(encode(Erase()), session="x")
    checkpoint = log.folded()
    assert (checkpoint.unknown, checkpoint.events) == (3, 1)
    assert checkpoint.settled == ("one", "two")
    assert [*checkpoint.states] == ["known"]
    assert checkpoint.dead_letters == ()


# ---- re-homing ----------------------------------------------------------------------------------


def test_record_of_another_partition_is_rehomed_and_not_folded() -> None:
    partitions = 4
    here = next(f"s{n}" for n in range(99) if partition_of(f"s{n}".encode(), partitions) == 1)
    elsewhere = next(f"s{n}" for n in range(99) if partition_of(f"s{n}".encode(), partitions) != 1)
    log = Log(tasks(t=task("a")))
    log.fire("a", session=here)
    stray = log.fire("a", session=elsewhere, at=7)
    processor = Processor(app=APP, partition=1, partitions=partitions)
    checkpoint = processor.process(Rules(app=APP), log.records, lambda _: None)
    assert [item.decision.session for item in checkpoint.decided] == [here]
    assert list(checkpoint.states) == [here]
    (moved,) = checkpoint.rehomed
    assert moved.key == elsewhere.encode()
    assert moved.value == stray.value
    assert moved.headers == ((ORIGIN_HEADER, b"0:2:7000000"),)


def test_what_is_remembered_is_bounded_for_all_partitions_together() -> None:
    kept = 0
    for partition in range(8):
        processor = Processor(app=AppId("a"), partition=partition, partitions=8)
        for number in range(1_000):
            processor.encode(SessionId(f"s{number}"), SessionState(offset=number))
        kept += len(processor._encoded)  # noqa: SLF001 - nothing else tells
    assert kept == 4_096


@pytest.mark.parametrize("partitions", [4_096, 100_000])
def test_however_many_partitions_there_are_one_state_is_remembered(partitions: int) -> None:
    processor = Processor(app=APP, partitions=partitions)
    first, second = SessionState(offset=1), SessionState(offset=2)
    stored = [processor.encode(SessionId(name), known) for name, known in (("a", first), ("b", second))]
    assert processor.recall(SessionId("b"), stored[1]) is second
    recalled = processor.recall(SessionId("a"), stored[0])
    assert recalled is not first, "the oldest is forgotten first"
    assert recalled == first


def test_remembered_state_is_used_only_for_the_bytes_that_it_was_encoded_to() -> None:
    processor, session = Processor(app=APP), SessionId("s")
    remembered, other = SessionState(offset=1), SessionState(offset=2)
    stored = processor.encode(session, remembered)
    assert processor.recall(session, states.encode(other)) == other
    processor.encode(session, remembered)
    assert processor.recall(session, stored) is remembered


def test_state_of_a_large_batch_is_cached_when_it_is_encoded_for_the_second_time() -> None:
    processor, session = Processor(app=APP), SessionId("s")
    first, second = SessionState(offset=1), SessionState(offset=2)
    once = processor.encode(session, first, large_batch=True)
    assert processor.recall(session, once) is not first
    assert processor.recall(session, once) == first
    twice = processor.encode(session, second, large_batch=True)
    assert processor.peek(session, twice) is second
    assert processor.recall(session, twice) is second


def test_a_state_that_is_recalled_is_held_by_its_batch_alone_and_its_successor_is_cached() -> None:
    processor, session = Processor(app=APP), SessionId("s")
    first, second = SessionState(offset=1), SessionState(offset=2)
    stored = processor.encode(session, first)
    held = getrefcount(first)
    assert processor.recall(session, stored) is first
    assert getrefcount(first) == held - 1
    assert processor.peek(session, stored) == first, "it can be read meanwhile"
    assert processor.recall(session, processor.encode(session, second, large_batch=True)) is second


@pytest.mark.parametrize(("sessions", "remembered"), [(64, 64), (65, 0)])
def test_states_of_a_batch_of_many_sessions_are_not_cached_at_once(*, sessions: int, remembered: int) -> None:
    log = Log(tasks(t=task("a", "b")))
    for number in range(sessions):
        log.fire("a", session=f"s{number}")
    processor = Processor(app=APP)
    processor.process(Rules(app=APP), log.records, lambda _: None)
    assert sum(known is not None for _, known in processor._encoded.values()) == remembered  # noqa: SLF001 - nothing else tells


def state_of_length(length: int) -> SessionState:
    """A state that is encoded to ``length`` bytes."""

    def with_text(text: str) -> SessionState:
        arrival = Arrival(data={"text": text}, offset=0, time_us=0)
        return SessionState(offset=0, seen={TriggerName("a"): arrival})

    return with_text("x" * (length - len(states.encode(with_text("")))))


@pytest.mark.parametrize("partitions", [1, 4])
def test_states_of_any_length_are_remembered_within_a_budget_in_bytes(partitions: int) -> None:
    processor = Processor(app=APP, partitions=partitions)
    share = REMEMBERED_BYTES // partitions
    known = [state_of_length(share // 2) for _ in range(3)]
    stored = [processor.encode(SessionId(f"s{number}"), one) for number, one in enumerate(known)]
    remembered = [processor.recall(SessionId(f"s{n}"), stored[n]) is known[n] for n in range(3)]
    assert remembered == [False, True, True]
    for number, one in enumerate(known):
        processor.encode(SessionId(f"s{number}"), one)
        processor.encode(SessionId(f"s{number}"), one)
    assert processor.recall(SessionId("s2"), stored[2]) is known[2], "a session counts once"


@pytest.mark.parametrize(("more", "is_remembered"), [(0, True), (1, False)])
def test_a_state_beyond_the_budget_is_not_remembered(*, more: int, is_remembered: bool) -> None:
    processor, session = Processor(app=APP, partitions=4), SessionId("s")
    small = SessionState(offset=1)
    kept = processor.encode(SessionId("small"), small)
    known = state_of_length(REMEMBERED_BYTES // 4 + more)
    stored = processor.encode(session, known)
    assert (processor.recall(session, stored) is known) == is_remembered
    assert (processor.recall(SessionId("small"), kept) is small) != is_remembered


def test_longest_parameters_are_those_of_the_configuration_asked_for() -> None:
    def config(**named: dict[str, object]) -> Configuration:
        return tasksfile.read(json.dumps(named), name="tasks.json")

    processor = Processor(app=APP)
    short, long = {"a": {"x": 1}}, {"a": {"x": 1000}}
    two = config(t=task("a", withParams=short), u=task("a", withParams=long))
    assert processor.params_bytes(two) == len(dumps(long))
    assert processor.params_bytes(config(t=task("a", withParams=short))) == len(dumps(short))
    assert processor.params_bytes(config()) == 0
    assert processor.params_bytes(two) == len(dumps(long))


def test_part_ends_with_the_record_that_makes_it_as_long_as_allowed() -> None:
    log = Log({})
    for _ in range(3):
        log.add(b"{" * 100)
    bad = log.records[1:]
    for most, count in ((99, 1), (100, 1), (101, 2), (200, 2), (201, 3)):
        checkpoint = Processor(app=APP).process(Rules(app=APP), bad, lambda _: None, most=most)
        assert (checkpoint.records, checkpoint.offset) == (count, count + 1), most


def test_configuration_counts_with_its_text_towards_the_length_of_a_part() -> None:
    log = Log({})
    log.add(b"{" * 100)
    text = json.dumps(tasks(t=task("a")))
    log.apply(text)
    log.add(b"{" * 100)
    for most, count in ((100 + len(text), 2), (101 + len(text), 3)):
        checkpoint = Processor(app=APP).process(Rules(app=APP), log.records[1:], lambda _: None, most=most)
        assert checkpoint.records == count


class NoDecoder(StateDecoder):
    """Fails for every state: none has to be decoded."""

    def read(self, session: SessionId, value: bytes) -> SessionState:
        raise AssertionError(session, value)


def test_state_that_was_just_folded_is_not_decoded_again() -> None:
    log = Log(tasks(t=task("a", "b")))
    processor = Processor(app=APP, decoder=NoDecoder())
    first, second = log.fire("a"), log.fire("b")
    checkpoint = processor.process(Rules(app=APP), [log.records[0], first], lambda _: None)
    assert checkpoint.rules is not None
    stored = {session: one.state for session, one in checkpoint.states.items()}
    assert decided(processor.process(checkpoint.rules, [second], stored.get)) == ["t#0"]


def test_events_count_about_as_often_as_a_state_holds_them_towards_the_length_of_a_part() -> None:
    log = Log(tasks(t=task("a", "b")))
    first = log.fire("spare", text="x" * 100)
    second = log.fire("spare", text="x" * 100)
    third = log.fire("a", session="other")
    length = len(first.value or b"")
    processor = Processor(app=APP)
    rules = processor.process(Rules(app=APP), log.records[:1], lambda _: None).rules
    assert rules is not None

    def folded(most: int, load: dict[SessionId, bytes]) -> int:
        records = [first, second, third]
        return Processor(app=APP).process(rules, records, load.get, most=most).records

    # The session's latest event and the timeline: twice. With a state, its length.
    for most, count in ((2 * length, 1), (2 * length + 1, 2), (4 * length, 2), (4 * length + 1, 3)):
        assert folded(most, {}) == count
    stored = states.encode(SessionState(offset=0, config=0))
    load = {SessionId("s"): stored, SessionId("other"): stored}
    for most, count in (
        (len(stored) + 2 * length, 1),
        (len(stored) + 2 * length + 1, 2),
        (len(stored) + 4 * length, 2),
        (len(stored) + 4 * length + 1, 3),
    ):
        assert folded(most, load) == count
    records = [first, third, second]
    length_a = len(third.value or b"")
    both = 2 * len(stored) + 2 * length + 3 * length_a  # its event is taken by `t`, and it creates `t#0`
    for most, count in ((both + len(stored), 2), (both + len(stored) + 1, 3)):
        assert Processor(app=APP).process(rules, records, load.get, most=most).records == count


@pytest.mark.parametrize("at_once", [True, False])
def test_state_is_full_at_its_bound_whatever_it_held_before_the_batch(*, at_once: bool) -> None:
    log = Log({"$bounds": {"stateBytes": 20_000}, **tasks(t=task("a", "b"))})
    log.fire("a", text="x" * 19_600)
    beyond = log.fire("spare", text="x" * 300)
    partition = Partition(Rules(app=APP))
    for batch in [log.records] if at_once else [[record] for record in log.records]:
        partition.process(batch)
    assert [letter.record for letter in partition.dead_letters] == [beyond]


@pytest.mark.parametrize("at_once", [True, False])
def test_resolved_instances_keep_their_bound_whatever_they_held_before_the_batch(*, at_once: bool) -> None:
    log = Log({"$bounds": {"resolvedBytes": 20_000}, **tasks(t=task(andEvery="a"))})
    for number, length in enumerate((9_500, 9_500, 300)):
        log.fire("a")
        log.tell(Finished(instance=InstanceId(f"t#{number}"), command=command(number), result="r" * length))
    partition = Partition(Rules(app=APP))
    for batch in [log.records] if at_once else [[record] for record in log.records]:
        partition.process(batch)
    assert list(partition.state("s").tasks[TaskName("t")].resolved) == [1, 2]


def test_retries_whose_kwargs_would_make_their_commands_too_long_fail_at_once() -> None:
    log = Log({"$bounds": {"commandBytes": 1_000}, **tasks(t=task("a"), u=task("a"), v=task("a"))})
    log.fire("a")
    for name, length in (("t", 1_000), ("u", 1_000), ("v", 1)):
        instance, id_ = InstanceId(f"{name}#0"), command(task=name)
        log.tell(Started(instance=instance, command=id_))
        kwargs: JsonObject = {"a": {"text": "x" * length}}
        log.tell(Retried(instance=instance, command=id_, after_us=3_600 * SECOND, kwargs=kwargs))
    partition = Partition(Rules(app=APP))
    checkpoint = partition.process(log.records)
    state = partition.state("s")
    assert [list(state.tasks[TaskName(name)].open) for name in "tuv"] == [[0], [0], [1]]
    assert [state.tasks[TaskName(name)].open[0].status for name in "tu"] == ["failed", "failed"]
    assert (state.due_us is not None, checkpoint.prevented) == (True, 2)


def test_record_of_the_other_of_two_partitions_is_moved_and_counts_with_its_value() -> None:
    elsewhere = next(f"s{n}" for n in range(99) if partition_of(f"s{n}".encode(), 2) == 1)
    log = Log({})
    strays = [log.fire("a", session=elsewhere) for _ in range(3)]
    length = len(strays[0].value or b"")
    for most, count in ((length, 1), (length + 1, 2), (2 * length, 2), (2 * length + 1, 3)):
        processor = Processor(app=APP, partition=0, partitions=2)
        checkpoint = processor.process(Rules(app=APP), strays, lambda _: None, most=most)
        assert len(checkpoint.rehomed) == checkpoint.records == count
        assert checkpoint.states == {}


def test_two_commands_beyond_the_bound_of_one_event_are_noticed() -> None:
    log = Log({"$bounds": {"decidedBytes": 1_000, "commandBytes": 900}, **tasks(t=task("a"), u=task("a"))})
    log.fire("a", text="x" * 300)
    (letter,) = log.folded().dead_letters
    assert letter.reason.startswith("one event would decide ")


@pytest.mark.parametrize("name", ["spare", "a"])
def test_event_that_is_longer_in_a_state_than_on_the_wire_is_measured_there(name: str) -> None:
    log = Log({"$bounds": {"stateBytes": 20_000}, **tasks(t=task("a", "b"))})
    value = encode(Trigger(name=TriggerName(name), data={"x": "X"}))
    numbers = b"[" + b",".join([b"1e15"] * 1_200) + b"]"
    record = log.add(value.replace(b'"X"', numbers))
    assert len(record.value or b"") < 7_000
    (letter,) = log.folded().dead_letters
    assert letter.reason.endswith(" bytes: at most 20,000 ($bounds.stateBytes)")


def test_new_instance_counts_with_the_names_of_all_that_it_takes() -> None:
    names = [f"{number:02}" + "n" * 240 for number in range(42)]

    def log_of(**bounds: int) -> Log:
        log = Log({"$bounds": dict(bounds), **tasks(t=task(*names, "never", andEvery="a"))})
        for name in (*names, "a", "a"):
            log.fire(name)
        return log

    unbounded = log_of()
    partition = Partition(Rules(app=APP))
    partition.process(unbounded.records)
    after = SIZES.state(partition.state("s"))
    (letter,) = log_of(stateBytes=after - 1).folded().dead_letters
    assert letter.record.offset == len(unbounded.records) - 1
    assert log_of(stateBytes=after).folded().dead_letters == ()


def test_size_of_a_checkpoint_is_that_of_all_that_it_makes_durable() -> None:
    log = Log({"$bounds": {"unresolvedInstances": 1}, **PAGES})
    log.add(b"{" * 100)
    for session in ("s", "other"):
        log.fire("page", session=session)
        page = command(task="t_page", session=session)
        log.tell(Finished(instance=InstanceId("t_page#0"), command=page, result={}), session=session)
    partition = Partition(Rules(app=APP))
    partition.process(log.records[:1])
    checkpoint = partition.process(log.records[1:])
    assert len(checkpoint.dead_letters) == 3
    assert len(checkpoint.decided) == 2
    assert checkpoint.size == (
        sum(len(letter.record.value or b"") for letter in checkpoint.dead_letters)
        + sum(len(item.value) for item in checkpoint.decided)
        + sum(len(stored.state) for stored in checkpoint.states.values())
    )


def test_session_whose_instances_a_timer_left_unjudged_has_not_met_the_configuration() -> None:
    log = Log(tasks(t=task("a", "b")))
    log.fire("a")
    log.apply(tasks(t=task("a", "c")))
    log.apply(tasks(t=task("a", "d")))
    assert log.folded().states[SessionId("s")].config == 0
    log.tell(Timer())
    assert log.folded().states[SessionId("s")].config == 2, "one offset before that of the configuration"
    log.tell(Touch())
    assert log.folded().states[SessionId("s")].config == 3


def test_new_instance_counts_with_the_parameters_of_its_task() -> None:
    def log_of(**bounds: int) -> Log:
        log = Log({"$bounds": dict(bounds), **tasks(t=task("a", withParams={"a": {"text": "p" * 8_500}}))})
        log.fire("a")
        return log

    partition = Partition(Rules(app=APP))
    partition.process(log_of().records)
    after = SIZES.state(partition.state("s"))
    assert len(log_of(stateBytes=after - 1).folded().dead_letters) == 1
    assert log_of(stateBytes=after).folded().dead_letters == ()


def test_each_instance_that_an_event_resolves_counts_with_what_the_event_leaves_in_it() -> None:
    count = 50
    many = {f"t{number}": task("a", "b") for number in range(count)}
    log = Log({"$bounds": {"resolvedBytes": 100_000}, **tasks(**many)})
    log.fire("a")
    log.tell(Close(reason="x" * 3_000))
    partition = Partition(Rules(app=APP))
    for record in log.records:
        partition.process([record])
    state = partition.state("s")
    kept = sum(len(record.resolved) for record in state.tasks.values())
    assert 20 < kept < count
    assert resolved_bytes(state, SIZES) <= 100_000


def test_triggers_that_no_task_uses_are_counted_and_results_of_tasks_are_not() -> None:
    log = Log(tasks(t=task("a")))
    for name in ("a", "b", "b"):
        log.fire(name)
    log.tell(Finished(instance=InstanceId("t#0"), command=command(task="t")))
    assert log.folded().unused == 2
