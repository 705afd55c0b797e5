"""What a proposed file would do at once is what it does at once when it is applied."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.changing_files import CHANGE_BYTES, changed
from tests.core.compared import Folding, Reading
from tests.core.logs_of_conditions import APP as SCENARIOS_APP
from tests.core.logs_of_conditions import Scenario, scenarios
from tests.core.logs_of_time import numbered_timed_scenario
from tests.core.reference_of_conditions import File, Line, Reference
from tests.core.story import SECOND, START_US, Story, read, task
from tests.core.strategies import (
    BUSY,
    CHANGING,
    ENDINGS,
    Dice,
    History,
    World,
    bytes_of,
    configurations,
    histories,
)
from triggerstream.core.changes import Consequence, ProposedFile, consequences, may_have_consequences
from triggerstream.core.commands import Command
from triggerstream.core.events import Event, Touch
from triggerstream.core.ids import JsonObject, SessionId
from triggerstream.core.projections import statuses
from triggerstream.core.retired import KEPT_RESOLVED
from triggerstream.core.state import WAITING, Instance, Status
from triggerstream.core.tasks import AppliedConfiguration, Configuration
from triggerstream.wire.state import EncodedSizes

SIZES = EncodedSizes()
EVERYTHING = (*BUSY, *ENDINGS, "touch", "timer", "apply")
LATE = (0, SECOND, 20 * SECOND)
MANY = 50 if os.environ.get("HYPOTHESIS_PROFILE") == "quick" else 100


def touch_all(world: World, offset: int, at_us: int) -> None:
    for session in list(world.states):
        world.take(
            Event(
                session=session,
                offset=offset,
                arrival_us=at_us,
                time_us=at_us,
                type="triggerstream.session.touch",
                body=Touch(),
            )
        )


def counted(file: ProposedFile, world: World) -> Counter[tuple[str, str, Consequence]]:
    return Counter(
        (session, task, one)
        for session, state in world.states.items()
        for task, _, one in consequences(file, session, state, SIZES)
    )


def all_instances(world: World) -> Iterator[tuple[SessionId, dict[str, Instance]]]:
    """The instances of each session, retired ones included: a file may cancel more than a state keeps."""
    for session in world.states:
        state = world.whole(session)
        assert state is not None
        yield session, statuses(state)


@pytest.mark.laws
@given(
    st.one_of(histories(kinds=CHANGING), histories(kinds=EVERYTHING)), configurations(), st.sampled_from(LATE)
)
def test_the_counts_are_what_happens_when_the_file_is_applied(
    history: History, config: Configuration, late_us: int
) -> None:
    world = World(history.rules)
    for entry in history.entries:
        world.take(entry)
    at_us = max((entry.arrival_us for entry in history.entries), default=START_US) + late_us
    offset = len(history.entries)
    file = ProposedFile(rules=world.rules, config=config, offset=offset, at_us=at_us)
    before_it = world.states.copy()
    found = counted(file, world)
    assert world.states == before_it
    # The sessions do what is to be done without the file; then it is applied, and they are touched.
    touch_all(world, offset, at_us)
    waiting = {
        (session, name): instance.status
        for session, instances in all_instances(world)
        for name, instance in instances.items()
        if instance.status in WAITING
    }
    known = {session: set(instances) for session, instances in all_instances(world)}
    decided = len(world.decisions)
    world.take(AppliedConfiguration(config=config, offset=offset + 1, arrival_us=at_us))
    touch_all(world, offset + 2, at_us)
    happened: Counter[tuple[str, str, Consequence]] = Counter()
    for decision in world.decisions[decided:]:
        assert isinstance(decision, Command)
        happened[decision.session, decision.task, Consequence.DECIDED] += 1
        if waiting.get((decision.session, decision.instance)) is Status.DELAYED:
            happened[decision.session, decision.task, Consequence.DUE] += 1
    for session, instances in all_instances(world):
        for name, instance in instances.items():
            of = name.rpartition("#")[0]
            if (session, name) in waiting:
                if instance.status is Status.CANCELLED:
                    happened[session, of, Consequence.CANCELLED] += 1
                elif instance.status is Status.ABANDONED:
                    happened[session, of, Consequence.ABANDONED] += 1
            elif name not in known[session]:
                happened[session, of, Consequence.BEGUN] += 1
    assert Counter({k: n for k, n in found.items() if k[2] is not Consequence.TOUCHED}) == happened
    if not may_have_consequences(file.rules.current.config, config):
        assert not found


@pytest.mark.laws
@given(scenarios(), bytes_of(CHANGE_BYTES, 1), st.sampled_from(LATE))
def test_the_counts_are_what_the_reference_does_under_files_of_the_language(
    scenario: Scenario, drawn: bytes, late_us: int
) -> None:
    assert_counts_agree(scenario, lambda file: changed(file, Dice(drawn)), late_us)


@pytest.mark.laws
def test_the_counts_are_what_the_reference_does_where_a_file_gives_or_takes_places() -> None:
    found: Counter[Consequence] = Counter()
    for n in range(MANY):
        random = Random(n)
        found += assert_counts_agree(
            numbered_timed_scenario(n), partial(with_other_places, random), random.choice(LATE)
        )
    assert found[Consequence.DECIDED] > MANY // 20


def with_other_places(random: Random, file: File) -> File:
    """The file with other limits of how many instances run."""
    others: File = {}
    for name, entry in file.items():
        kept = {key: value for key, value in entry.items() if key not in {"paused", "maxConcurrency"}}
        others[name] = kept | random.choice(({}, {"paused": True}, {"maxConcurrency": random.choice((1, 3))}))
    return others


def test_a_file_that_gives_places_touches_and_decides_held_ones_only() -> None:
    limited: JsonObject = {"after": ["b"], "andEvery": "a", "maxConcurrency": 1, "run": "m.t"}
    story = Story({"t": limited})
    story.fire("a")  # t#0 waits for b
    story.fire("b")
    story.fire("a")
    story.fire("a")
    story.apply({"t": {**limited, "after": ["b", "c"]}})
    story.fire("a")  # t#3 waits for c
    assert list(story.statuses().values()) == ["scheduled", "held", "held", "unstarted"]

    def at_once(places: JsonObject) -> list[tuple[int, str]]:
        new: JsonObject = {"t": {"after": ["b", "c"], "andEvery": "a", "run": "m.t", **places}}
        file = ProposedFile(rules=story.rules, config=read(new), offset=story.offset, at_us=START_US)
        assert story.state is not None
        found = consequences(file, story.session, story.state, SIZES)
        return [(number, one.value) for _, number, one in found]

    assert at_once({"maxConcurrency": 1}) == []
    assert at_once({"maxConcurrency": 2}) == [(1, "touched"), (1, "decided"), (2, "touched")]
    assert at_once({}) == [(1, "touched"), (1, "decided"), (2, "touched"), (2, "decided")]
    assert at_once({"paused": True}) == [(1, "touched"), (2, "touched")]
    before, after = (read({"t": {**limited, **keys}}) for keys in ({}, {"maxConcurrency": 2}))
    assert may_have_consequences(before, after)


def test_a_file_without_a_task_cancels_more_instances_than_a_state_keeps() -> None:
    count = 2 * KEPT_RESOLVED
    story = Story({"t": {"after": ["b"], "andEvery": "a", "run": "m.t"}})
    for _ in range(count):
        story.fire("a")
    file = ProposedFile(rules=story.rules, config=read({}), offset=story.offset, at_us=START_US)
    assert story.state is not None
    found = Counter(one for _, _, one in consequences(file, story.session, story.state, SIZES))
    assert found[Consequence.CANCELLED] == count


def assert_counts_agree(
    scenario: Scenario, change: Callable[[File], File], late_us: int
) -> Counter[Consequence]:
    """Compare the counts for a changed file with what the reference does under it; the counts."""
    reader = Reading()
    folding, reference = Folding.of(scenario.file, reader), Reference(SCENARIOS_APP, scenario.file)
    for line in scenario.lines:
        folding.read(line)
        reference.read(line)
    new = change(reference.file)
    at_us = max(line.arrival_us for line in scenario.lines) + late_us
    end = len(scenario.lines)
    file = ProposedFile(rules=folding.rules, config=reader(new), offset=end, at_us=at_us)
    found = Counter(
        (session, name, one)
        for session, state in folding.states.items()
        for name, _, one in consequences(file, session, state, SIZES)
    )
    # The sessions do what is to be done without the file; then it is applied, and they are touched.
    touch_in_reference(reference, end, at_us)
    before = {session: reference.statuses(session) for session in reference.sessions}
    asked = {session: len(reference.asked(session)) for session in reference.sessions}
    reference.read(Line(offset=end + 1, arrival_us=at_us, file=new))
    touch_in_reference(reference, end + 2, at_us)
    happened: Counter[tuple[str, str, Consequence]] = Counter()
    for session, known in before.items():
        after = reference.statuses(session)
        decided = {one.instance for one in reference.asked(session)[asked[session] :]}
        for name, status in after.items():
            task = name.rpartition("#")[0]
            applies = new.get(task, {}).get("appliesTo") == "existing" and name.endswith("#0")
            happened[session, task, Consequence.BEGUN] += applies and name not in known
            happened[session, task, Consequence.DECIDED] += name in decided
            happened[session, task, Consequence.DUE] += name in decided and known.get(name) == "delayed"
            for one in (Consequence.EXPIRED, Consequence.ABANDONED, Consequence.CANCELLED):
                happened[session, task, one] += status == one.value != known.get(name)
    counts = Counter({key: number for key, number in found.items() if key[2] is not Consequence.TOUCHED})
    assert counts == +happened
    for session, task, one in counts:
        if one is not Consequence.BEGUN and not counts[session, task, Consequence.BEGUN]:
            assert found[session, task, Consequence.TOUCHED] >= counts[session, task, one]
    if not may_have_consequences(file.rules.current.config, file.config):
        assert not found
    totals: Counter[Consequence] = Counter()
    for (_, _, one), number in found.items():
        totals[one] += number
    return totals


def touch_in_reference(reference: Reference, offset: int, at_us: int) -> None:
    for session in list(reference.sessions):
        touch = "triggerstream.session.touch"
        reference.read(Line(offset=offset, arrival_us=at_us, session=session, type=touch, time_us=at_us))


# ---- keys of time -------------------------------------------------------------------------------


def at_once(before: JsonObject, after: JsonObject, *, at: float) -> list[tuple[str, int, str]]:
    """The consequences of a file for a session that was given ``x`` at 0, in that many seconds."""
    story = Story(before)
    story.fire("x", at=0)
    assert story.state is not None
    file = ProposedFile(
        rules=story.rules, config=read(after), offset=story.offset, at_us=START_US + round(at * SECOND)
    )
    found = consequences(file, SessionId("s"), story.state, SIZES)
    return [(task, number, one.value) for task, number, one in found]


WAITS: JsonObject = {"t": task("x", "y")}
LATER: JsonObject = {"u": task("t.timeout")}


def test_a_deadline_that_has_passed_under_the_file_expires_at_once_and_its_timeout_is_counted() -> None:
    after: JsonObject = {"t": task("x", "y", deadline="10s"), **LATER}
    assert at_once({**WAITS, **LATER}, after, at=9) == [("t", 0, "touched")]
    assert at_once({**WAITS, **LATER}, after, at=10) == [
        ("t", 0, "touched"),
        ("t", 0, "expired"),
        ("u", 0, "decided"),
    ]


def test_a_delay_that_is_over_under_the_file_is_due_at_once() -> None:
    before: JsonObject = {"t": task("x", delay="1h")}
    due = [("t", 0, "touched"), ("t", 0, "decided"), ("t", 0, "due")]
    assert at_once(before, {"t": task("x", delay="5s")}, at=5) == due
    assert at_once(before, {"t": task("x")}, at=1) == due
    assert at_once(before, {"t": task("x", delay="2h")}, at=1) == [("t", 0, "touched")]


def test_the_next_round_is_not_begun_by_a_file() -> None:
    before: JsonObject = {"t": task("x", repeat={"every": "1h", "max": 5})}
    after: JsonObject = {"t": task("x", repeat={"every": "10s", "max": 5})}
    assert at_once(before, after, at=15) == [
        ("t", 1, "touched"),
        ("t", 1, "decided"),
        ("t", 1, "due"),
    ]
