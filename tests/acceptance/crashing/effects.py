"""The Celery app of the crash test: its task adds a row to a table that would hold a second one, too."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from sqlalchemy import insert

from tests.acceptance.crashing.table import EFFECTS_VARIABLE, effects
from triggerstream.celery import SqlGuard, current, install

app = Celery("crashing")
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_ignore_result=True,
    # A worker that is killed has its message delivered again after this long.
    broker_transport_options={"visibility_timeout": 10},
)
install(app, guard=SqlGuard(os.environ[EFFECTS_VARIABLE], lease_s=5))


@app.task(name="crashing.take_effect")
def take_effect(**triggers: dict[str, Any]) -> dict[str, int]:
    """One row for each time this takes effect."""
    context = current()
    if context is None:
        raise AssertionError("not run by triggerstream")
    context.connection.execute(insert(effects).values(session=context.session, command=context.command))
    return {"triggers": len(triggers)}
