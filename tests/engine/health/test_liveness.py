"""What is told of a process: alive, started, ready, and a partition that stands still."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from triggerstream.engine.background import TaskEndedError
from triggerstream.engine.health.liveness import (
    AWAY_S,
    LOOP_S,
    HealthSnapshot,
    PartitionHealth,
    Phase,
    PublishedHealth,
    publish_health,
)

LIMIT_S = 300.0


@dataclass
class Watch:
    """Published health with a clock that a test moves."""

    at: float = 1_000.0
    health: PublishedHealth = field(init=False)

    def __post_init__(self) -> None:
        self.health = PublishedHealth(stuck_s=LIMIT_S, now=lambda: self.at)

    def publish(self, snapshot: HealthSnapshot, *, for_s: float) -> None:
        """Publish the same snapshot every ten seconds."""
        end = self.at + for_s
        while self.at < end:
            self.at += 10
            self.health.publish(snapshot)


def snapshot(
    *,
    phase: Phase = Phase.READY,
    joined: bool = True,
    lag: int | None = 5,
    reached: int = 7,
    silent_s: float = 0.1,
    waits: bool = False,
    partition: int = 3,
) -> HealthSnapshot:
    one = PartitionHealth(partition=partition, ready=True, reached=reached, lag=lag)
    return HealthSnapshot(
        phase=phase, joined=joined, silent_s=silent_s, waits=waits, topic="app.events", partitions=(one,)
    )


def test_a_process_that_only_starts_is_alive_and_neither_started_nor_ready() -> None:
    health = Watch().health
    assert health.dead() is None
    assert health.unstarted() == health.unready() == "starting: not in its consumer group yet"


def test_a_partition_with_records_that_does_not_move_is_stuck_after_the_limit() -> None:
    watch = Watch()
    watch.publish(snapshot(), for_s=LIMIT_S)
    assert watch.health.dead() is None
    watch.publish(snapshot(), for_s=20)
    said = "no progress for 300 s in partitions 3 with records to read"
    assert watch.health.dead() == watch.health.unready() == said
    assert (watch.health.stuck, watch.health.trips) == ((3,), 1)
    watch.publish(snapshot(reached=8), for_s=10)
    assert watch.health.dead() is None
    assert watch.health.trips == 1


@pytest.mark.parametrize(
    "excuse",
    [
        snapshot(lag=0),
        snapshot(lag=None),
        snapshot(phase=Phase.RECOVERING),
        snapshot(phase=Phase.REBALANCING),
        snapshot(phase=Phase.STARTING, joined=False),
        snapshot(silent_s=AWAY_S + 1),
        snapshot(waits=True),
        HealthSnapshot(phase=Phase.READY, joined=True, silent_s=0.1),
    ],
    ids=["no lag", "lag unknown", "recovering", "rebalancing", "starting", "away", "waits", "idle"],
)
def test_what_has_an_excuse_is_never_stuck(excuse: HealthSnapshot) -> None:
    watch = Watch()
    watch.publish(excuse, for_s=10 * LIMIT_S)
    assert watch.health.dead() is None
    # The time of the excuse does not count afterwards either.
    watch.publish(snapshot(), for_s=LIMIT_S)
    assert watch.health.dead() is None


def test_a_partition_that_moves_slowly_is_not_stuck() -> None:
    watch = Watch()
    for reached in range(20):
        watch.publish(snapshot(reached=reached), for_s=LIMIT_S / 2)
        assert watch.health.dead() is None


def test_one_partition_that_moves_does_not_hide_another_that_does_not() -> None:
    watch = Watch()
    still = PartitionHealth(partition=1, ready=True, reached=4, lag=9)
    for reached in range(40):
        moving = PartitionHealth(partition=2, ready=True, reached=reached, lag=9)
        both = HealthSnapshot(phase=Phase.READY, joined=True, silent_s=0, partitions=(still, moving))
        watch.publish(both, for_s=10)
    assert watch.health.stuck == (1,)


def test_records_behind_another_programs_transaction_are_lag_and_do_not_make_a_process_stuck() -> None:
    watch = Watch()
    behind = PartitionHealth(partition=1, ready=True, reached=4, lag=9, blocked=9)
    blocked = HealthSnapshot(phase=Phase.READY, joined=True, silent_s=0, partitions=(behind,))
    watch.publish(blocked, for_s=3 * LIMIT_S)
    assert (watch.health.stuck, watch.health.dead()) == ((), None)
    assert watch.health.waits_s[1] >= 2 * LIMIT_S
    readable = PartitionHealth(partition=1, ready=True, reached=4, lag=10, blocked=9)
    watch.publish(
        HealthSnapshot(phase=Phase.READY, joined=True, silent_s=0, partitions=(readable,)), for_s=2 * LIMIT_S
    )
    assert watch.health.stuck == (1,)


def test_a_process_that_was_stopped_for_long_is_not_stuck_when_it_wakes() -> None:
    watch = Watch()
    watch.publish(snapshot(), for_s=20)
    watch.at += 3 * LIMIT_S
    watch.health.publish(snapshot())
    assert watch.health.dead() is None


def test_an_event_loop_that_does_not_run_is_dead() -> None:
    watch = Watch()
    watch.health.publish(snapshot())
    watch.at += LOOP_S
    assert watch.health.dead() is None
    watch.at += 1
    assert watch.health.dead() == watch.health.unready() == "the event loop has not run for 61 s"
    assert watch.health.unstarted() is None


def test_who_waits_for_nothing_that_it_has_is_ready() -> None:
    watch = Watch()
    watch.health.publish(HealthSnapshot(phase=Phase.READY, joined=True, silent_s=0.1))
    assert watch.health.unready() is None


def test_without_an_answer_of_a_broker_it_lives_and_is_not_ready() -> None:
    watch = Watch()
    watch.publish(snapshot(silent_s=AWAY_S + 3), for_s=10 * LIMIT_S)
    assert watch.health.dead() is None
    assert watch.health.unready() == "no answer from Kafka for 18 s"


def test_recovery_says_how_much_is_left() -> None:
    watch = Watch()
    recovering = tuple(
        PartitionHealth(partition=n, ready=False, reached=0, lag=None, recovery_left=600) for n in range(2)
    )
    watch.health.publish(
        HealthSnapshot(phase=Phase.RECOVERING, joined=True, silent_s=0.1, partitions=recovering)
    )
    assert watch.health.unready() == "recovering: 1,200 changelog records left"
    assert watch.health.unstarted() is watch.health.dead() is None


def test_once_asked_to_end_it_is_not_ready_and_lives() -> None:
    watch = Watch()
    watch.health.publish(snapshot())
    watch.health.stop()
    watch.health.publish(snapshot())
    assert watch.health.unready() == "stopping: finishing what is in flight"
    assert watch.health.dead() is None


async def test_work_that_has_ended_is_known_to_all_probes_and_ends_the_process() -> None:
    watch = Watch()
    watch.health.publish(snapshot())
    watch.health.fail("the background task `index` has ended: it returned")
    watch.health.fail("what came of it")
    assert watch.health.unready() == "ending: the background task `index` has ended: it returned"
    assert watch.health.dead() is None  # it ends by itself: probes need not restart it
    watch.at += 61
    said = "has not ended for 61 s: the background task `index` has ended: it returned"
    assert watch.health.dead() == said
    with pytest.raises(TaskEndedError, match="`index` has ended"):
        await publish_health(watch.health, snapshot)
