"""Laws of ``core.fold`` alone: what holds for every configuration and every log."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.core.reference import Asked, Reference
from tests.core.strategies import (
    APP,
    BUSY,
    CHANGING,
    ENDINGS,
    ORDERS,
    OUTCOMES,
    SECOND,
    SESSIONS,
    SMALL,
    START_US,
    TIGHT,
    TRIGGERS,
    Entry,
    History,
    World,
    configurations,
    histories,
    kwargs,
    play,
    renumbered,
)
from triggerstream.core.answers import ExplainedSession
from triggerstream.core.commands import Command, Decision, Revoke
from triggerstream.core.events import Body, Event, Finished, Order, Outcome, Skip, Timer, Touch, Trigger
from triggerstream.core.fold import migrate, needs_touch, next_due, step
from triggerstream.core.ids import (
    CommandId,
    JsonObject,
    SessionId,
    TaskName,
    TriggerName,
    instance_id,
    split_instance_id,
)
from triggerstream.core.places import count_places
from triggerstream.core.projections import explain, statuses, waits_for
from triggerstream.core.results import Folded, Rejected, Unknown
from triggerstream.core.slots import captured_refs
from triggerstream.core.state import WAITING, SessionState, Status
from triggerstream.core.tasks import AppliedConfiguration
from triggerstream.core.timeline import timeline
from triggerstream.core.timers import with_exact_due
from triggerstream.wire import state as wire
from triggerstream.wire.answers import from_json, to_json
from triggerstream.wire.values import value_to_json

pytestmark = pytest.mark.laws

EVERYTHING = (*BUSY, *ENDINGS, "touch", "timer", "apply", "apply")
FINISHING = ("fire",) * 6 + ("finished",) * 6 + ("failed", "failed", "skip", "skip", "retried", "replay")
"""Many outcomes that have a trigger follow."""
SIZES = wire.EncodedSizes()


def test_the_laws_know_every_outcome_and_order() -> None:
    assert {one.__name__.lower() for one in get_args(Outcome)} == set(OUTCOMES)
    assert {one.__name__.lower() for one in get_args(Order)} == set(ORDERS)
    assert {one.__name__.lower() for one in get_args(Body)} <= {"trigger", *EVERYTHING}


FAR_US = 10_000_000 * SECOND


def asked(decision: Decision) -> Asked:
    """A decision as the reference puts it."""
    if isinstance(decision, Revoke):
        return ("revoke", decision.instance, 0, 0, {})
    return ("run", decision.instance, decision.attempt, decision.retries, decision.kwargs)


def essence(decision: Decision) -> tuple[object, ...]:
    """What a decision asks for, without when and in whose fold it was made."""
    if isinstance(decision, Revoke):
        return ("revoke", decision.id)
    trace = decision.traceparent
    return (
        "run",
        decision.id,
        decision.attempt,
        decision.retries,
        decision.run,
        trace,
        repr(decision.kwargs),
    )


def shown(state: SessionState | None) -> dict[str, tuple[str, JsonObject]]:
    """Each instance's status and stored kwargs."""
    if state is None:
        return {}
    return {name: (i.status.value, state.stored_kwargs(i)) for name, i in statuses(state).items()}


def event_of(state: SessionState, session: SessionId, body: Timer | Touch, arrival_us: int) -> Event:
    """An engine event that follows everything which ``state`` includes."""
    offset = state.offset + 1_000
    return Event(
        session=session, offset=offset, arrival_us=arrival_us, time_us=arrival_us, type="", body=body
    )


@given(
    st.one_of(
        histories(kinds=(*BUSY, *ENDINGS, "timer", "touch"), max_size=40),
        histories(
            kinds=(*BUSY, *ENDINGS, "timer", "touch"), configs=configurations(bounds=TIGHT), max_size=40
        ),
        histories(kinds=FINISHING, configs=configurations(bounds=TIGHT), max_size=40),
    )
)
def test_fold_agrees_with_a_naive_reading_of_the_rules(history: History) -> None:
    config = history.rules.current.config
    reference = Reference(config, APP)
    world = World(history.rules)
    for event in history.events():
        before, left_out = len(world.decisions), len(world.left_out)
        world.take(event)
        expected = reference.fold(event)
        assert (event.offset in world.rejected) is (expected is None)
        found = (
            [asked(d) for d in world.decisions[before:]],
            [(one.trigger, one.data) for one in world.left_out[left_out:]],
        )
        assert found == (expected or ([], []))
        assert shown(world.whole(event.session)) == reference.statuses(event.session)


@given(
    st.one_of(
        histories(kinds=EVERYTHING, configs=configurations(bounds=TIGHT), max_size=60),
        histories(kinds=(*FINISHING, "apply"), configs=configurations(bounds=TIGHT), max_size=60),
    )
)
def test_only_a_trigger_is_rejected_and_what_is_left_out_follows_from_a_command(history: History) -> None:
    world = World(history.rules)
    for entry in history.entries:
        left_out = len(world.left_out)
        world.take(entry)
        if not isinstance(entry, Event):
            continue
        if world.rejected[-1:] == [entry.offset]:
            assert isinstance(entry.body, Trigger)
            continue
        for one in world.left_out[left_out:]:
            assert isinstance(entry.body, Finished | Skip)
            task, number = split_instance_id(entry.body.instance) or ("", 0)
            assert one.trigger == task
            commands = {c.id for c in world.commands() if c.task == task and c.session == entry.session}
            assert one.id in commands
            assert one.time_us == entry.time_us
            state = world.states[entry.session]
            kept = state.tasks[TaskName(task)].resolved.get(number)
            assert kept is None or kept.status in {Status.FINISHED, Status.SKIPPED}
            assert TriggerName(task) not in state.seen or state.seen[one.trigger].offset < entry.offset


@given(histories(kinds=EVERYTHING), st.data())
def test_redelivered_events_change_nothing_and_decide_nothing(history: History, data: st.DataObject) -> None:
    world = play(history.rules, history.entries)
    before = {session: wire.encode(state) for session, state in world.states.items()}
    decided = len(world.decisions)
    start = data.draw(st.integers(0, len(history.entries) - 1))
    for entry in history.entries[start:]:
        if isinstance(entry, Event):
            world.take(entry)
    assert len(world.decisions) == decided
    assert {session: wire.encode(state) for session, state in world.states.items()} == before


@given(
    st.one_of(
        histories(kinds=EVERYTHING),
        histories(kinds=EVERYTHING, configs=configurations(bounds=TIGHT)),
        histories(kinds=(*EVERYTHING, *FINISHING), configs=configurations(bounds=SMALL)),
    )
)
def test_step_never_raises_and_never_changes_its_arguments(history: History) -> None:
    world = World(history.rules)
    for entry in history.entries:
        if isinstance(entry, AppliedConfiguration):
            world.take(entry)
            continue
        state = world.states.get(entry.session)
        before = None if state is None else (wire.encode(state), state.open_count, state.due_us)
        said = repr(entry)
        first = step(world.rules, state, entry)
        measured = step(world.rules, state, entry, sizes=SIZES)
        assert isinstance(measured, Rejected) <= isinstance(entry.body, Trigger)
        assert isinstance(measured, Unknown) is (state is None and not isinstance(entry.body, Trigger))
        after = None if state is None else (wire.encode(state), state.open_count, state.due_us)
        assert before == after
        assert repr(entry) == said
        assert step(world.rules, state, entry) == first
        world.take(entry)


def without_takers(state: SessionState) -> SessionState:
    """The state without what it has looked up of the instances of its tasks."""
    tasks = {name: replace(record, takers=None) for name, record in state.tasks.items()}
    return replace(state, tasks=tasks)


@given(
    st.one_of(
        histories(kinds=EVERYTHING),
        histories(kinds=EVERYTHING, configs=configurations(bounds=TIGHT)),
    )
)
def test_state_survives_its_encoding_after_every_event(history: History) -> None:
    world = World(history.rules)
    for entry in history.entries:
        world.take(entry)
        if isinstance(entry, Event) and entry.session in world.states:
            state = world.states[entry.session]
            decoded = wire.decode(wire.encode(state))
            if (
                state.is_empty()
            ):  # an empty state has met every configuration, since none means anything to it
                decoded.config = state.config
            assert decoded == without_places(without_takers(state.collected()))
            world.states[entry.session] = decoded


def without_places(state: SessionState) -> SessionState:
    """A state without the places of tasks: they are not stored, but counted when they are needed."""
    for record in state.tasks.values():
        if record.places is not None:
            counted = count_places(record)
            assert record.places == counted
            assert [*record.places.held] == [*counted.held]
    return replace(state, tasks={name: replace(one, places=None) for name, one in state.tasks.items()})


@given(st.one_of(histories(kinds=CHANGING), histories(kinds=EVERYTHING)))
def test_lazy_migration_equals_migration_at_once(history: History) -> None:
    lazy = play(history.rules, history.entries)
    eager = World(history.rules)
    for entry in history.entries:
        eager.take(entry)
        if isinstance(entry, AppliedConfiguration):
            for session, state in eager.states.items():
                folded = migrate(eager.rules, state, session)
                eager.keep(session, folded)
                eager.decisions.extend(folded.decisions)
    for session, state in lazy.states.items():
        folded = migrate(lazy.rules, state, session)
        lazy.keep(session, folded)
        lazy.decisions.extend(folded.decisions)
    assert lazy.states == eager.states
    for session in SESSIONS:
        assert lazy.decided(session) == eager.decided(session)


@given(
    histories(kinds=("fire",), configs=configurations(unless=False, retry=False), back_in_time=False),
    st.randoms(use_true_random=False),
)
def test_every_order_of_the_same_triggers_decides_the_same_commands(history: History, random: Random) -> None:
    events: list[Entry] = list(history.entries)
    shuffled = list(events)
    random.shuffle(shuffled)
    one, other = play(history.rules, events), play(history.rules, renumbered(shuffled))
    assert {c.id for c in one.commands()} == {c.id for c in other.commands()}


@given(
    histories(kinds=("fire",), configs=configurations(unless=False, every=False, retry=False), max_size=12),
    st.randoms(use_true_random=False),
)
def test_every_order_of_triggers_and_results_finishes_the_same_commands(
    history: History, random: Random
) -> None:
    triggers = history.events()

    def finish_all(order: list[Event], *, late: bool) -> set[CommandId]:
        world, waiting, pending, offset = World(history.rules), list(order), list[Command](), 0
        while waiting or pending:
            if pending and (not waiting or (late and random.random() < 0.5)):
                command = pending.pop(random.randrange(len(pending)))
                body = Finished(instance=command.instance, command=command.id, result={"of": command.task})
                event = replace(triggers[0], session=command.session, id=None, type="", body=body)
            else:
                event = waiting.pop(0)
            before = len(world.decisions)
            world.take(replace(event, offset=offset))
            offset += 1
            pending += [d for d in world.decisions[before:] if isinstance(d, Command)]
        return {c.id for c in world.commands()}

    shuffled = list(triggers)
    random.shuffle(shuffled)
    assert finish_all(triggers, late=False) == finish_all(shuffled, late=True)


@given(
    st.one_of(
        histories(kinds=(*BUSY, *ENDINGS, "touch", "timer"), back_in_time=False),
        histories(kinds=(*CHANGING, "timer"), back_in_time=False),
        histories(kinds=EVERYTHING, back_in_time=False),
    ),
    st.integers(0, 2**20),
)
def test_timer_events_change_no_decision_once_the_next_event_arrives(history: History, seed: int) -> None:
    """Timer events that are missing, repeated, or late, up to the arrival of what follows them."""
    assume(history.events())
    plain = touched(history)
    own = play(history.rules, renumbered(plain))
    others = play(history.rules, renumbered(with_other_timers(plain, Random(seed))))
    for session in SESSIONS:
        assert [(*essence(d), decided_us(d)) for d in own.decided(session)] == [
            (*essence(d), decided_us(d)) for d in others.decided(session)
        ]


@given(histories(kinds=EVERYTHING, max_size=40))
def test_every_command_id_is_decided_once_and_each_resend_counts_up(history: History) -> None:
    world = play(history.rules, history.entries)
    attempts: dict[CommandId, list[int]] = {}
    places: dict[CommandId, set[tuple[SessionId, str]]] = {}
    for command in world.commands():
        attempts.setdefault(command.id, []).append(command.attempt)
        places.setdefault(command.id, set()).add((command.session, command.instance))
    for found in attempts.values():
        assert found == list(range(len(found)))
    assert all(len(place) == 1 for place in places.values())
    resends = sum(isinstance(event, Event) and event.type.endswith(".resend") for event in history.entries)
    assert sum(len(found) - 1 for found in attempts.values()) <= resends


@given(st.one_of(histories(kinds=CHANGING), histories(kinds=EVERYTHING)))
def test_next_due_is_when_a_timer_event_decides_something(history: History) -> None:
    world = play(history.rules, history.entries)
    for session, state in world.states.items():
        due = next_due(world.rules, state)
        if due is None:
            folded = fold_timer(world, session, state, FAR_US + START_US)
            assert Status.DELAYED not in {i.status for i in statuses(folded.state).values()}
            continue
        missed = [applied.arrival_us for applied in world.rules.missed(state.config)]
        now_us = max(state.clock_us, *missed, 0)  # arrivals may go back, between two configurations too
        if due > now_us:
            early = fold_timer(world, session, state, due - 1)
            delayed = [n for n, i in statuses(early.state).items() if i.status is Status.DELAYED]
            in_time = fold_timer(world, session, early.state, due)
            fired = [n for n in delayed if statuses(in_time.state)[n].status is not Status.DELAYED]
            # What a new configuration abandons is abandoned by any event, at its due time or before.
            assert fired or needs_judging(world, state)
            assert all(
                d.decided_us != due for d in early.decisions if isinstance(d, Command) and d.retries > 0
            )
        folded = fold_timer(world, session, state, due)
        after = next_due(world.rules, folded.state)
        assert after is None or after > due or after > now_us


@given(st.one_of(histories(kinds=CHANGING), histories(kinds=EVERYTHING)))
def test_needs_touch_says_whether_a_touch_decides_something(history: History) -> None:
    world = play(history.rules, history.entries)
    for session, state in world.states.items():
        asks = needs_touch(world.rules, session, state)
        if state.config == world.rules.current.offset:
            assert not asks
            continue
        arrival_us = max(state.clock_us, world.rules.current.arrival_us)
        folded = step(world.rules, state, event_of(state, session, Touch(), arrival_us))
        assert isinstance(folded, Folded)
        assert asks == bool(folded.decisions or folded.created)
        assert not needs_touch(world.rules, session, folded.state)


@given(histories(kinds=EVERYTHING, configs=configurations(bounds=TIGHT), max_size=60))
def test_bounds_of_the_configuration_hold_after_every_event(history: History) -> None:
    world = World(history.rules)
    for entry in history.events():  # under one configuration: a bound that shrinks holds for what comes
        world.take(entry)
        if entry.session not in world.states:
            continue
        bounds = world.rules.current.config.bounds
        state = world.states[entry.session]
        users = world.rules.current.config.users
        assert sum(name not in users for name in state.seen) <= bounds.trigger_names
        assert sum(len(record.open) for record in state.tasks.values()) <= bounds.unresolved_instances
        assert all(len(record.resolved) <= bounds.resolved_instances for record in state.tasks.values())
        assert all(len(digests) <= bounds.digests * 8 for digests in state.digests.values())
        assert len(state.positions) <= bounds.positions
        for record in state.tasks.values():
            numbers = [i.number for i in record.instances()]
            assert len(set(numbers)) == len(numbers)
            assert all(number < record.next for number in numbers)


@given(histories(kinds=EVERYTHING, max_size=40))
def test_what_is_derived_of_a_state_is_always_true(history: History) -> None:
    world = World(history.rules)
    for entry in history.entries:
        world.take(entry)
        state = world.states.get(entry.session) if isinstance(entry, Event) else None
        if state is not None:
            instances = [i for record in state.tasks.values() for i in record.instances()]
            open_ones = [i for record in state.tasks.values() for i in record.open.values()]
            assert state.open_count == len(open_ones)
            exact_us = with_exact_due(world.rules, state).due_us
            assert (exact_us is None) == all(i.status is not Status.DELAYED for i in open_ones)
            assert exact_us is None or (state.due_us is not None and state.due_us <= exact_us)
            assert all((i.sent is None) == (i.decided_us is None) for i in instances)
            assert all(i.decided_us is None for i in instances if i.status in WAITING)
            captured = {event for i in instances for event in captured_refs(i.captured)}
            latest = {(name, arrival.offset) for name, arrival in state.seen.items()}
            needed = state.needed_events()
            kept = {(name, ref) for name, arrivals in needed.items() for ref in arrivals}
            assert kept == captured - latest
            assert all(needed.values())
            assert state.latest_captured >= {name for name, _ in captured & latest}


@given(histories(kinds=EVERYTHING, max_size=40))
def test_every_state_can_be_explained(history: History) -> None:
    world = World(history.rules)
    for entry in history.entries:
        world.take(entry)
        for session, state in world.states.items():
            before = wire.encode(state)
            explained = explain(world.rules, session, state)
            said = to_json(explained)
            assert value_to_json(said) == said
            assert from_json(said, ExplainedSession) == explained
            assert said["waitsFor"] == list(waits_for(world.rules, state, session))
            rows = timeline(world.rules, session, state)
            offsets = [row.offset for row in rows if row.offset is not None]
            assert all(a <= b for a, b in pairwise(offsets))
            assert wire.encode(state) == before


@given(
    histories(kinds=("fire",), configs=configurations(unless=False, every=False, cascades=False)),
    kwargs,
)
def test_first_kwargs_of_a_trigger_are_the_ones_that_count(history: History, late: JsonObject) -> None:
    """What is decided is not touched by what arrives afterwards."""
    world = play(history.rules, history.entries)
    before = {name: entry for state in world.states.values() for name, entry in shown(state).items()}
    assume(before)
    for offset, name in enumerate((*TRIGGERS, TriggerName("unused")), start=1_000):
        event = replace(
            history.events()[0],
            offset=offset,
            id=None,
            body=Trigger(name=name, data=late),
            arrival_us=START_US + FAR_US,
        )
        world.take(event)
    state = world.states[history.events()[0].session]
    config = history.rules.current.config
    for task in config.tasks:
        record = state.tasks.get(task.name)
        if record is None:
            continue
        for instance in record.instances():
            name_of = instance_id(task.name, instance.number)
            if instance.decided_at is not None and instance.decided_at < 1_000 and name_of in before:
                assert set(state.stored_kwargs(instance)) == set(task.needs)
                assert all(ref < 1_000 for _, ref in captured_refs(instance.captured))


# ---- how the laws look at things ----------------------------------------------------------------


def touched(history: History) -> list[Entry]:
    """The log with one more event for each session, which decides what is left to be decided."""
    template = history.events()[0]
    last_us = max(entry.arrival_us for entry in history.entries)
    return [
        *history.entries,
        *(
            replace(template, session=session, arrival_us=last_us, type="", body=Touch(), id=None)
            for session in SESSIONS
        ),
    ]


def with_other_timers(entries: list[Entry], random: Random) -> list[Entry]:
    """``entries`` with other timer events in the place of its own."""
    template = next(entry for entry in entries if isinstance(entry, Event))
    changed: list[Entry] = []
    before_us = START_US
    for entry in entries:
        for _ in range(random.choice((0, 0, 1, 2))):
            at_us = random.randint(min(before_us, entry.arrival_us), entry.arrival_us)
            session = random.choice(SESSIONS)
            changed.append(
                replace(template, session=session, arrival_us=at_us, type="", body=Timer(), id=None)
            )
            before_us = at_us
        if not (isinstance(entry, Event) and isinstance(entry.body, Timer)):
            changed.append(entry)
        before_us = entry.arrival_us
    return changed


def decided_us(decision: Decision) -> int:
    return decision.decided_us if isinstance(decision, Command) else 0


def fold_timer(world: World, session: SessionId, state: SessionState, arrival_us: int) -> Folded:
    folded = step(world.rules, state, event_of(state, session, Timer(), arrival_us))
    assert isinstance(folded, Folded)
    return folded


def needs_judging(world: World, state: SessionState) -> bool:
    return state.unjudged or state.config != world.rules.current.offset
