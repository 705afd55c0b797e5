"""Settings of a worker, and what they mean to Faust."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triggerstream.adapters.faust.credentials import credentials
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.security import PLAINTEXT, Security
from triggerstream.core.ids import AppId
from triggerstream.engine.checkpoint import LostRange
from triggerstream.engine.partitioned.timing import PartitionTiming

MAX_POLL_RECORDS = 1_000
"""Records of all partitions in one fetch: some 15 ms in which the event loop serves nothing else.

With twice as many a full log takes no less time."""
FETCH_BYTES = 4 * 1024 * 1024
"""Most bytes of events in an answer of a broker, which is in memory more than once while it is read. With
aiokafka's 50 MiB, a worker with a backlog had 334 to 351 MiB at most; with this, 260 to 268."""
_WAITING_BYTES = 16 * 1024 * 1024
"""Most bytes of fetched events that wait to be folded, of up to 64 partitions together."""
_PARTITION_FETCH_BYTES = 1024 * 1024
_LEAST_PARTITION_FETCH_BYTES = 256 * 1024
"""The range of :func:`partition_fetch_bytes`: 2,000 events and more. A longer record comes alone."""
_NO_PORT = 1
_REQUEST_S = 90.0
"""Faust's own; it refuses to wait less for an answer than a session may last."""
_NEVER_S = (2**31 - 1) / 1_000
"""A recovery, in which nothing is fetched, takes as long as there is a changelog to read: after Faust's own
1,000 s without a fetch, aiokafka would leave the group. A worker that hangs is found by its probes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """Settings of a worker. ``web_url``: the address of its pages for other workers; None: no address.

    ``instance_id``: its name as a static member of the group; None: a dynamic member. ``leaves``: it leaves
    the group at an orderly end. ``lasting``: an operator gave it its name, under which it comes back.
    """

    bootstrap: str
    app: AppId
    directory: Path
    web_url: str | None = None
    session_timeout_s: float = 30.0
    heartbeat_s: float = 3.0
    rebalance_timeout_s: float = 60.0
    instance_id: str | None = None
    leaves: bool = True
    lasting: bool = False
    timing: PartitionTiming = field(default_factory=PartitionTiming)
    security: Security = PLAINTEXT
    lost: Sequence[LostRange] = ()
    """Ranges of the log that an operator has given up: unreadable offsets in them are skipped."""

    def connection(self) -> Connection:
        """The connection of its own clients to the cluster."""
        return Connection(bootstrap=self.bootstrap, client_id=f"{self.app}-worker", security=self.security)


def partition_fetch_bytes(partitions: int) -> int:
    """Most bytes of each of an app's ``partitions`` partitions in an answer of a broker."""
    return max(_LEAST_PARTITION_FETCH_BYTES, min(_PARTITION_FETCH_BYTES, _WAITING_BYTES // partitions))


def faust_settings(settings: WorkerSettings, *, partitions: int) -> dict[str, Any]:
    """Faust's settings for a worker of an app with ``partitions`` partitions."""
    return {
        "broker": f"kafka://{settings.bootstrap}",
        "autodiscover": False,
        "origin": None,
        "datadir": str(settings.directory),
        "store": "memory://",
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "topic_partitions": partitions,
        "table_standby_replicas": 0,
        "stream_wait_empty": True,
        "processing_guarantee": "at_least_once",
        "broker_credentials": credentials(settings.security),
        "broker_client_id": f"{settings.app}-worker",
        "broker_max_poll_records": MAX_POLL_RECORDS,
        "broker_max_poll_interval": _NEVER_S,
        "broker_session_timeout": settings.session_timeout_s,
        "broker_request_timeout": max(_REQUEST_S, settings.session_timeout_s),
        "broker_heartbeat_interval": settings.heartbeat_s,
        "broker_rebalance_timeout": settings.rebalance_timeout_s,
        "consumer_auto_offset_reset": "earliest",
        "consumer_group_instance_id": settings.instance_id,
        "consumer_max_fetch_size": partition_fetch_bytes(partitions),
        "worker_redirect_stdouts": False,
        "web_enabled": False,  # until `show` says what
        # Faust's assignor tells workers apart by their address, pages or not; one with a name of its own is
        # given its last assignment again, with the address that it had.
        "web_host": settings.instance_id or socket.gethostname(),
        "web_port": os.getpid() if settings.instance_id is None else _NO_PORT,
        "canonical_url": settings.web_url,
    }
