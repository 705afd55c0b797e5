"""Faults of the chain. Each function returns the number of its faults."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from random import Random

from tests.acceptance.chain.members import Member
from tests.acceptance.chain.rig import SESSION_TIMEOUT_S, START_S, Rig
from tests.support.kafka.cluster import KafkaCluster
from tests.support.kafka.server import KafkaServer
from triggerstream.engine.failpoints import CHECKPOINT, TAKEOVER

_STOP_S = 1.5 * SESSION_TIMEOUT_S
_DEATH_S = 120.0
_BELOW = 0.5
"""The share of kills that hit the process below a supervisor, not the supervisor."""


def kills(rig: Rig, *, count: int, chance: Random, pause_s: float, bridge: bool = False) -> int:
    """``kill -9`` of a worker or of its supervisor at a random moment; it is started again at once.

    ``bridge``: or of the bridge.
    """
    for _ in range(count):
        rig.rest(chance.uniform(0, 2 * pause_s))
        others = [rig.bridge] if bridge else []
        victim = chance.choice([member for member in (*rig.workers, *others) if member.wanted])
        victim.kill(below=chance.random() < _BELOW)
        victim.start()
    return count


def points(rig: Rig, dying: Member, taking: Member, *, wiped: bool) -> int:
    """``kill -9`` of one worker at each point of a checkpoint, and of another at each of a take-over."""
    for checkpoint, takeover in zip_longest(CHECKPOINT, TAKEOVER):
        if takeover == "takeover.recovering":
            # Its store lacks what it has committed: there is something to recover, if it is kept.
            taking.doom("checkpoint.committed")
            dead_of_it(rig, taking)
        if checkpoint is not None:
            dying.doom(f"{checkpoint}:2")
        if takeover is not None:
            taking.kill()
            if wiped:
                shutil.rmtree(rig.store(taking.name), ignore_errors=True)
            taking.doom(takeover)
        doomed = [member for member in (dying, taking) if member.doomed]
        for member in doomed:
            dead_of_it(rig, member)
        # Not before both have died: only from a worker that stays dead are there claims to be fenced.
        for member in doomed:
            member.start()
    return len(CHECKPOINT) + len(TAKEOVER) + 1


def dead_of_it(rig: Rig, member: Member) -> None:
    """Wait until ``member`` has died at the point where it was to die."""
    killed = member.ends[-signal.SIGKILL]
    rig.until(member.died, within_s=_DEATH_S, what=f"{member.name} lives")
    assert member.ends[-signal.SIGKILL] == killed + 1, member.tail()


def wipes(rig: Rig, *, count: int, pause_s: float) -> int:
    """Workers are killed and their stores are gone; every third time all at once."""
    for number in range(count):
        rig.rest(pause_s)
        victims = rig.workers[:2] if number % 3 == 2 else [rig.workers[number % 2]]
        for victim in victims:
            victim.kill()
            shutil.rmtree(rig.store(victim.name), ignore_errors=True)
        for victim in victims:
            victim.start()
        rig.stable()
    return count


def stops(rig: Rig, *, count: int) -> int:
    """SIGSTOP of a worker for 1.5 session timeouts, then SIGCONT: at any moment, or within a checkpoint."""
    within = ("checkpoint.opened", "checkpoint.acknowledged", "checkpoint.rehomed")
    for number in range(count):
        victim = rig.workers[number % 2]
        if number % 2:
            victim.signal(signal.SIGSTOP)
        else:
            victim.kill()
            victim.start(failpoint=f"{within[number // 2 % len(within)]}:4:STOP")
        rig.until(victim.is_stopped, within_s=START_S, what=f"{victim.name} does not stop")
        rig.rest(_STOP_S)
        victim.signal(signal.SIGCONT)
        rig.rest(1)
        rig.stable()
    return count


def changes(rig: Rig, workers: Sequence[int], *, calm_s: float) -> int:
    """Another number of workers, each so long after the group is stable."""
    for number in workers:
        rig.have(number)
        rig.rest(calm_s)
    return len(workers)


def storm(rig: Rig, *, count: int, chance: Random) -> int:
    """Another number of workers, again and again, without waiting for anything."""
    number = sum(member.wanted for member in rig.workers)
    for _ in range(count):
        number = chance.choice([other for other in (1, 2, 3) if other != number])
        rig.toward(number)
        rig.rest(chance.uniform(0.1, 1.5))
    return count


def bridge_deaths(rig: Rig, after: Sequence[int]) -> int:
    """The bridge is killed between publish and commit, after so many commands."""
    for published in after:
        rig.bridge.doom(f"bridge.published:{published}")
        dead_of_it(rig, rig.bridge)
        rig.bridge.start()
    return len(after)


def broker_ends(rig: Rig, cluster: KafkaCluster, *, pause_s: float) -> int:
    """Each broker is restarted in order, and then each is killed and started again."""
    for end in (KafkaServer.stop, KafkaServer.kill):
        for server in cluster.servers:
            rig.rest(pause_s)
            end(server)
            rig.rest(pause_s)
            server.start()
            cluster.await_in_sync()
    return 2 * len(cluster.servers)


TASK_DEATHS = ("child-before", "child-after", "main-before", "main-after", "both-after")
"""Processes to kill, before or after the effect is written and not committed. Orphans of a main process
finish their tasks."""


def task_deaths(rig: Rig, deaths: Sequence[str], *, pause_s: float) -> int:
    """A child of the Celery worker, or its main process, is killed in the middle of a task."""
    for death in deaths:
        _task_death(rig, rig.deaths / death)
        rig.rest(pause_s)
        rig.until(rig.celery.is_ready, within_s=START_S, what="Celery does not come back")
    return len(deaths)


def _task_death(rig: Rig, file: Path) -> None:
    file.touch()
    rig.until(lambda: not file.exists(), within_s=_DEATH_S, what=f"no task for {file.name}")
