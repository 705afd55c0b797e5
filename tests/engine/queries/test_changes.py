"""What is counted for a proposed file is what an engine's processor does once the file is applied."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from tests.core.changing_files import CHANGE_BYTES, changed
from tests.core.logs_of_conditions import APP as SCENARIOS_APP
from tests.core.logs_of_conditions import Scenario, as_golden, scenarios
from tests.core.scenarios import Partition, read_scenario
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
from tests.engine.partitioned.bench import BenchLedger, Durable
from tests.engine.test_processor import configured, records_of
from triggerstream.adapters.memory import (
    MemoryDatabase,
    MemoryLedger,
    MemoryPartition,
    MemorySnapshot,
    MemoryStateStore,
)
from triggerstream.core.changes import Consequence, ProposedFile, consequences
from triggerstream.core.errors import ConfigError, LogError
from triggerstream.core.events import Touch
from triggerstream.core.ids import AppId
from triggerstream.core.projections import statuses
from triggerstream.core.state import WAITING, Instance, Status
from triggerstream.core.tasks import Configuration, Rules
from triggerstream.engine.checkpoint import Stored
from triggerstream.engine.partitioned.ports import Commit, UnreadableEntriesError
from triggerstream.engine.queries.changes import CountedChange, count_changes
from triggerstream.engine.queries.snapshots import ChangelogSnapshot, ignore_progress
from triggerstream.engine.rows import ConfigurationText
from triggerstream.wire import tasksfile
from triggerstream.wire.events import encode
from triggerstream.wire.marks import (
    CHECKPOINT_KEY,
    CheckpointMark,
    Identity,
    IdentityError,
    encode_checkpoint,
)
from triggerstream.wire.records import Record
from triggerstream.wire.state import EncodedSizes

EVERYTHING = (*BUSY, *ENDINGS, "touch", "timer", "apply")
UNDER_WAY = ("fire", "fire", "failed")
"""What leaves instances that wait for a trigger, or for their next try."""
BOUNDED = (*SMALL, *TIGHT)
IDENTITY = Identity(cluster="cluster", topic="topic", partitions=1)
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


@pytest.mark.laws
@given(scenarios(), bytes_of(CHANGE_BYTES, 1))
def test_no_session_is_passed_over_in_which_something_would_happen(scenario: Scenario, drawn: bytes) -> None:
    partition = Partition(Rules(app=AppId(SCENARIOS_APP)))
    golden = {"name": "", "says": "", **json.loads(as_golden(scenario))}
    records = read_scenario(json.dumps(golden)).records
    partition.process(records)
    text = json.dumps(changed(json.loads(partition.rules.current.config.text), Dice(drawn)))
    config = tasksfile.read(text, name="tasks.json")
    at_us = max(record.arrival_us for record in records)
    change = counted(partition, config, offset=len(records), at_us=at_us)
    file = ProposedFile(rules=partition.rules, config=config, offset=len(records), at_us=at_us)
    found: Counter[tuple[str, Consequence]] = Counter()
    for session in partition.stored:
        state = partition.state(session)
        found.update((task, one) for task, _, one in consequences(file, session, state, EncodedSizes()))
    counts = {(task, one): n for task, of in change.tasks.items() for one, n in of.counts.items() if n}
    assert counts == found


# ---- snapshots of a changelog -------------------------------------------------------------------


class Growing(MemoryLedger):
    """A ledger whose changelog gets an entry while it is read, in place of an older one of the session."""

    def __init__(self, partition: MemoryPartition) -> None:
        super().__init__(partition)
        self._of = partition
        self.readings = 0

    async def changelog(self, begin: int, end: int) -> AsyncGenerator[tuple[dict[bytes, bytes | None], int]]:
        self.readings += 1
        if self.readings == 1:
            await committed(self._of, {b"s": b"new"}, offset=9)
        async for entries, after in super().changelog(begin, end):
            yield {key: value for key, value in entries.items() if value != b"old"}, after


async def committed(partition: MemoryPartition, states: dict[bytes, bytes | None], *, offset: int) -> None:
    ledger = MemoryLedger(partition)
    await ledger.start()
    mark = encode_checkpoint(CheckpointMark(offset=offset, identity=IDENTITY))
    marks: dict[bytes, bytes | None] = {CHECKPOINT_KEY: mark}
    await ledger.commit(Commit(decided=(), states=states, dead_letters=(), marks=marks, offset=None))


def snapshot(ledger: MemoryLedger, *, identity: Identity = IDENTITY) -> ChangelogSnapshot:
    async def no_events(_begin: int, _end: int) -> bool:
        return False

    return ChangelogSnapshot(
        app=APP,
        number=0,
        identity=identity,
        ledger=ledger,
        open_store=MemoryStateStore,
        has_events=no_events,
    )


async def test_a_session_whose_entry_is_replaced_while_a_changelog_is_read_is_not_missing() -> None:
    partition = MemoryPartition()
    await committed(partition, {b"s": b"old"}, offset=4)
    one = snapshot(Growing(partition))
    begin = await one.open(ignore_progress)
    assert begin.offset == 9
    assert [entry async for page in one.pages() for entry in page.entries] == [(b"s", b"new")]


async def test_a_snapshot_begins_at_the_rebuild_where_entries_before_it_cannot_be_read() -> None:
    durable = Durable(unreadable=range(1))
    await committed(durable, {b"s": b"1", b"t": b"1"}, offset=4)
    with pytest.raises(LogError, match="the batch at 0 cannot be read; stop all workers and run `"):
        await snapshot(BenchLedger(durable)).open(ignore_progress)
    mark = CheckpointMark(offset=4, identity=IDENTITY, rebuilt=len(durable.changelog))
    durable.changelog += [(b"s", b"2"), (CHECKPOINT_KEY, encode_checkpoint(mark))]
    durable.newest_unreadable = UnreadableEntriesError("newer", offset=9, last=9, lasting=False)
    with pytest.raises(
        LogError,
        match=r"^its changelog: newer; if no replica has the batch undamaged: stop all workers and run `",
    ):
        await snapshot(BenchLedger(durable)).open(ignore_progress)
    durable.newest_unreadable = None
    one = snapshot(BenchLedger(durable))
    assert (await one.open(ignore_progress)).offset == 4
    assert [entry async for page in one.pages() for entry in page.entries] == [(b"s", b"2")]


async def test_a_changelog_of_another_log_is_refused() -> None:
    partition = MemoryPartition()
    await committed(partition, {b"s": b"old"}, offset=4)
    other = Identity(cluster="cluster", topic="made again", partitions=1)
    with pytest.raises(IdentityError, match="partition 0: its checkpoint belongs to topic id topic"):
        await snapshot(MemoryLedger(partition), identity=other).open(ignore_progress)


async def test_a_checkpoint_that_cannot_be_read_is_an_error_with_its_repair() -> None:
    partition = MemoryPartition()
    ledger = MemoryLedger(partition)
    await ledger.start()
    marks: dict[bytes, bytes | None] = {CHECKPOINT_KEY: b"{}"}
    await ledger.commit(Commit(decided=(), states={}, dead_letters=(), marks=marks, offset=None))
    with pytest.raises(LogError, match=r"^partition 0: its checkpoint cannot be read .*replay --rebuild"):
        await snapshot(ledger).open(ignore_progress)


async def test_a_changelog_that_was_lost_is_not_counted_as_an_app_without_sessions() -> None:
    partition = MemoryPartition(group_offset=5)
    with pytest.raises(LogError, match="partition 0: its group has read up to offset 5, its changelog"):
        await snapshot(MemoryLedger(partition)).open(ignore_progress)
