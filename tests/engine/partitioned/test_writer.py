"""Checkpoints and group offsets as a partition's writer writes them, on a ledger and a store in memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from tests.engine.partitioned.bench import APP, IDENTITY, BenchAppender, BenchLedger, BenchStore, Durable
from triggerstream.core import tasks
from triggerstream.core.ids import SessionId, TaskName
from triggerstream.core.tasks import Rules
from triggerstream.engine.checkpoint import Checkpoint, Stored
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.engine.partitioned.configurations import PartitionConfigurations
from triggerstream.engine.partitioned.session_states import PartitionStates
from triggerstream.engine.partitioned.timing import PartitionTiming
from triggerstream.engine.partitioned.versions import read_history
from triggerstream.engine.partitioned.writer import CheckpointWriter
from triggerstream.wire.marks import CheckpointMark
from triggerstream.wire.retired import RetiredKey, encode_key

EVERY_S, KEEP_ALIVE_S = 10.0, 1000.0
SESSION = SessionId("s")


@dataclass
class Clock:
    """The time of the event loop, in seconds; a test sets it."""

    now: float = 123.0


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: clock.now)
    return clock


@pytest.fixture
def durable() -> Durable:
    return Durable()


@pytest.fixture
def rules() -> Rules:
    return read_history(lambda _: None, ConfigurationCache()).rules(APP)


@pytest.fixture
async def writer(clock: Clock, durable: Durable, rules: Rules) -> CheckpointWriter:  # noqa: ARG001 - the writer reads it
    states = PartitionStates(BenchStore())
    cache = ConfigurationCache()
    ledger = BenchLedger(durable)
    await ledger.start()
    return CheckpointWriter(
        ledger=ledger,
        appender=BenchAppender(durable),
        states=states,
        configurations=PartitionConfigurations(
            rules=rules,
            history=read_history(lambda _: None, cache),
            scanned=-1,
            cache=cache,
            stored=states.stored,
        ),
        mark=CheckpointMark(offset=0, identity=IDENTITY, fold=tasks.FOLD_VERSION),
        partitions=1,
        timing=PartitionTiming(group_offset_every_s=EVERY_S, keep_alive_s=KEEP_ALIVE_S),
    )


async def test_group_offsets_of_all_partitions_are_due_at_the_same_moments(
    writer: CheckpointWriter, clock: Clock
) -> None:
    for now, due in ((123.0, 130.0), (129.9, 130.0), (130.0, 140.0)):
        clock.now = now
        await writer.commit_group_offset(5)
        assert writer.group_offset_due(6) == due


async def test_a_group_offset_that_does_not_lag_is_due_when_it_would_expire(
    writer: CheckpointWriter, clock: Clock
) -> None:
    assert not writer.group_offset_lags(0)
    assert writer.group_offset_due(0) == clock.now + KEEP_ALIVE_S, "nothing was committed yet"
    await writer.commit_group_offset(5)
    clock.now += 1
    assert not writer.group_offset_lags(5)
    assert writer.group_offset_due(5) == clock.now - 1 + KEEP_ALIVE_S
    assert writer.group_offset_lags(6)


async def test_a_checkpoint_has_the_group_offset_only_when_it_is_due(
    writer: CheckpointWriter, durable: Durable, clock: Clock, rules: Rules
) -> None:
    for now, offset, committed in ((123.0, 1, 1), (129.9, 2, 1), (130.0, 3, 3)):
        clock.now = now
        await writer.write([Checkpoint(partition=0, offset=offset)], rules)
        assert durable.group_offset == committed


async def test_entries_of_retired_instances_are_written_under_their_own_keys(
    writer: CheckpointWriter, durable: Durable, rules: Rules
) -> None:
    made, deleted = (RetiredKey(SESSION, TaskName("t"), number) for number in (1, 2))
    checkpoint = Checkpoint(
        partition=0,
        offset=1,
        states={SESSION: Stored(state=b"{}", due_us=None, config=-1)},
        retired={made: b"entry", deleted: None},
    )
    await writer.write([checkpoint], rules)
    written = dict(durable.changelog)
    assert (written[b"s"], written[encode_key(made)], written[encode_key(deleted)]) == (b"{}", b"entry", None)
    assert writer.states.stored(encode_key(made)) == b"entry"
