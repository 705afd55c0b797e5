"""The tasks of the contracts: ordinary Celery. Each notes in a file whom it would write to."""

import json
from pathlib import Path
from typing import Any

from celery import Celery

from triggerstream.celery import current, install

app = Celery("contracts")
# A task is acknowledged once it is done, so that a worker that dies loses none.
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=1)
install(app)  # reports the outcome of each task to the log of triggerstream


@app.task(name="contracts.tasks.Sign")
def sign(contractDrawnUp: dict[str, Any], approved: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - the triggers' own names
    """Sign the contract in the names of the two who approved."""
    return _note("sign", {"title": contractDrawnUp["title"], "by": [one["by"] for one in approved]})


@app.task(name="contracts.tasks.Remind")
def remind(contractDrawnUp: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - as fired
    """Remind the people who may approve."""
    return _note("remind", {"title": contractDrawnUp["title"]})


@app.task(name="contracts.tasks.Escalate")
def escalate(late: dict[str, Any]) -> dict[str, Any]:
    """Tell the head of the department who has approved so far; a trigger that never came is missing."""
    return _note("escalate", {"by": [one["by"] for one in late.get("approved", [])]})


def _note(did: str, what: dict[str, Any]) -> dict[str, Any]:
    command = current()
    line = {"session": None if command is None else command.session, "did": did, **what}
    with Path("results.jsonl").open("a", encoding="utf-8") as results:
        results.write(json.dumps(line) + "\n")
    return line
