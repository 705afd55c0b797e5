"""A snapshot of a partition that is at work while it is read."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from tests.engine.partitioned.bench import APP, IDENTITY, Bench
from triggerstream.adapters.memory import MemoryLedger, MemoryStateStore
from triggerstream.core.errors import LogError
from triggerstream.engine.queries.snapshots import ChangelogSnapshot, ignore_progress


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def has_events(_begin: int, _end: int) -> bool:
    return True


@dataclass
class LateLedger(MemoryLedger):
    """A ledger of a partition whose owner makes its first checkpoint once the changelog has been read."""

    bench: Bench
    late: bool = field(default=True)

    def __post_init__(self) -> None:
        super().__init__(self.bench.durable)

    async def committed(self) -> int | None:
        if self.late:
            await self.bench.live()
        return await super().committed()


def snapshot_of(ledger: MemoryLedger) -> ChangelogSnapshot:
    return ChangelogSnapshot(
        app=APP,
        number=0,
        identity=IDENTITY,
        ledger=ledger,
        open_store=MemoryStateStore,
        has_events=has_events,
    )


async def test_a_first_checkpoint_that_comes_meanwhile_is_read(bench: Bench) -> None:
    bench.configure()
    snapshot = snapshot_of(LateLedger(bench=bench))
    begin = await snapshot.open(ignore_progress)
    assert (begin.offset, begin.log_end) == (1, 1)
    assert begin.rules.current.config.hash == bench.configuration
    await snapshot.close()


async def test_a_group_that_has_read_without_a_checkpoint_is_refused(bench: Bench) -> None:
    bench.durable.group_offset = 5
    snapshot = snapshot_of(LateLedger(bench=bench, late=False))
    with pytest.raises(LogError, match=r"read up to offset 5, its changelog has no checkpoint; .*rebuild"):
        await snapshot.open(ignore_progress)
    await snapshot.close()
