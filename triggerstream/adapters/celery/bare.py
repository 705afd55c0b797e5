"""A Celery app with a broker and no tasks, for a process that hands commands over and runs none."""

from __future__ import annotations

from celery import Celery


def app_at(broker: str) -> Celery:
    """An app whose tasks go to ``broker``, each to the default queue unless its command names one."""
    return Celery("triggerstream", broker=broker, set_as_current=False)
