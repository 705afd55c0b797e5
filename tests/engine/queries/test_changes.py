"""What is counted for a proposed file is what an engine's processor does once the file is applied."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from tests.core.scenarios import Partition
from tests.core.strategies import (
    APP,
    BUSY,
    CHANGING,
    ENDINGS,
    SECOND,
    SMALL,
    TIGHT,
    TRIGGERS,
    Dice,
    History,
    bytes_of,
    configurations,
    histories,
)
from tests.engine.test_processor import configured, records_of
from triggerstream.adapters.memory import (
    MemoryDatabase,
    MemorySnapshot,
)
from triggerstream.core.changes import Consequence
from triggerstream.core.errors import ConfigError
from triggerstream.core.events import Touch
from triggerstream.core.projections import statuses
from triggerstream.core.state import WAITING, Instance, Status
from triggerstream.core.tasks import Configuration, Rules
from triggerstream.engine.checkpoint import Stored
from triggerstream.engine.queries.changes import CountedChange, count_changes
from triggerstream.engine.rows import ConfigurationText
from triggerstream.wire import tasksfile
from triggerstream.wire.events import encode
from triggerstream.wire.marks import (
    Identity,
)
from triggerstream.wire.records import Record

EVERYTHING = (*BUSY, *ENDINGS, "touch", "timer", "apply")
UNDER_WAY = ("fire", "fire", "failed")
"""What leaves instances that wait for a trigger, or for their next try."""
BOUNDED = (*SMALL, *TIGHT)
IDENTITY = Identity(cluster="c", topic="t", partitions=1)
LATE = (0, SECOND, 20 * SECOND)


def altered(text: str, drawn: bytes) -> str:
    """The tasks file ``text``, in which some tasks are easier to satisfy, harder, or gone."""
    file = json.loads(text)
    dice = Dice(drawn)
    for name in [one for one in file if not one.startswith("$")]:
        task = file[name]
        match dice.one(("after", "after", "retry", "retry", "unless", "no unless", "gone", "same")):
            case "after" if len(task["after"]) > 1 or (task["after"] and task.get("andEvery")):
                del task["after"][0]
            case "retry":
                task.pop("retry", None)
            case "unless":
                task["unless"] = [dice.one(TRIGGERS)]
            case "no unless":
                task.pop("unless", None)
            case "gone":
                del file[name]
    return json.dumps(file)


def counted(partition: Partition, config: Configuration, *, offset: int, at_us: int) -> CountedChange:
    database = MemoryDatabase(
        sessions={name: Stored(state=one, due_us=None, config=-1) for name, one in partition.stored.items()},
        configurations=tuple(ConfigurationText.of(one) for one in partition.rules.history if one.offset >= 0),
        offset=offset,
    )
    snapshot = MemorySnapshot(database, app=partition.rules.app)
    return asyncio.run(count_changes([snapshot], config, at_us=at_us, on_counted=lambda *_: None))


def instances(partition: Partition) -> dict[tuple[str, str], Instance]:
    return {
        (session, name): one
        for session in partition.stored
        for name, one in statuses(partition.state(session)).items()
    }


def touches(partition: Partition, offset: int, at_us: int) -> list[Record]:
    value = encode(Touch())
    return [
        Record(partition=0, offset=offset + n, arrival_us=at_us, key=session.encode(), value=value)
        for n, session in enumerate(partition.stored)
    ]


@pytest.mark.laws
@given(
    st.one_of(histories(kinds=UNDER_WAY), histories(kinds=CHANGING)), bytes_of(12, 1), st.sampled_from(LATE)
)
def test_the_counts_of_an_altered_file_are_what_a_processor_does(
    history: History, drawn: bytes, late_us: int
) -> None:
    records = records_of(history)
    partition = Partition(Rules(app=APP))
    partition.process(records)
    check_counts(partition, records, altered(partition.rules.current.config.text, drawn), late_us)


@pytest.mark.laws
@given(
    histories(kinds=(*EVERYTHING, *CHANGING), configs=configurations(bounds=BOUNDED)),
    st.one_of(configurations(), configurations(bounds=BOUNDED)),
    st.sampled_from(LATE),
)
def test_the_counts_of_any_file_are_what_a_processor_does(
    history: History, proposed: Configuration, late_us: int
) -> None:
    records = records_of(history)
    partition = Partition(Rules(app=APP))
    partition.process(records)
    check_counts(partition, records, tasksfile.encode(proposed), late_us)


def check_counts(partition: Partition, records: list[Record], text: str, late_us: int) -> None:
    try:
        config = tasksfile.read(text, name="tasks.json")
    except ConfigError:
        reject()
    at_us = max(record.arrival_us for record in records) + late_us
    end = len(records)
    change = counted(partition, config, offset=end, at_us=at_us)
    # The sessions do what is to be done without the file; then it is applied, and they are touched.
    for touch in touches(partition, end, at_us):
        partition.process([touch])
    before = instances(partition)
    decided = len(partition.values)
    at = end + len(partition.stored)
    applied = Record(partition=0, offset=at, arrival_us=at_us, key=None, value=configured(config.text))
    partition.process([applied, *touches(partition, at + 1, at_us)])
    assert change.total(Consequence.DECIDED) == len(partition.values) - decided
    after = instances(partition)
    happened: Counter[tuple[str, Status]] = Counter()
    for name, instance in before.items():
        if instance.status in WAITING and name in after:
            happened[name[1].partition("#")[0], after[name].status] += 1
    for one, status in (
        (Consequence.ABANDONED, Status.ABANDONED),
        (Consequence.CANCELLED, Status.CANCELLED),
        (Consequence.FAILED, Status.FAILED),
    ):
        # A resolved instance may be forgotten at once.
        assert sum(n for (_, found), n in happened.items() if found is status) <= change.total(one)
    gone = sum(one.status in WAITING and name not in after for name, one in before.items())
    ended = change.total(Consequence.ABANDONED) + change.total(Consequence.CANCELLED)
    assert ended == gone + sum(
        n for (_, found), n in happened.items() if found in {Status.ABANDONED, Status.CANCELLED}
    )
    assert change.total(Consequence.FAILED) == sum(
        n for (_, found), n in happened.items() if found is Status.FAILED
    )
