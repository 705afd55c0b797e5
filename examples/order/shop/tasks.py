"""The shop's tasks: ordinary Celery. Each notes in a file that it was done, to be counted."""

import json
from pathlib import Path
from typing import Any

from celery import Celery

from triggerstream.celery import current, install

app = Celery("shop")
# A task is acknowledged once it is done, so that a worker that dies loses none.
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=1)
install(app)  # reports the outcome of each task to the log of triggerstream


@app.task(name="shop.tasks.Ship")
def ship(orderPlaced: dict[str, Any], orderPaid: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - the triggers' own names
    """Ship what was ordered."""
    return _note("ship", {"item": orderPlaced["item"], "amount": orderPaid["amount"]})


@app.task(name="shop.tasks.Cancel")
def cancel(unpaid: dict[str, Any]) -> dict[str, Any]:
    """Cancel an order; ``unpaid`` holds what has arrived of it."""
    return _note("cancel", {"arrived": sorted(unpaid)})


@app.task(name="shop.tasks.Refund")
def refund(t_cancel: dict[str, Any], orderPaid: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - as fired
    """Give the money back; ``t_cancel`` is what `cancel` returned."""
    return _note("refund", {"amount": orderPaid["amount"], "cancelled": t_cancel["did"] == "cancel"})


def _note(did: str, what: dict[str, Any]) -> dict[str, Any]:
    command = current()
    line = {"session": None if command is None else command.session, "did": did, **what}
    with Path("results.jsonl").open("a", encoding="utf-8") as results:
        results.write(json.dumps(line) + "\n")
    return line
