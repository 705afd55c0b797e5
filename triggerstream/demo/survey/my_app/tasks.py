"""The survey's tasks: ordinary Celery, called with one keyword argument for each trigger."""

import json
import os
from pathlib import Path
from typing import Any

from celery import Celery

from triggerstream.celery import current, install

app = Celery("my_app")
app.conf.update(
    # A task is acknowledged once it is done, so that a worker that dies loses none.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
)
install(app)  # reports the outcome of each task to the log of triggerstream


@app.task(name="my_app.tasks.ProcessStepData")
def process_step_data(
    module1Received: dict[str, Any],  # noqa: N803 - the triggers' own names
    module4Received: dict[str, Any],  # noqa: N803
) -> dict[str, Any]:
    """Sum up a participant's steps, and note in a file that it was done: the effect that can be counted."""
    command = current()
    summary = {
        "participant": module1Received["participant"],
        "steps": sum(module4Received["steps"]),
        "device": module4Received["device"],
    }
    line = {"session": None if command is None else command.session, **summary}
    with Path(os.environ.get("SURVEY_RESULTS", "results.jsonl")).open("a", encoding="utf-8") as results:
        results.write(json.dumps(line) + "\n")
    return summary
