"""A Celery app that reports to where its environment says."""

from __future__ import annotations

from typing import Any

from celery import Celery

from triggerstream.celery import install

app = Celery("secureapp")
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=1)
install(app)


@app.task(name="tasks.add")
def add(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """The sum of what arrived."""
    return {"sum": a["n"] + b["n"]}
