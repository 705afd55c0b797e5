"""The Celery app of the chain: its task adds a row to a table that would hold a second one, too."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from celery import Celery
from sqlalchemy import insert

from tests.acceptance.chain.hostile_tasks import ANSWER, FAIL, HOSTILE
from tests.acceptance.chain.plan import RUN
from tests.acceptance.chain.table import BROKER_VARIABLE, DEATHS_VARIABLE, EFFECTS_VARIABLE, effects
from tests.acceptance.chain.timed import FAIL_FIRST
from triggerstream.celery import SqlGuard, current, install

app = Celery("chain", broker=os.environ[BROKER_VARIABLE])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    # A worker that is killed has its messages delivered again after this long.
    broker_transport_options={"visibility_timeout": 5, "unacked_restore_interval": 0.5},
)
install(app, guard=SqlGuard(os.environ[EFFECTS_VARIABLE], lease_s=4))

_MAIN = os.getpid()
"""The worker's main process, which reads this module before it forks."""
_DEATHS = Path(os.environ[DEATHS_VARIABLE])
_DIED = _DEATHS.with_name("died")
_DIED.mkdir(exist_ok=True)


def _die(when: str, command: str) -> None:
    """Kill who is to die ``when`` a task has come so far: once for each file that says so.

    No command dies of it twice: one whose processes died four times is reported as failed, and not run again.
    """
    for who in ("child", "main", "both"):
        order, died = _DEATHS / f"{who}-{when}", _DIED / command
        if not order.exists() or died.exists():
            continue
        died.touch()
        try:
            order.unlink()
        except FileNotFoundError:
            continue
        if who != "child" and os.getppid() == _MAIN:
            os.kill(_MAIN, signal.SIGKILL)
        if who != "main":
            os.kill(os.getpid(), signal.SIGKILL)


@app.task(name=RUN)
def take_effect(**triggers: dict[str, Any]) -> dict[str, int]:
    """One row for each time this takes effect."""
    _take_effect()
    return {"triggers": len(triggers)}


def _take_effect() -> None:
    context = current()
    if context is None:
        raise AssertionError("not run by triggerstream")
    _die("before", context.command)
    context.connection.execute(
        insert(effects).values(session=context.session, task=context.task, command=context.command)
    )
    _die("after", context.command)


@app.task(name=FAIL_FIRST)
def fail_first(**triggers: dict[str, Any]) -> dict[str, int]:
    """An effect at the second attempt."""
    context = current()
    if context is None or context.retries == 0:
        raise ValueError("the first attempt")
    _take_effect()
    return {"triggers": len(triggers)}


@app.task(name=ANSWER)
def answer(**_: dict[str, Any]) -> dict[str, str]:
    """A result whose text is hostile."""
    return {"text": HOSTILE}


@app.task(name=FAIL)
def fail_loudly(**_: dict[str, Any]) -> None:
    """A failure whose text is hostile."""
    raise ValueError(HOSTILE)
