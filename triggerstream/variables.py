"""Names of the environment variables that the program reads."""

from __future__ import annotations

from typing import Final

AT: Final = "TRIGGERSTREAM_AT"
"""Default of the option ``--at``."""
KAFKA: Final = "TRIGGERSTREAM_KAFKA"
"""Default of the option ``--kafka`` of workers and bridges."""
KAFKA_CONFIG: Final = "TRIGGERSTREAM_KAFKA_CONFIG"
"""The file with TLS and SASL for Kafka, for every client in a process."""
LOG: Final = "TRIGGERSTREAM_LOG"
"""Address to which a Celery worker reports outcomes, if its app does not name one."""
CELERY_BROKER: Final = "CELERY_BROKER_URL"
"""Celery's own variable for its broker."""
DEV_BROKER: Final = "TRIGGERSTREAM_DEV_BROKER"
"""The Celery broker that ``dev`` started for its Celery worker."""
DEV_QUEUES: Final = "TRIGGERSTREAM_DEV_QUEUES"
"""The queues that the Celery worker of ``dev`` consumes, with commas between them."""
SUPERVISOR: Final = "TRIGGERSTREAM_SUPERVISOR"
"""Data from a supervisor for its child; see :mod:`triggerstream.supervision.channel`."""
FAILPOINT: Final = "TRIGGERSTREAM_FAILPOINT"
"""The point at which a test kills the process; see :mod:`triggerstream.engine.failpoints`."""
