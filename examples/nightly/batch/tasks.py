"""The tasks of the nightly batches: ordinary Celery. Each notes in a file what it has processed."""

import json
from pathlib import Path
from typing import Any

from celery import Celery

from triggerstream.celery import current, install

app = Celery("batch")
# A task is acknowledged once it is done, so that a worker that dies loses none.
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=1)
install(app)  # reports the outcome of each task to the log of triggerstream


@app.task(name="batch.tasks.Process")
def process(fileArrived: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - the trigger's own name
    """Process the five files of a customer's day."""
    return _note("process", {"files": _names(fileArrived)})


@app.task(name="batch.tasks.ProcessSome")
def process_some(incomplete: dict[str, Any]) -> dict[str, Any]:
    """Process the files that came in time, and ask for the others."""
    files = _names(incomplete["fileArrived"])
    return _note("process some", {"files": files, "missing": 5 - len(files)})


@app.task(name="batch.tasks.Add")
def add(incomplete: dict[str, Any], fileArrived: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - as fired
    """Add a file that came late; one that was processed in time, and is sent again, is left out."""
    name = fileArrived["name"]
    if name in _names(incomplete["fileArrived"]):
        return _note("leave out", {"file": name})
    return _note("add", {"file": name})


def _names(files: list[dict[str, Any]]) -> list[str]:
    return [one["name"] for one in files]


def _note(did: str, what: dict[str, Any]) -> dict[str, Any]:
    command = current()
    line = {"session": None if command is None else command.session, "did": did, **what}
    with Path("results.jsonl").open("a", encoding="utf-8") as results:
        results.write(json.dumps(line) + "\n")
    return line
