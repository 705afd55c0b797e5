"""A Celery app whose charges fail while the bank is closed: while there is a file that says so."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import Celery

from triggerstream.celery import install

CLOSED_VARIABLE = "SHOP_BANK_CLOSED"

app = Celery("shop")
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
)
install(app)


@app.task(name="shop.charge", shared=False)
def charge(ordered: dict[str, Any], confirmed: dict[str, Any]) -> dict[str, Any]:
    """Charge what was ordered."""
    if Path(os.environ[CLOSED_VARIABLE]).exists():
        raise ConnectionError(f"the bank is closed{confirmed.get('html', '')}")
    return {"charged": ordered.get("amount", 0)}


@app.task(name="shop.ship", shared=False)
def ship(**_triggers: dict[str, Any]) -> dict[str, Any]:
    """Ship what is paid for."""
    return {"parcel": 1}
