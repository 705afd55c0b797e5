"""What is told of a process: alive, started, ready, and a partition that stands still."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from triggerstream.engine.background import TaskEndedError
from triggerstream.engine.health.liveness import AWAY_S, LOOP_S, Phase, Place, Pulse, Vitals, keep_beating

LIMIT_S = 300.0


@dataclass
class Watch:
    """A pulse with a clock that a test moves."""

    at: float = 1_000.0
    pulse: Pulse = field(init=False)

    def __post_init__(self) -> None:
        self.pulse = Pulse(stuck_s=LIMIT_S, now=lambda: self.at)

    def beats(self, vitals: Vitals, *, for_s: float) -> None:
        """The same vitals, told every ten seconds."""
        end = self.at + for_s
        while self.at < end:
            self.at += 10
            self.pulse.beat(vitals)


def vitals(
    *,
    phase: Phase = Phase.READY,
    joined: bool = True,
    lag: int | None = 5,
    reached: int = 7,
    silent_s: float = 0.1,
    waits: bool = False,
    partition: int = 3,
) -> Vitals:
    place = Place(partition=partition, ready=True, reached=reached, lag=lag)
    return Vitals(
        phase=phase, joined=joined, silent_s=silent_s, waits=waits, topic="app.events", places=(place,)
    )


def test_a_process_that_only_starts_is_alive_and_neither_started_nor_ready() -> None:
    pulse = Watch().pulse
    assert pulse.dead() is None
    assert pulse.unstarted() == pulse.unready() == "starting: not in its consumer group yet"


def test_a_partition_with_records_that_does_not_move_is_stuck_after_the_limit() -> None:
    watch = Watch()
    watch.beats(vitals(), for_s=LIMIT_S)
    assert watch.pulse.dead() is None
    watch.beats(vitals(), for_s=20)
    said = "no progress for 300 s in partitions 3, which have records to read"
    assert watch.pulse.dead() == watch.pulse.unready() == said
    assert (watch.pulse.stuck, watch.pulse.trips) == ((3,), 1)
    watch.beats(vitals(reached=8), for_s=10)
    assert watch.pulse.dead() is None
    assert watch.pulse.trips == 1


@pytest.mark.parametrize(
    "excuse",
    [
        vitals(lag=0),
        vitals(lag=None),
        vitals(phase=Phase.RECOVERING),
        vitals(phase=Phase.REBALANCING),
        vitals(phase=Phase.STARTING, joined=False),
        vitals(silent_s=AWAY_S + 1),
        vitals(waits=True),
        Vitals(phase=Phase.READY, joined=True, silent_s=0.1),
    ],
    ids=["no lag", "lag unknown", "recovering", "rebalancing", "starting", "away", "waits", "idle"],
)
def test_what_has_an_excuse_is_never_stuck(excuse: Vitals) -> None:
    watch = Watch()
    watch.beats(excuse, for_s=10 * LIMIT_S)
    assert watch.pulse.dead() is None
    # The time of the excuse does not count afterwards either.
    watch.beats(vitals(), for_s=LIMIT_S)
    assert watch.pulse.dead() is None


def test_a_partition_that_moves_slowly_is_not_stuck() -> None:
    watch = Watch()
    for reached in range(20):
        watch.beats(vitals(reached=reached), for_s=LIMIT_S / 2)
        assert watch.pulse.dead() is None


def test_one_partition_that_moves_does_not_hide_another_that_does_not() -> None:
    watch = Watch()
    still = Place(partition=1, ready=True, reached=4, lag=9)
    for reached in range(40):
        moving = Place(partition=2, ready=True, reached=reached, lag=9)
        both = Vitals(phase=Phase.READY, joined=True, silent_s=0, places=(still, moving))
        watch.beats(both, for_s=10)
    assert watch.pulse.stuck == (1,)


def test_a_process_that_was_stopped_for_long_is_not_stuck_when_it_wakes() -> None:
    watch = Watch()
    watch.beats(vitals(), for_s=20)
    watch.at += 3 * LIMIT_S
    watch.pulse.beat(vitals())
    assert watch.pulse.dead() is None


def test_an_event_loop_that_does_not_run_is_dead() -> None:
    watch = Watch()
    watch.pulse.beat(vitals())
    watch.at += LOOP_S
    assert watch.pulse.dead() is None
    watch.at += 1
    assert watch.pulse.dead() == watch.pulse.unready() == "the event loop has not run for 61 s"
    assert watch.pulse.unstarted() is None


def test_who_waits_for_nothing_that_it_has_is_ready() -> None:
    watch = Watch()
    watch.pulse.beat(Vitals(phase=Phase.READY, joined=True, silent_s=0.1))
    assert watch.pulse.unready() is None


def test_without_an_answer_of_a_broker_it_lives_and_is_not_ready() -> None:
    watch = Watch()
    watch.beats(vitals(silent_s=AWAY_S + 3), for_s=10 * LIMIT_S)
    assert watch.pulse.dead() is None
    assert watch.pulse.unready() == "no answer from Kafka for 18 s"


def test_recovery_says_how_much_is_left() -> None:
    watch = Watch()
    places = tuple(Place(partition=n, ready=False, reached=0, lag=None, recovery_left=600) for n in range(2))
    watch.pulse.beat(Vitals(phase=Phase.RECOVERING, joined=True, silent_s=0.1, places=places))
    assert watch.pulse.unready() == "recovering: 1,200 changelog records left"
    assert watch.pulse.unstarted() is watch.pulse.dead() is None


def test_once_asked_to_end_it_is_not_ready_and_lives() -> None:
    watch = Watch()
    watch.pulse.beat(vitals())
    watch.pulse.stop()
    watch.pulse.beat(vitals())
    assert watch.pulse.unready() == "stopping: finishing what is in flight"
    assert watch.pulse.dead() is None


async def test_work_that_has_ended_is_known_to_all_probes_and_ends_the_process() -> None:
    watch = Watch()
    watch.pulse.beat(vitals())
    watch.pulse.fail("the background task `index` has ended: it returned")
    watch.pulse.fail("what came of it")
    assert watch.pulse.unready() == "ending: the background task `index` has ended: it returned"
    assert watch.pulse.dead() is None  # it ends by itself: probes need not restart it
    watch.at += 61
    said = "has not ended for 61 s: the background task `index` has ended: it returned"
    assert watch.pulse.dead() == said
    with pytest.raises(TaskEndedError, match="`index` has ended"):
        await keep_beating(watch.pulse, vitals)
