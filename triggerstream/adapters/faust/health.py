"""Reads the health of a worker from its Faust application."""

from __future__ import annotations

import time
from collections import Counter
from typing import cast

from aiokafka.errors import GroupAuthorizationFailedError, InvalidSessionTimeoutError

from triggerstream.adapters.faust.app import WorkerApp
from triggerstream.adapters.faust.recovery import TableManager
from triggerstream.adapters.faust.transport import Consumer
from triggerstream.adapters.kafka.group import session_timeout_refused
from triggerstream.core.errors import LogError, UsageError
from triggerstream.engine.health.liveness import HealthSnapshot, PartitionHealth, Phase, WorkerFigures
from triggerstream.engine.partitioned.partition import PartitionPhase


def read_health(app: WorkerApp) -> HealthSnapshot:
    """The worker's health, for probes and metrics.

    Raises:
        UsageError: brokers do not let it join its group, or not with its session timeout.
        LogError: it cannot join for another reason, or cannot go on.
    """
    take_over = cast("TableManager", app.tables).recovery
    thread = cast("Consumer", app.consumer).thread
    thread.check()
    if not take_over.joined:
        _raise_trouble(app, thread.trouble())
        return HealthSnapshot()
    partitions = app.owner.partitions
    assigned = tuple(
        PartitionHealth(
            partition=one.partition,
            ready=one.ready,
            reached=partitions[one.partition].durable,
            lag=one.lag,
            blocked=one.blocked,
            recovery_left=partitions[one.partition].recovery.left,
        )
        for one in app.progress()
    )
    ready = [partition for partition in partitions.values() if partition.phase is PartitionPhase.READY]
    in_force = Counter[str](hash_ for partition in ready if (hash_ := partition.rules.current.config.hash))
    if take_over.complete and not app.rebalancing:
        phase = Phase.READY
    else:
        phase = Phase.RECOVERING if any(not one.ready for one in assigned) else Phase.REBALANCING
    return HealthSnapshot(
        phase=phase,
        joined=True,
        silent_s=time.monotonic() - thread.answered_at(),
        topic=app.events_topic,
        partitions=assigned,
        figures=WorkerFigures(
            done=app.owner.done(),
            rebalances=app.rebalancing_count,
            recovery_s=take_over.took_s,
            timers=sum(partition.timers() for partition in partitions.values()),
            configurations=in_force,
        ),
    )


def _raise_trouble(app: WorkerApp, trouble: BaseException | None) -> None:
    match trouble:
        case None:
            pass
        case GroupAuthorizationFailedError():
            raise UsageError(f"this account may not join the group {app.conf.id}: it needs Read on it")
        case InvalidSessionTimeoutError():
            raise session_timeout_refused(app.conf.broker_session_timeout) from trouble
        case _:
            raise LogError(f"the group {app.conf.id} cannot be joined: {trouble!r}") from trouble
